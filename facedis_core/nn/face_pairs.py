"""Pair sampling: other faces of the same or of another subject, vectorised."""

import numpy as np


class FacePairs:
    """Draws partners for faces by subject, vectorised.

    Args:
        subject: (n,) the subject of each face; results index into it.

    Example:
        >>> pairs = FacePairs(np.array([0, 0, 1, 1]))
        >>> pairs.same_subject(np.array([0, 1, 2, 3]), np.random.default_rng(0))
        array([1, 0, 3, 2])
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
    def faces(self) -> int:
        """Number of faces."""
        return len(self._order)

    @property
    def subjects(self) -> int:
        """Number of subjects."""
        return len(self._count)

    @property
    def single_face_subjects(self) -> int:
        """Number of subjects with one face, which is then its own partner."""
        return int((self._count == 1).sum())

    def same_subject(self, faces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Another face of the same subject for each of `faces`, uniformly; both int (B,)."""
        group = self._group[faces]
        count = self._count[group]
        step = np.where(count > 1, rng.integers(1, np.maximum(count, 2)), 0)
        return self._order[self._start[group] + (self._rank[faces] + step) % count]

    def other_subject(self, faces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A face of another subject for each of `faces`, uniformly; both int (B,)."""
        group = self._group[faces]
        place = rng.integers(0, len(self._order) - self._count[group])
        place += np.where(place >= self._start[group], self._count[group], 0)
        return self._order[place]
