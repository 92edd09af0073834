"""Rasterizer: the visible triangle of each pixel, by a z-buffer in NumPy."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 1 << 17  # candidate pixels tested at once: their arrays stay in the cache
LAYERS: Final = 8  # candidates per pixel, above which those that cannot be seen are culled
TILES: Final = (64, 16, 4)  # sizes in pixels, each a multiple of the next
TOLERANCE: Final = 1e-9  # of barycentric weights


class VisibleSurface(NamedTuple):
    """Visible points of P pixels: flat pixel index, triangle, barycentric coordinates (3, P)."""

    pixel: NDArray[np.int64]
    triangle: NDArray[np.int64]
    weights: NDArray[np.float64]

    def interpolate(
        self, values: NDArray[Any], triangles: NDArray[np.integer[Any]]
    ) -> NDArray[Any]:
        """Vertex values (V, C) at the visible points (P, C), for the triangles that were drawn."""
        corners = [column[self.triangle] for column in np.ascontiguousarray(triangles.T)]
        # column by column: operations along short inner axes are many times slower
        columns = [
            sum(self.weights[k] * column[corner] for k, corner in enumerate(corners))
            for column in np.ascontiguousarray(values.T)
        ]
        return np.stack(columns, axis=1)


def rasterize(
    points: NDArray[np.float64], triangles: NDArray[np.integer[Any]], width: int, height: int
) -> VisibleSurface:
    """The nearest of the triangles (F, 3) at the centre of each pixel.

    `points` (V, 3) are columns, rows and heights in pixels, as from `Camera.project`. Candidates
    are the pixels of each triangle's bounding box, where many overlap without the parts that lie
    behind other triangles; of those inside the nearest is taken, of equal ones the last.
    """
    # corners by column, (3, F): operations along short inner axes are many times slower
    order = np.ascontiguousarray(triangles.T)
    x, y, depths = (column[order] for column in np.ascontiguousarray(points.T))
    planes, drawable = _barycentric_planes(x, y)
    nearest = np.full(width * height, -np.inf)
    owner = np.full(width * height, -1, np.int64)
    parts = _bounding_boxes(x, y, drawable, width, height)
    visible: Iterable[_Parts] = [parts]
    if int(parts.pixels().sum()) > LAYERS * width * height:
        visible = _Culling(planes, depths, width, height).visible(parts)
    for triangle, column, row in _candidates(visible):
        weights = _weights(planes, triangle, column, row)
        # with a tolerance, so that rounding leaves no gaps between neighbours
        least = np.minimum(np.minimum(weights[0], weights[1]), weights[2])
        inside = np.flatnonzero(least >= -TOLERANCE)
        triangle, pixel = triangle[inside], row[inside] * width + column[inside]
        depth = sum(weights[k, inside] * depths[k, triangle] for k in range(3))
        np.maximum.at(nearest, pixel, depth)
        wins = depth == nearest[pixel]
        owner[pixel[wins]] = triangle[wins]
    pixel = np.flatnonzero(owner >= 0)
    row, column = np.divmod(pixel, width)
    return VisibleSurface(pixel, owner[pixel], _weights(planes, owner[pixel], column, row))


class _Parts(NamedTuple):
    """Rectangles of pixels within the bounding boxes of triangles, in the order of these.

    Attributes:
        triangle: (P,).
        first, last: (P, 2) column and row of opposite corners.
    """

    triangle: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def pixels(self, size: int = 1) -> NDArray[np.int64]:
        """The number (P,) of pixels of each part, or of tiles of size^2 pixels."""
        across, down = (self.last // size - self.first // size + 1).T
        return across * down

    def chosen(self, which: slice | NDArray[Any]) -> "_Parts":
        """Some of the parts."""
        return _Parts(self.triangle[which], self.first[which], self.last[which])

    def split(self, size: int) -> tuple["_Parts", NDArray[np.int64]]:
        """Their parts in each tile of size^2 pixels, and column and row (P, 2) of the tiles."""
        counts = self.pixels(size)
        index = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
        tile = self.first // size
        across = self.last[:, 0] // size - tile[:, 0] + 1
        row, column = np.divmod(place, across[index])
        tile = tile[index] + np.stack([column, row], axis=1)
        first = np.maximum(self.first[index], tile * size)
        last = np.minimum(self.last[index], tile * size + size - 1)
        return _Parts(self.triangle[index], first, last), tile


class _Culling:
    """Finds parts of triangles that cannot be seen, tile by tile, in tiles that become smaller.

    A triangle that covers a tile wholly hides what lies behind all of it there. So the work grows
    with the surface that is seen and not with the layers behind it, of which a face whose vertices
    are in another order has hundreds.
    """

    def __init__(
        self, planes: NDArray[np.float64], depths: NDArray[np.float64], width: int, height: int
    ) -> None:
        self.size = np.array([width, height])
        # a, b, c of the weights and of the depth (4, 3, F), and limits of their rounding (4, F)
        self.planes = np.concatenate([planes, (planes * depths[:, None]).sum(0)[None]])
        terms = np.abs(planes) * np.array([width, height, 1])[:, None]
        rounding = 8 * np.finfo(float).eps * terms.sum(1)
        self.rounding = np.concatenate([rounding, (rounding * np.abs(depths)).sum(0)[None]])
        self.top = depths.max(0) + 4 * TOLERANCE * np.abs(depths).sum(0) + self.rounding[3]
        # depth behind which each tile hides everything
        self.hidden = [np.full(-(-self.size[::-1] // size), -np.inf) for size in TILES]

    def visible(self, parts: _Parts) -> Iterator[_Parts]:
        """The parts without what cannot be seen, in blocks and in their order."""
        for block in _blocks(parts, TILES[0]):
            self._seen(block, 0)  # what hides the most, before anything is refined
        yield from self._refined(parts, 0)

    def _refined(self, parts: _Parts, level: int) -> Iterator[_Parts]:
        if level == len(TILES):
            yield parts
            return
        for block in _blocks(parts, TILES[level]):
            yield from self._refined(self._seen(block, level), level + 1)

    def _seen(self, parts: _Parts, level: int) -> _Parts:
        """The parts in smaller tiles that may be seen; also notes what they hide."""
        size = TILES[level]
        parts, tile = parts.split(size)
        lowest, highest = self._bounds(parts)
        place = (tile[:, 1], tile[:, 0])
        hidden = self.hidden[level]
        if level:
            above = tile * size // TILES[level - 1]
            hidden[place] = np.maximum(
                hidden[place], self.hidden[level - 1][above[:, 1], above[:, 0]]
            )
        whole = (parts.first == tile * size) & (
            parts.last == np.minimum(tile * size + size, self.size) - 1
        )
        covering = whole.all(1) & (lowest[:3] > TOLERANCE).all(0)
        np.maximum.at(hidden, (place[0][covering], place[1][covering]), lowest[3, covering])
        touching = (highest[:3] >= -2 * TOLERANCE).all(0)
        nearest = np.minimum(highest[3], self.top[parts.triangle])
        return parts.chosen(touching & (nearest >= hidden[place]))

    def _bounds(self, parts: _Parts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and greatest weights and depth (4, P) of the planes at the pixels of the parts."""
        triangle = parts.triangle
        x, y = ((parts.first + parts.last + 1) / 2).T
        half_x, half_y = ((parts.last - parts.first) / 2).T
        lowest, highest = np.empty((2, 4, len(triangle)))
        for k, (a, b, c) in enumerate(self.planes):
            slope_x, slope_y = a[triangle], b[triangle]
            middle = slope_x * x + slope_y * y + c[triangle]
            spread = np.abs(slope_x) * half_x + np.abs(slope_y) * half_y
            spread += self.rounding[k, triangle]
            lowest[k], highest[k] = middle - spread, middle + spread
        return lowest, highest


def _blocks(parts: _Parts, size: int) -> Iterator[_Parts]:
    """The parts in blocks that are in some BLOCK / 4 tiles of size^2 pixels each."""
    for block in _slices(parts.pixels(size), BLOCK // 4):
        yield parts.chosen(block)


def _slices(counts: NDArray[np.int64], limit: int) -> Iterator[slice]:
    """Slices of some `limit` things each, of which there are `counts` (N,)."""
    number = np.cumsum(counts) // (limit + 1)
    bounds = np.flatnonzero(np.diff(number, prepend=-1, append=-1))
    yield from (slice(start, stop) for start, stop in pairwise(bounds))


def _bounding_boxes(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    drawable: NDArray[np.bool_],
    width: int,
    height: int,
) -> _Parts:
    """The pixels in the bounding boxes of triangles, with corners (3, F), where there are any."""
    firsts, lasts, found = [], [], drawable
    for place, size in ((x, width), (y, height)):
        # pixel i has its centre at i + 0.5
        first = np.maximum(np.ceil(place.min(0) - 0.5), 0).astype(np.int64)
        last = np.minimum(np.floor(place.max(0) - 0.5), size - 1).astype(np.int64)
        found = found & (first <= last)
        firsts.append(first)
        lasts.append(last)
    index = np.flatnonzero(found)
    return _Parts(index, *(np.stack(ends, axis=1)[index] for ends in (firsts, lasts)))


def _candidates(
    blocks: Iterable[_Parts],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Blocks of triangles, columns and rows of the pixels of parts."""
    for parts in (few for many in blocks for few in _blocks(many, 1)):
        columns, rows = (parts.last - parts.first + 1).T
        line = np.repeat(np.arange(len(rows)), rows)
        row = np.arange(len(line)) - (np.cumsum(rows) - rows - parts.first[:, 1])[line]
        columns, column, triangle = columns[line], parts.first[line, 0], parts.triangle[line]
        for some in _slices(columns, BLOCK):
            counts = columns[some]
            line = np.repeat(np.arange(len(counts)), counts)
            start = np.cumsum(counts) - counts - column[some]
            yield triangle[some][line], np.arange(len(line)) - start[line], row[some][line]


def _barycentric_planes(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """a, b, c (3, 3, F) of each weight a x + b y + c, and which triangles have an area (F,).

    `x` and `y` are the corners (3, F).
    """
    (next_x, next_y), (after_x, after_y) = (
        (x[order], y[order]) for order in ([1, 2, 0], [2, 0, 1])
    )
    a, b = next_y - after_y, after_x - next_x
    c = next_x * after_y - after_x * next_y
    doubled_area = c.sum(0)
    drawable = np.abs(doubled_area) > 1e-9
    planes = np.stack([a, b, c], axis=1) / np.where(drawable, doubled_area, 1)
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
