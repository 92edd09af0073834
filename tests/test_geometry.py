"""Geometry against slow naive twins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import grid_mesh

from facedis_core.geometry.alignment import (
    rigid_alignment,
    rigid_alignments,
    rotation_about,
    rotation_between,
)
from facedis_core.geometry.surface import (
    farthest_points,
    mean_edge_lengths,
    uniform_laplacian,
    unit_vectors,
    vertex_normals,
)

RNG = np.random.default_rng(0)
# A grid with one vertex that no triangle uses.
GRID, TRIANGLES = grid_mesh(5)
VERTICES = np.vstack([GRID + RNG.normal(0, 3, GRID.shape), [[9, 9, 9]]]).astype(np.float32)


def neighbours():
    """Naive adjacency: a set per vertex."""
    found = [set() for _ in VERTICES]
    for triangle in TRIANGLES:
        for i in triangle:
            found[i] |= {int(j) for j in triangle if j != i}
    return found


def turn(angle, axis):
    """Rotation by the matrix exponential's series, far from the way the code does it."""
    x, y, z = unit_vectors(np.asarray(axis, float))
    generator = angle * np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    term = total = np.eye(3)
    for k in range(1, 60):
        term = term @ generator / k
        total = total + term
    return total


@pytest.mark.parametrize("angle", [0.0, 1e-4, -0.7, 2.5, 3.14, 7.0])
def test_rotation_about_an_axis(angle):
    for axis in unit_vectors(RNG.normal(size=(20, 3))):
        found = rotation_about(axis, angle)
        np.testing.assert_allclose(found, turn(angle, axis), atol=1e-12)
        np.testing.assert_allclose(found @ axis, axis, atol=1e-12)


@pytest.mark.parametrize("scale", [False, True])
def test_alignment_recovers_a_known_motion(scale):
    rotation, translation = turn(2.5, [1, -2, 0.5]), np.array([10.0, -20, 5])
    factor = 1.7 if scale else 1.0
    moved = factor * VERTICES.astype(float) @ rotation.T + translation
    found = rigid_alignment(VERTICES, moved, scale=scale)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-9)
    np.testing.assert_allclose(found.translation, translation, atol=1e-6)
    assert found.scale == pytest.approx(factor)
    aligned = found.apply(VERTICES)
    assert aligned.dtype == np.float32
    np.testing.assert_allclose(aligned, moved, atol=1e-4)


@pytest.mark.parametrize("scale", [False, True])
def test_no_small_motion_improves_the_alignment(scale):
    target = VERTICES @ turn(0.4, [0, 1, 1]).T + RNG.normal(0, 2, VERTICES.shape)
    found = rigid_alignment(VERTICES, target, scale=scale)

    def error(rotation, translation, factor):
        return (((factor * VERTICES @ rotation.T + translation) - target) ** 2).sum()

    best = error(found.rotation, found.translation, found.scale)
    for _ in range(50):
        rotation = turn(RNG.normal(0, 0.02), RNG.normal(size=3)) @ found.rotation
        translation = found.translation + RNG.normal(0, 0.1, 3)
        factor = found.scale * (1 + RNG.normal(0, 0.01) * scale)
        assert error(rotation, translation, factor) >= best


def test_alignment_never_reflects():
    mirrored = VERTICES * np.array([-1, 1, 1])
    assert np.linalg.det(rigid_alignment(VERTICES, mirrored).rotation) == pytest.approx(1)
    flat = VERTICES * np.array([1, 1, 0])
    assert np.linalg.det(rigid_alignment(flat, flat[:, [1, 0, 2]]).rotation) == pytest.approx(1)


def test_alignment_of_coinciding_points_is_a_translation():
    found = rigid_alignment(np.zeros((4, 3)), np.ones((4, 3)), scale=True)
    np.testing.assert_allclose(found.apply(np.zeros((2, 3))), 1)
    assert found.scale == 1


def test_alignment_refuses_different_shapes():
    with pytest.raises(ValueError, match=r"\(26, 3\) and \(25, 3\)"):
        rigid_alignment(VERTICES, VERTICES[1:])


def horn(source, target, scale):
    """Another way to the same motion: Horn 1987, the unit quaternion of greatest correlation.

    A quaternion is never a reflection, so nothing here guards against one.
    """
    a, b = source.astype(float), target.astype(float)
    centre_a, centre_b = a.mean(0), b.mean(0)
    s = (a - centre_a).T @ (b - centre_b)
    delta = [s[1, 2] - s[2, 1], s[2, 0] - s[0, 2], s[0, 1] - s[1, 0]]
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[0, 1:], matrix[1:, 0] = np.trace(s), delta, delta
    matrix[1:, 1:] = s + s.T - np.trace(s) * np.eye(3)
    w, x, y, z = np.linalg.eigh(matrix)[1][:, -1]
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + 2 * w * cross + 2 * cross @ cross
    factor = np.trace(rotation @ s) / ((a - centre_a) ** 2).sum() if scale else 1.0
    return rotation, centre_b - factor * rotation @ centre_a, factor


def crowd(kind, count=7):
    """Faces (count, V, 3) that are moved, scaled and noisy copies of VERTICES, or worse."""
    faces = np.stack(
        [
            RNG.uniform(0.5, 2) * VERTICES @ turn(RNG.uniform(0, 3), RNG.normal(size=3)).T
            + RNG.normal(0, 200, 3)
            + RNG.normal(0, 2, VERTICES.shape)
            for _ in range(count)
        ]
    )
    if kind == "mirrored":
        faces[::2, :, 0] *= -1
    elif kind == "planar":
        faces[::2, :, 2] = 0
    elif kind == "mirrored and planar":
        faces[:, :, 0] *= -1
        faces[:, :, 2] = 300
    return faces


@pytest.mark.parametrize("kind", ["whole", "mirrored", "planar", "mirrored and planar"])
@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("targets", ["one", "each its own"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_alignments_are_those_of_each_face_alone(kind, scale, targets, dtype):
    sources = crowd(kind).astype(dtype)
    goals = (VERTICES if targets == "one" else crowd("whole")).astype(dtype)
    found = rigid_alignments(sources, goals, scale=scale)
    assert found.rotation.dtype == np.float64
    for i, (source, goal) in enumerate(
        zip(sources, np.broadcast_to(goals, sources.shape), strict=True)
    ):
        rotation, translation, factor = horn(source, goal, scale)
        np.testing.assert_allclose(found.rotation[i], rotation, atol=1e-9)
        np.testing.assert_allclose(found.translation[i], translation, atol=1e-6)
        np.testing.assert_allclose(found.scale[i], factor, rtol=1e-9)
        alone = rigid_alignment(source, goal, scale=scale)
        np.testing.assert_array_equal(found.rotation[i], alone.rotation)
        np.testing.assert_array_equal(found.translation[i], alone.translation)
        assert found.scale[i] == alone.scale


def test_each_face_is_moved_by_its_own_motion():
    faces = crowd("whole").astype(np.float32)
    found = rigid_alignments(faces, VERTICES, scale=True)
    halves = found.apply(faces[:, :9])  # other vertices than those looked at may move along
    assert halves.dtype == np.float32
    for i, face in enumerate(faces):
        moved = found.scale[i] * found.rotation[i] @ face[:9].T.astype(float)
        np.testing.assert_allclose(halves[i], moved.T + found.translation[i], atol=1e-4)


# 0.1 has no exact mean: what centring leaves of it are rounding errors, not a shape.
@pytest.mark.parametrize("place", [0.0, 0.1, -1234.56])
@pytest.mark.parametrize("scale", [False, True])
def test_coinciding_points_are_only_shifted(place, scale):
    points = np.stack([np.full(VERTICES.shape, place), VERTICES.astype(float)])
    found = rigid_alignments(points, VERTICES, scale=scale)
    np.testing.assert_array_equal(found.rotation[0], np.eye(3))
    assert found.scale[0] == 1
    np.testing.assert_allclose(found.rotation[1], np.eye(3), atol=1e-12)
    centre = np.broadcast_to(VERTICES.mean(0, dtype=float), VERTICES.shape)
    np.testing.assert_allclose(found.apply(points)[0], centre, atol=1e-6)


def test_a_far_but_small_shape_is_no_point():
    small = VERTICES.astype(float) * 1e-3 + 1e4
    found = rigid_alignments(small[None], VERTICES, scale=True)
    assert found.scale[0] == pytest.approx(1e3)
    np.testing.assert_allclose(found.apply(small[None])[0], VERTICES, atol=1e-4)


def test_no_faces_have_no_alignments():
    found = rigid_alignments(np.zeros((0, 26, 3)), VERTICES, scale=True)
    assert found.rotation.shape == (0, 3, 3)
    assert found.apply(np.zeros((0, 5, 3), np.float32)).shape == (0, 5, 3)


@pytest.mark.parametrize("shape", [(26, 3), (4, 25, 3), (3, 26, 3), (26, 2)])
def test_alignments_refuse_other_shapes(shape):
    sources = np.zeros((4, *VERTICES.shape))
    with pytest.raises(ValueError, match=r"\(N, V, 3\)"):
        rigid_alignments(sources if shape != (26, 3) else VERTICES, np.zeros(shape))


def test_vertex_normals():
    expected = np.zeros((len(VERTICES), 3))
    for i, j, k in TRIANGLES:
        normal = np.cross(VERTICES[j] - VERTICES[i], VERTICES[k] - VERTICES[i])
        for vertex in (i, j, k):
            expected[vertex] += normal
    expected[:-1] /= np.linalg.norm(expected[:-1], axis=1, keepdims=True)
    found = vertex_normals(VERTICES, TRIANGLES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_mean_edge_lengths():
    expected = [
        np.mean([np.linalg.norm(VERTICES[i] - VERTICES[j]) for j in around]) if around else 0
        for i, around in enumerate(neighbours())
    ]
    np.testing.assert_allclose(mean_edge_lengths(VERTICES, TRIANGLES), expected, rtol=1e-6)


def test_uniform_laplacian():
    expected = np.zeros((len(VERTICES), len(VERTICES)))
    for i, around in enumerate(neighbours()):
        for j in around:
            expected[i, i], expected[i, j] = 1, -1 / len(around)
    found = uniform_laplacian(TRIANGLES, len(VERTICES))
    dense = np.zeros_like(expected)
    np.add.at(dense, (found.row, found.column), found.value)
    np.testing.assert_allclose(dense, expected, atol=1e-7)
    assert (np.diff(found.row) >= 0).all() and (found.row.dtype, found.value.dtype) == ("i4", "f4")
    assert len(np.unique(found.row * 1000 + found.column)) == len(found.row)


def test_farthest_points():
    count, chosen = 8, []
    centre = VERTICES.astype(float).mean(0)
    while len(chosen) < count:
        others = [VERTICES[c].astype(float) for c in chosen] or [centre]
        apart = [min(((v - o) ** 2).sum() for o in others) for v in VERTICES.astype(float)]
        chosen.append(int(np.argmax(apart)))
    found = farthest_points(VERTICES, count)
    assert found.tolist() == sorted(chosen) and found.dtype == np.int32


def test_farthest_points_of_coinciding_vertices_are_distinct():
    assert farthest_points(np.zeros((5, 3)), 5).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="6 of 5"):
        farthest_points(np.zeros((5, 3)), 6)


def axis_angle_rotation(a, b):
    """Naive twin: the angle by arccos, the axis by the cross product."""
    return turn(np.arccos(np.clip(a @ b, -1, 1)), np.cross(a, b))


def test_rotation_between():
    a = unit_vectors(RNG.normal(size=(4, 5, 3)))
    b = unit_vectors(RNG.normal(size=(4, 5, 3)))
    found = rotation_between(a, b)
    for i in np.ndindex(4, 5):
        np.testing.assert_allclose(found[i], axis_angle_rotation(a[i], b[i]), atol=1e-9)


def test_rotation_between_equal_and_missing_directions_is_the_identity():
    a = unit_vectors(RNG.normal(size=(6, 3)))
    expected = np.broadcast_to(np.eye(3), (6, 3, 3))
    np.testing.assert_allclose(rotation_between(a, a), expected, atol=1e-14)
    np.testing.assert_array_equal(rotation_between(np.zeros(3), a[0]), np.eye(3))
    np.testing.assert_array_equal(rotation_between(a[0], np.zeros(3)), np.eye(3))


@given(
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    st.sampled_from([0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3]),
    st.sampled_from(["f4", "f8"]),
)
@settings(max_examples=60, deadline=None)
def test_rotation_between_nearly_opposite_directions(direction, bend, kind):
    a = unit_vectors(np.array(direction, kind))
    b = unit_vectors(-a + np.array([bend, -bend / 2, bend / 3], kind))
    found = rotation_between(a, b)
    assert found.dtype == kind
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-6 if kind == "f4" else 1e-12)
    assert np.linalg.det(found) == pytest.approx(1, abs=1e-5)
    # The bisector of nearly opposite vectors keeps few of their digits.
    np.testing.assert_allclose(found @ a, b, atol=2e-6)
