"""FLAME's linear model as a model file, against the closed form itself."""

import numpy as np
import pytest
from raising import raises
from synthetic import face_set

from facedis_core.data.face_set import TEST, TRAIN
from facedis_core.evaluate.prediction import model_predictor
from facedis_core.geometry.flame_like import fit_flame_like
from facedis_core.model.model_file import load_model
from facedis_core.train.recipe import load_recipe
from facedis_core.train.setup import with_pseudo_neutrals
from facedis_core.train.training import train

FACES = face_set(subjects=20, test=4, size=8)


@pytest.mark.parametrize("neutrals", [True, False])
@pytest.mark.parametrize(("identity", "expression"), [(4, 3), (30, 60)])
def test_the_model_is_the_closed_form(neutrals, identity, expression, tmp_path):
    sizes = {"identity": identity, "expression": expression}
    output = tmp_path / "flame.safetensors"
    train(FACES, "flame-like", changes=sizes, neutrals=neutrals, output=output)
    model = load_model(output)
    recipe = load_recipe("flame-like", neutrals=neutrals)
    known = FACES if neutrals else with_pseudo_neutrals(FACES, recipe)
    rows, subject = FACES.rows(TRAIN), np.asarray(FACES.labels.subject)
    truth = fit_flame_like(FACES.vertices, rows, subject, known.neutrals, identity, expression)
    faces = FACES.read(FACES.rows(TEST))
    found, expected = model_predictor(model)(faces), truth.split(faces)
    for name in ("reconstruction", "identity"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-3)
    for name in ("identity_latent", "expression_latent"):
        z, known_z = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(z[:, : known_z.shape[1]], known_z, atol=1e-3)
        assert not z[:, known_z.shape[1] :].any()
    z = model.encode_prepared(FACES.read(rows)).identity
    np.testing.assert_allclose(model.latent_covariance("identity"), z.T @ z / len(z), atol=2e-2)


@pytest.mark.parametrize(
    "changes",
    [{"pseudo_neutral": "none", "epochs": 1}, {"points": 9}, {"pose_mm": 1.0}],
)
def test_what_it_cannot_be_fitted_to(changes):
    with raises("option-conflict", "FLAME's model"):
        train(FACES, "flame-like", changes=changes)
