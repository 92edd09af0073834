"""Distances of points to a surface, against the nearest of very many points on it."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from facedis_core.geometry.surface import fill_between
from facedis_core.geometry.surface_distance import surface_distances, triangle_distances


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def surface(rng):
    """Large and small triangles, and one that is a line."""
    vertices = np.concatenate([rng.normal(0, 1, (60, 3)), rng.normal(0, 8, (12, 3))])
    triangles = rng.permutation(72).reshape(-1, 3)
    triangles[0, 2] = triangles[0, 1]
    return vertices, triangles


def test_distances_are_those_to_the_nearest_of_many_points(rng, surface):
    vertices, triangles = surface
    points = rng.normal(0, 4, (300, 3))
    shares = np.sort(rng.random((2, 40000)), axis=0)
    weights = np.stack([shares[0], shares[1] - shares[0], 1 - shares[1]], axis=1)
    sides = np.linspace(0, 1, 300)[:, None] * [[1, -1, 0]] + [[0, 1, 0]]
    weights = np.concatenate([weights, *(np.roll(sides, k, axis=1) for k in range(3))])
    samples = np.concatenate([weights @ vertices[corners] for corners in triangles])
    expected, _ = cKDTree(samples).query(points)
    found = surface_distances(points, vertices, triangles)
    assert (found <= expected + 1e-9).all()
    np.testing.assert_allclose(found, expected, atol=0.06)


def test_the_nearest_triangle_is_found_however_far_its_centre(rng, surface):
    vertices, triangles = surface
    points = rng.normal(0, 4, (100, 3))
    every = triangle_distances(points[:, None], vertices[triangles][None]).min(axis=1)
    np.testing.assert_allclose(surface_distances(points, vertices, triangles), every, atol=1e-12)


def test_values_are_filled_in_between_known_ones():
    strip = np.array([[k, k + 1, k + 2] for k in range(6)])  # neighbours are at most 2 apart
    values = np.array([1.0, np.nan, 3, np.nan, np.nan, np.nan, np.nan, np.nan])
    once = fill_between(values, strip, 1)
    np.testing.assert_array_equal(once[:4], [1, 2, 3, np.nan])
    twice = fill_between(values, strip, 2)
    np.testing.assert_array_equal(twice[:5], [1, 2, 3, 2.5, np.nan])
