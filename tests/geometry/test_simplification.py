"""The map is injective, and the simplified surface lies on the original one without a fold."""

import numpy as np
import pytest
from prepared import check_map
from raising import raises

from facedis_core.geometry.fold_repair import FoldRepair
from facedis_core.geometry.simplification import vertex_map
from facedis_core.geometry.surface import unique_edges
from facedis_core.model.model_file import load_model

# The map needs it, and so has nothing to test without.
simplification = pytest.importorskip("fast_simplification")


def wavy_sheet(size=40):
    """A bumpy surface with noise, (size^2, 3) mm."""
    x, y = np.meshgrid(np.linspace(-60, 60, size), np.linspace(-60, 60, size))
    z = 20 * np.sin(x / 15) * np.cos(y / 12)
    vertices = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    vertices += np.random.default_rng(0).normal(0, 0.2, vertices.shape)
    corner = (np.arange(size - 1)[:, None] * size + np.arange(size - 1)).ravel()
    lower = np.stack([corner, corner + 1, corner + size], axis=1)
    upper = np.stack([corner + 1, corner + size + 1, corner + size], axis=1)
    return vertices.astype(np.float32), np.concatenate([lower, upper]).astype(np.int32)


def mouth(seed=None, radius_mm=45):
    """Lips of a random narrow face of the bundled model, None = the mean face, folds included."""
    model, narrow = load_model("ict-linear"), load_model("ict-pointnet").preparation
    face = model.mean_face[narrow.vertex_index]
    near = np.linalg.norm(face - [0, -35, 105], axis=1) < radius_mm
    triangles = narrow.triangles[near[narrow.triangles].all(axis=1)]
    used = np.unique(triangles)
    if seed is not None:
        rng, config = np.random.default_rng(seed), model.config
        sizes = (config.identity, config.expression)
        z = (rng.normal(size=(1, size)).astype(np.float32) for size in sizes)
        face = model.decode_vectors(*z)[0][narrow.vertex_index]
    return face[used], np.searchsorted(used, triangles).astype(np.int32)


@pytest.mark.parametrize("faces", [2000, 200])
def test_map_is_injective_and_turns_no_triangle(faces):
    vertices, triangles = wavy_sheet()
    chosen, kept = vertex_map(vertices, triangles, faces)
    assert abs(len(kept) - faces) <= 2
    check_map(vertices, triangles, chosen, kept)


def test_map_is_the_same_twice_and_stays_near_the_surface():
    vertices, triangles = wavy_sheet()
    first, second = (vertex_map(vertices, triangles, 1000) for _ in range(2))
    np.testing.assert_array_equal(first.vertex_index, second.vertex_index)
    np.testing.assert_array_equal(first.triangles, second.triangles)
    kept = vertices[first.vertex_index]
    away = [np.linalg.norm(kept - vertex, axis=1).min() for vertex in vertices]
    assert max(away) < 12
    # What a collapse lays well is kept as it is.
    collapses = simplification.simplify(
        vertices, triangles, target_count=1000, agg=7, return_collapses=True
    )[2]
    _, simplified, cluster = simplification.replay_simplification(vertices, triangles, collapses)
    np.testing.assert_array_equal(cluster[first.vertex_index[first.triangles]], simplified)


def test_vertices_without_triangles_are_left_out():
    vertices, triangles = wavy_sheet(20)
    moved = np.vstack([np.full((3, 3), 500), vertices]).astype(np.float32)
    chosen, kept = vertex_map(moved, triangles + 3, 300)
    assert chosen.min() >= 3
    check_map(moved, triangles + 3, chosen, kept)


@pytest.mark.parametrize(("seed", "faces"), [(None, 3000), (0, 3000), (1, 2000)])
def test_lips_that_every_collapse_folds(seed, faces):
    """The reference has folds of its own as well."""
    vertices, triangles = mouth(seed)
    chosen, kept = vertex_map(vertices, triangles, faces)
    assert 0.98 * faces < len(kept) <= faces
    check_map(vertices, triangles, chosen, kept)
    again = vertex_map(vertices, triangles, faces)
    np.testing.assert_array_equal(again.vertex_index, chosen)
    np.testing.assert_array_equal(again.triangles, kept)


@pytest.mark.parametrize(("unit", "faces"), [(1, 20), (1e3, 200)])
def test_far_down_and_in_a_strange_unit(unit, faces):
    """Collapses pinch the surface, or stop long before."""
    vertices, triangles = mouth(0, radius_mm=35)
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


def test_thinning_out_pinches_no_strip():
    """An edge across a strip joins two vertices of the rim; merged, it would leave one vertex."""
    along, across = np.divmod(np.arange(12), 2)
    vertices = np.stack([along, across, 0.01 * along**2], axis=1)
    quads = [(2 * k, 2 * k + 2, 2 * k + 3, 2 * k + 1) for k in range(5)]
    sheet = sheet_of(vertices, [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    sheet.simplify_to(4)
    sides = np.sort(np.concatenate([sheet.triangles[:, [k - 1, k]] for k in range(3)]), axis=1)
    edges, counts = np.unique(sides, axis=0, return_counts=True)
    assert len(sheet) == 4 and euler(sheet.triangles) == 1
    assert set(np.unique(edges[counts == 1], return_counts=True)[1]) == {2}  # one rim


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
    with raises("not-simplified"):
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
    with raises("not-simplified"):
        vertex_map(vertices, triangles, 8)


@pytest.mark.parametrize("faces", [3, 722])
def test_a_number_of_faces_that_cannot_be(faces):
    vertices, triangles = wavy_sheet(20)
    with raises("not-simplified", rf"722 triangles to {faces}; .* 4 to 721"):
        vertex_map(vertices, triangles, faces)


def test_without_fast_simplification_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fast_simplification", None)
    with raises("extra-missing", r" -m pip install 'fast-simplification>=0\.1\.9'"):
        vertex_map(*wavy_sheet(20), 300)
