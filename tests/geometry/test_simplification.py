"""The map is injective, and the simplified surface lies on the original one without a fold."""

import numpy as np
import pytest
import trees

from facedis_core.errors import InputError, UsageError
from facedis_core.geometry.fold_repair import FoldRepair
from facedis_core.geometry.simplification import vertex_map
from facedis_core.geometry.surface import triangle_normals, unique_edges
from facedis_core.model.model import load_model

# The map needs it, and so has nothing to test without.
pytest.importorskip("fast_simplification")


def wavy_sheet(size=40, seed=0):
    """A bumpy surface with noise, (size^2, 3) mm."""
    x, y = np.meshgrid(np.linspace(-60, 60, size), np.linspace(-60, 60, size))
    z = 20 * np.sin(x / 15) * np.cos(y / 12)
    vertices = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    vertices += np.random.default_rng(seed).normal(0, 0.2, vertices.shape)
    corner = (np.arange(size - 1)[:, None] * size + np.arange(size - 1)).ravel()
    lower = np.stack([corner, corner + 1, corner + size], axis=1)
    upper = np.stack([corner + 1, corner + size + 1, corner + size], axis=1)
    return vertices.astype(np.float32), np.concatenate([lower, upper]).astype(np.int32)


def crowded_edges(triangles):
    """How often an edge has a third triangle, or one that goes along it as another does."""
    sides = np.concatenate([triangles[:, [k - 1, k]] for k in range(3)])
    _, counts = np.unique(np.sort(sides, axis=1), axis=0, return_counts=True)
    return (counts > 2).sum() + len(sides) - len(np.unique(sides, axis=0))


def check_map(vertices, triangles, chosen, kept):
    """Everything a map promises, from the definitions."""
    assert chosen.dtype == np.int32 and kept.dtype == np.int32
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(np.unique(kept), np.arange(len(chosen)))
    corners = np.sort(kept, axis=1)
    assert (np.diff(corners, axis=1) > 0).all() and len(np.unique(corners, axis=0)) == len(kept)
    assert crowded_edges(kept) <= crowded_edges(triangles)
    surface = np.zeros((len(vertices), 3))
    for corner in triangles.T:
        np.add.at(surface, corner, triangle_normals(vertices.astype(float), triangles))
    surface /= np.maximum(np.linalg.norm(surface, axis=1, keepdims=True), 1e-12)
    normals = triangle_normals(vertices[chosen].astype(float), kept)
    assert np.linalg.norm(normals, axis=1).min() > 1e-6
    assert (normals * surface[chosen[kept]].sum(axis=1)).sum(axis=1).min() > 0


@pytest.mark.parametrize("faces", [2000, 800, 200])
def test_map_is_injective_and_turns_no_triangle(faces):
    vertices, triangles = wavy_sheet()
    chosen, kept = vertex_map(vertices, triangles, faces)
    assert abs(len(kept) - faces) <= 2
    check_map(vertices, triangles, chosen, kept)


def test_map_stays_near_the_surface():
    vertices, triangles = wavy_sheet()
    kept = vertices[vertex_map(vertices, triangles, 1000).vertex_index]
    assert max(np.linalg.norm(kept - vertex, axis=1).min() for vertex in vertices) < 12


def test_vertices_without_triangles_are_left_out():
    vertices, triangles = wavy_sheet(20)
    moved = np.vstack([np.full((3, 3), 500), vertices]).astype(np.float32)
    chosen, kept = vertex_map(moved, triangles + 3, 300)
    assert chosen.min() >= 3
    check_map(moved, triangles + 3, chosen, kept)


def test_what_a_collapse_lays_well_is_kept_as_it_is():
    simplification = pytest.importorskip("fast_simplification")
    vertices, triangles = wavy_sheet()
    chosen, kept = vertex_map(vertices, triangles, 1000)
    collapses = simplification.simplify(
        vertices, triangles, target_count=1000, agg=7, return_collapses=True
    )[2]
    _, simplified, cluster = simplification.replay_simplification(vertices, triangles, collapses)
    np.testing.assert_array_equal(cluster[chosen[kept]], simplified)


def small_face(person):
    return trees.face(person, "neutral", 0.0), load_model().triangles


# Of each of these no collapse is free of folds.
@pytest.mark.parametrize("person", ["1", "2", "10"])
def test_faces_that_every_collapse_folds(person):
    vertices, triangles = small_face(person)
    chosen, kept = vertex_map(vertices, triangles, 4000)
    assert 0.99 * 4000 < len(kept) <= 4000
    check_map(vertices, triangles, chosen, kept)
    if person == "1":
        for first, second in zip(
            (chosen, kept), vertex_map(vertices, triangles, 4000), strict=True
        ):
            np.testing.assert_array_equal(first, second)


def test_a_large_face_that_every_collapse_folds():
    topology = trees.facescape_topology()
    vertices = topology.register(trees.face("4", "neutral", 0.0))
    chosen, kept = vertex_map(vertices, topology.triangles, 9000)
    assert 0.99 * 9000 < len(kept) <= 9000
    check_map(vertices, topology.triangles, chosen, kept)


@pytest.mark.parametrize("faces", [8100, 4500])
def test_a_reference_with_folds_of_its_own(faces):
    model = load_model()
    chosen, kept = vertex_map(model.mean_face, model.triangles, faces)
    assert 0.99 * faces < len(kept) <= faces
    check_map(model.mean_face, model.triangles, chosen, kept)


@pytest.mark.parametrize(("unit", "faces"), [(1, 50), (1, 20), (1e3, 500)])
def test_far_down_and_in_a_strange_unit(unit, faces):
    """Collapses pinch the surface, or stop long before."""
    vertices, triangles = small_face("2")
    chosen, kept = vertex_map(np.float32(unit) * vertices, triangles, faces)
    assert faces - 2 <= len(kept) <= faces
    check_map(vertices, triangles, chosen, kept)


def sheet_of(vertices, triangles, laid=None):
    faces = np.asarray(triangles)
    laid = faces if laid is None else np.asarray(laid)
    return FoldRepair(np.asarray(vertices, float), faces, laid, np.arange(len(vertices)), 0.5)


def euler(triangles):
    return len(np.unique(triangles)) - len(unique_edges(triangles)) + len(triangles)


def test_thinning_out_keeps_the_holes_and_folds_nothing():
    vertices, triangles = wavy_sheet(24)
    middle = vertices[triangles].mean(axis=1)
    around = triangles[np.linalg.norm(middle[:, :2] - (5, 8), axis=1) > 15]
    sheet = sheet_of(vertices, around)
    sheet.simplify_to(150)
    assert 148 <= len(sheet) <= 150
    assert euler(around) == euler(sheet.triangles) == 0
    chosen, kept = np.unique(sheet.triangles, return_inverse=True)
    kept = kept.reshape(-1, 3).astype(np.int32)
    check_map(vertices, around, chosen.astype(np.int32), kept)


def test_a_sliver_on_the_rim_goes():
    """A vertex on a straight rim, whose two neighbours there have an edge of their own."""
    square = [(0, 0, 0), (2, 0, 0), (2, 2, 0), (0, 2, 0), (1, 0, 0)]
    surface = [(0, 4, 3), (4, 1, 2), (4, 2, 3)]
    sheet = sheet_of(square, surface, [(0, 4, 1), (0, 1, 2), (0, 2, 3)])
    assert sheet.folds.folded == 1
    sheet.unfold()
    assert sheet.folds == (0, 0)
    a, b, c = (np.asarray(square, float)[sheet.triangles[:, k]] for k in range(3))
    assert np.cross(b - a, c - a)[:, 2].sum() == pytest.approx(8)  # twice the area


def test_an_edge_outside_a_dented_quad_is_turned():
    dart = [(0, 0, 0), (4, 0, 0), (1, 1, 0), (0, 4, 0)]
    surface = [(0, 1, 2), (0, 2, 3)]
    sheet = sheet_of(dart, surface, [(0, 1, 3), (1, 2, 3)])
    assert sheet.folds.folded == 1
    sheet.unfold()
    assert {frozenset(t) for t in sheet.triangles.tolist()} == {frozenset(t) for t in surface}


def test_a_mesh_that_is_no_surface():
    triangles = np.random.default_rng(0).integers(0, 400, (700, 3)).astype(np.int32)
    vertices, _ = wavy_sheet(20)
    with pytest.raises(InputError, match=r"no choice of vertices .* 300 triangles"):
        vertex_map(vertices, triangles, 300)


def torus(size=12):
    turn = 2 * np.pi * np.arange(size) / size
    u, v = (angle.ravel() for angle in np.meshgrid(turn, turn, indexing="ij"))
    wide = 50 + 20 * np.cos(v)
    vertices = np.stack([wide * np.cos(u), wide * np.sin(u), 20 * np.sin(v)], axis=1)
    i, j = (k.ravel() for k in np.indices((size, size)))
    a, b = i * size + j, (i + 1) % size * size + j
    c, d = (i + 1) % size * size + (j + 1) % size, i * size + (j + 1) % size
    triangles = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    return vertices.astype(np.float32), triangles.astype(np.int32)


def test_too_few_triangles_for_the_shape():
    """A torus has at least 14."""
    vertices, triangles = torus()
    chosen, kept = vertex_map(vertices, triangles, 100)
    check_map(vertices, triangles, chosen, kept)
    assert euler(triangles) == euler(kept) == 0
    with pytest.raises(InputError, match=r"no choice of vertices .* 8 triangles"):
        vertex_map(vertices, triangles, 8)


@pytest.mark.parametrize("faces", [0, 3, 722, 10**6])
def test_a_number_of_faces_that_cannot_be(faces):
    vertices, triangles = wavy_sheet(20)
    with pytest.raises(InputError, match=rf"722 triangles to {faces}; .* 4 to 721"):
        vertex_map(vertices, triangles, faces)


def test_without_fast_simplification_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fast_simplification", None)
    with pytest.raises(UsageError, match=r"pip install 'facedis\[prep\]'"):
        vertex_map(*wavy_sheet(20), 300)
