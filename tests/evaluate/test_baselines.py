"""Ridge regressions against scikit-learn's; baselines on a set whose order of errors is known."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import synthetic
from raising import raises
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from facedis_core.data.face_set import TRAIN
from facedis_core.evaluate import baselines, metrics
from facedis_core.evaluate.baselines import (
    DEFAULT_PENALTY,
    FOLDS,
    LABELLED,
    choose_penalty,
    distinct_baselines,
    evaluate_baselines,
    fit_baselines,
    fit_ridges,
)
from facedis_core.geometry import pca as pca_module
from facedis_core.geometry.pca import fit_pca
from facedis_core.geometry.ridge import PENALTIES

KEYS = ["mean_face", "pca"]
KEYS += ["ridge_identity_mean", "ridge_identity_mean_2x"]
KEYS += ["ridge_pseudo_neutral", "ridge_pseudo_neutral_2x", "ridge_neutral", "ridge_neutral_2x"]
KEYS += ["flame_like_pseudo", "flame_like"]
UNLABELLED = [key for key in KEYS if key not in LABELLED]


class TestRidge:
    @pytest.fixture
    def coefficients(self):
        """Coefficients (90, 12) mm of 90 faces (V = 40), and their PCA."""
        rng = np.random.default_rng(1)
        faces = 100 + rng.normal(size=(90, 12)) @ rng.normal(0, 3, (12, 120))
        faces = faces.reshape(90, 40, 3).astype(np.float32)
        pca = fit_pca(faces, np.arange(90), 12)
        return pca.encode(faces), pca

    def test_weights(self, coefficients, monkeypatch):
        monkeypatch.setattr(pca_module, "BLOCK_FACES", 4)
        monkeypatch.setattr(baselines, "BLOCK_FACES", 4)
        x, pca = coefficients
        rng = np.random.default_rng(2)
        subject = np.sort(rng.integers(0, 10, 90)) * 3 + 1  # numbers with gaps
        targets = {person: rng.normal(0, 5, (40, 3)) for person in np.unique(subject)}
        y = np.stack([targets[person].ravel() for person in subject])
        for ridge in fit_ridges(x, subject, targets.__getitem__, pca, [6, 12]):
            k = len(ridge.weight)
            alpha = ridge.penalty * len(x) * x[:, :k].var(axis=0).mean()
            expected = Ridge(alpha).fit(x[:, :k], y)
            np.testing.assert_allclose(ridge.weight, expected.coef_.T, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(ridge.intercept, expected.intercept_, rtol=1e-6)
            faces = expected.predict(x[:, :k]).reshape(-1, 40, 3)
            np.testing.assert_allclose(ridge.predict(x), faces, atol=1e-4)

    def test_subjects_without_target_are_left_out(self, coefficients):
        x, pca = coefficients
        subject = np.repeat(np.arange(9), 10)
        nothing = np.full((40, 3), np.nan)

        def target(person):
            return np.full((40, 3), person, float) if person < 6 else nothing

        (some,) = fit_ridges(x, subject, target, pca, [6])
        (only,) = fit_ridges(x[:60], subject[:60], target, pca, [6])
        np.testing.assert_allclose(some.weight, only.weight)
        assert fit_ridges(x, subject, lambda person: nothing, pca, [6]) == []

    @pytest.mark.parametrize("noise", [0.1, 3.0, 100.0])
    def test_penalty_of_cross_validation(self, noise):
        rng = np.random.default_rng(5)
        group = np.repeat(np.arange(13), 6)
        x = rng.normal(size=(len(group), 8)) * 3.0 ** -np.arange(8) + 7
        y = x @ rng.normal(size=(8, 4)) + rng.normal(0, noise, (len(group), 4))
        folds = group % FOLDS

        def squared_error(penalty):
            # the penalty is relative to the variance in each training part
            predicted = np.empty_like(y)
            for fold in range(FOLDS):
                train, test = folds != fold, folds == fold
                alpha = penalty * train.sum() * x[train].var(axis=0).mean()
                predicted[test] = Ridge(alpha).fit(x[train], y[train]).predict(x[test])
            return ((predicted - y) ** 2).sum()

        assert choose_penalty(x, y, group) == min(PENALTIES, key=squared_error)

    def test_whole_subjects_are_held_out(self):
        """Within a subject all rows agree, so rows as folds would choose the smallest penalty."""
        rng = np.random.default_rng(4)
        group = np.repeat(np.arange(12), 20)
        x = rng.normal(size=(12, 10))[group] + rng.normal(0, 0.01, (240, 10))
        y = rng.normal(size=(12, 3))[group]  # nothing to learn from x
        assert choose_penalty(x, y, group) == max(PENALTIES)
        weight = rng.normal(size=(10, 3))
        assert choose_penalty(x, x @ weight, group) == min(PENALTIES)

    def test_one_subject_gets_the_default_penalty(self):
        x = np.random.default_rng(0).normal(size=(5, 2))
        assert choose_penalty(x, x, np.zeros(5, int)) == DEFAULT_PENALTY


@pytest.fixture(scope="module")
def faces():
    return synthetic.face_set(subjects=24, expressions=5, test=6)


def measured(trained_on, components, faces):
    """JSON key -> metrics of each baseline on the test split."""
    identity = (components + 1) // 2
    fitted = fit_baselines(trained_on, identity, components - identity)
    found = evaluate_baselines(fitted, faces, faces.rows(1))
    return {key: evaluation.metrics for key, evaluation in found.items()}


@pytest.fixture(scope="module")
def found(faces):
    return measured(faces, 6, faces)


def test_keys_and_what_each_baseline_defines(found):
    assert list(found) == KEYS
    for key in KEYS:
        for metric in ("e_rec", "e_dis", "avd_neu"):
            assert set(found[key][metric]) == {"mean", "std", "median", "n"}
    for key in KEYS[2:]:
        assert found[key]["components"] == (12 if key.endswith("_2x") else 6)


def test_reconstructions_are_those_of_the_pca_with_as_many_components(found):
    for key in KEYS[1:8]:
        if not key.endswith("_2x"):
            assert found[key]["e_rec"] == found["pca"]["e_rec"]
        else:
            assert found[key]["e_rec"]["mean"] < found["pca"]["e_rec"]["mean"]


def test_pca_alone_does_not_tell_identity_from_expression(found):
    assert found["pca"]["e_dis"]["mean"] > 2 * found["ridge_neutral"]["e_dis"]["mean"]


def test_mean_face_is_the_training_mean(faces, found):
    mean = faces.vertices[faces.labels.split == 0].mean(axis=0, dtype=np.float64)
    errors = metrics.reconstruction_error(faces.vertices[faces.rows(1)], mean)
    assert found["mean_face"]["e_rec"]["mean"] == pytest.approx(errors.mean(), rel=1e-6)
    assert found["mean_face"]["e_dis"]["mean"] == pytest.approx(0, abs=1e-9)
    assert found["mean_face"]["rank1_vertex_accuracy"] == 0


def test_pca_is_the_projection(faces, found):
    flat = faces.vertices.reshape(len(faces.vertices), -1).astype(np.float64)
    train, test = flat[faces.rows(0)], flat[faces.rows(1)]
    pca = PCA(6, svd_solver="full").fit(train)
    again = pca.inverse_transform(pca.transform(test))
    shape = (-1, *faces.vertices.shape[1:])
    errors = metrics.reconstruction_error(again.reshape(shape), test.reshape(shape))
    assert found["pca"]["e_rec"]["mean"] == pytest.approx(errors.mean(), rel=1e-4)


def test_regression_finds_what_is_linear(found):
    """All 5 + 4 directions are among 12 components, so the split is exact but for noise."""
    neutral, mean = found["ridge_neutral_2x"], found["ridge_identity_mean_2x"]
    assert neutral["avd_neu"]["mean"] < 0.1 < mean["avd_neu"]["mean"]
    assert neutral["e_dis"]["mean"] < 0.05
    assert mean["e_dis"]["mean"] < 0.05
    assert neutral["rank1_vertex_accuracy"] == mean["rank1_vertex_accuracy"] == 1


def test_only_the_training_split_is_looked_at(faces):
    spoiled = faces.vertices.copy()
    spoiled[faces.rows(1)] = np.nan
    neutrals = faces.neutrals.copy()
    neutrals[faces.labels.subject[faces.rows(1)]] = np.nan
    one = fit_baselines(faces, 2, 2)
    two = fit_baselines(replace(faces, vertices=spoiled, neutrals=neutrals), 2, 2)
    for a, b in zip(one, two, strict=True):
        found, expected = (x.predict(faces.vertices) for x in (a, b))
        assert (a.key, a.facts) == (b.key, b.facts)
        np.testing.assert_array_equal(found.reconstruction, expected.reconstruction)
        np.testing.assert_array_equal(found.identity, expected.identity)


def test_without_training_neutrals():
    faces = synthetic.face_set(neutrals=False)
    found = measured(faces, 3, faces)
    assert list(found) == UNLABELLED
    assert all("avd_neu" not in values for values in found.values())


def test_conditions(faces, found):
    """A person's neutral is the medoid here, so that pseudo-neutrals lose nothing."""
    for key in KEYS:
        assert found[key]["condition"] == ("labelled" if key in LABELLED else "present")
    pseudo = found["flame_like_pseudo"]
    assert pseudo["pseudo_neutral"] == "medoid"
    assert pseudo["e_rec"] == found["flame_like"]["e_rec"]
    apexes = replace(faces, labels=replace(faces.labels, level=np.ones(len(faces), np.float32)))
    assert {key: one["condition"] for key, one in measured(apexes, 6, apexes).items()} == {
        key: "labelled" if key in LABELLED else "absent" for key in KEYS
    }


def test_flame_like_finds_what_is_linear(faces):
    found = measured(faces, 10, faces)["flame_like"]  # five directions of identity, four others
    assert found["components"] == 10
    assert max(found[key]["mean"] for key in ("e_rec", "e_dis", "avd_neu")) < 0.1
    assert found["rank1_cosine_accuracy"] == 1


def test_one_baseline_is_in_memory_at_a_time():
    faces = synthetic.face_set(subjects=24, expressions=5, test=4, size=40)
    component = faces.vertices[0].size * 8
    held = []
    tracemalloc.start()
    try:
        for baseline in fit_baselines(faces, 15, 15):
            del baseline
            held.append(tracemalloc.get_traced_memory()[0] / component)
    finally:
        tracemalloc.stop()
    assert len(held) == len(KEYS)
    assert max(held) < 200  # 60 of the PCA, 30 and 60 of two regressions; all would be 450


def test_few_training_faces_limit_the_components():
    faces = synthetic.face_set(subjects=4, expressions=2, test=1)
    assert measured(faces, 128, faces)["pca"]["components"] == 5  # six training faces
    warnings = []
    found = evaluate_baselines(fit_baselines(faces, 64, 64), faces, faces.rows(1))
    assert list(distinct_baselines(found, warnings.append)) == [k for k in KEYS if k[-3:] != "_2x"]
    assert warnings == [
        f"baseline {key}_2x left out: it repeats {key}"
        for key in ("ridge_identity_mean", "ridge_pseudo_neutral", "ridge_neutral")
    ]


def test_fitted_on_another_set(faces):
    other = synthetic.face_set(seed=9)
    assert set(measured(other, 4, faces)) == set(KEYS)


def test_another_topology_is_refused(faces):
    other = synthetic.face_set(size=7)
    with raises("topology"):
        measured(other, 4, faces)


@pytest.mark.parametrize("offset", [0, 0.1, 1000])
@pytest.mark.parametrize("neutrals", [False, True])
def test_training_faces_that_are_all_alike(neutrals, offset):
    faces = synthetic.face_set(neutrals=neutrals, subjects=40)
    alike = np.repeat(faces.vertices[:1] + np.float32(offset), len(faces.vertices), axis=0)
    with raises("faces-alike", "all alike, there is nothing to fit.*--baselines-from"):
        fit_baselines(replace(faces, vertices=alike), 2, 2)


@pytest.mark.parametrize(
    "sizes",
    [
        {"subjects": 1, "test": 0},
        {"expressions": 1},
        {"subjects": 2, "expressions": 1, "test": 0},
        {"subjects": 1, "expressions": 2, "test": 0},
    ],
    ids=["one person", "one expression", "two faces", "two faces of one person"],
)
def test_sets_with_little_variety_have_finite_metrics(sizes):
    faces = synthetic.face_set(**sizes)
    results = evaluate_baselines(fit_baselines(faces, 2, 2), faces, faces.rows(TRAIN))
    for found in (result.metrics for result in results.values()):
        assert np.isfinite([*found["e_rec"].values(), *found["avd_neu"].values()]).all()
        assert all(np.isfinite(value) for value in found.values() if isinstance(value, float))


def test_no_training_faces():
    faces = synthetic.face_set(subjects=3, test=3)
    with raises("too-few-faces", "--baselines-from"):
        fit_baselines(faces, 2, 2)
