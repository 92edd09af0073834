"""Ranks against sorting by hand, AUC and EER against scikit-learn's ROC curve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from facedis_core.evaluate import metrics, recognition
from facedis_core.evaluate.recognition import (
    COSINE,
    VERTEX,
    FaceCollection,
    Similarity,
    recognize,
    verification,
)


def collection(subject, values):
    values = np.asarray(values)
    return FaceCollection(np.asarray(subject), lambda rows: values[rows])


def auc_and_eer(genuine, impostors):
    """Area under the ROC curve, and where it crosses the line of equal error rates."""
    label = np.repeat([1, 0], [len(genuine), len(impostors)])
    score = np.concatenate([genuine, impostors])
    false_accepts, true_accepts, _ = roc_curve(label, score, drop_intermediate=False)
    eer = np.interp(0, false_accepts - (1 - true_accepts), false_accepts)
    return roc_auc_score(label, score), eer


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


@settings(max_examples=150, deadline=None)
@given(genuine=scores, impostors=scores, cut=st.integers(1, 12))
def test_verification(genuine, impostors, cut):
    blocks = [np.array(impostors[k : k + cut]) for k in range(0, len(impostors), cut)]
    found = verification(np.array(genuine), [*blocks, np.empty(0)])
    assert (found.auc, found.eer) == pytest.approx(auc_and_eer(genuine, impostors), abs=1e-12)
    assert (found.genuine, found.impostors) == (len(genuine), len(impostors))


def test_verification_of_many_different_scores():
    rng = np.random.default_rng(0)
    genuine, impostors = rng.normal(1, 1, 90), rng.normal(0, 1, 110)
    found = verification(genuine, [impostors])
    assert (found.auc, found.eer) == pytest.approx(auc_and_eer(genuine, impostors), abs=1e-12)


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
    probe_values, gallery_values = rng.normal(0, 2, (20, 2)), rng.normal(0, 2, (15, 2))
    if step:
        probe_values, gallery_values = np.rint(probe_values), np.rint(gallery_values)
    product = Similarity(lambda a, b: a @ b.T)
    found = recognize(
        collection(gallery, gallery_values), collection(probes, probe_values), product
    )
    table = probe_values @ gallery_values.T
    slow = [
        slow_rank(row, gallery.tolist(), person)
        for row, person in zip(table, probes.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(found.rank, slow)
    same = probes[:, None] == gallery
    expected = auc_and_eer(table[same], table[~same])
    assert found.verification[:2] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("latent", [[0.3, 0.7, 0.1], [0.0, 0.0, 0.0]])
def test_one_latent_for_everybody_recognizes_nobody(latent):
    same = np.tile(np.float32(latent), (6, 1))
    scale = np.float32([1, 3, 7, 0.3, 5, 11])[:, None]  # which a cosine does not see
    found = recognize(collection(range(6), same * scale), collection(range(6), same), COSINE)
    np.testing.assert_array_equal(found.rank, 6)
    assert found.verification[:2] == (0.5, 0.5)


def test_one_face_for_everybody_recognizes_nobody():
    faces = np.random.default_rng(0).normal(size=(1, 40, 3)).repeat(5, axis=0)
    found = recognize(collection(range(5), faces), collection(range(5), faces), VERTEX)
    np.testing.assert_array_equal(found.rank, 5)
    assert found.verification[:2] == (0.5, 0.5)


def test_the_nearest_face_of_a_person_counts():
    gallery = [[1.0, 0.0], [-1.0, 0.1], [0.7, 0.7]]
    found = recognize(
        collection([0, 0, 1], gallery), collection([0, 1], [[1, 0.1], [-1, 0]]), COSINE
    )
    np.testing.assert_array_equal(found.rank, [1, 2])


def test_a_person_whom_the_gallery_lacks_is_an_impostor_to_all():
    gallery, probes = collection([0, 1], np.eye(2)), collection([0, 5], [[1.0, 0.1], [1.0, 0.0]])
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
    for similarity, measure, shape in (
        (COSINE, metrics.recognized_by_cosine, (-1, 90)),
        (VERTEX, metrics.recognized_by_vertex_distance, (-1, 30, 3)),
    ):
        probe_values, gallery_values = faces.reshape(shape), gallery.reshape(shape)
        found = recognize(
            collection(range(9), gallery_values), collection(who, probe_values), similarity
        )
        hits = np.concatenate(
            [measure(probe_values[who == k], k, gallery_values) for k in range(9)]
        )
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
