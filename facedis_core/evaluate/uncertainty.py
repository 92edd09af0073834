"""Uncertainty of metrics: bootstrap intervals over subjects, and paired differences.

People are the sample, not faces: a resample draws as many subjects as there are, with replacement,
and each brings all its faces. All metrics share the resamples, so differences are paired.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

RESAMPLES: Final = 2000
SIGN_FLIPS: Final = 4999
LEVEL: Final = 0.95
FEW_SUBJECTS: Final = 10  # intervals of fewer are too narrow
# mm, or a share: less comes from rounding, as networks compute in float32.
RESOLUTION: Final = 1e-4
SEED: Final = 0


class Interval(NamedTuple):
    """Ends of a 95 % percentile interval, in the unit of the metric."""

    low: float
    high: float

    @classmethod
    def of(cls, means: np.ndarray) -> "Interval":
        """The interval of the means of resamples (R,)."""
        ends = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(float(ends[0]), float(ends[1]))


class Difference(NamedTuple):
    """Paired difference of two methods: the second minus the first.

    Attributes:
        mean: difference of the means.
        low, high: its 95 % interval.
        p: two-sided p-value of the sign-flip permutation test over subjects.
        subjects: number of subjects behind it.
    """

    mean: float
    low: float
    high: float
    p: float
    subjects: int

    @property
    def none(self) -> bool:
        """Whether the interval contains 0, p is above 0.05, or the mean is below RESOLUTION.

        Of few subjects the bootstrap interval is too narrow, and the permutation test decides: p
        is at least 2 / 2^S, so that no difference between five people or fewer is taken for one.
        """
        unclear = self.low <= 0 <= self.high or self.p > 1 - LEVEL
        return unclear or abs(self.mean) < RESOLUTION


@dataclass(frozen=True, eq=False)
class SubjectSums:
    """Values of a metric as sums over the faces of each of S subjects, in G groups.

    The metric is the mean over groups of the mean of a group's values. Metrics by mesh and by
    subject have one group; a metric by expression has one for each expression.

    Attributes:
        sums: (S, G).
        counts: number of values behind each sum (S, G).
    """

    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of_values(cls, values: np.ndarray, subject: np.ndarray, subjects: int) -> "SubjectSums":
        """From values (n,) of faces, NaN where a face has none, and their subjects (n,) from 0."""
        known = np.isfinite(values)
        sums = np.bincount(subject[known], values[known], subjects)
        return cls(sums[:, None], np.bincount(subject[known], minlength=subjects)[:, None])

    @classmethod
    def of_table(cls, values: np.ndarray) -> "SubjectSums":
        """From one value for each subject and group (S, G), NaN where there is none."""
        known = np.isfinite(values)
        return cls(np.where(known, values, 0.0), known.astype(np.int64))

    @property
    def known(self) -> np.ndarray:
        """(S,) whether a subject has any value."""
        return np.asarray(self.counts.sum(axis=1) > 0)

    def mean(self) -> float:
        """The metric."""
        return float(_group_means(self.sums.sum(axis=0), self.counts.sum(axis=0)))

    def resampled(self) -> np.ndarray:
        """The metric of each resample (RESAMPLES,)."""
        known = self.known
        weights = resampling_weights(int(known.sum()))
        return _group_means(weights @ self.sums[known], weights @ self.counts[known])

    def interval(self) -> Interval | None:
        """The bootstrap interval of the metric; None with fewer than two subjects."""
        return Interval.of(self.resampled()) if self.known.sum() > 1 else None


def paired_difference(first: SubjectSums, other: SubjectSums) -> Difference | None:
    """The difference of a metric between two methods on the same faces, the other minus the first.

    Under the null hypothesis the two methods are exchangeable for each subject, so the sign of its
    share of the difference is random.

    Returns:
        None with fewer than two subjects.

    Raises:
        ValueError: the values are not those of the same faces.
    """
    if not np.array_equal(first.counts, other.counts):
        raise ValueError("a paired difference needs values of the same faces")
    known = first.known
    subjects = int(known.sum())
    if subjects < 2:
        return None
    interval = Interval.of(other.resampled() - first.resampled())
    counts = first.counts.sum(axis=0)
    used = counts > 0
    shares = ((other.sums - first.sums)[known][:, used] / counts[used]).mean(axis=1)  # (S,)
    observed = shares.sum()
    signs = _signs(subjects)
    # rounding must not tell a sum from an equal one in another order
    extreme = np.abs(signs @ shares) >= abs(observed) - 1e-12 * np.abs(shares).sum()
    p = int(np.count_nonzero(extreme)) / len(signs)
    return Difference(float(observed), *interval, p, subjects)


def _signs(subjects: int) -> np.ndarray:
    """Signs of the subjects (n, S): all combinations if they are few, else the given and others."""
    if 2**subjects <= SIGN_FLIPS:
        return np.where((np.arange(2**subjects)[:, None] >> np.arange(subjects)) & 1, -1.0, 1.0)
    drawn = np.random.default_rng(SEED).choice([-1.0, 1.0], (SIGN_FLIPS, subjects))
    return np.concatenate([np.ones((1, subjects)), drawn])


@lru_cache(maxsize=8)
def resampling_weights(subjects: int) -> np.ndarray:
    """How often each resample draws each subject, (RESAMPLES, subjects); the seed is fixed."""
    drawn = np.random.default_rng(SEED).integers(subjects, size=(RESAMPLES, subjects))
    drawn += subjects * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=RESAMPLES * subjects)
    return counts.reshape(RESAMPLES, subjects).astype(np.float64)


def _group_means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean over groups (last axis) of sums / counts, without groups that have no value."""
    used = counts > 0
    means = np.where(used, sums / np.where(used, counts, 1), 0.0)
    return np.asarray(means.sum(axis=-1) / np.maximum(used.sum(axis=-1), 1))
