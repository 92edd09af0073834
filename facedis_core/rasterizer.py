"""Which triangle each pixel sees: a z-buffer on NumPy."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 1 << 19  # candidate pixels tested at once, so that no mesh needs more memory


class VisibleSurface(NamedTuple):
    """What P pixels see: their flat index, the triangle, and where on it (barycentric, (3, P))."""

    pixel: NDArray[np.int64]
    triangle: NDArray[np.int64]
    weights: NDArray[np.float64]

    def interpolate(
        self, values: NDArray[Any], triangles: NDArray[np.integer[Any]]
    ) -> NDArray[Any]:
        """Values of vertices (V, C) at the points seen (P, C); triangles (F, 3) as were drawn."""
        corners = triangles[self.triangle]
        return sum(self.weights[k, :, None] * values[corners[:, k]] for k in range(3))


def rasterize(
    points: NDArray[np.float64], triangles: NDArray[np.integer[Any]], width: int, height: int
) -> VisibleSurface:
    """The nearest of the triangles (F, 3) at each pixel's centre.

    `points` (V, 3) are columns, rows and heights in pixels, as `Camera.project` gives them.
    Every pixel of every triangle's bounding box is a candidate; those inside compete by depth.
    """
    planes, drawable = _barycentric_planes(points[triangles])
    depths = points[triangles, 2].T
    nearest = np.full(width * height, -np.inf)
    owner = np.full(width * height, -1, np.int64)
    for triangle, column, row in _candidates(points[triangles], drawable, width, height):
        weights = _weights(planes, triangle, column, row)
        # Slightly generous, so that rounding leaves no gap between neighbours.
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
    """Triangles, columns and rows, each (at most BLOCK,), in the boxes of `corners` (F, 3, 3)."""
    # Pixel i has its centre at i + 0.5.
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
    """(3, 3, F): a, b, c of weight k = a x + b y + c; and which triangles have an area (F,)."""
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
        # In place: what it takes is to fetch numbers, and every array less is time saved.
        np.multiply(a[triangle], x, out=weight)
        weight += b[triangle] * y
        weight += c[triangle]
    return weights
