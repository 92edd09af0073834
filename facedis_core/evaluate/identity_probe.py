"""Identity probe: how often the nearest expression latents are those of the same person."""

from typing import Final, NamedTuple

import numpy as np

_BLOCK: Final = 256  # faces that are compared with all at once


class IdentityProbe(NamedTuple):
    """Result for N faces, NaN where a face has no partner or no rival.

    Attributes:
        hits: (N,) 1 where the nearest face is of the same person, else 0.
        chance: (N,) share of the same person's faces among all that are compared.
    """

    hits: np.ndarray
    chance: np.ndarray


def probe_identity(
    latents: np.ndarray, expression: np.ndarray, subject: np.ndarray
) -> IdentityProbe:
    """Whether the nearest other face of a different expression is of the same person.

    Nearest by the Euclidean distance of expression latents. A tie is a miss.

    Args:
        latents: expression latents (N, D_exp).
        expression: (N,) labelled expression of each face.
        subject: (N,) subject of each face.
    """
    z = np.asarray(latents, np.float64)
    z = z - z.mean(axis=0)
    squares = (z**2).sum(axis=1)
    margin = 1e-12 * float(squares.max(initial=0.0))  # rounding of the distances
    hits, chance = np.full(len(z), np.nan), np.full(len(z), np.nan)
    for start in range(0, len(z), _BLOCK):
        rows = slice(start, start + _BLOCK)
        # squared distances up to a constant of each row
        distance = squares - 2 * (z[rows] @ z.T)
        compared = expression[rows, None] != expression
        same = compared & (subject[rows, None] == subject)
        partners, others = same.sum(axis=1), compared.sum(axis=1)
        own = np.where(same, distance, np.inf).min(axis=1)
        rival = np.where(compared & ~same, distance, np.inf).min(axis=1)
        valid = (partners > 0) & (others > partners)
        hits[rows] = np.where(valid, own + margin < rival, np.nan)
        chance[rows] = np.where(valid, partners / np.maximum(others, 1), np.nan)
    return IdentityProbe(hits, chance)
