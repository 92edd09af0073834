"""Maps between topologies, against a rig whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from raising import raises
from rigs import MODEL, head, made_map, pose, prepared, rig, rows
from scipy.sparse import csr_array

from facedis_core.geometry.alignment import rotation_about
from facedis_core.geometry.distances import vertex_distances
from facedis_core.geometry.sparse import SparseRows
from facedis_core.geometry.surface import connected_parts, unique_edges
from facedis_core.geometry.surface_distance import nearest_on_triangles
from facedis_core.mesh.mesh import Mesh
from facedis_core.model.model_file import load_model
from facedis_core.registration.correspondence import (
    CounterpartSearch,
    SurfacePoints,
    outer_skin,
)
from facedis_core.registration.loose_parts import following_parts
from facedis_core.registration.mapping import _expressions, _torn, _welded, make_map
from facedis_core.registration.prior import prior_of

NAMES = ("alice_neutral", "alice_smile", "alice_mouth_stretch", "carol_mouth_stretch")


@pytest.mark.parametrize("name", NAMES)
def test_meshes_of_the_rig_are_faces_of_the_model_and_come_back(name):
    made, true = made_map(), prepared(name).vertices
    found = made.to_face(rig(name))
    error = vertex_distances(found.vertices, true)
    assert (found.name, found.unit_mm) == (name, 1.0)
    assert error.mean() < 0.4  # the rig has a quarter of the triangles
    assert np.quantile(error, 0.99) < 2.5
    back = made.to_mesh(true)
    missed = 10 * vertex_distances(back.vertices, rig(name).vertices)[made.rig_covered]
    assert missed.mean() < 0.2
    assert made.quality.coverage > 0.95
    assert made.quality.round_trip_mm < 0.1


def test_each_lip_follows_its_own():
    """Closed lips touch; the nearest point of the upper one may be on the lower one."""
    model, made = load_model(MODEL), made_map()
    upper, lower = prior_of(model.preparation).contacts.T
    rest, stretched = prepared("alice_neutral").vertices, prepared("alice_mouth_stretch").vertices
    found = made.to_face(rig("alice_mouth_stretch")).vertices
    true, gap = stretched[upper] - stretched[lower], found[upper] - found[lower]
    assert vertex_distances(rest[upper], rest[lower]).mean() < 2
    assert np.linalg.norm(true, axis=1).mean() > 20
    assert np.linalg.norm(gap - true, axis=1).mean() < 1.5


def test_a_vertex_that_goes_with_the_other_lip_is_found():
    model, made = load_model(MODEL), made_map()
    on_face = _expressions(made, model)
    on_rig = np.stack([made.to_rig.apply(moved) for moved in on_face])
    assert not (made.covered & _torn(made, on_face, on_rig)).any()
    upper, lower = prior_of(model.preparation).contacts.T
    known = made.covered[upper] & made.covered[lower]
    upper, lower = upper[known][0], lower[known][0]
    rows = made.to_model
    count = len(made.face)
    matrix = csr_array((rows.values, rows.columns, rows.starts), shape=(count, len(made.rig)))
    order = np.arange(count)
    order[upper] = lower
    wrong = replace(made, to_model=SparseRows.of(matrix[order]))
    torn = np.flatnonzero(_torn(wrong, on_face, on_rig))
    assert upper in torn
    near = unique_edges(made.triangles)
    beside = near[(near == upper).any(axis=1)]
    assert set(torn.tolist()) <= set(beside.ravel().tolist())  # its neighbours' means change


def test_the_head_itself_is_carried_exactly():
    made, neutral = made_map(), rig("alice_neutral")
    np.testing.assert_allclose(made.to_face(neutral).vertices, made.face, atol=1e-3)
    np.testing.assert_allclose(made.to_mesh(made.face).vertices, neutral.vertices, atol=1e-3)


def test_a_head_that_stands_elsewhere_is_aligned_by_what_expressions_hardly_move():
    made, mesh = made_map(), rig("alice_mouth_stretch")
    turn = rotation_about(np.array([0, 0, 1.0]), 0.5)
    moved = Mesh(mesh.vertices @ turn.T + [5, -3, 20], mesh.triangles)
    usual = made.to_face(mesh).vertices
    assert vertex_distances(made.to_face(moved).vertices, usual).mean() < 0.4
    offsets = made.face - usual  # back to rest
    still = made.place(mesh).offsets_in_mesh(offsets)
    np.testing.assert_allclose(
        made.place(moved).offsets_in_mesh(offsets), still @ turn.T, atol=0.05
    )


def test_a_face_that_does_not_lie_on_the_rig():
    neutral = prepared("alice_neutral")
    away = pose()
    away[0, 3] += 100
    with raises("no-face", "registered does not lie on alice_neutral"):
        make_map(
            rig("alice_neutral"),
            Mesh(neutral.vertices, neutral.triangles, "registered", 1.0),
            model=load_model(MODEL),
            pose=away,
        )


def sheet(height, normal):
    """A grid of 21 x 21 vertices of 100 mm about the origin, seen from above or from below."""
    x, z = (part.ravel() for part in np.meshgrid(*[np.linspace(-50, 50, 21)] * 2))
    k = np.arange(21 * 20).reshape(20, 21)[:, :-1].ravel()
    triangles = np.concatenate(
        [np.stack([k, k + 21, k + 1], 1), np.stack([k + 1, k + 21, k + 22], 1)]
    )
    return np.stack([x, np.full(441, height), z], axis=1), triangles[:, :: int(normal)]


def test_of_two_sheets_that_touch_the_one_that_faces_alike_is_taken():
    (upper, one), (lower, other) = sheet(0.2, 1), sheet(-0.2, -1)
    vertices, triangles = np.concatenate([upper, lower]), np.concatenate([one, other + 441])
    skin = outer_skin(vertices, triangles, vertices)
    assert skin.seen.mean() > 0.9
    search = CounterpartSearch(skin, skin.points)
    points = np.array([[10, -0.15, 10], [-20, -0.15, 3.0]])  # nearer to the lower sheet
    up = np.array([[0, 1.0, 0]] * 2) * np.sign(skin.normals[200, 1])
    assert (search(points, up).points.corners < 441).all()
    assert (search(points, -up).points.corners >= 441).all()


def test_nearest_points_of_triangles_against_a_search():
    rng = np.random.default_rng(0)
    corners, points = rng.normal(size=(50, 3, 3)), rng.normal(0, 2, (50, 3))
    weights = nearest_on_triangles(points, corners)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    found = np.linalg.norm((weights[:, :, None] * corners).sum(axis=1) - points, axis=1)
    grid = rng.dirichlet([0.5] * 3, 20000)
    best = np.linalg.norm(grid @ corners - points[:, None], axis=2).min(axis=1)
    assert (found <= best + 1e-9).all()
    assert (best - found).max() < 0.05


def test_nearest_points_on_needles():
    """Three corners in a line, whose cross product rounding leaves a little of; a corner is near.

    The coordinates of 2,475 of a like 200,000 were 0 / 0, and a map of a rig with needles then
    had numbers that are not.
    """
    corners = np.array([[[-1.9, 0.1, -2.3], [-1.5, 0.1, -1.4], [-1.1, 0.1, -0.5]]])
    rng = np.random.default_rng(0)
    start, along = rng.integers(-9, 9, (2, 5000, 1, 3)) / 10
    corners = np.append(corners, start + along * rng.integers(0, 4, (5000, 3, 1)), axis=0)
    points = corners[:, 1]
    weights = nearest_on_triangles(points, corners)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose((weights[:, :, None] * corners).sum(axis=1), points, atol=1e-9)


def ball(centre, radius, count):
    k = np.arange(count) + 0.5
    z, angle = 1 - 2 * k / count, k * 2.399963
    ring = np.sqrt(1 - z**2)
    return radius * np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1) + centre


def strip(start, count):
    k = start + np.arange(count - 2)
    return np.stack([k, k + 1, k + 2], axis=1)


def test_an_eyeball_turns_about_its_own_middle():
    skin = np.array([[0, 0, 0], [50, 0, 0], [0, 50, 0], [60.0, 60, 0]])
    own = np.concatenate([skin, ball([30, 30, -20], 12, 40)])
    other = np.concatenate([skin, ball([32, 29, -19], 13, 90)])
    is_skin = [np.arange(len(points)) < 4 for points in (own, other)]
    surfaces = [np.concatenate([strip(0, 4), strip(4, len(p) - 4)]) for p in (own, other)]
    assert connected_parts(surfaces[0], len(own)).max() == 1
    rows_of = following_parts(own, surfaces[0], is_skin[0], other, surfaces[1], is_skin[1])
    turn = rotation_about(np.array([0, 1.0, 0]), 0.4)
    middle = np.array([32, 29, -19.0])
    moved = np.where(is_skin[1][:, None], other, (other - middle) @ turn.T + middle)
    found = own + rows_of @ (moved - other)
    wanted = (own[4:] - [30, 30, -20]) @ turn.T + [30, 30, -20]
    np.testing.assert_allclose(found[4:], wanted, atol=1e-6)
    np.testing.assert_allclose(found[:4], own[:4])


def test_points_of_a_surface_as_a_matrix():
    values = np.arange(12.0).reshape(4, 3)
    points = SurfacePoints(np.array([[0, 1, 2], [3, 1, 0]]), np.array([[0.2, 0.3, 0.5], [1, 0, 0]]))
    np.testing.assert_allclose(points.matrix(4) @ values, points.of(values))


def test_seams_are_closed_and_lips_that_touch_are_not():
    """A strip of two halves whose vertices are doubled where they meet."""
    vertices = np.array(
        [[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0], [2, 0, 0]]
    )
    triangles = np.array([[0, 2, 1], [1, 2, 3], [4, 6, 5]])
    first, place = _welded(vertices.astype(float), triangles)
    assert first.tolist() == [0, 1, 2, 3, 6]
    assert place.tolist() == [0, 1, 2, 3, 2, 3, 4]
    tetrahedra = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [-1, 0, 0]])
    tetrahedra = np.concatenate([tetrahedra, [[0, -1, 0], [0, 0, -1]]]).astype(float)
    closed = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    first, place = _welded(tetrahedra, np.concatenate([closed, closed + 4]))
    assert len(first) == 8 and (place == np.arange(8)).all()


@pytest.mark.slow
def test_a_rig_that_is_split_and_inside_out():
    usual, chosen = made_map(), rig("alice_neutral").triangles[:, ::-1].ravel()

    def soup(name):
        vertices = rig(name).vertices[chosen]
        return Mesh(vertices, np.arange(len(chosen)).reshape(-1, 3), name)

    neutral, model = prepared("alice_neutral"), load_model(MODEL)
    made = make_map(soup("alice_neutral"), neutral, model=model, pose=pose())
    assert made.quality.coverage == pytest.approx(usual.quality.coverage, abs=0.01)
    found = made.to_face(soup("alice_smile")).vertices
    np.testing.assert_allclose(found, usual.to_face(rig("alice_smile")).vertices, atol=0.05)
    back = made.to_mesh(prepared("alice_smile").vertices).vertices
    wanted = usual.to_mesh(prepared("alice_smile").vertices).vertices[chosen]
    assert 10 * vertex_distances(back, wanted).max() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("registered", [True, False])
def test_a_whole_head_with_its_mouth(registered):
    """The inside of the mouth, teeth and eyes go with their like, in both directions."""
    whole = {"triangles": 16000, "vertices": len(head("alice_neutral").vertices)}
    neutral = rig("alice_neutral", **whole)
    made = make_map(neutral, head("alice_neutral") if registered else None, units="cm")
    chosen, _ = rows(**whole)
    offsets = head("alice_mouth_stretch").vertices - head("alice_neutral").vertices
    there = made.to_face(rig("alice_mouth_stretch", **whole)).vertices
    limit = 0.5 if registered else 1.5
    face = np.arange(6706)
    assert vertex_distances(there - made.face, offsets)[face].mean() < limit
    assert vertex_distances(there - made.face, offsets).mean() < limit
    back = made.to_rig.apply(offsets)
    assert vertex_distances(back, offsets[chosen]).mean() < limit
    again = made.to_rig.apply(made.to_model.apply(offsets[chosen]))
    assert vertex_distances(again, offsets[chosen]).mean() < 0.3
    teeth = (chosen > 17039) & (chosen < 21451)
    assert vertex_distances(back, offsets[chosen])[teeth].mean() < 1.5
