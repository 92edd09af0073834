"""Partners of faces: never oneself, uniform over the others."""

import numpy as np
import pytest

from facedis_core.train.batches import FacePairs

SUBJECT = np.array([3, 1, 3, 3, 7, 1, 3])


def draws(method: str, rounds: int = 4000) -> np.ndarray:
    pairs, rng = FacePairs(SUBJECT), np.random.default_rng(0)
    faces = np.arange(len(SUBJECT))
    return np.stack([getattr(pairs, method)(faces, rng) for _ in range(rounds)])


@pytest.mark.parametrize("face", range(len(SUBJECT)))
def test_same_subject_is_uniform_over_the_other_faces_of_the_subject(face: int) -> None:
    found = draws("same_subject")[:, face]
    others = [i for i in range(len(SUBJECT)) if SUBJECT[i] == SUBJECT[face] and i != face]
    counts = np.bincount(found, minlength=len(SUBJECT))
    if not others:  # a single face is its own partner
        assert counts[face] == len(found)
        return
    assert counts.sum() == counts[others].sum()
    assert counts[others] / len(found) == pytest.approx(
        np.full(len(others), 1 / len(others)), abs=0.04
    )


@pytest.mark.parametrize("face", range(len(SUBJECT)))
def test_other_subject_is_uniform_over_the_faces_of_others(face: int) -> None:
    found = draws("other_subject")[:, face]
    others = np.flatnonzero(SUBJECT[face] != SUBJECT)
    counts = np.bincount(found, minlength=len(SUBJECT))
    assert counts.sum() == counts[others].sum()
    assert counts[others] / len(found) == pytest.approx(
        np.full(len(others), 1 / len(others)), abs=0.04
    )


def test_counts() -> None:
    pairs = FacePairs(SUBJECT)
    assert (pairs.subjects, pairs.single_face_subjects) == (3, 1)
