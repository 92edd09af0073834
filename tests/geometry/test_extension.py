"""Displacements of some vertices of a head carried to all, against dense algebra."""

import numpy as np
import pytest
from synthetic import grid_mesh

from facedis_core.geometry.extension import FADING_MM, head_extension

SIZE = 12


def plane(spacing_mm=1.0):
    """A flat grid (144, 3) of squares cut in two, and its triangles."""
    _, triangles = grid_mesh(SIZE)
    y, x = np.divmod(np.arange(SIZE * SIZE), SIZE)
    return np.stack([x, y, 0 * x], axis=1) * float(spacing_mm), triangles


def ball(centre, radius, count=200):
    """Points on a sphere, and triangles that connect them in a chain."""
    points = np.random.default_rng(0).normal(size=(count, 3))
    points *= radius / np.linalg.norm(points, axis=1, keepdims=True)
    chain = np.arange(count - 2)[:, None] + [0, 1, 2]
    return points + centre, chain


def dense_extension(points, triangles, known, given):
    """The same minimum over the skin by dense matrices, from the energy of each triangle."""
    count = len(points)
    energy = np.zeros((count, count))
    for corners in triangles:
        a, b, c = points[corners]
        area = np.linalg.norm(np.cross(b - a, c - a)) / 2
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            one, other = (
                points[corners[j]] - points[corners[i]],
                points[corners[k]] - points[corners[i]],
            )
            weight = max(one @ other / (4 * area), 1e-3)
            p, q = corners[j], corners[k]
            energy[[p, q], [p, q]] += weight
            energy[[p, q], [q, p]] -= weight
            energy[corners[i], corners[i]] += area / 3 / FADING_MM**2
    rest = np.setdiff1d(np.arange(count), known)
    found = np.zeros((count, 3))
    found[known] = given
    found[rest] = -np.linalg.solve(energy[np.ix_(rest, rest)], energy[np.ix_(rest, known)] @ given)
    return found


def test_skin_against_dense_algebra():
    points, triangles = plane(4.0)
    points[:, 2] = np.random.default_rng(1).normal(0, 1, len(points))
    rng = np.random.default_rng(0)
    known = rng.choice(len(points), 40, replace=False)
    given = rng.normal(size=(40, 3))
    found = head_extension(points, triangles, known).apply(given)
    np.testing.assert_allclose(found, dense_extension(points, triangles, known, given), atol=1e-9)
    np.testing.assert_array_equal(found[known], given)


def test_inside_of_the_face_motions_are_continued():
    points, triangles = plane(1.0)
    known = np.flatnonzero((np.arange(len(points)) % SIZE) % 3 != 1)  # every third column is not
    given = points[known] @ np.diag([0.1, -0.2, 0]) + [5, 0, 1]
    found = head_extension(points, triangles, known).apply(given)
    wanted = points @ np.diag([0.1, -0.2, 0]) + [5, 0, 1]
    inner = slice(SIZE, -SIZE)  # an edge of the surface continues them along itself only
    np.testing.assert_allclose(found[inner], wanted[inner], atol=0.05)


def test_beside_the_face_they_fade():
    points, triangles = plane(10.0)
    known = np.flatnonzero(points[:, 0] < 15)
    found = head_extension(points, triangles, known).apply(np.full((len(known), 3), [0, 0, 4.0]))
    along = found.reshape(SIZE, SIZE, 3)[SIZE // 2, :, 2]
    distance = np.arange(SIZE) * 10.0 - 10
    assert (np.diff(along) <= 0).all()
    np.testing.assert_allclose(along[1:7], 4 * np.exp(-distance[1:7] / FADING_MM), atol=0.25)
    assert along[-1] < 0.1


def test_all_vertices_known():
    points, triangles = plane()
    given = np.random.default_rng(0).normal(size=points.shape)
    order = np.random.default_rng(1).permutation(len(points))
    found = head_extension(points, triangles, order).apply(given[order])
    np.testing.assert_array_equal(found, given)


@pytest.mark.parametrize(
    ("centre", "radius", "is_moved"),
    [((5, 5, -12), 11.0, False), ((5, 5, 2), None, True), ((5, 5, 60), None, False)],
    ids=["an eye", "lashes", "far away"],
)
def test_separate_parts(centre, radius, is_moved):
    points, triangles = plane()
    if radius:
        part, chain = ball(np.array(centre, float), radius)
    else:
        part, chain = plane(0.5)
        part = part + centre
    vertices = np.concatenate([points, part])
    both = np.concatenate([triangles, chain + len(points)])
    known = np.arange(len(points))
    given = np.full((len(points), 3), [1.0, 2.0, 3.0])
    found = head_extension(vertices, both, known).apply(given)[len(points) :]
    np.testing.assert_allclose(found, np.full(part.shape, [1, 2, 3] if is_moved else [0, 0, 0]))


@pytest.mark.parametrize(
    ("place", "is_moved"), [((0, -35, -19), False), ((0, 60, -34), True)], ids=["mouth", "forehead"]
)
def test_teeth_stay(place, is_moved):
    """Inside of the mouth of a face that has a nose."""
    x, y = (a.ravel() for a in np.meshgrid(np.arange(-60, 61, 4.0), np.arange(-90, 91, 4.0)))
    z = -0.01 * (x**2 + y**2) + 25 * np.exp(-(x**2 + y**2) / 120)
    face = np.stack([x, y, z], axis=1)
    width = 31
    here = (np.arange(45)[:, None] * width + np.arange(width - 1)).ravel()
    skin = np.concatenate(
        [
            np.stack([here, here + 1, here + width], axis=1),
            np.stack([here + 1, here + width + 1, here + width], axis=1),
        ]
    )
    teeth, chain = plane(0.5)
    teeth += place
    vertices = np.concatenate([face, teeth])
    triangles = np.concatenate([skin, chain + len(face)])
    given = np.full(face.shape, [0, -3.0, 0])
    found = head_extension(vertices, triangles, np.arange(len(face))).apply(given)[len(face) :]
    np.testing.assert_allclose(found, np.full(teeth.shape, [0, -3 * is_moved, 0]), atol=1e-9)


def test_the_matrix_is_the_operator():
    """But for small shares, which are spread over the others: a shift stays a shift."""
    points, triangles = plane()
    lashes, chain = plane(0.5)
    vertices = np.concatenate([points, lashes + np.array([0, 0, 5])])
    both = np.concatenate([triangles, chain + len(points)])
    known = np.arange(0, len(points), 3)
    extension = head_extension(vertices, both, known)
    matrix = extension.matrix()
    assert matrix.shape == (len(vertices), len(known))
    given = np.random.default_rng(0).normal(size=(len(known), 3))
    np.testing.assert_allclose(matrix @ given, extension.apply(given), atol=0.02)
    shift = np.ones((len(known), 3))
    np.testing.assert_allclose(matrix @ shift, extension.apply(shift), atol=1e-9)
