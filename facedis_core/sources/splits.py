"""Seeded random numbers, and which subjects are for training, test and validation."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError, UsageError
from facedis_core.faceset import TEST, TRAIN, VALIDATION

# What a stream of random numbers is for: the first number of its key, so that no two coincide.
SPLIT_STREAM, SUBJECT_STREAM, MESH_STREAM, SECOND_STREAM, MOTION_STREAM = range(5)


def random_stream(seed: int, *key: int) -> np.random.Generator:
    """A generator of its own for `key`: independent of what else is drawn, and in which order."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def draw_subjects(
    subjects: int, part: float, seed: int, always: Collection[int] = ()
) -> frozenset[int]:
    """A random `part` of the subjects 0 to S - 1, in which those of `always` are in any case."""
    wanted = round(part * subjects)
    others = [s for s in _order(subjects, seed) if s not in always]
    return frozenset(always) | frozenset(others[: max(wanted - len(always), 0)])


def split_subjects(
    subjects: int, tested: Collection[int], *, validation: float, seed: int
) -> NDArray[np.uint8]:
    """Splits (S,): the subjects `tested` for test, a random `validation` part of the others.

    Taking a validation part leaves the test part as it is.
    Raises UsageError for a part outside 0 to 1, InputError where nobody is left to train on.
    """
    if not 0 <= validation < 1:
        raise UsageError(
            f"--validation is {validation:g}, expected a part of the subjects from 0 to below 1"
        )
    others = [s for s in _order(subjects, seed) if s not in tested]
    validated = round(validation * len(others))
    if validated >= len(others):
        raise InputError(
            f"{subjects} subjects split into {len(tested)} for test and {validated} for validation "
            "leave none for training; use more subjects, or another --protocol or --validation"
        )
    split = np.full(subjects, TRAIN, np.uint8)
    split[list(tested)] = TEST
    split[others[:validated]] = VALIDATION
    return split


def _order(subjects: int, seed: int) -> list[int]:
    return random_stream(seed, SPLIT_STREAM).permutation(subjects).tolist()
