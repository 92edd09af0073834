"""Pairs of faces for the identity discriminator: of one person, of two people."""

import numpy as np


class FacePairs:
    """Draws partners for faces by subject, vectorised.

    Args:
        subject: (n,) the subject of each training face; results index into it.
    """

    def __init__(self, subject: np.ndarray) -> None:
        subject = np.asarray(subject)
        self._order = np.argsort(subject, kind="stable")
        _, self._group, counts = np.unique(subject, return_inverse=True, return_counts=True)
        self._count = counts
        self._start = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._rank = np.empty(len(subject), np.int64)
        self._rank[self._order] = np.arange(len(subject)) - self._start[self._group[self._order]]

    @property
    def subjects(self) -> int:
        """How many people there are."""
        return len(self._count)

    @property
    def singles(self) -> int:
        """How many people have one face only, which is then its own partner."""
        return int((self._count == 1).sum())

    def same(self, faces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Another face of the same subject for each of `faces`, uniformly; both int (B,)."""
        group = self._group[faces]
        count = self._count[group]
        step = np.where(count > 1, rng.integers(1, np.maximum(count, 2)), 0)
        return self._order[self._start[group] + (self._rank[faces] + step) % count]

    def different(self, faces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A face of another subject for each of `faces`, uniformly; both int (B,)."""
        group = self._group[faces]
        place = rng.integers(0, len(self._order) - self._count[group])
        place += np.where(place >= self._start[group], self._count[group], 0)
        return self._order[place]
