"""Torch networks through our files and back."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
import torch
from raising import raises
from trainers import trainer

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
FACES = synthetic.face_set()


def trained(**changes: Any) -> Trainer:
    """After one epoch, so that every statistic and moment is off its initial value."""
    run = trainer(FACES, replace(RECIPE, **changes))
    run.run_epoch()
    return run


@pytest.fixture(scope="module")
def run() -> Trainer:
    return trained()


def exported(run: Trainer) -> Model:
    kept = {"reach_mm": 1.0, "recipe": {}, "metrics": {}, "history": []}
    return export_model(run.network, FACES.preparation, **kept)


def written(path: Path, model: Model) -> Model:
    with path.open("w+b") as stream:
        write_model(stream, model)
    return load_model(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"half_decoders": True},
        {"points": 20},
        {"network": "registered", "swap": 1.0, "half_decoders": True},
        {"network": "registered", "swap": 1.0},
    ],
)
def test_a_written_model_computes_in_numpy_what_torch_computes(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = trained(**changes)
    model = written(tmp_path / "m.safetensors", exported(run))
    run.network = network_from_model(model).eval()
    vertices = np.asarray(FACES.vertices[:9])
    latents, ours = model.encode(vertices), run.predict(vertices)
    assert latents.identity == pytest.approx(ours.identity_latent, abs=1e-4)
    decoded = model.decode(latents.identity, latents.expression)
    identity = model.decode(latents.identity, latents.expression, "identity")
    assert np.linalg.norm(decoded - ours.reconstruction, axis=-1).max() < 1e-3  # mm
    assert np.linalg.norm(identity - ours.identity, axis=-1).max() < 1e-3


def test_half_precision_moves_no_vertex_by_a_hundredth_of_a_millimetre(
    run: Trainer, tmp_path: Path
) -> None:
    whole = exported(run)
    config = replace(whole.config, half_decoders=True)
    half = written(tmp_path / "m.safetensors", replace(whole, config=config))
    latents = whole.encode(np.asarray(FACES.vertices[:9]))
    decoded, expected = (m.decode(latents.identity, latents.expression) for m in (half, whole))
    assert 0 < np.linalg.norm(decoded - expected, axis=-1).max() < 0.01


@pytest.mark.parametrize(("batch_norm", "points"), [(False, 20), (True, None)])
def test_discriminator_round_trip(tmp_path: Path, batch_norm: bool, points: int | None) -> None:
    network = trained(discriminator_batch_norm=batch_norm, points=points).discriminator
    path = tmp_path / "d.safetensors"
    with path.open("w+b") as stream:
        write_discriminator(stream, network, FACES.topology, {"accuracy": 0.9}, [])
    stored = load_discriminator(path)
    assert stored.network.config == network.config
    assert stored.topology == FACES.topology
    assert stored.metrics == {"accuracy": 0.9}
    pair = torch.randn(2, 3, FACES.vertices.shape[1], 3)
    torch.testing.assert_close(stored.network.eval()(*pair), network.eval()(*pair), rtol=0, atol=0)


def state_of(run: Trainer) -> bytes:
    stream = BytesIO()
    write_training_state(stream, run.networks, run.optimizers, PROGRESS)
    return stream.getvalue()


def test_training_state_brings_back_every_weight_statistic_and_moment(run: Trainer) -> None:
    state = read_training_state(state_of(run), "state")
    assert state.progress == PROGRESS
    other = trainer(FACES, RECIPE, seed=1)
    other.run_epoch()
    state.restore(other.networks, other.optimizers)
    for name, network in run.networks.items():
        for key, value in network.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                assert torch.equal(value, other.networks[name].state_dict()[key]), key
    for name, optimizer in run.optimizers.items():
        theirs = other.optimizers[name].state_dict()["state"]
        for index, slots in optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                assert torch.equal(value, theirs[index][slot])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identity": 7}, "size mismatch"),
        ({"discriminator_batch_norm": False}, "missing or unknown"),
    ],
)
def test_a_state_of_other_networks_is_refused(
    run: Trainer, change: dict[str, Any], message: str
) -> None:
    other = trainer(FACES, replace(RECIPE, **change))
    with raises("tensor", message):
        read_training_state(state_of(run), "state").restore(other.networks, other.optimizers)
