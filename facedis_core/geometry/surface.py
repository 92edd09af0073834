"""Triangulated surfaces: normals, edges, Laplacian, farthest-point sampling."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[Any]


class SparseMatrix(NamedTuple):
    """A sparse V x V matrix.

    Attributes:
        row, column: (E,) indices, sorted by row, then column.
        value: (E,).
    """

    row: NDArray[np.int32]
    column: NDArray[np.int32]
    value: NDArray[np.float32]


def triangle_normals(vertices: Points, triangles: NDArray[np.integer[Any]]) -> Points:
    """Normals (..., F, 3) of triangles (F, 3) on vertices (..., V, 3), of length twice the area."""
    # column by column: operations along short inner axes are many times slower
    columns = []
    for k in range(3):
        a, b, c = (vertices[..., k].take(corners, -1) for corners in triangles.T)
        columns.append((b - a, c - a))
    x, y, z = columns
    crossed = [p[0] * q[1] - p[1] * q[0] for p, q in ((y, z), (z, x), (x, y))]
    return np.stack(crossed, axis=-1)


def unit_vectors(vectors: Points) -> Points:
    """Vectors (..., 3) scaled to length 1; a zero vector stays zero."""
    # explicit, since sums along short inner axes are many times slower
    x, y, z = (vectors[..., k] for k in range(3))
    length = np.sqrt(x * x + y * y + z * z)
    return vectors / np.where(length > 0, length, 1)[..., None]


def vertex_normals(vertices: Points, triangles: NDArray[np.integer[Any]]) -> Points:
    """Unit vertex normals (V, 3): the area-weighted mean of the normals of adjacent triangles.

    A vertex without triangles has the normal zero.

    Args:
        vertices: (V, 3).
        triangles: (F, 3).
    """
    corners = triangles.T.ravel()
    normals = np.tile(triangle_normals(vertices, triangles), (3, 1))  # one row per corner
    # bincount is many times faster than np.add.at, and adds in float64
    total = [np.bincount(corners, normals[:, k], len(vertices)) for k in range(3)]
    return unit_vectors(np.stack(total, axis=1)).astype(vertices.dtype)


def half_cotangents(
    vertices: Points, triangles: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.integer[Any]], Points, Points]:
    """Edges of triangles, with half the cotangent of the corner opposite each, and areas.

    Args:
        vertices: (V, 3).
        triangles: (F, 3).

    Returns:
        Edges (3F, 2), one of two triangles twice; (3F,); areas (F,), at least 5e-13.
    """
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    twice = np.maximum(np.linalg.norm(np.cross(b - a, c - a), axis=1), 1e-12)
    dots = [(b - a) * (c - a), (c - b) * (a - b), (a - c) * (b - c)]
    cotangents = np.stack([dot.sum(axis=1) for dot in dots], axis=1) / twice[:, None]
    edges = triangles[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2)
    return edges, cotangents.ravel() / 2, twice / 2


def unique_edges(triangles: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """The edges (E, 2) of triangles (F, 3), each once, smaller index first, sorted."""
    pairs = triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0).astype(np.int32)


def neighbour_table(
    edges: NDArray[np.integer[Any]], vertex_count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The neighbours of every vertex, in ascending order, and the edges to them.

    Args:
        edges: (E, 2), each once.
        vertex_count: V.

    Returns:
        Both (V, K) for at most K neighbours, K >= 1; -1 where a vertex has fewer.

    Example:
        >>> neighbours, edge = neighbour_table(np.array([[0, 1], [1, 2]]), 3)
        >>> neighbours.tolist(), edge.tolist()
        ([[1, -1], [0, 2], [1, -1]], [[0, -1], [0, 1], [1, -1]])
    """
    start, end = np.concatenate([edges, edges[:, ::-1]]).T
    order = np.lexsort((end, start))
    start, end = start[order], end[order]
    degree = np.bincount(start, minlength=vertex_count)
    place = np.arange(len(start)) - (np.cumsum(degree) - degree)[start]
    neighbours, edge = np.full((2, vertex_count, max(1, degree.max())), -1)
    neighbours[start, place], edge[start, place] = end, order % max(1, len(edges))
    return neighbours, edge


def connected_parts(triangles: NDArray[np.integer[Any]], vertex_count: int) -> NDArray[np.int32]:
    """The number (V,) of the connected part that each vertex is of. Needs SciPy."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = unique_edges(triangles).T
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(vertex_count, vertex_count))
    part: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return part


def fill_between(
    values: NDArray[np.floating[Any]], triangles: NDArray[np.integer[Any]], rounds: int = 2
) -> NDArray[np.float64]:
    """Values (V,) of which some are NaN, with those between known ones filled in.

    In each round a vertex of which two neighbours or more are known takes their mean.

    Args:
        values: (V,).
        triangles: (F, 3).
        rounds: number of rounds.
    """
    filled = values.astype(np.float64)
    edges = unique_edges(triangles)
    a, b = np.concatenate([edges, edges[:, ::-1]]).T
    for _ in range(rounds):
        known = np.isfinite(filled)
        from_known = known[b] & ~known[a]
        count = np.bincount(a[from_known], minlength=len(values))
        total = np.bincount(a[from_known], filled[b[from_known]], len(values))
        chosen = count > 1
        filled[chosen] = total[chosen] / count[chosen]
    return filled


def uniform_laplacian(triangles: NDArray[np.integer[Any]], vertex_count: int) -> SparseMatrix:
    """The uniform Laplacian L = I - D^-1 A: (L x)_i = x_i - mean of the neighbours of i.

    A is the adjacency matrix, D the diagonal matrix of degrees. Weights are uniform instead of
    cotangents because the loss applies L to faces that are only being predicted. The row of a
    vertex without neighbours is empty.

    Args:
        triangles: (F, 3).
        vertex_count: V.
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
    """Farthest-point sampling: sorted indices (count,) of evenly spread vertices of (V, 3).

    It starts at the vertex farthest from the centroid; of equally far vertices the first is taken,
    so the result depends on the input alone.

    Raises:
        ValueError: `count` is not from 1 to V.
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
