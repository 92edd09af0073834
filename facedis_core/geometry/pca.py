"""Principal component analysis (PCA) of faces, fitted block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

BLOCK_FACES: Final = 128  # faces per block in float64: 14 MB at V = 4,600
BLOCK_VALUES: Final = 1 << 23  # coordinates of all faces in a block of vertices: 64 MB in float64
GRAM_FACES: Final = 4096  # at most this many faces have a Gram matrix: 128 MB, and 15 s to solve
OVERSAMPLING: Final = 16  # random directions beyond the number of components
TOLERANCE: Final = 1e-6  # relative gain of captured variance below which iteration stops
ITERATIONS: Final = 30
# Standard deviation of faces along a component, relative to the length of the mean face, that may
# be rounding in float64; faces in float32 that differ at all have more than 1e-9.
ROUNDING: Final = 1e-12


@dataclass(frozen=True, eq=False)
class Pca:
    """Principal components of faces.

    Attributes:
        mean: mean face (3V,) mm.
        basis: (c, 3V), orthonormal rows, most variance first.
        variance: (c,) mm^2 of the training faces along each row, divided by N.
    """

    mean: np.ndarray
    basis: np.ndarray
    variance: np.ndarray

    def encode(self, vertices: np.ndarray) -> np.ndarray:
        """Coefficients (B, c) mm of faces (B, V, 3) mm."""
        return (vertices.reshape(len(vertices), -1) - self.mean) @ self.basis.T

    def decode(self, coefficients: np.ndarray) -> np.ndarray:
        """Faces (B, V, 3) float32 mm from coefficients (B, k) mm of the first k components."""
        flat = self.mean + coefficients @ self.basis[: coefficients.shape[1]]
        return flat.reshape(len(flat), -1, 3).astype(np.float32)


class Faces(Protocol):
    """Faces (N, V, 3) mm that are read by rows: an array, a memory map, or computed on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, V, 3)."""

    def __getitem__(self, at: np.ndarray | tuple[np.ndarray, slice], /) -> np.ndarray:
        """Faces of some rows; with a slice, these vertices of them."""


def fit_pca(vertices: Faces, rows: np.ndarray, components: int, seed: int = 0) -> Pca:
    """PCA in float64: exact for up to GRAM_FACES faces of many vertices, else randomized.

    Args:
        vertices: (N, V, 3) mm.
        rows: (n,) training faces.
        components: number of components; fewer are returned where the faces span fewer.
        seed: of the random start, where there is one.
    """
    rows, size = np.asarray(rows), vertices.shape[1] * 3
    if len(rows) <= min(GRAM_FACES, size // 2):
        return _pca_by_gram(vertices, rows, components)
    return _randomized_pca(vertices, rows, components, seed)


def _pca_by_gram(vertices: Faces, rows: np.ndarray, components: int) -> Pca:
    """PCA from the Gram matrix of the faces, made in blocks of vertices.

    Time: n^2 3V operations; memory: the components and four times the Gram matrix (n, n).
    """
    gram, mean = np.zeros((len(rows), len(rows))), np.zeros(vertices.shape[1] * 3)
    for part, block in _vertex_blocks(vertices, rows):
        mean[part] = block.mean(axis=0)
        block -= mean[part]
        gram += block @ block.T
    values, vectors = np.linalg.eigh(gram / len(rows))
    del gram
    keep = _count_components(values[::-1], mean, components)
    variance = values[::-1][:keep]
    weights = vectors[:, ::-1][:, :keep].T / np.sqrt(len(rows) * variance)[:, None]
    basis, products = np.empty((keep, len(mean))), np.zeros((keep, keep))
    for part, block in _vertex_blocks(vertices, rows):
        block -= mean[part]
        basis[:, part] = weights @ block
        products += basis[:, part] @ basis[:, part].T
    # rounding of the Gram matrix leaves rows of little variance not quite orthonormal
    factor = np.linalg.cholesky(products)
    width = BLOCK_VALUES // max(1, keep)
    for start in range(0, len(mean), width):
        part = slice(start, start + width)
        basis[:, part] = np.linalg.solve(factor, basis[:, part])
    return Pca(mean, basis, variance.copy())


def _randomized_pca(vertices: Faces, rows: np.ndarray, components: int, seed: int) -> Pca:
    """PCA by a randomized range finder with power iterations.

    Halko, Martinsson, Tropp 2011, "Finding structure with randomness", algorithm 4.4, with a
    Rayleigh-Ritz step after each pass over the faces. Iteration stops when a pass adds less than
    TOLERANCE of the captured variance; directions of nearly equal variance may then still be mixed.
    The result is exact where components + OVERSAMPLING reach the rank. Time: 4 N 3V c operations a
    pass; memory: four times the components.
    """
    size = vertices.shape[1] * 3
    mean = np.zeros(size)
    for block in face_blocks(vertices, rows):
        mean += block.reshape(len(block), -1).sum(axis=0)
    mean /= len(rows)
    width = min(components + OVERSAMPLING, len(rows), size)
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((size, width)))[0]  # (3V, width)
    captured = 0.0
    for step in range(ITERATIONS):
        image = np.zeros_like(basis)
        for block in face_blocks(vertices, rows):
            centred = block.reshape(len(block), -1) - mean
            image += centred.T @ (centred @ basis)
        values, vectors = np.linalg.eigh(basis.T @ image / len(rows))
        variance, rotation = values[::-1], vectors[:, ::-1]
        before, captured = captured, float(variance[:components].sum())
        if captured - before <= TOLERANCE * captured or step == ITERATIONS - 1:
            break
        del basis  # the decomposition needs that memory
        image = image @ rotation
        basis = np.linalg.qr(image)[0]
    del image
    keep = _count_components(variance, mean, components)
    return Pca(mean, np.ascontiguousarray((basis @ rotation)[:, :keep].T), variance[:keep])


def _count_components(variance: np.ndarray, mean: np.ndarray, most: int) -> int:
    """Number of components among the first whose variance is not a rounding error."""
    least = max(1e-12 * variance[0], (ROUNDING * np.linalg.norm(mean)) ** 2)
    return int(np.count_nonzero(variance[:most] > least))


def _vertex_blocks(vertices: Faces, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Coordinates (n, k) of all faces in float64, a block of vertices at a time, and which."""
    count = vertices.shape[1]
    size = max(1, BLOCK_VALUES // (3 * len(rows)))
    for start in range(0, count, size):
        block = vertices[rows, start : start + size].reshape(len(rows), -1).astype(np.float64)
        yield slice(3 * start, 3 * start + block.shape[1]), block


def face_blocks(vertices: Faces, rows: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
    """The faces (n, V, 3) of the given rows in float64, in blocks of BLOCK_FACES."""
    for start in range(0, len(rows), BLOCK_FACES):
        yield vertices[np.asarray(rows[start : start + BLOCK_FACES])].astype(np.float64)
