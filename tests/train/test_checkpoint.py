"""Torch networks through our files and back."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import synthetic
import torch
from raising import raises
from trainers import trainer

from facedis_core.data.face_set import FaceSet
from facedis_core.model.model import Model, load_model, write_model
from facedis_core.train.checkpoint import (
    TrainingProgress,
    export_model,
    load_discriminator,
    network_from_model,
    read_training_state,
    write_discriminator,
    write_training_state,
)
from facedis_core.train.recipe import Recipe
from facedis_core.train.trainer import Trainer

RECIPE = Recipe(identity=6, expression=5, batch=7, discriminator_batch_norm=True)

PROGRESS = TrainingProgress({"seed": 1}, {"number": 2}, {"e_rec": 1.5}, ["{}"])


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    return synthetic.face_set()


def trained(faces: FaceSet, recipe: Recipe = RECIPE) -> Trainer:
    """After one epoch, so that every statistic and moment is off its initial value."""
    run = trainer(faces, recipe)
    run.run_epoch()
    return run


def exported(trainer: Trainer) -> Model:
    return export_model(
        trainer.network,
        trainer.face_set.preparation,
        reach_mm=1.0,
        recipe={},
        metrics={},
        history=[],
    )


@pytest.mark.parametrize("kind", [{}, {"points": 20}, {"network": "registered", "swap": 1.0}])
@pytest.mark.parametrize("half", [False, True])
def test_a_written_model_computes_in_numpy_what_torch_computes(
    faces: FaceSet, tmp_path, kind: dict[str, Any], half: bool
) -> None:
    run = trained(faces, replace(RECIPE, half_decoders=half, **kind))
    path = tmp_path / "m.safetensors"
    with path.open("w+b") as stream:
        write_model(stream, exported(run))
    model = load_model(path)
    network = network_from_model(model).eval()
    run.network = network
    vertices = np.asarray(faces.vertices[:9])
    latents = model.encode(vertices)
    ours = run.predict(vertices)
    assert latents.identity == pytest.approx(ours.identity_latent, abs=1e-4)
    decoded = model.decode(latents.identity, latents.expression)
    identity = model.decode(latents.identity, latents.expression, "identity")
    assert np.linalg.norm(decoded - ours.reconstruction, axis=-1).max() < 1e-3  # mm
    assert np.linalg.norm(identity - ours.identity, axis=-1).max() < 1e-3


def test_half_precision_moves_no_vertex_by_a_hundredth_of_a_millimetre(
    faces: FaceSet, tmp_path
) -> None:
    run = trained(faces)
    whole = exported(run)
    path = tmp_path / "m.safetensors"
    with path.open("w+b") as stream:
        write_model(stream, replace(whole, config=replace(whole.config, half_decoders=True)))
    half = load_model(path)
    vertices = np.asarray(faces.vertices[:9])
    latents = whole.encode(vertices)
    difference = half.decode(latents.identity, latents.expression) - whole.decode(
        latents.identity, latents.expression
    )
    assert 0 < np.linalg.norm(difference, axis=-1).max() < 0.01


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("points", [None, 20])
def test_discriminator_round_trip(
    faces: FaceSet, tmp_path, batch_norm: bool, points: int | None
) -> None:
    recipe = replace(RECIPE, discriminator_batch_norm=batch_norm, points=points)
    network = trained(faces, recipe).discriminator
    path = tmp_path / "d.safetensors"
    with path.open("w+b") as stream:
        write_discriminator(stream, network, faces.topology, {"accuracy": 0.9}, [])
    stored = load_discriminator(path)
    assert stored.network.config == network.config
    assert stored.topology == faces.topology
    assert stored.metrics == {"accuracy": 0.9}
    pair = torch.randn(2, 3, faces.vertices.shape[1], 3)
    torch.testing.assert_close(stored.network.eval()(*pair), network.eval()(*pair), rtol=0, atol=0)


def test_training_state_brings_back_every_weight_statistic_and_moment(
    faces: FaceSet, tmp_path
) -> None:
    first, second = trained(faces), trained(faces)
    first.run_epoch()
    path = tmp_path / "state.safetensors"
    with path.open("w+b") as stream:
        write_training_state(stream, first.networks, first.optimizers, PROGRESS)
    state = read_training_state(path.read_bytes(), str(path))
    assert state.progress == PROGRESS
    state.restore(second.networks, second.optimizers)
    for name, network in first.networks.items():
        for key, value in network.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                assert torch.equal(value, second.networks[name].state_dict()[key]), key
    for name, optimizer in first.optimizers.items():
        ours, theirs = (
            optimizer.state_dict()["state"],
            second.optimizers[name].state_dict()["state"],
        )
        for index, slots in ours.items():
            for slot, value in slots.items():
                assert torch.equal(value, theirs[index][slot])


def test_a_state_of_other_networks_is_refused(faces: FaceSet, tmp_path) -> None:
    first = trained(faces)
    path = tmp_path / "state.safetensors"
    with path.open("w+b") as stream:
        write_training_state(stream, first.networks, first.optimizers, PROGRESS)
    other = trained(faces, replace(RECIPE, identity=7))
    with raises("tensor", "size mismatch"):
        read_training_state(path.read_bytes(), str(path)).restore(other.networks, other.optimizers)
    plain = trained(faces, replace(RECIPE, discriminator_batch_norm=False))
    with raises("tensor", "missing or unknown"):
        read_training_state(path.read_bytes(), str(path)).restore(plain.networks, plain.optimizers)
