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


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tiles", [(64, 16, 4), (8, 4, 2), (5,)])
def test_what_lies_behind_is_left_out_without_a_trace(
    monkeypatch: pytest.MonkeyPatch, seed: int, tiles: tuple[int, ...]
) -> None:
    """Triangles of all sizes, some of them the same, some of them slivers."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([0.01, 3, 20, 200], (90, 1, 1))
    points = (rng.uniform(-20, 120, (90, 1, 3)) + sizes * rng.normal(size=(90, 3, 3))).reshape(
        -1, 3
    )
    triangles = np.arange(270).reshape(90, 3)
    triangles = np.concatenate([triangles, triangles[::2, ::-1]])
    monkeypatch.setattr(rasterizer, "LAYERS", np.inf)
    whole = rasterize(points, triangles, 130, 70)
    monkeypatch.setattr(rasterizer, "LAYERS", 0)
    monkeypatch.setattr(rasterizer, "TILES", tiles)
    monkeypatch.setattr(rasterizer, "BLOCK", 400)
    for found, expected in zip(rasterize(points, triangles, 130, 70), whole, strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("size", "per_pixel"), [(128, 150), pytest.param(512, 40, marks=pytest.mark.slow)]
)
def test_a_face_with_vertices_in_another_order_is_little_work(
    monkeypatch: pytest.MonkeyPatch, size: int, per_pixel: int
) -> None:
    vertices, triangles = grid_mesh(68)  # 8,978 triangles
    order = np.random.default_rng(0).permutation(len(vertices))
    points = (vertices[order].astype(float) + np.array([50, 50, 0])) * (size / 100)
    tested = 0
    weights = rasterizer._weights

    def counted(planes: np.ndarray, triangle: np.ndarray, *place: np.ndarray) -> np.ndarray:
        nonlocal tested
        tested += len(triangle)
        return weights(planes, triangle, *place)

    monkeypatch.setattr(rasterizer, "_weights", counted)
    rasterize(points, triangles, size, size)
    assert tested < per_pixel * size**2  # the bounding boxes have 1,000 a pixel


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
