"""Seeded random numbers and the split of subjects into training, test and validation."""

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError, UsageError
from facedis_core.faceset import TEST, TRAIN, VALIDATION

# What a stream of random numbers is for: the first number of its key, so that no two coincide.
SPLIT_STREAM, SUBJECT_STREAM, MESH_STREAM = range(3)


def random_stream(seed: int, *key: int) -> np.random.Generator:
    """A generator of its own for `key`: independent of what else is drawn, and in which order."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def split_subjects(
    subjects: int, *, test: float, validation: float, seed: int
) -> NDArray[np.uint8]:
    """Splits (S,): a random `test` part of all subjects, then a `validation` part of the others.

    Taking a validation part leaves the test part as it is.
    Raises UsageError for parts outside 0 to 1, InputError where nobody is left to train on.
    """
    for name, part in (("test", test), ("validation", validation)):
        if not 0 <= part < 1:
            raise UsageError(
                f"--{name} is {part:g}, expected a part of the subjects from 0 to below 1"
            )
    order = random_stream(seed, SPLIT_STREAM).permutation(subjects)
    tested = round(test * subjects)
    validated = round(validation * (subjects - tested))
    if tested + validated >= subjects:
        raise InputError(
            f"{subjects} subjects split into {tested} for test and {validated} for validation "
            "leave none for training; use more subjects or smaller parts"
        )
    split = np.full(subjects, TRAIN, np.uint8)
    split[order[:tested]] = TEST
    split[order[tested : tested + validated]] = VALIDATION
    return split
