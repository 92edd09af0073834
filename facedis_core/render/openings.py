"""Openings of meshes, such as the mouth and the eyes of a mask, and the lining behind them.

A mask ends inside the lips, and even closed lips rarely touch: between them one would see through
it. The lining closes each opening from behind.
"""

from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.geometry.surface import unit_vectors

DEPTH: Final = 0.25  # of the lining's centre behind the rim, per square root of the opening's area


class Rims(NamedTuple):
    """Boundaries of a mesh.

    Attributes:
        edges: (E, 2) boundary edges, from tail to head as in their triangles.
        rim: (E,) the number of the closed boundary that each edge belongs to.
        part: (R,) the connected part of the mesh that each boundary belongs to.
    """

    edges: NDArray[np.int64]
    rim: NDArray[np.int64]
    part: NDArray[np.int64]


def find_rims(triangles: NDArray[np.integer[Any]], vertex_count: int) -> Rims:
    """The boundaries of a mesh: edges of one triangle alone, joined where they share a vertex."""
    contiguous = np.ascontiguousarray(triangles, np.int32)
    return _find_rims(contiguous.tobytes(), vertex_count)


@lru_cache(maxsize=4)  # faces of a sheet have the same triangles
def _find_rims(triangles: bytes, vertex_count: int) -> Rims:
    corners = np.frombuffer(triangles, np.int32).astype(np.int64).reshape(-1, 3)
    edges = corners[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    low, high = edges.min(1), edges.max(1)
    _, first, count = np.unique(low * vertex_count + high, return_index=True, return_counts=True)
    open_edges = edges[first[(count == 1) & (low[first] != high[first])]]
    if not len(open_edges):
        return Rims(open_edges, np.empty(0, np.int64), np.empty(0, np.int64))
    labels = _component_labels(open_edges, vertex_count)[open_edges[:, 0]]
    start, rim = np.unique(labels, return_inverse=True)
    return Rims(open_edges, rim, _component_labels(edges, vertex_count)[start])


def _component_labels(edges: NDArray[np.int64], vertex_count: int) -> NDArray[np.int64]:
    """The least vertex (V,) connected to each vertex."""
    label = np.arange(vertex_count)
    tail, head = edges.T
    while True:
        least = np.minimum(label[tail], label[head])
        after = label.copy()
        for end in (tail, head):
            np.minimum.at(after, label[end], least)
        after = after[after]
        if np.array_equal(after, label):
            return label
        label = after


def line_openings(
    vertices: NDArray[Any], triangles: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Lining of the openings: new vertices (R, 3), one an opening, and triangles (L, 3).

    The longest boundary of each connected part is its outline, the others are openings. The new
    vertices are numbered from V. They lie behind their openings by the winding of the triangles.
    """
    edges, rim, part = find_rims(triangles, len(vertices))
    if not len(edges):
        return np.empty((0, 3)), np.empty((0, 3), np.int64)
    tail, head = (np.asarray(vertices[end], np.float64) for end in edges.T)

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([np.bincount(rim, column) for column in values.T], axis=1)

    length = np.sqrt(((head - tail) ** 2).sum(1))
    around = np.bincount(rim, length)
    longest = np.zeros(int(part.max()) + 1)
    np.maximum.at(longest, part, around)
    opening = around < longest[part]
    if not opening.any():
        return np.empty((0, 3)), np.empty((0, 3), np.int64)
    centre = total((tail + head) / 2 * length[:, None]) / np.where(around > 0, around, 1)[:, None]
    outwards = total(np.cross(head - centre[rim], tail - centre[rim])) / 2
    area = np.sqrt((outwards**2).sum(1, keepdims=True))
    centre -= DEPTH * np.sqrt(area) * unit_vectors(outwards)
    number = len(vertices) + np.cumsum(opening) - 1
    lined = opening[rim]
    lining = np.column_stack([edges[lined, 1], edges[lined, 0], number[rim[lined]]])
    return centre[opening], lining
