"""Linear baselines on a set where people and expressions add up, so that their order is known."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic

from facedis_core.errors import InputError
from facedis_core.evaluate import metrics
from facedis_core.evaluate.baselines import evaluate_baselines, fit_baselines

KEYS = ["mean_face", "pca"]
KEYS += ["ridge_identity_mean", "ridge_identity_mean_2x", "ridge_neutral", "ridge_neutral_2x"]


@pytest.fixture(scope="module")
def faces():
    return synthetic.face_set(subjects=24, expressions=5, test=6)


@pytest.fixture(scope="module")
def found(faces):
    return evaluate_baselines(fit_baselines(faces, 6), faces, faces.rows(1))


def test_keys_and_what_each_baseline_defines(found):
    assert list(found) == KEYS
    for key in KEYS:
        for metric in ("e_rec", "e_dis", "avd_neu"):
            assert set(found[key][metric]) == {"mean", "std", "median", "n"}
    for key in KEYS[2:]:
        assert found[key]["components"] == (12 if key.endswith("_2x") else 6)


def test_reconstructions_are_those_of_the_pca_with_as_many_components(found):
    for key in KEYS[1:]:
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
    basis = np.linalg.svd(train - train.mean(0), full_matrices=False)[2][:6]
    again = train.mean(0) + (test - train.mean(0)) @ basis.T @ basis
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
    one = fit_baselines(faces, 4)
    two = fit_baselines(replace(faces, vertices=spoiled, neutrals=neutrals), 4)
    assert one.pca.basis.tobytes() == two.pca.basis.tobytes()
    for key in one.ridges:
        assert one.ridges[key].weight.tobytes() == two.ridges[key].weight.tobytes()


def test_without_training_neutrals():
    faces = synthetic.face_set(neutrals=False)
    found = evaluate_baselines(fit_baselines(faces, 3), faces, faces.rows(1))
    assert list(found) == KEYS[:4]
    assert all("avd_neu" not in values for values in found.values())


def test_few_training_faces_limit_the_components():
    faces = synthetic.face_set(subjects=4, expressions=2, test=1)
    found = evaluate_baselines(fit_baselines(faces, 128), faces, faces.rows(1))
    assert found["pca"]["components"] == 5  # six training faces


def test_fitted_on_another_set(faces):
    other = synthetic.face_set(seed=9)
    assert set(evaluate_baselines(fit_baselines(other, 4), faces, faces.rows(1))) == set(KEYS)


def test_another_topology_is_refused(faces):
    other = synthetic.face_set(size=7)
    with pytest.raises(InputError, match="topology"):
        evaluate_baselines(fit_baselines(other, 4), faces, faces.rows(1))


def test_no_training_faces():
    faces = synthetic.face_set(subjects=3, test=3)
    with pytest.raises(InputError, match="--baselines-from"):
        fit_baselines(faces, 4)
