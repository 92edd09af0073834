"""Torch networks through our files and back."""

import json
from collections.abc import Callable
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

from facedis_core.io.safetensors_file import parse_safetensors, write_safetensors
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model, write_model
from facedis_core.nn.inference import network_from_model
from facedis_core.train.adversarial_trainer import AdversarialTrainer
from facedis_core.train.checkpoint import (
    TrainingProgress,
    export_model,
    load_discriminator,
    read_training_state,
    write_discriminator,
    write_training_state,
)
from facedis_core.train.recipe import Recipe
from facedis_core.train.trainer import EpochProgress

RECIPE = Recipe(identity=6, expression=5, batch=7, discriminator_batch_norm=True)
PROGRESS = TrainingProgress(
    {"seed": 1},
    EpochProgress(1, 3, {"total": 0.5}, {"total": 3}),
    4,
    {"e_rec": 1.5},
    ['{"epoch": 1, "step": 4}'],
)
FACES = synthetic.face_set()


def trained(**changes: Any) -> AdversarialTrainer:
    """After one epoch, so that every statistic and moment is off its initial value."""
    run = trainer(FACES, replace(RECIPE, **changes))
    run.run_epochs()
    return run


@pytest.fixture(scope="module")
def run() -> AdversarialTrainer:
    return trained()


def exported(run: AdversarialTrainer) -> Model:
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
        {"points": 20, "encoder_offsets": True},
        {"decoder_components": 9, "half_decoders": True},
        {"network": "linear", "swap": 1.0, "half_decoders": True},
        {"network": "linear", "swap": 1.0},
    ],
)
def test_a_written_model_computes_in_numpy_what_torch_computes(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = trained(**changes)
    model = written(tmp_path / "m.safetensors", exported(run))
    run.network = network_from_model(model).eval()
    vertices = np.asarray(FACES.vertices[:9])
    latents, ours = model.encode_prepared(vertices), run.predict(vertices)
    assert latents.identity == pytest.approx(ours.identity_latent, abs=1e-4)
    decoded = model.decode_vectors(latents.identity, latents.expression)
    identity = model.decode_vectors(latents.identity, latents.expression, "identity")
    assert np.linalg.norm(decoded - ours.reconstruction, axis=-1).max() < 1e-3  # mm
    assert np.linalg.norm(identity - ours.identity, axis=-1).max() < 1e-3


def test_half_precision_moves_no_vertex_by_a_hundredth_of_a_millimetre(
    run: AdversarialTrainer, tmp_path: Path
) -> None:
    whole = exported(run)
    config = replace(whole.config, half_decoders=True)
    half = written(tmp_path / "m.safetensors", replace(whole, config=config))
    latents = whole.encode_prepared(np.asarray(FACES.vertices[:9]))
    decoded, expected = (
        m.decode_vectors(latents.identity, latents.expression) for m in (half, whole)
    )
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


def state_of(run: AdversarialTrainer) -> bytes:
    stream = BytesIO()
    write_training_state(stream, run.networks, run.optimizers, PROGRESS)
    return stream.getvalue()


def test_training_state_brings_back_every_weight_statistic_and_moment(
    run: AdversarialTrainer,
) -> None:
    state = read_training_state(state_of(run), "state")
    assert state.progress == PROGRESS
    other = trainer(FACES, RECIPE, seed=1)
    other.run_epochs()
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


def test_a_part_of_a_network_may_have_no_moments_yet() -> None:
    torch.manual_seed(0)
    first, other = (torch.nn.ModuleList([torch.nn.Linear(2, 1) for _ in range(2)]) for _ in "ab")
    optimizers = [torch.optim.Adam(each.parameters()) for each in (first, other)]
    first[1](torch.ones(1, 2)).sum().backward()  # the other layer learns later
    optimizers[0].step()
    stream = BytesIO()
    write_training_state(stream, {"net": first}, {"net": optimizers[0]}, PROGRESS)
    found = read_training_state(stream.getvalue(), "state")
    found.restore({"net": other}, {"net": optimizers[1]})
    ours, theirs = (each.state_dict()["state"] for each in optimizers)
    assert ours.keys() == theirs.keys() == {2, 3}
    assert all(torch.equal(v, theirs[k][slot]) for k in ours for slot, v in ours[k].items())
    del found.tensors["optimizer.net.2.exp_avg"]
    with raises("tensor", "optimizer.net.2.exp_avg' is missing"):
        found.restore({"net": other}, {"net": optimizers[1]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identity": 7}, "expected \\(7, 1024\\)"),
        ({"discriminator_batch_norm": False}, "missing or unknown"),
    ],
)
def test_a_state_of_other_networks_is_refused(
    run: AdversarialTrainer, change: dict[str, Any], message: str
) -> None:
    other = trainer(FACES, replace(RECIPE, **change))
    with raises("tensor", message):
        read_training_state(state_of(run), "state").restore(other.networks, other.optimizers)


def as_log(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def test_a_state_may_have_a_log_longer_than_a_header(run: AdversarialTrainer) -> None:
    log = [json.dumps({"step": step, "note": "x" * 1_000_000}) for step in range(1, 35)]
    progress = replace(PROGRESS, epoch=EpochProgress(8, 2), log=log)
    stream = BytesIO()
    write_training_state(stream, run.networks, run.optimizers, progress)
    assert read_training_state(stream.getvalue(), "state").progress == progress


def test_a_state_of_the_first_format_is_refused_by_its_version(run: AdversarialTrainer) -> None:
    with raises("format-version", "state"):
        restored(run, state_of(run).replace(b"facedis.training/2", b"facedis.training/1"))


Change = Callable[[dict[str, np.ndarray], dict[str, Any]], object]
MOMENT = "optimizer.auto_encoder.0.exp_avg_sq"


def altered(state: bytes, change: Change) -> bytes:
    """A state with other tensors or metadata, and the checksum of these."""
    file = parse_safetensors(np.frombuffer(state, np.uint8), "training")
    tensors, metadata = dict(file.tensors), file.metadata
    change(tensors, metadata)
    stream = BytesIO()
    write_safetensors(stream, "training", tensors, metadata)
    return stream.getvalue()


def restored(run: AdversarialTrainer, state: bytes) -> None:
    read_training_state(state, "state").restore(run.networks, run.optimizers)


@pytest.mark.parametrize("place", [9, 200, 5000, -4096, -1])
def test_every_changed_byte_of_a_state_is_noticed(run: AdversarialTrainer, place: int) -> None:
    state = bytearray(state_of(run))
    state[place] ^= 4
    with raises("damaged|metadata|wrong-kind|tensor", "state: "):
        restored(run, bytes(state))


def test_a_state_without_a_checksum_is_refused(run: AdversarialTrainer) -> None:
    state = state_of(run).replace(b"checksum", b"checkmat")
    with raises("damaged", "checksum"):
        restored(run, state)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("metadata", lambda tensors, data: data.pop("metrics")),
        ("metadata", lambda tensors, data: data.update(more=1)),
        ("metadata", lambda tensors, data: data.update(epoch=3)),
        ("metadata", lambda tensors, data: data["epoch"].pop("step")),
        ("metadata", lambda tensors, data: data["epoch"].update(step="3")),
        ("metadata", lambda tensors, data: data["epoch"].update(step=-1)),
        ("metadata", lambda tensors, data: data["epoch"].update(step=True)),
        ("metadata", lambda tensors, data: data["epoch"].update(number=2)),
        ("metadata", lambda tensors, data: data.update(steps_per_epoch=3)),
        ("metadata", lambda tensors, data: data["epoch"].update(sums=[])),
        ("metadata", lambda tensors, data: data["epoch"]["sums"].update(total=float("nan"))),
        ("metadata", lambda tensors, data: data["epoch"]["sums"].update(total="0.5")),
        ("metadata", lambda tensors, data: data["epoch"]["counts"].update(total=0)),
        ("metadata", lambda tensors, data: data["epoch"]["counts"].pop("total")),
        ("metadata", lambda tensors, data: data.update(identity=[])),
        ("metadata", lambda tensors, data: data.update(metrics=None)),
        ("metadata", lambda tensors, data: data.update(log=PROGRESS.log)),
        ("metadata", lambda tensors, data: tensors.update(log=as_log("{\n"))),
        ("metadata", lambda tensors, data: tensors.update(log=as_log('{"epoch": 2}\n'))),
        ("metadata", lambda tensors, data: tensors.update(log=tensors["log"][:5])),
        ("tensor", lambda tensors, data: tensors.pop("log")),
        ("tensor", lambda tensors, data: tensors.pop(MOMENT)),
        ("tensor", lambda tensors, data: tensors.update(a_tensor=tensors[MOMENT])),
        ("tensor", lambda tensors, data: tensors.update({MOMENT + "x": tensors.pop(MOMENT)})),
        ("tensor", lambda tensors, data: tensors.update({MOMENT: tensors[MOMENT].ravel()[1:]})),
        ("tensor", lambda tensors, data: tensors.update({MOMENT: tensors[MOMENT] - 1})),
        ("tensor", lambda tensors, data: tensors.update({MOMENT: tensors[MOMENT].astype("f2")})),
        ("not-finite", lambda tensors, data: tensors.update({MOMENT: tensors[MOMENT] / 0})),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_altered_state_is_refused_even_with_a_right_checksum(
    run: AdversarialTrainer, code: str, change: Change
) -> None:
    with raises(code, "state"):
        restored(run, altered(state_of(run), change))
