"""Ranks, AUC and EER against sorting by hand, counting all pairs and trying all thresholds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facedis_core.evaluate import metrics, recognition
from facedis_core.evaluate.recognition import (
    COSINE,
    VERTEX,
    FaceCollection,
    Similarity,
    recognize,
    verification,
)


def party(subject, values):
    values = np.asarray(values)
    return FaceCollection(np.asarray(subject), lambda rows: values[rows])


def slow_auc(genuine, impostors):
    wins = sum((g > i) + (g == i) / 2 for g in genuine for i in impostors)
    return wins / len(genuine) / len(impostors)


def slow_eer(genuine, impostors):
    """Accept what scores at least t, for every t; where the errors cross, straight in between."""
    before = (0.0, 1.0)  # impostors accepted, genuine rejected: t above everything
    for t in sorted({*genuine, *impostors}, reverse=True):
        accepted = sum(i >= t for i in impostors) / len(impostors)
        rejected = sum(g < t for g in genuine) / len(genuine)
        if accepted >= rejected:
            gap, next_gap = before[1] - before[0], rejected - accepted
            return before[0] + gap / (gap - next_gap) * (accepted - before[0])
        before = (accepted, rejected)
    raise AssertionError("the lowest threshold accepts everything")


def slow_rank(scores, gallery, person):
    """Sort the people by their nearest face, the right one behind those as near."""
    nearest = {}
    for score, other in zip(scores, gallery, strict=True):
        nearest[other] = max(score, nearest.get(other, -np.inf))
    if person not in nearest:
        return 0
    order = sorted(nearest, key=lambda other: (-nearest[other], other == person))
    return order.index(person) + 1


scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(genuine=scores, impostors=scores, cut=st.integers(1, 12))
def test_verification_like_counting_pairs_and_trying_thresholds(genuine, impostors, cut):
    blocks = [np.array(impostors[k : k + cut]) for k in range(0, len(impostors), cut)]
    found = verification(np.array(genuine), [*blocks, np.empty(0)])
    assert found.auc == pytest.approx(slow_auc(genuine, impostors), abs=1e-12)
    assert found.eer == pytest.approx(slow_eer(genuine, impostors), abs=1e-12)
    assert (found.genuine, found.impostors) == (len(genuine), len(impostors))


def test_verification_of_many_different_scores():
    rng = np.random.default_rng(0)
    genuine, impostors = rng.normal(1, 1, 90), rng.normal(0, 1, 110)
    found = verification(genuine, [impostors])
    assert found.auc == pytest.approx(slow_auc(genuine, impostors), abs=1e-12)
    assert found.eer == pytest.approx(slow_eer(genuine, impostors), abs=1e-12)


@pytest.mark.parametrize(
    ("genuine", "impostors", "auc", "eer"),
    [
        ([2, 3], [0, 1], 1, 0),
        ([0, 1], [2, 3], 0, 1),
        ([1, 1, 1], [1, 1], 0.5, 0.5),
        ([0, 2], [1], 0.5, 0.5),
        ([1, 3], [0, 1, 2, 2], 0.6875, 0.5),  # 1 of 3 wins, a tie: (1 + 0.5 + 4) / 8
        ([0, 1, 2, 3], [0, 0, 0, 3], 0.6875, 0.25),
    ],
)
def test_verification_by_hand(genuine, impostors, auc, eer):
    found = verification(np.array(genuine, float), [np.array(impostors, float)])
    assert (found.auc, found.eer) == (pytest.approx(auc), pytest.approx(eer))


def test_pairs_of_one_kind_verify_nothing():
    assert verification(np.empty(0), [np.ones(3)]) is None
    assert verification(np.ones(3), [np.empty(0)]) is None


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("step", [0.0, 1.0])  # with and without many ties
@pytest.mark.parametrize("seed", range(4))
def test_like_sorting_by_hand(monkeypatch, small, step, seed):
    if small:  # blocks of a probe and of a few faces
        for name, size in (("_GALLERY_VALUES", 6), ("_PROBE_VALUES", 4), ("_BLOCK_SCORES", 8)):
            monkeypatch.setattr(recognition, name, size)
    rng = np.random.default_rng(seed)
    gallery, probes = rng.integers(0, 7, 15), rng.integers(0, 9, 20)  # some are in no gallery
    ours, theirs = rng.normal(0, 2, (20, 2)), rng.normal(0, 2, (15, 2))
    if step:
        ours, theirs = np.rint(ours), np.rint(theirs)
    product = Similarity(lambda a, b: a @ b.T)
    found = recognize(party(gallery, theirs), party(probes, ours), product)
    table = ours @ theirs.T
    slow = [
        slow_rank(row, gallery.tolist(), person)
        for row, person in zip(table, probes.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(found.rank, slow)
    same = probes[:, None] == gallery
    assert found.verification.auc == pytest.approx(slow_auc(table[same], table[~same]), abs=1e-12)
    assert found.verification.eer == pytest.approx(slow_eer(table[same], table[~same]), abs=1e-12)


@pytest.mark.parametrize("latent", [[0.3, 0.7, 0.1], [0.0, 0.0, 0.0]])
def test_one_latent_for_everybody_recognizes_nobody(latent):
    same = np.tile(np.float32(latent), (6, 1))
    scale = np.float32([1, 3, 7, 0.3, 5, 11])[:, None]  # which a cosine does not see
    found = recognize(party(range(6), same * scale), party(range(6), same), COSINE)
    np.testing.assert_array_equal(found.rank, 6)
    assert found.verification[:2] == (0.5, 0.5)


def test_one_face_for_everybody_recognizes_nobody():
    faces = np.random.default_rng(0).normal(size=(1, 40, 3)).repeat(5, axis=0)
    found = recognize(party(range(5), faces), party(range(5), faces), VERTEX)
    np.testing.assert_array_equal(found.rank, 5)
    assert found.verification[:2] == (0.5, 0.5)


def test_the_nearest_face_of_a_person_counts():
    gallery = [[1.0, 0.0], [-1.0, 0.1], [0.7, 0.7]]
    found = recognize(party([0, 0, 1], gallery), party([0, 1], [[1, 0.1], [-1, 0]]), COSINE)
    np.testing.assert_array_equal(found.rank, [1, 2])


def test_a_person_whom_the_gallery_lacks_is_an_impostor_to_all():
    gallery, probes = party([0, 1], np.eye(2)), party([0, 5], [[1.0, 0.1], [1.0, 0.0]])
    found = recognize(gallery, probes, COSINE)
    np.testing.assert_array_equal(found.rank, [1, 0])
    assert (found.verification.genuine, found.verification.impostors) == (1, 3)
    assert found.verification.auc == pytest.approx(2 / 3)  # the stranger is nearer than the owner


def test_rank_1_is_that_of_the_metrics():
    rng = np.random.default_rng(3)
    people = rng.normal(size=(9, 30, 3))
    who = np.repeat(np.arange(9), 4)
    faces = (people[who] + rng.normal(0, 4, (36, 30, 3))).astype(np.float32)
    gallery = people.astype(np.float32)
    for likeness, measure, shape in (
        (COSINE, metrics.recognized_by_cosine, (-1, 90)),
        (VERTEX, metrics.recognized_by_vertex_distance, (-1, 30, 3)),
    ):
        ours, theirs = faces.reshape(shape), gallery.reshape(shape)
        found = recognize(party(range(9), theirs), party(who, ours), likeness)
        hits = np.concatenate([measure(ours[who == k], k, theirs) for k in range(9)])
        np.testing.assert_array_equal(found.rank == 1, hits)
        assert 0 < hits.sum() < len(hits)


def test_no_more_than_some_faces_are_in_memory(monkeypatch):
    monkeypatch.setattr(recognition, "_GALLERY_VALUES", 60)  # 10 faces of 6 values
    monkeypatch.setattr(recognition, "_PROBE_VALUES", 24)  # 4 probes
    rng = np.random.default_rng(0)
    most = {"gallery": 0, "probes": 0}

    def side(name, subject):
        values = rng.normal(size=(len(subject), 2, 3))

        def read(rows):
            most[name] = max(most[name], len(rows))
            return values[rows]

        return FaceCollection(subject, read)

    steps = []
    recognize(
        side("gallery", np.repeat(np.arange(100), 3)),
        side("probes", np.arange(200) % 120),
        VERTEX,
        progress=steps.append,
    )
    assert most == {"gallery": 9, "probes": 4}
    assert sum(steps) == 300 * 200
