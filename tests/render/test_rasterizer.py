"""Rasterizer against a loop over pixels and triangles."""

import numpy as np
import pytest
from synthetic import grid_mesh

from facedis_core.render import rasterizer
from facedis_core.render.rasterizer import rasterize


def slow_owner(points: np.ndarray, triangles: np.ndarray, width: int, height: int) -> np.ndarray:
    """The nearest triangle at each pixel centre (height, width), -1 where there is none."""
    owner = np.full((height, width), -1)
    for row in range(height):
        for column in range(width):
            nearest = -np.inf
            for number, corners in enumerate(points[triangles]):
                system = np.vstack([corners[:, :2].T, np.ones(3)])
                weights = np.linalg.solve(system, [column + 0.5, row + 0.5, 1])
                depth = weights @ corners[:, 2]
                if weights.min() >= 0 and depth > nearest:
                    nearest, owner[row, column] = depth, number
    return owner


def fast_owner(points: np.ndarray, triangles: np.ndarray, width: int, height: int) -> np.ndarray:
    surface = rasterize(points, triangles, width, height)
    owner = np.full(width * height, -1)
    owner[surface.pixel] = surface.triangle
    return owner.reshape(height, width)


@pytest.fixture
def soup() -> tuple[np.ndarray, np.ndarray]:
    """Fourteen triangles through one another, some of them partly outside the picture."""
    points = np.random.default_rng(5).uniform(-6, 26, (42, 3))
    return points, np.arange(42).reshape(14, 3)


def test_each_pixel_sees_the_nearest_triangle(soup: tuple[np.ndarray, np.ndarray]) -> None:
    assert np.array_equal(fast_owner(*soup, 20, 16), slow_owner(*soup, 20, 16))


def test_blocks_do_not_show(
    soup: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fast_owner(*soup, 20, 16)
    monkeypatch.setattr(rasterizer, "BLOCK", 7)
    assert np.array_equal(fast_owner(*soup, 20, 16), whole)


def test_values_of_vertices_arrive_at_the_points_seen() -> None:
    points = np.array([[-3, -4, 0], [40, 2, 5], [5, 50, 9]], float)
    triangles = np.array([[0, 1, 2]])
    surface = rasterize(points, triangles, 30, 20)
    place = surface.interpolate(points[:, :2], triangles)
    row, column = np.divmod(surface.pixel, 30)
    np.testing.assert_allclose(place, np.stack([column, row], 1) + 0.5)


def test_neighbours_leave_no_gap() -> None:
    knots = np.stack([*np.meshgrid(np.arange(9), np.arange(9)), np.zeros((9, 9))], -1)
    knots = knots + np.random.default_rng(1).uniform(0, 0.8, knots.shape)
    points = knots.reshape(-1, 3) * [10, 10, 1]
    assert (fast_owner(points, grid_mesh(9)[1], 90, 90)[20:70, 20:70] >= 0).all()
