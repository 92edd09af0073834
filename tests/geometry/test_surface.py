"""Normals, edges, Laplacian and point sampling against loops."""

import numpy as np
import pytest
from synthetic import grid_mesh

from facedis_core.geometry.surface import (
    farthest_points,
    uniform_laplacian,
    vertex_normals,
)

# A grid with one vertex that no triangle uses.
GRID, TRIANGLES = grid_mesh(5)
NOISE = np.random.default_rng(0).normal(0, 3, GRID.shape)
VERTICES = np.vstack([GRID + NOISE, [[9, 9, 9]]]).astype(np.float32)


def neighbours():
    """Naive adjacency: a set per vertex."""
    found = [set() for _ in VERTICES]
    for triangle in TRIANGLES:
        for i in triangle:
            found[i] |= {int(j) for j in triangle if j != i}
    return found


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
    assert farthest_points(np.zeros((5, 3)), 5).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="6 of 5"):
        farthest_points(np.zeros((5, 3)), 6)
