"""Rims: the boundaries of a mesh, such as the outline of a mask, its mouth and its eyes."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


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
