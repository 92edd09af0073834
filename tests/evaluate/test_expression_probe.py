"""Expression probe: linear discriminants against scikit-learn's, chance, and known leaks."""

import math

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline

from facedis_core.evaluate.expression_probe import (
    FOLDS,
    LEAST_SHRINKAGE,
    fit_discriminant,
    probe_expression,
    probe_hits,
    shrinkage,
)

SUBJECTS, EXPRESSIONS = 30, 4
EXPRESSION = np.tile(np.arange(EXPRESSIONS), SUBJECTS)
SUBJECT = np.repeat(np.arange(SUBJECTS), EXPRESSIONS)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def accuracy(latents, label, subject):
    return probe_hits(latents, label, subject).mean()


def oracle(latents, label):
    """A fitted discriminant on whitened latents, shrunken as Ledoit and Wolf have it."""
    white = PCA(whiten=True).fit_transform(latents)
    means = np.stack([white[label == k].mean(axis=0) for k in range(label.max() + 1)])
    intensity = ledoit_wolf_shrinkage(white - means[label], assume_centered=True)
    discriminant = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=max(float(intensity), LEAST_SHRINKAGE)
    )
    return make_pipeline(PCA(whiten=True), discriminant).fit(latents, label)


def test_scores():
    latents = noise(40, 4) @ noise(4, 4, seed=1) + 3
    found = fit_discriminant(latents, EXPRESSION[:40], EXPRESSIONS)
    expected = oracle(latents, EXPRESSION[:40]).decision_function(latents)
    np.testing.assert_allclose(latents @ found.weight + found.bias, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("signal", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("subjects", [5, 13])
def test_accuracy_on_held_out_subjects(signal, subjects):
    rows = subjects > SUBJECT
    label, subject = EXPRESSION[rows], SUBJECT[rows]
    latents = noise(len(EXPRESSION), 5) @ noise(5, 5, seed=1)
    latents[:, :EXPRESSIONS] += signal * np.eye(EXPRESSIONS)[EXPRESSION]
    latents = latents[rows]
    folds = subject % min(FOLDS, subjects)
    correct = 0
    for fold in range(folds.max() + 1):
        train, test = folds != fold, folds == fold
        found = oracle(latents[train], label[train]).predict(latents[test])
        correct += np.count_nonzero(found == label[test])
    assert accuracy(latents, label, subject) == correct / len(label)


@pytest.mark.parametrize("stretch", [1, 3, 100])
def test_shrinkage(stretch):
    values = noise(1000, 5) * [1, 1, 1, 1, stretch]
    values -= values.mean(axis=0)
    expected = ledoit_wolf_shrinkage(values, assume_centered=True)
    assert shrinkage(values) == pytest.approx(max(expected, LEAST_SHRINKAGE), rel=1e-9)


def test_shrinkage_of_one_value_of_none_and_of_copies():
    values = noise(1000, 5)
    assert shrinkage(values[:, :1]) == 1
    assert shrinkage(np.zeros((10, 0))) == 1
    assert shrinkage(np.repeat(values[:, :1], 3, axis=1)) >= LEAST_SHRINKAGE


def test_random_labels_are_predicted_by_chance():
    latents = noise(len(EXPRESSION), 8)
    found = [
        accuracy(latents, np.random.default_rng(k).permutation(EXPRESSION), SUBJECT)
        for k in range(20)
    ]
    # 20 times 120 faces: three standard deviations
    assert abs(np.mean(found) - 1 / EXPRESSIONS) < 3 * math.sqrt(
        0.25 * 0.75 / (20 * len(EXPRESSION))
    )


def test_a_frequent_expression_raises_the_chance_level_and_no_more():
    label = np.where(EXPRESSION == 1, 0, EXPRESSION)  # half of all faces
    found = probe_expression(noise(120, 3), noise(120, 3, seed=1), label, SUBJECT)
    assert found.chance == 0.5
    assert np.nanmean(found.from_identity) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e6])
def test_a_leak_is_found_however_small_its_scale(size):
    identity = noise(SUBJECTS, 6)[SUBJECT] + 0.001 * noise(len(EXPRESSION), 6, seed=1)
    clean = probe_expression(identity, identity, EXPRESSION, SUBJECT)
    assert np.nanmean(clean.from_identity) < 0.4
    leaky = np.concatenate([identity, size * np.eye(EXPRESSIONS)[EXPRESSION]], axis=1)
    found = probe_expression(leaky, identity, EXPRESSION, SUBJECT)
    assert np.nanmean(found.from_identity) == 1
    assert np.nanmean(found.from_expression) < 0.4


def test_a_leak_along_a_direction_that_is_none_of_the_axes():
    mixed = np.concatenate([noise(SUBJECTS, 6)[SUBJECT], noise(120, 6, seed=3)], axis=1)
    mixed[:, 6:10] *= 0.05
    mixed[:, 6:10] += 0.3 * np.eye(EXPRESSIONS)[EXPRESSION]
    turned = mixed @ np.linalg.qr(noise(12, 12, seed=2))[0]
    assert accuracy(turned, EXPRESSION, SUBJECT) > 0.9


def test_knowing_the_subject_does_not_help():
    # each label is a fact about the person: predictable for known people, not for strangers
    label = np.random.default_rng(5).integers(0, 2, SUBJECTS)[SUBJECT]
    latents = np.eye(SUBJECTS)[SUBJECT] + 1e-3 * noise(len(EXPRESSION), SUBJECTS)
    assert accuracy(latents, label, SUBJECT) < 0.75


@pytest.mark.parametrize("value", [0.0, 0.1, -3e5])
def test_equal_latents_predict_by_chance(value):
    latents = np.full((len(EXPRESSION), 4), value, np.float32)
    found = probe_expression(latents, latents, EXPRESSION, SUBJECT)
    assert np.nanmean(found.from_identity) == found.chance == 0.25


def test_twins_among_the_latents_and_more_latents_than_faces():
    latents = np.tile(noise(24, 3), 20)  # (24, 60), of rank 3
    with np.errstate(all="raise"):
        found = accuracy(latents, EXPRESSION[:24], SUBJECT[:24])
    assert 0 <= found <= 1


def test_expressions_of_few_subjects_are_left_out():
    few = EXPRESSION.copy()
    few[EXPRESSION == 3] = np.where(SUBJECT[EXPRESSION == 3] < 4, 3, 2)
    latents = np.eye(EXPRESSIONS)[few] + 0.01 * noise(len(few), EXPRESSIONS)
    found = probe_expression(latents, latents, few, SUBJECT)
    assert found.faces == len(few) - 4
    assert found.chance == pytest.approx(56 / 116)
    rows = SUBJECT < 4
    assert not probe_expression(latents[rows], latents[rows], few[rows], SUBJECT[rows])
    rows = EXPRESSION == 1
    assert not probe_expression(latents[rows], latents[rows], few[rows], SUBJECT[rows])


def test_one_person_many_times_is_one_person():
    latents = noise(len(EXPRESSION), 3)
    assert not probe_expression(latents, latents, EXPRESSION, SUBJECT % 4)
    assert probe_expression(latents, latents, EXPRESSION, SUBJECT % 5)


@pytest.mark.parametrize("dimensions", [6, 40])
def test_no_linear_map_of_the_latents_changes_the_accuracy(dimensions):
    rng = np.random.default_rng(3)
    latents = noise(SUBJECTS, dimensions)[SUBJECT] + 0.2 * noise(
        len(EXPRESSION), dimensions, seed=1
    )
    latents[:, :EXPRESSIONS] += 0.15 * np.eye(EXPRESSIONS)[EXPRESSION]
    expected = accuracy(latents, EXPRESSION, SUBJECT)
    for linear_map in (
        np.linalg.qr(noise(dimensions, dimensions, seed=2))[0],
        noise(dimensions, dimensions, seed=4),
        np.diag(10.0 ** rng.uniform(-3, 3, dimensions)),
    ):
        moved = latents @ linear_map + rng.normal(size=dimensions)
        assert accuracy(moved, EXPRESSION, SUBJECT) == pytest.approx(expected, abs=0.01)
