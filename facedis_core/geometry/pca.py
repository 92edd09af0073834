"""Principal component analysis (PCA) of faces, fitted block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

BLOCK_FACES: Final = 128  # faces per block in float64: 14 MB at V = 4,600
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

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


def fit_pca(vertices: Faces, rows: np.ndarray, components: int, seed: int = 0) -> Pca:
    """PCA by a randomized range finder with power iterations, in float64.

    Halko, Martinsson, Tropp 2011, "Finding structure with randomness", algorithm 4.4, with a
    Rayleigh-Ritz step after each pass over the faces. Iteration stops when a pass adds less than
    TOLERANCE of the captured variance; directions of nearly equal variance may then still be mixed.
    The result is exact where components + OVERSAMPLING reach the rank. Time: 4 N 3V c operations a
    pass.

    Args:
        vertices: (N, V, 3) mm.
        rows: (n,) training faces.
        components: number of components; fewer are returned where the faces span fewer.
        seed: of the random start.
    """
    size = vertices.shape[1] * 3
    mean = np.zeros(size)
    for block in face_blocks(vertices, rows):
        mean += block.reshape(len(block), -1).sum(axis=0)
    mean /= len(rows)
    width = min(components + OVERSAMPLING, len(rows), size)
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((size, width)))[0]  # (3V, width)
    captured, variance = 0.0, np.zeros(width)
    for _ in range(ITERATIONS):
        image = np.zeros_like(basis)
        for block in face_blocks(vertices, rows):
            centred = block.reshape(len(block), -1) - mean
            image += centred.T @ (centred @ basis)
        values, vectors = np.linalg.eigh(basis.T @ image / len(rows))
        variance, rotation = values[::-1], vectors[:, ::-1]
        ritz = basis @ rotation
        before, captured = captured, float(variance[:components].sum())
        if captured - before <= TOLERANCE * captured:
            break
        basis = np.linalg.qr(image @ rotation)[0]
    # directions without variance are rounding errors, not components
    least = max(1e-12 * variance[0], (ROUNDING * np.linalg.norm(mean)) ** 2)
    keep = int(np.count_nonzero(variance[:components] > least))
    return Pca(mean, np.ascontiguousarray(ritz[:, :keep].T), variance[:keep])


def face_blocks(vertices: Faces, rows: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
    """The faces (n, V, 3) of the given rows in float64, in blocks of BLOCK_FACES."""
    for start in range(0, len(rows), BLOCK_FACES):
        yield vertices[np.asarray(rows[start : start + BLOCK_FACES])].astype(np.float64)
