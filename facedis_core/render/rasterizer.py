"""Rasterizer: the visible triangle of each pixel, by a z-buffer in NumPy."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 1 << 19  # candidate pixels tested at once, which bounds memory


class VisibleSurface(NamedTuple):
    """Visible points of P pixels: flat pixel index, triangle, barycentric coordinates (3, P)."""

    pixel: NDArray[np.int64]
    triangle: NDArray[np.int64]
    weights: NDArray[np.float64]

    def interpolate(
        self, values: NDArray[Any], triangles: NDArray[np.integer[Any]]
    ) -> NDArray[Any]:
        """Vertex values (V, C) at the visible points (P, C), for the triangles that were drawn."""
        corners = triangles[self.triangle]
        return sum(self.weights[k, :, None] * values[corners[:, k]] for k in range(3))


def rasterize(
    points: NDArray[np.float64], triangles: NDArray[np.integer[Any]], width: int, height: int
) -> VisibleSurface:
    """The nearest of the triangles (F, 3) at the centre of each pixel.

    `points` (V, 3) are columns, rows and heights in pixels, as from `Camera.project`. Candidates
    are the pixels of each triangle's bounding box; of those inside the nearest is taken.
    """
    planes, drawable = _barycentric_planes(points[triangles])
    depths = points[triangles, 2].T
    nearest = np.full(width * height, -np.inf)
    owner = np.full(width * height, -1, np.int64)
    for triangle, column, row in _candidates(points[triangles], drawable, width, height):
        weights = _weights(planes, triangle, column, row)
        # with a tolerance, so that rounding leaves no gaps between neighbours
        inside = np.flatnonzero(weights.min(0) >= -1e-9)
        triangle, pixel = triangle[inside], row[inside] * width + column[inside]
        depth = sum(weights[k, inside] * depths[k, triangle] for k in range(3))
        np.maximum.at(nearest, pixel, depth)
        wins = depth == nearest[pixel]
        owner[pixel[wins]] = triangle[wins]
    pixel = np.flatnonzero(owner >= 0)
    row, column = np.divmod(pixel, width)
    return VisibleSurface(pixel, owner[pixel], _weights(planes, owner[pixel], column, row))


def _candidates(
    corners: NDArray[np.float64], drawable: NDArray[np.bool_], width: int, height: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Blocks of triangles, columns and rows in the bounding boxes of `corners` (F, 3, 3)."""
    # pixel i has its centre at i + 0.5
    first = np.maximum(np.ceil(corners[..., :2].min(1) - 0.5), 0).astype(np.int64)
    last = np.floor(corners[..., :2].max(1) - 0.5)
    last = np.minimum(last, (width - 1, height - 1)).astype(np.int64)
    columns, rows = np.maximum(last - first + 1, 0).T
    counts = np.where(drawable, columns * rows, 0)
    ends = np.cumsum(counts)
    starts = ends - counts
    for start in range(0, int(ends[-1]), BLOCK):
        stop = min(start + BLOCK, int(ends[-1]))
        low, high = np.searchsorted(ends, [start, stop - 1], side="right")
        numbers = np.arange(low, high + 1)
        shares = np.minimum(ends[numbers], stop) - np.maximum(starts[numbers], start)
        triangle = np.repeat(numbers, shares)
        row, column = np.divmod(np.arange(start, stop) - starts[triangle], columns[triangle])
        yield triangle, column + first[triangle, 0], row + first[triangle, 1]


def _barycentric_planes(
    corners: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """a, b, c (3, 3, F) of each weight a x + b y + c, and which triangles have an area (F,)."""
    x, y = corners[..., 0], corners[..., 1]
    next_x, next_y = np.roll(x, -1, 1), np.roll(y, -1, 1)
    after_x, after_y = np.roll(x, -2, 1), np.roll(y, -2, 1)
    a, b = next_y - after_y, after_x - next_x
    c = next_x * after_y - after_x * next_y
    doubled_area = c.sum(1)
    drawable = np.abs(doubled_area) > 1e-9
    planes = np.stack([a.T, b.T, c.T], axis=1) / np.where(drawable, doubled_area, 1)
    return planes, drawable


def _weights(
    planes: NDArray[np.float64],
    triangle: NDArray[np.int64],
    column: NDArray[np.int64],
    row: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Barycentric weights (3, P) of pixel centres."""
    x, y = column + 0.5, row + 0.5
    weights = np.empty((3, len(triangle)))
    for weight, (a, b, c) in zip(weights, planes, strict=True):
        # in place: the time goes into memory access
        np.multiply(a[triangle], x, out=weight)
        weight += b[triangle] * y
        weight += c[triangle]
    return weights
