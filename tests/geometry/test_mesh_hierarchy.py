"""Mesh hierarchies: what is kept, and the way back to the finer mesh."""

from itertools import pairwise

import numpy as np
from raising import raises
from scipy.optimize import minimize
from synthetic import grid_mesh

from facedis_core.geometry.mesh_hierarchy import mesh_hierarchy, nearest_points
from facedis_core.geometry.surface_distance import nearest_on_triangles


def test_levels_of_a_sheet():
    vertices, triangles = grid_mesh(12)
    levels = mesh_hierarchy(vertices, triangles, 4)
    sizes = [len(vertices), *(len(level.kept) for level in levels)]
    assert len(levels) == 2 and all(2.5 < a / b < 5 for a, b in pairwise(sizes))
    for level, size in zip(levels, sizes, strict=False):
        degree = np.bincount(level.edges.ravel(), minlength=size)
        assert degree.min() > 0 and len(np.unique(np.sort(level.edges), axis=0)) == len(level.edges)
        assert len(np.unique(level.kept)) == len(level.kept) and level.kept.max() < size
        np.testing.assert_allclose(level.weights.sum(axis=1), 1, atol=1e-6)
        assert level.weights.min() >= 0
        coarse = vertices[level.kept]
        back = (coarse[level.corners] * level.weights[:, :, None]).sum(axis=1)
        # a kept vertex is itself again, and the others lie near
        np.testing.assert_allclose(back[level.kept], coarse, atol=1e-4)
        assert np.linalg.norm(back - vertices, axis=1).max() < 30
        vertices = coarse


def test_a_mesh_of_few_triangles():
    with raises("too-few-faces", "16 or more"):
        mesh_hierarchy(*grid_mesh(3), 4)


def test_the_nearest_triangle_is_not_the_one_whose_centre_is_nearest():
    # a long triangle beside a small one, above the far end of the long one
    vertices = np.array([[0.0, 0, 0], [9, 1, 0], [9, -1, 0], [8, 0, 2], [9, 0, 2], [8, 1, 2]])
    triangles = np.array([[0, 1, 2], [3, 4, 5]], np.int32)
    corners, weights = nearest_points([[8.0, 0.1, 0.8]], vertices, triangles)
    assert corners.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(weights[0] @ vertices[corners[0]], [8, 0.1, 0], atol=1e-6)


def test_nearest_points_of_triangles():
    rng = np.random.default_rng(0)
    corners, points = rng.normal(size=(40, 3, 3)), rng.normal(0, 2, (40, 3))
    corners[0, 2] = corners[0, 1]  # no area
    found = nearest_on_triangles(points, corners)
    for weights, point, triangle in zip(found, points, corners, strict=True):
        assert weights.min() >= 0 and abs(weights.sum() - 1) < 1e-12

        def away(w, triangle=triangle, point=point):
            return ((w @ triangle - point) ** 2).sum()

        sure = {"type": "eq", "fun": lambda w: w.sum() - 1}
        best = minimize(away, np.full(3, 1 / 3), bounds=[(0, 1)] * 3, constraints=sure)
        assert away(weights) <= best.fun + 1e-5
