"""Normals, edges, Laplacian and point sampling of triangulated surfaces."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[Any]


class SparseMatrix(NamedTuple):
    """A sparse V x V matrix as parallel arrays (E,), sorted by row, then column."""

    row: NDArray[np.int32]
    column: NDArray[np.int32]
    value: NDArray[np.float32]


def triangle_normals(vertices: Points, triangles: NDArray[np.integer[Any]]) -> Points:
    """Normals (..., F, 3) of triangles on vertices (..., V, 3); their length is twice the area."""
    a, b, c = (vertices[..., triangles[:, k], :] for k in range(3))
    return np.cross(b - a, c - a)


def unit_vectors(vectors: Points) -> Points:
    """`vectors` (..., 3) at length 1; a zero vector stays zero."""
    length = np.sqrt((vectors**2).sum(-1, keepdims=True))
    return vectors / np.where(length > 0, length, 1)


def _sum_by_index(index: NDArray[Any], values: Points, count: int) -> Points:
    """Row i of the answer (count, 3) is the sum of the rows of `values` (E, 3) whose index is i.

    bincount is many times faster than np.add.at, and adds in float64.
    """
    return np.stack([np.bincount(index, values[:, k], count) for k in range(3)], axis=1)


def vertex_normals(vertices: Points, triangles: NDArray[np.integer[Any]]) -> Points:
    """Unit normals (V, 3): the sum of the adjacent triangles' normals, so weighted by their areas.

    A vertex without triangles has the normal zero.
    """
    faces = triangle_normals(vertices, triangles)
    total = _sum_by_index(triangles.T.ravel(), np.tile(faces, (3, 1)), len(vertices))
    return unit_vectors(total).astype(vertices.dtype)


def unique_edges(triangles: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """Every edge once (E, 2), smaller index first, sorted."""
    pairs = triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0).astype(np.int32)


def mean_edge_lengths(vertices: Points, triangles: NDArray[np.integer[Any]]) -> Points:
    """Per vertex the mean length (V,) of the edges that meet there; 0 where none does."""
    edges = unique_edges(triangles)
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    ends = edges.T.ravel()
    total = np.bincount(ends, np.tile(length, 2), len(vertices))
    count = np.bincount(ends, minlength=len(vertices))
    return (total / np.maximum(count, 1)).astype(vertices.dtype)


def uniform_laplacian(triangles: NDArray[np.integer[Any]], vertex_count: int) -> SparseMatrix:
    """L = I - D^-1 A, A the adjacency and D the degrees: (L x)_i = x_i - mean of its neighbours.

    Uniform weights, not cotangents, since it is applied to faces that do not exist yet. The row of
    a vertex without neighbours is empty.
    """
    edges = unique_edges(triangles)
    degree = np.bincount(edges.ravel(), minlength=vertex_count)
    connected = np.flatnonzero(degree)
    row = np.concatenate([edges[:, 0], edges[:, 1], connected])
    column = np.concatenate([edges[:, 1], edges[:, 0], connected])
    value = np.concatenate([-1.0 / degree[row[: 2 * len(edges)]], np.ones(len(connected))])
    order = np.lexsort((column, row))
    return SparseMatrix(
        row[order].astype(np.int32), column[order].astype(np.int32), value[order].astype(np.float32)
    )


def farthest_points(vertices: Points, count: int) -> NDArray[np.int32]:
    """`count` vertices of (V, 3) spread evenly, as sorted indices (count,).

    Farthest-point sampling from the vertex farthest from the centroid; of equals the first wins, so
    the choice is a function of the input alone.
    """
    points = np.asarray(vertices, np.float64)
    if not 0 < count <= len(points):
        raise ValueError(f"cannot choose {count} of {len(points)} vertices")
    chosen = np.empty(count, np.int32)
    chosen[0] = np.argmax(((points - points.mean(0)) ** 2).sum(1))
    nearest = np.full(len(points), np.inf)
    for k in range(1, count):
        np.minimum(nearest, ((points - points[chosen[k - 1]]) ** 2).sum(1), out=nearest)
        nearest[chosen[k - 1]] = -1.0  # coinciding vertices are not chosen twice
        chosen[k] = np.argmax(nearest)
    return np.sort(chosen)
