"""The map is injective, and the simplified surface lies on the original one without a fold."""

import numpy as np
import pytest

from facedis_core.errors import InputError, MissingExtra
from facedis_core.simplification import vertex_map

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


def check_map(vertices, triangles, chosen, kept):
    """Everything a map promises, by loops and from the definitions."""
    assert chosen.dtype == np.int32 and kept.dtype == np.int32
    assert len(set(chosen.tolist())) == len(chosen)
    assert (np.diff(chosen) > 0).all()
    assert set(kept.ravel().tolist()) == set(range(len(chosen)))
    assert len({tuple(sorted(t)) for t in kept.tolist()}) == len(kept)
    surface = np.zeros((len(vertices), 3))
    for i, j, k in triangles:
        normal = np.cross(vertices[j] - vertices[i], vertices[k] - vertices[i])
        for vertex in (i, j, k):
            surface[vertex] += normal
    surface /= np.maximum(np.linalg.norm(surface, axis=1, keepdims=True), 1e-12)
    for corners in chosen[kept]:
        assert len(set(corners.tolist())) == 3
        a, b, c = vertices[corners].astype(float)
        normal = np.cross(b - a, c - a)
        assert np.linalg.norm(normal) > 1e-6
        assert normal @ surface[corners].sum(0) > 0


@pytest.mark.parametrize("faces", [2000, 800, 200])
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


def test_vertices_without_triangles_are_left_out():
    vertices, triangles = wavy_sheet(20)
    moved = np.vstack([np.full((3, 3), 500), vertices]).astype(np.float32)
    chosen, kept = vertex_map(moved, triangles + 3, 300)
    assert chosen.min() >= 3
    check_map(moved, triangles + 3, chosen, kept)


@pytest.mark.parametrize("faces", [0, 3, 722, 10**6])
def test_a_number_of_faces_that_cannot_be(faces):
    vertices, triangles = wavy_sheet(20)
    with pytest.raises(InputError, match=rf"722 triangles to {faces}; .* 4 to 721"):
        vertex_map(vertices, triangles, faces)


def test_without_fast_simplification_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fast_simplification", None)
    with pytest.raises(MissingExtra, match=r"pip install 'facedis\[prep\]'"):
        vertex_map(*wavy_sheet(20), 300)
