"""Torch networks in files: models, discriminators, and checkpoints of a training."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from facedis_core.data.history import HistoryStep
from facedis_core.data.preparation import Preparation
from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.safetensors_file import (
    content_id,
    not_finite,
    parse_record,
    parse_safetensors,
    read_safetensors,
    write_safetensors,
)
from facedis_core.io.streams import naming
from facedis_core.model.config import DiscriminatorConfig, DiscriminatorMetadata
from facedis_core.model.model import Model
from facedis_core.nn.autoencoder import AutoEncoder
from facedis_core.nn.discriminator import IdentityDiscriminator
from facedis_core.nn.inference import load_state
from facedis_core.train.trainer import EpochProgress

# What an optimiser keeps of a parameter after its first step.
_SLOTS: Final[Mapping[type[Optimizer], tuple[str, ...]]] = {
    torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.SGD: ("momentum_buffer",),
}


@dataclass(frozen=True, eq=False)
class StoredDiscriminator:
    """A pre-trained discriminator with the metadata of its file."""

    network: IdentityDiscriminator
    topology: str
    metrics: dict[str, Any]
    history: list[HistoryStep]
    id: str


def to_array(tensor: Tensor) -> np.ndarray:
    """A copy as a contiguous NumPy array; int64 becomes int32, as in the files."""
    array = tensor.detach().cpu().numpy()
    return np.array(array, np.int32 if array.dtype == np.int64 else array.dtype, order="C")


def export_model(
    network: AutoEncoder,
    preparation: Preparation,
    *,
    reach_mm: float,
    recipe: Mapping[str, Any],
    metrics: Mapping[str, Any],
    history: list[HistoryStep],
) -> Model:
    """The trained network as a model for NumPy; `write_model` computes its id."""
    tensors = network.model_tensors()
    return Model(
        config=network.config,
        weights={name: to_array(tensors[name]) for name in network.config.weight_shapes()},
        mean_face=to_array(network.mean_face),
        origin=to_array(network.origin),
        scale=float(network.scale),
        preparation=preparation,
        reach_mm=reach_mm,
        recipe=dict(recipe),
        metrics=dict(metrics),
        history=history,
    )


def write_discriminator(
    stream: BinaryIO,
    network: IdentityDiscriminator,
    topology: str,
    metrics: Mapping[str, Any],
    history: list[HistoryStep],
) -> str:
    """Write a pre-trained discriminator; returns its id."""
    tensors = _state_arrays(network)
    config = asdict(network.config)
    identity = content_id(tensors, config)
    metadata = {
        "config": config,
        "topology": topology,
        "metrics": dict(metrics),
        "history": [step.as_json() for step in history],
        "id": identity,
    }
    write_safetensors(stream, "discriminator", tensors, metadata)
    return identity


def load_discriminator(source: str | Path) -> StoredDiscriminator:
    """Read a discriminator.

    Raises:
        InputError: not a whole discriminator.
    """
    file = read_safetensors(source, "discriminator")
    with naming(source):
        metadata = parse_record(DiscriminatorMetadata, file.metadata)
        config = DiscriminatorConfig.from_dict(metadata.config)
        _check_finite(file.tensors)
    network = IdentityDiscriminator(config, torch.zeros(3), 1.0)
    load_state(network, {name: torch.tensor(a) for name, a in file.tensors.items()}, str(source))
    return StoredDiscriminator(
        network, metadata.topology, metadata.metrics, metadata.history, metadata.id
    )


def _check_finite(tensors: Mapping[str, np.ndarray]) -> None:
    for name in not_finite(tensors):
        raise InputError(f"tensor {name!r} is not finite; train it again", ErrorCode.NOT_FINITE)


def _state_arrays(network: nn.Module) -> dict[str, np.ndarray]:
    state = network.state_dict()
    return {k: to_array(v) for k, v in state.items() if not k.endswith("num_batches_tracked")}


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training: the metadata of its checkpoint, and the log.

    Attributes:
        identity: recipe, seed and ids of the inputs, by which runs are told apart.
        epoch: the current one.
        steps_per_epoch: number of steps in an epoch.
        metrics: of the last evaluation.
        log: a JSON line per record.
    """

    identity: dict[str, Any]
    epoch: EpochProgress
    steps_per_epoch: int
    metrics: dict[str, Any]
    log: list[str]

    @property
    def steps_done(self) -> int:
        """Number of steps done in all."""
        return self.epoch.number * self.steps_per_epoch + self.epoch.step

    def check(self) -> None:
        """Raise InputError where numbers of epochs, steps and values contradict each other."""
        logged = 0
        for number, line in enumerate(self.log, 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            step = record.get("step") if isinstance(record, dict) else None
            if not isinstance(step, int) or step <= logged:
                raise InputError(
                    f"has a line {number} in its log that is no record of the steps after {logged}",
                    ErrorCode.METADATA,
                )
            logged = step
        epoch, counts = self.epoch, self.epoch.counts
        sound = epoch.number >= 0 and 0 <= epoch.step < self.steps_per_epoch
        sound = sound and set(epoch.sums) == set(counts)
        sound = sound and all(count > 0 for count in counts.values())
        sound = sound and max(counts.values(), default=0) == self.steps_done - logged
        if not sound:
            raise InputError(
                f"has impossible progress in its metadata: epoch {epoch.number}, step "
                f"{epoch.step} of {self.steps_per_epoch}, a log of {logged} steps",
                ErrorCode.METADATA,
            )


def write_training_state(
    stream: BinaryIO,
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    progress: TrainingProgress,
) -> None:
    """Write a checkpoint, from which a training continues exactly.

    Random numbers have no state: the seed of a step is made of the run's seed, the epoch and the
    step.
    """
    tensors: dict[str, np.ndarray] = {}
    for name, network in networks.items():
        tensors |= {f"network.{name}.{k}": array for k, array in _state_arrays(network).items()}
    for name, optimizer in optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{name}.{index}.{k}": to_array(v) for k, v in slots.items()}
    metadata = asdict(progress)
    # as a tensor, for a header holds no more than 32 MB
    log = "".join(f"{line}\n" for line in metadata.pop("log"))
    tensors["log"] = np.frombuffer(log.encode(), np.uint8)
    write_safetensors(stream, "training", tensors, metadata)


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A checkpoint in memory."""

    tensors: dict[str, Tensor]
    progress: TrainingProgress
    source: str

    def restore(
        self, networks: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
    ) -> None:
        """Load it into networks and optimisers.

        Raises:
            InputError: it belongs to other networks; these may then be partly overwritten.
        """
        self._check_tensors(networks, optimizers)
        for name, network in networks.items():
            load_state(network, _below(self.tensors, f"network.{name}."), self.source)
        for name, optimizer in optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _below(self.tensors, f"optimizer.{name}.").items():
                index, _, slot = key.partition(".")
                state.setdefault(int(index), {})[slot] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _check_tensors(
        self, networks: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
    ) -> None:
        """Check that every tensor belongs to this run and has the right shape and type.

        An optimiser has all moments of a parameter, or none before its first step: a part of a
        network may be trained later than another.
        """
        expected: dict[str, np.ndarray] = {}
        for name, network in networks.items():
            expected |= {f"network.{name}.{k}": a for k, a in _state_arrays(network).items()}
        for name, optimizer in optimizers.items():
            moments = _below(self.tensors, f"optimizer.{name}.")
            stepped = {key.partition(".")[0] for key in moments}
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for index, parameter in enumerate(parameters):
                if str(index) not in stepped:
                    continue
                for slot in _SLOTS[type(optimizer)]:
                    sizes = () if slot == "step" else tuple(parameter.shape)
                    zeros = np.broadcast_to(np.float32(0), sizes)
                    expected[f"optimizer.{name}.{index}.{slot}"] = zeros
        for name in sorted(expected.keys() ^ self.tensors.keys()):
            raise InputError(
                f"{self.source}: tensor {name!r} is missing or unknown to this run",
                ErrorCode.TENSOR,
            )
        for name, array in expected.items():
            found = self.tensors[name].numpy()
            if found.shape != array.shape or found.dtype != array.dtype:
                raise InputError(
                    f"{self.source}: tensor {name!r} has shape {found.shape} of {found.dtype}, "
                    f"expected {array.shape} of {array.dtype}",
                    ErrorCode.TENSOR,
                )
            if name.endswith((".exp_avg_sq", ".running_var", ".step")) and (found < 0).any():
                raise InputError(
                    f"{self.source}: tensor {name!r} has negative values", ErrorCode.TENSOR
                )


def read_training_state(content: bytes, label: str) -> TrainingState:
    """Read a checkpoint.

    Args:
        content: the bytes of the file.
        label: its name in messages.

    Raises:
        InputError: not a whole checkpoint.
    """
    with naming(label):
        file = parse_safetensors(np.frombuffer(content, np.uint8), "training")
        arrays = dict(file.tensors)
        if "log" not in arrays:
            raise InputError("lacks the tensor 'log'", ErrorCode.TENSOR)
        log = arrays.pop("log").tobytes().decode(errors="replace").splitlines()
        metadata = {**file.metadata, "log": log}
        progress = parse_record(TrainingProgress, metadata)
        # keys that are missing or unknown
        if asdict(progress) != metadata or "log" in file.metadata:
            raise InputError("garbles its metadata", ErrorCode.METADATA)
        progress.check()
        _check_finite(arrays)
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    return TrainingState(tensors, progress, label)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
