"""Alignment, normals, edges and neighbourhoods of registered faces, on NumPy alone.

Every function takes float32 or float64 and answers in the type it was given; sums that need it are
formed in float64.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[Any]

# Squared length of the sum of two unit vectors below which they count as opposite.
OPPOSITE = 1e-20
# Root mean squared distance of points to their centroid, relative to its distance from the origin,
# below which they count as one point; single precision cannot tell points apart that are nearer.
COINCIDING = 1e-12


@dataclass(frozen=True, eq=False)
class RigidTransform:
    """x -> scale * rotation @ x + translation, with a proper rotation (3, 3)."""

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    scale: float = 1.0

    def apply(self, points: Points) -> Points:
        """Transform points (..., 3); the answer has the type of `points`."""
        moved = self.scale * (points @ self.rotation.T) + self.translation
        return moved.astype(points.dtype)


@dataclass(frozen=True, eq=False)
class RigidTransforms:
    """N motions: proper rotations (N, 3, 3), translations (N, 3) and scales (N,)."""

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    scale: NDArray[np.float64]

    def apply(self, faces: Points) -> Points:
        """Move each face of (N, V', 3) by its own motion; the answer has the type of `faces`."""
        turned = (self.scale[:, None, None] * self.rotation).transpose(0, 2, 1)
        # Cast before the product: of mixed types, NumPy's takes ten times as long.
        moved = faces.astype(np.float64) @ turned
        moved += self.translation[:, None]
        return moved.astype(faces.dtype)


class Neighbours(NamedTuple):
    """A sparse V x V matrix as parallel arrays (E,), sorted by row, then column."""

    row: NDArray[np.int32]
    column: NDArray[np.int32]
    value: NDArray[np.float32]


def rigid_alignment(source: Points, target: Points, *, scale: bool = False) -> RigidTransform:
    """The motion (and scale) that brings `source` (V, 3) nearest to `target` (V, 3).

    `rigid_alignments` of one face. Raises ValueError where the shapes are not one and the same.
    """
    a, b = np.asarray(source), np.asarray(target)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3:
        raise ValueError(f"expected two arrays of one shape (V, 3), got {a.shape} and {b.shape}")
    found = rigid_alignments(a[None], b, scale=scale)
    return RigidTransform(found.rotation[0], found.translation[0], float(found.scale[0]))


def rigid_alignments(sources: Points, targets: Points, *, scale: bool = False) -> RigidTransforms:
    """The motions (and scales) that bring each of `sources` (N, V, 3) nearest to its target.

    Least squares over corresponding vertices: Kabsch 1976, with the closed form for the scale and
    the guard against reflections of Umeyama 1991, "Least-squares estimation of transformation
    parameters between two point patterns", eq. 40-43. Points that all coincide are only shifted.

    Args:
        sources: (N, V, 3).
        targets: (N, V, 3), or (V, 3) for all of them.
        scale: also find the scale; else it is 1.

    Raises:
        ValueError: other shapes.
    """
    a, b = np.array(sources, np.float64), np.asarray(targets, np.float64)
    if a.ndim != 3 or a.shape[2] != 3 or b.shape not in (a.shape, a.shape[1:]):
        raise ValueError(f"expected (N, V, 3) and (N, V, 3) or (V, 3), got {a.shape} and {b.shape}")
    # A product with ones is a sum that is many times faster than the one along an inner axis.
    mean = np.full(a.shape[1], 1 / a.shape[1])
    centre_a, centre_b = mean @ a, mean @ b
    a -= centre_a[:, None]
    b = b - centre_b[..., None, :]
    spread = np.einsum("nvk,nvk->n", a, a)
    # Of coinciding points centring leaves rounding errors, whose directions mean nothing.
    extended = spread > COINCIDING**2 * a.shape[1] * (centre_a**2).sum(1)
    covariance = np.where(extended[:, None, None], np.swapaxes(b, -1, -2) @ a, 0.0)
    u, singular, vt = np.linalg.svd(covariance)
    signs = np.ones_like(singular)
    signs[:, 2] = np.where(np.linalg.det(u) * np.linalg.det(vt) < 0, -1.0, 1.0)
    rotation = (u * signs[:, None]) @ vt
    factor = np.ones(len(a))
    if scale:
        np.divide((singular * signs).sum(1), spread, out=factor, where=extended)
    moved_centre = factor[:, None] * (rotation @ centre_a[..., None])[..., 0]
    return RigidTransforms(rotation, centre_b - moved_centre, factor)


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


def uniform_laplacian(triangles: NDArray[np.integer[Any]], vertex_count: int) -> Neighbours:
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
    return Neighbours(
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


def rotation_between(a: Points, b: Points) -> Points:
    """The smallest rotations (..., 3, 3) that take the directions a (..., 3) to b (..., 3).

    Two half turns, the first about a, the second about the bisector of a and b: unlike Rodrigues'
    formula it has no pole, so the answer is a rotation to rounding even for nearly opposite
    vectors. For opposite ones, where any axis across will do, the bisector is the coordinate axis
    least along a, made orthogonal to it. Where a or b is zero (the normal of a vertex without
    triangles) the answer is the identity.
    """
    kind = np.result_type(a, b, np.float32)
    a, b = (unit_vectors(np.asarray(v, np.float64)) for v in np.broadcast_arrays(a, b))
    bisector = a + b
    across = np.eye(3)[np.abs(a).argmin(-1)]
    across = across - (across * a).sum(-1, keepdims=True) * a
    opposite = (bisector**2).sum(-1, keepdims=True) < OPPOSITE
    bisector = unit_vectors(np.where(opposite, across, bisector))
    rotation = _half_turns(bisector) @ _half_turns(a)
    undefined = ~(a.any(-1) & b.any(-1))
    rotation[undefined] = np.eye(3)
    return rotation.astype(kind)


def rotation_about(axis: Points, angle: float) -> Points:
    """The rotation (3, 3) by `angle` radians about a unit vector (3,), by Rodrigues' formula."""
    cross = np.cross(np.eye(3), axis)  # cross @ v is the cross product of the axis and v
    rotation: Points = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation


def _half_turns(axis: Points) -> Points:
    """Rotations (..., 3, 3) by 180 degrees about unit vectors (..., 3)."""
    return 2 * axis[..., :, None] * axis[..., None, :] - np.eye(3)
