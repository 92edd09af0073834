"""Ridge regression between coefficients, and its cross-validation over people."""

from collections.abc import Sequence
from typing import Final

import numpy as np

# Penalties to choose from, relative to the mean variance of an input.
PENALTIES: Final = tuple(10.0 ** (half / 2) for half in range(-12, 3))


def ridge_maps(
    second: np.ndarray, mixed: np.ndarray, penalties: Sequence[float]
) -> list[np.ndarray]:
    """The maps W = (S + p s I)^-1 C, (K, M), one for each penalty p; s is the mean diagonal of S.

    Outputs are inputs @ W, both centred.

    Args:
        second: S, (K, K) mean outer product of the inputs with themselves.
        mixed: C, (K, M) mean outer product of the inputs with the outputs.
        penalties: p, positive.
    """
    values, vectors = np.linalg.eigh(second)
    rotated = vectors.T @ mixed
    scale = max(values.mean(), np.finfo(float).tiny)
    return [vectors @ (rotated / (np.maximum(values, 0) + p * scale)[:, None]) for p in penalties]


def held_out_errors(
    inputs: np.ndarray,
    outputs: np.ndarray,
    fold: np.ndarray,
    moments: np.ndarray | float = 0.0,
) -> np.ndarray:
    """How far each row is missed by regressions without its fold, for each of PENALTIES: (P, N).

    Args:
        inputs: (N, K).
        outputs: (N, M).
        fold: (N,) of each row, two different ones at least; all rows of a person are in one.
        moments: (K, K) added to the second moments of the inputs, for what outputs shall not
            depend on.
    """
    errors = np.empty((len(PENALTIES), len(inputs)))
    for number in np.unique(fold):
        out = fold == number
        centre, mean = inputs[~out].mean(axis=0), outputs[~out].mean(axis=0)
        centred = inputs[~out] - centre
        second = centred.T @ centred / len(centred) + moments
        mixed = centred.T @ (outputs[~out] - mean) / len(centred)
        for k, found in enumerate(ridge_maps(second, mixed, PENALTIES)):
            missed = (inputs[out] - centre) @ found + mean - outputs[out]
            errors[k, out] = np.linalg.norm(missed, axis=1)
    return errors
