"""Partners of faces: never oneself, uniform over the others; batches that processes can share."""

import numpy as np
import pytest
from raising import raises

from facedis_core.nn.face_pairs import FacePairs
from facedis_core.train import batches
from facedis_core.train.batches import check_batch_size

SUBJECT = np.array([3, 1, 3, 3, 7, 1, 3])


@pytest.mark.parametrize("method", ["same_subject", "other_subject"])
def test_partners_are_uniform_over_the_faces_that_may_be(method: str) -> None:
    pairs, rng = FacePairs(SUBJECT), np.random.default_rng(0)
    faces = np.arange(len(SUBJECT))
    draws = np.stack([getattr(pairs, method)(faces, rng) for _ in range(4000)])
    for face in faces:
        possible = (SUBJECT[face] == SUBJECT) == (method == "same_subject")
        possible[face] = False
        if not possible.any():  # a single face is its own partner
            possible[face] = True
        shares = np.bincount(draws[:, face], minlength=len(faces)) / len(draws)
        assert not shares[~possible].any()
        np.testing.assert_allclose(shares[possible], 1 / possible.sum(), atol=0.04)


def test_counts() -> None:
    pairs = FacePairs(SUBJECT)
    assert (pairs.subjects, pairs.single_face_subjects) == (3, 1)


def test_batches_that_processes_can_share(monkeypatch: pytest.MonkeyPatch) -> None:
    check_batch_size("batch", 7, 40)
    monkeypatch.setattr(batches, "world_size", lambda: 2)
    check_batch_size("batch", 100, 40)
    for batch, faces, advice in ((7, 40, "batch=6"), (1, 40, "batch=2"), (50, 41, "batch=40")):
        with raises("process-count", f"--set {advice}"):
            check_batch_size("batch", batch, faces)
    with raises("process-count", "too few"):
        check_batch_size("batch", 2, 1)
