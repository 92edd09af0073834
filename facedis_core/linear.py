"""Linear models of faces, fitted block by block: principal components and ridge regression."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

BLOCK: Final = 128  # faces held in float64 at once: 14 MB at V = 4,600
OVERSAMPLING: Final = 16  # columns of the random range finder beyond the components asked for
TOLERANCE: Final = 1e-6  # of the captured variance: what one more iteration may still add
ITERATIONS: Final = 30
FOLDS: Final = 5
# Candidates for the ridge penalty, in units of the mean variance of a coefficient times N.
PENALTIES: Final = tuple(10.0 ** (half / 2) for half in range(-12, 3))
DEFAULT_PENALTY: Final = 1e-3  # one training subject leaves nothing to choose it by


@dataclass(frozen=True, eq=False)
class Pca:
    """Principal components of faces.

    Attributes:
        mean: (3V,) mm.
        basis: (c, 3V), orthonormal rows, most variance first.
        variance: (c,) mm^2, of the training faces along each row.
    """

    mean: np.ndarray
    basis: np.ndarray
    variance: np.ndarray

    def encode(self, vertices: np.ndarray) -> np.ndarray:
        """Coefficients (B, c) mm of faces (B, V, 3)."""
        return (vertices.reshape(len(vertices), -1) - self.mean) @ self.basis.T

    def decode(self, coefficients: np.ndarray) -> np.ndarray:
        """Faces (B, V, 3) float32 mm of coefficients (B, k) of the first k components."""
        flat = self.mean + coefficients @ self.basis[: coefficients.shape[1]]
        return flat.reshape(len(flat), -1, 3).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Ridge:
    """A linear map from the first k PCA coefficients to identity faces.

    Attributes:
        weight: (k, 3V); intercept: (3V,) mm.
        penalty: chosen by cross-validation, relative to N times the mean coefficient variance.
    """

    weight: np.ndarray
    intercept: np.ndarray
    penalty: float

    def predict(self, coefficients: np.ndarray) -> np.ndarray:
        """Identity faces (B, V, 3) float32 mm of PCA coefficients (B, c), c >= k."""
        flat = coefficients[:, : len(self.weight)] @ self.weight + self.intercept
        return flat.reshape(len(flat), -1, 3).astype(np.float32)


def fit_pca(vertices: np.ndarray, rows: np.ndarray, components: int, seed: int = 0) -> Pca:
    """PCA of faces by a randomized range finder with power iterations, in float64.

    Halko, Martinsson, Tropp 2011, "Finding structure with randomness", algorithm 4.4, from a seeded
    start, with a Rayleigh-Ritz step after each pass over the faces. It stops when a pass adds less
    than TOLERANCE of the captured variance; directions of nearly equal variance may still be mixed.
    Exact where components + OVERSAMPLING reach the rank. Time: 4 N 3V c operations a pass.

    Args:
        vertices: (N, V, 3) mm, a memory map as well as an array.
        rows: which of the N.
        components: how many; fewer come back when the faces span fewer.
        seed: of the random start.
    """
    size = vertices.shape[1] * 3
    mean = np.zeros(size)
    for block in blocks(vertices, rows):
        mean += block.reshape(len(block), -1).sum(axis=0)
    mean /= len(rows)
    width = min(components + OVERSAMPLING, len(rows), size)
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((size, width)))[0]  # (3V, width)
    captured, variance = 0.0, np.zeros(width)
    for _ in range(ITERATIONS):
        image = np.zeros_like(basis)
        for block in blocks(vertices, rows):
            centred = block.reshape(len(block), -1) - mean
            image += centred.T @ (centred @ basis)
        values, turn = np.linalg.eigh(basis.T @ image / len(rows))
        variance, order = values[::-1], turn[:, ::-1]
        ritz = basis @ order
        before, captured = captured, float(variance[:components].sum())
        if captured - before <= TOLERANCE * captured:
            break
        basis = np.linalg.qr(image @ order)[0]
    # directions without variance are noise of the arithmetic, not components
    keep = int(np.count_nonzero(variance[:components] > 1e-12 * max(variance[0], 1e-300)))
    return Pca(mean, np.ascontiguousarray(ritz[:, :keep].T), variance[:keep])


def fit_ridges(
    coefficients: np.ndarray,
    subject: np.ndarray,
    target: Callable[[int], np.ndarray],
    pca: Pca,
    counts: Sequence[int],
) -> list[Ridge]:
    """Ridge regressions of each subject's target face on the first k coefficients of its faces.

    The penalty is chosen by cross-validation with whole subjects left out, on the PCA coefficients
    of the targets; the chosen one is then fitted to the targets themselves, a block at a time.

    Args:
        coefficients: (N, c) mm.
        subject: (N,).
        target: subject -> its target (V, 3) mm; not finite where it has none.
        pca: whose coefficients stand for the targets in the cross-validation.
        counts: the values of k.

    Returns:
        One for each of `counts`; nothing where no subject has a target.
    """
    people = np.unique(subject)
    projected = np.concatenate([pca.encode(block) for _, block in _targets(people, target)])
    people, projected = (a[np.isfinite(projected).all(axis=1)] for a in (people, projected))
    if not len(people):
        return []
    used = np.isin(subject, people)
    place = np.searchsorted(people, subject[used])
    share = np.bincount(place) / len(place)
    x = coefficients[used]
    centre = x.mean(axis=0)
    x = x - centre
    penalties = [choose_penalty(x[:, :k], projected[place], place) for k in counts]
    totals = np.stack([x[place == i].sum(axis=0) for i in range(len(people))])  # (S, c)
    # weight = (x'x + penalty)^-1 x'y, where the rows of y are the targets, one row a face
    solved = [
        np.linalg.solve(_penalized(x[:, :k].T @ x[:, :k], penalty), totals[:, :k].T)  # (k, S)
        for k, penalty in zip(counts, penalties, strict=True)
    ]
    weights = [np.zeros((len(rows), len(pca.mean))) for rows in solved]
    intercept = np.zeros(len(pca.mean))
    for where, block in _targets(people, target):
        faces = block.reshape(len(block), -1)
        intercept += share[where] @ faces
        for weight, rows in zip(weights, solved, strict=True):
            weight += rows[:, where] @ faces
    return [
        Ridge(weight, intercept - centre[: len(weight)] @ weight, penalty)
        for weight, penalty in zip(weights, penalties, strict=True)
    ]


def _targets(
    people: np.ndarray, target: Callable[[int], np.ndarray]
) -> Iterator[tuple[slice, np.ndarray]]:
    """Target faces of `people` in float64, (BLOCK, V, 3) at a time, and which they are."""
    for start in range(0, len(people), BLOCK):
        where = slice(start, start + BLOCK)
        yield where, np.stack([target(person) for person in people[where]]).astype(np.float64)


def choose_penalty(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> float:
    """The candidate of PENALTIES with the least squared error on groups left out.

    Args:
        x: (N, k).
        y: (N, m).
        group: (N,) integers from 0; group g is left out in fold g mod FOLDS.
    """
    folds = group % min(FOLDS, int(group.max()) + 1)
    if folds.max() == 0:
        return DEFAULT_PENALTY
    errors = np.zeros(len(PENALTIES))
    for fold in range(folds.max() + 1):
        train, test = folds != fold, folds == fold
        centre, mean = x[train].mean(axis=0), y[train].mean(axis=0)
        inside, outside = x[train] - centre, x[test] - centre
        gram, cross = inside.T @ inside, inside.T @ (y[train] - mean)
        for i, penalty in enumerate(PENALTIES):
            weight = np.linalg.solve(_penalized(gram, penalty), cross)
            errors[i] += ((outside @ weight + mean - y[test]) ** 2).sum()
    return PENALTIES[int(errors.argmin())]


def _penalized(gram: np.ndarray, penalty: float) -> np.ndarray:
    """`gram` plus a multiple of its mean diagonal; zeros get an identity, to stay solvable."""
    scale = np.trace(gram) / max(len(gram), 1)
    return gram + (penalty * scale if scale > 0 else 1.0) * np.eye(len(gram))


def blocks(vertices: np.ndarray, rows: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
    """The given faces in float64, (BLOCK, V, 3) at a time."""
    for start in range(0, len(rows), BLOCK):
        yield vertices[rows[start : start + BLOCK]].astype(np.float64)
