"""A linear network whose encoder sees some vertices, and whose decoders give all."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic
import torch
from raising import raises

from facedis_core.data.face_set import TEST, TRAIN, FaceSet
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model, write_model
from facedis_core.nn.linear import LinearAutoEncoder
from facedis_core.train.plan import TrainingPlan
from facedis_core.train.setup import build_auto_encoder, training_frame
from facedis_core.train.training import train

CHANGES = {"identity": 6, "expression": 9, "points": 20, "pose_degrees": 0.5, "pose_mm": 0.2}


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    """Expressions of few directions, so that some vertices tell what the others do."""
    made = synthetic.face_set(subjects=30, expressions=5, test=8, size=8)
    return replace(made, region=np.arange(64) < 40)


@pytest.fixture(scope="module")
def model(faces: FaceSet) -> Model:
    return train(faces, "linear", changes=CHANGES)


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean vertex distance, mm."""
    return float(np.linalg.norm(found - truth, axis=-1).mean())


def test_the_encoder_sees_vertices_of_the_region_and_no_others(
    model: Model, faces: FaceSet
) -> None:
    points = model.weights["encoder.points"]
    assert len(points) == 20
    assert faces.region is not None
    assert faces.region[points].all()
    face = faces.vertices[0]
    noise = np.random.default_rng(0).normal(0, 5, face.shape).astype(np.float32)
    noise[points] = 0
    found, again = model.encode(face), model.encode(face + noise)
    np.testing.assert_array_equal(found.identity, again.identity)
    np.testing.assert_array_equal(found.expression, again.expression)


def test_all_vertices_of_unseen_people_come_back(model: Model, faces: FaceSet) -> None:
    rows = faces.rows(TEST)
    latents = model.encode(faces.vertices[rows])
    rebuilt, identity = model.decode(latents), model.decode(latents, part="identity")
    neutrals = faces.neutrals_eval[faces.labels.subject[rows]]
    for vertices in (faces.region, ~faces.region):
        spread = error(faces.vertices[rows][:, vertices], model.mean_face[vertices])
        assert error(rebuilt[:, vertices], faces.vertices[rows][:, vertices]) < 0.02 * spread
        assert error(identity[:, vertices], neutrals[:, vertices]) < 0.02 * spread


def test_numpy_and_torch_agree_and_so_does_the_file(
    model: Model, faces: FaceSet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("points") / "model.safetensors"
    with path.open("wb") as stream:
        write_model(stream, model)
    stored = load_model(path)
    network = stored.to_torch()
    some = faces.vertices[:4]
    with torch.no_grad():
        found = network(torch.from_numpy(some))
    latents = stored.encode(some)
    np.testing.assert_allclose(latents.identity, found.posteriors.identity.mean, atol=1e-4)
    np.testing.assert_allclose(latents.expression, found.posteriors.expression.mean, atol=1e-4)
    np.testing.assert_allclose(stored.decode(latents), found.reconstruction, atol=1e-3)
    for name in ("basis", "encoder.basis"):
        assert stored.weights[name].dtype == np.float16


def test_the_covariance_of_the_weights_is_that_of_the_latents_in_poses(
    model: Model, faces: FaceSet
) -> None:
    still = train(faces, "linear", changes=CHANGES | {"pose_degrees": 0, "pose_mm": 0})
    latents = still.encode(faces.vertices[faces.rows(TRAIN)])

    for part in ("identity", "expression"):
        z = getattr(latents, part).astype(np.float64)
        bias = still.weights[f"encoder.{part}_mean.bias"]
        expected = (z - bias).T @ (z - bias) / len(z)
        np.testing.assert_allclose(still.latent_covariance(part), expected, atol=0.02)


def test_without_neutrals_it_has_no_start(faces: FaceSet) -> None:
    plan = TrainingPlan(face_set=faces, changes=["points=20", "pseudo_neutral=none", "epochs=2"])
    recipe = plan.load_recipe()
    frame = training_frame(faces, recipe)
    with raises("option-conflict"):
        build_auto_encoder(recipe, frame, faces, 0)


def test_a_network_of_all_points_sees_the_same_as_one_without(faces: FaceSet) -> None:
    recipe = TrainingPlan(face_set=faces, changes=["points=64"]).load_recipe()
    network = build_auto_encoder(recipe, training_frame(faces, recipe), faces, 0, neutrals=True)
    assert isinstance(network, LinearAutoEncoder)
    assert network.config.points is None
