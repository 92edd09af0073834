"""Between torch and our files: models, discriminators, and the state of an interrupted training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from facedis_core.config import DiscriminatorConfig, PointNetConfig, RegisteredConfig
from facedis_core.container import content_id, parse_container, read_container, stored
from facedis_core.container_writer import write_container
from facedis_core.errors import InputError
from facedis_core.inference import Model
from facedis_core.networks import AutoEncoder, IdentityDiscriminator, PointNetAutoEncoder
from facedis_core.preparation import Preparation
from facedis_core.principal import RegisteredAutoEncoder

_MODEL_BUFFERS = ("mean_face", "origin", "scale")


@dataclass(frozen=True, eq=False)
class StoredDiscriminator:
    """A pre-trained discriminator and what its file says of it."""

    network: IdentityDiscriminator
    topology: str
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    id: str


def to_array(tensor: Tensor) -> np.ndarray:
    """A copy as a contiguous NumPy array; index tensors become int32, as our files have them."""
    array = tensor.detach().cpu().numpy()
    return np.array(array, np.int32 if array.dtype == np.int64 else array.dtype, order="C")


def export_model(
    network: AutoEncoder,
    preparation: Preparation,
    *,
    reach_mm: float,
    recipe: Mapping[str, Any],
    metrics: Mapping[str, Any],
    history: list[dict[str, Any]],
) -> Model:
    """The trained network as a model that needs NumPy only; `write_model` gives it its id."""
    state = network.state_dict()
    return Model(
        config=network.config,
        weights={name: to_array(state[name]) for name in network.config.weight_shapes()},
        mean_face=to_array(network.mean_face),
        origin=to_array(network.origin),
        scale=float(network.scale),
        preparation=preparation,
        reach_mm=reach_mm,
        recipe=dict(recipe),
        metrics=dict(metrics),
        history=history,
    )


def network_from_model(model: Model) -> AutoEncoder:
    """The torch network of a model file, to train on (`--init`) or to run on a GPU."""
    weights = {name: torch.tensor(array) for name, array in model.weights.items()}
    config, frame = model.config, (torch.tensor(model.mean_face), torch.tensor(model.origin))
    network: AutoEncoder
    if isinstance(config, RegisteredConfig):
        network = RegisteredAutoEncoder(
            config, *frame, model.scale, weights["basis"], weights["deviation"]
        )
    else:
        assert isinstance(config, PointNetConfig)
        points = weights.get("encoder.points")
        network = PointNetAutoEncoder(
            config, *frame, model.scale, None if points is None else points.long()
        )
    load_state(network, weights, model.source or "the model")
    return network


def load_state(network: nn.Module, tensors: Mapping[str, Tensor], label: str) -> None:
    """Strict load; counters of batches, which nothing reads, may be missing.

    Raises:
        InputError: a tensor is missing, unknown or has another shape.
    """
    wanted = {k for k in network.state_dict() if not k.endswith("num_batches_tracked")}
    wanted -= set(_MODEL_BUFFERS) - set(tensors)
    if wanted != set(tensors):
        odd = sorted(wanted ^ set(tensors))[0]
        raise InputError(f"{label}: tensor {odd!r} is missing or unknown to its config")
    try:
        network.load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:
        raise InputError(f"{label}: {str(error).splitlines()[-1].strip()}") from None


def write_discriminator(
    stream: BinaryIO,
    network: IdentityDiscriminator,
    topology: str,
    metrics: Mapping[str, Any],
    history: list[dict[str, Any]],
) -> str:
    """Write a pre-trained discriminator whole; returns its id."""
    tensors = _state_arrays(network)
    config = asdict(network.config)
    identity = content_id(tensors, config)
    metadata = {
        "config": config,
        "topology": topology,
        "metrics": dict(metrics),
        "history": history,
        "id": identity,
    }
    write_container(stream, "discriminator", tensors, metadata)
    return identity


def load_discriminator(source: str | Path) -> StoredDiscriminator:
    """Read a discriminator.

    Raises:
        InputError: not a whole discriminator.
    """
    container = read_container(source, "discriminator")
    tensors, metadata, label = container.tensors, container.metadata, str(source)
    config = DiscriminatorConfig.from_dict(stored(metadata, "config", dict, label))
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise InputError(f"{label}: tensor {name!r} is not finite; train it again")
    points = torch.zeros(config.points, dtype=torch.int64) if config.points else None
    network = IdentityDiscriminator(config, torch.zeros(3), 1.0, points)
    load_state(network, {name: torch.tensor(a) for name, a in tensors.items()}, label)
    return StoredDiscriminator(
        network,
        topology=stored(metadata, "topology", str, label),
        metrics=stored(metadata, "metrics", dict, label),
        history=stored(metadata, "history", list, label),
        id=stored(metadata, "id", str, label),
    )


def _state_arrays(network: nn.Module) -> dict[str, np.ndarray]:
    state = network.state_dict()
    return {k: to_array(v) for k, v in state.items() if not k.endswith("num_batches_tracked")}


def write_training_state(
    stream: BinaryIO,
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    metadata: Mapping[str, Any],
) -> None:
    """Everything a training needs to go on exactly where it stopped.

    Random numbers need no state: each step draws from a seed made of the run's seed, the epoch and
    the step.
    """
    tensors: dict[str, np.ndarray] = {}
    for name, network in networks.items():
        tensors |= {f"network.{name}.{k}": array for k, array in _state_arrays(network).items()}
    for name, optimizer in optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{name}.{index}.{k}": to_array(v) for k, v in slots.items()}
    write_container(stream, "training", tensors, metadata)


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A saved state that has been read but not yet put anywhere."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    source: str

    def restore(
        self, networks: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
    ) -> None:
        """Put it back into networks and optimisers.

        Raises:
            InputError: it is of other networks; they may then be partly overwritten.
        """
        owners = (*(f"network.{n}." for n in networks), *(f"optimizer.{n}." for n in optimizers))
        for name in self.tensors:
            if not name.startswith(owners):
                raise InputError(
                    f"{self.source}: tensor {name!r} is missing or unknown to this run"
                )
        for name, network in networks.items():
            load_state(network, _below(self.tensors, f"network.{name}."), self.source)
        for name, optimizer in optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _below(self.tensors, f"optimizer.{name}.").items():
                index, _, slot = key.partition(".")
                state.setdefault(int(index), {})[slot] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})


def read_training_state(content: bytes, label: str) -> TrainingState:
    """Read what `write_training_state` wrote.

    Args:
        content: the bytes of the file.
        label: what to call it in messages.

    Raises:
        InputError: not a whole training state.
    """
    container = parse_container(np.frombuffer(content, np.uint8), "training", label)
    tensors = {name: torch.tensor(array) for name, array in container.tensors.items()}
    return TrainingState(tensors, container.metadata, label)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
