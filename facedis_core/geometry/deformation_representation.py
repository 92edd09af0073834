"""Deformation representation: how a face is stretched and turned around each of its vertices.

Gao et al. 2016 and 2017, in the logarithmic form that Jiang et al. 2019 use.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.geometry.surface import half_cotangents, neighbour_table, unique_edges

Points = NDArray[Any]

CHANNELS: Final = 9  # numbers of a vertex
# Pull towards a rotation, relative to the mean square of the edges: flat surroundings do not tell
# what is done to their normal.
_RIDGE: Final = 1e-2
# Pull of the steady vertices towards the reference, relative to that of the edges: it places a
# face, and does not bend it.
_PLACING: Final = 1e-7
_LEAST_WEIGHT: Final = 0.05  # of an edge; cotangents may be negative, means are not


def edge_weights(
    reference: Points, triangles: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int32], Points]:
    """The edges (E, 2) of a mesh, each once, and their weights (E,).

    A weight is half the sum of the cotangents of the opposite corners, at least 0.05.
    """
    edges = unique_edges(np.asarray(triangles))
    halves, cotangents, _ = half_cotangents(np.asarray(reference, np.float64), triangles)
    key = edges[:, 0].astype(np.int64) * len(reference) + edges[:, 1]
    halves = np.sort(halves, axis=1).astype(np.int64)
    place = np.searchsorted(key, halves[:, 0] * len(reference) + halves[:, 1])
    return edges, np.maximum(np.bincount(place, cotangents, len(edges)), _LEAST_WEIGHT)


@dataclass(frozen=True, eq=False)
class DeformationRepresentation:
    """Nine numbers for every vertex of a face, against a reference of the same triangles.

    T_i minimises sum_j c_ij |(x_i - x_j) - T_i (r_i - r_j)|^2 over the neighbours j of i, with a
    weak pull towards the best rotation, and is R S with a rotation R and a symmetric S. The numbers
    are S11 - 1, S12, S13, S22 - 1, S23, S33 - 1, and the vector of log R. Back, x minimises the sum
    of c_ij |(x_i - x_j) - T_i (r_i - r_j)|^2 over both directions of all edges. No number tells
    where a face is; it is placed so that the steady vertices stay.

    Attributes:
        reference: (V, 3).
        edges: (E, 2), each once.
        weights: (E,) positive, as of `edge_weights`.
        steadiness: (V,) positive, weights of the vertices that place a face.

    Example:
        >>> reference = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> edges = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
        >>> shape = DeformationRepresentation(reference, edges, np.ones(6), np.ones(4))
        >>> features = shape.features(1.1 * reference[None])
        >>> features.shape, features[0, 0].round(2).tolist()
        ((1, 4, 9), [0.1, 0.0, 0.0, 0.1, 0.0, 0.1, 0.0, 0.0, 0.0])
        >>> (shape.faces(features) - reference)[0, 1].round(2).tolist()
        [0.07, -0.02, -0.02]
    """

    reference: Points
    edges: NDArray[np.integer[Any]]
    weights: Points
    steadiness: Points

    def features(self, faces: Points) -> Points:
        """Faces (B, V, 3) -> their numbers (B, V, 9)."""
        ridge, inverse = self._ridge
        found = np.empty((len(faces), len(self.reference), CHANNELS))
        for row, face in zip(found, faces, strict=True):
            differences = np.asarray(face, np.float64)
            differences = differences[:, None] - differences[self._neighbours]
            moments = np.einsum("vka,vkb->vab", differences, self._weighted)
            row[...] = _numbers((moments + ridge * _rotations(moments)) @ inverse)
        return found

    def faces(self, features: Points) -> Points:
        """Numbers (B, V, 9) -> faces (B, V, 3)."""
        half = self._weighted / 2
        own = half.sum(axis=1)
        found = np.empty((len(features), len(self.reference), 3))
        for row, numbers in zip(found, features, strict=True):
            change = _gradients(np.asarray(numbers, np.float64)) - np.eye(3)
            right = np.einsum("vab,vb->va", change, own)
            right += np.einsum("vkab,vkb->va", change[self._neighbours], half)
            row[...] = self.reference + self._inverse @ right
        return found

    @cached_property
    def _neighbours(self) -> NDArray[np.int64]:
        """(V, K); vertices with fewer have themselves, of weight 0."""
        return self._table[0]

    @cached_property
    def _weighted(self) -> Points:
        """c_ij (r_i - r_j) by neighbour, (V, K, 3)."""
        neighbours, weights = self._table
        points = np.asarray(self.reference, np.float64)
        return (points[:, None] - points[neighbours]) * weights[:, :, None]

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], Points]:
        """Neighbours (V, K) and the weights of their edges."""
        neighbours, edge = neighbour_table(self.edges, len(self.reference))
        own = np.arange(len(neighbours))[:, None]
        weights = np.where(edge < 0, 0.0, np.asarray(self.weights, np.float64)[edge])
        neighbours = np.where(edge < 0, own, neighbours)
        return neighbours, weights

    @cached_property
    def _ridge(self) -> tuple[Points, Points]:
        """The pull (V, 1, 1), and the inverse of sum c (r_i - r_j)(r_i - r_j)^T with it."""
        points = np.asarray(self.reference, np.float64)
        differences = points[:, None] - points[self._neighbours]
        moments = np.einsum("vka,vkb->vab", differences, self._weighted)
        size = np.trace(moments, axis1=1, axis2=2)[:, None, None] / 3
        ridge = _RIDGE * size + np.finfo(np.float64).tiny ** 0.5
        return ridge, np.linalg.inv(moments + ridge * np.eye(3))

    @cached_property
    def _inverse(self) -> Points:
        """(V, V), the inverse of the weighted Laplacian and what places a face."""
        neighbours, weights = self._table
        matrix = np.diag(weights.sum(axis=1))
        np.subtract.at(matrix, (np.arange(len(matrix))[:, None], neighbours), weights)
        pull = np.asarray(self.steadiness, np.float64)
        pull = _PLACING * max(float(weights.sum()), 1.0) / float(pull.sum()) * pull
        found: Points = np.linalg.inv(matrix + np.diag(pull))
        return found


_ITERATIONS: Final = 20  # at most; six or seven do
_PLANES: Final = ((1, 2), (2, 0), (0, 1))  # turned by a rotation about x, y and z
_UPPER: Final = ([0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2])


def _numbers(gradients: Points) -> Points:
    """Matrices (V, 3, 3) -> nine numbers each."""
    rotation = _rotations(gradients)
    stretch = np.swapaxes(rotation, 1, 2) @ gradients
    twice_sine = np.stack([rotation[:, k, j] - rotation[:, j, k] for j, k in _PLANES], axis=1)
    size = np.linalg.norm(twice_sine, axis=1, keepdims=True)
    trace = np.trace(rotation, axis1=1, axis2=2)[:, None]
    angle = np.arctan2(size, trace - 1)
    logarithm = twice_sine * np.where(size < 1e-9, 0.5, angle / np.maximum(size, 1e-9))
    upper = (stretch - np.eye(3))[:, *_UPPER]
    return np.concatenate([upper, logarithm], axis=1)


def _rotations(matrices: Points) -> Points:
    """The rotations R of R S = (V, 3, 3), with symmetric S; of what is turned inside out as well.

    By Newton's iteration (Higham 1986), and by singular vectors where it is slow.
    """
    found = matrices.copy()
    size = np.linalg.norm(found, axis=(1, 2))
    slow = _cofactors(found)[1] <= 1e-4 * size**3
    found[slow] = np.eye(3)
    for _ in range(_ITERATIONS):
        cofactors, determinant = _cofactors(found)
        inverse = cofactors / determinant[:, None, None]  # transposed
        sizes = [np.linalg.norm(each, axis=(1, 2)) for each in (inverse, found)]
        scale = np.sqrt(sizes[0] / sizes[1])[:, None, None]
        before, found = found, (scale * found + inverse / scale) / 2
        if np.abs(found - before).max() < 1e-12:
            break
    left, _, right = np.linalg.svd(matrices[slow])
    left[:, :, 2] *= np.linalg.det(left @ right)[:, None]
    found[slow] = left @ right
    return found


def _cofactors(matrices: Points) -> tuple[Points, Points]:
    """Matrices (V, 3, 3) -> their cofactors, products of two rows each, and determinants (V,)."""
    x, y, z = matrices[:, [1, 2, 0]], matrices[:, [2, 0, 1]], np.empty_like(matrices)
    for axis, (j, k) in enumerate(_PLANES):
        z[:, :, axis] = x[:, :, j] * y[:, :, k] - x[:, :, k] * y[:, :, j]
    return z, np.einsum("vb,vb->v", matrices[:, 0], z[:, 0])


def _gradients(numbers: Points) -> Points:
    """Nine numbers a vertex -> matrices (V, 3, 3)."""
    stretch, cross = np.zeros((2, len(numbers), 3, 3))
    stretch[:, *_UPPER] = numbers[:, :6]
    stretch[:, *_UPPER[::-1]] = numbers[:, :6]
    for axis, (j, k) in enumerate(_PLANES):
        cross[:, k, j], cross[:, j, k] = numbers[:, 6 + axis], -numbers[:, 6 + axis]
    angle = np.linalg.norm(numbers[:, 6:], axis=1)[:, None, None]
    squared = cross @ cross
    # sin(a) / a and (1 - cos(a)) / a^2
    rotation = np.sinc(angle / np.pi) * cross + np.sinc(angle / (2 * np.pi)) ** 2 / 2 * squared
    found: Points = (np.eye(3) + rotation) @ (np.eye(3) + stretch)
    return found
