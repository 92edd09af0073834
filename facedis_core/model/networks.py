"""The table of networks: name -> configuration, NumPy forward pass, torch module."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from facedis_core.model.config import ModelConfig, PointNetConfig, RegisteredConfig, read_config


@dataclass(frozen=True)
class Network:
    """One row: all that is known of a kind of auto-encoder.

    The two halves that compute are given as `module:name` and imported when they are used, so
    that the table needs neither NumPy nor torch; a class in memory does as well.

    Attributes:
        name: what a recipe calls it.
        config: its configuration; no two rows have the same fields, by which files are told apart.
        numpy_forward: (config, weights, normalised mean face) -> a `forward.Forward`.
        torch_module: a subclass of `autoencoder.AutoEncoder`.
    """

    name: str
    config: type[ModelConfig]
    numpy_forward: str | Callable[..., Any]
    torch_module: str | Callable[..., Any]

    def load_numpy_forward(self) -> Any:
        """The NumPy forward pass; needs no torch."""
        return _loaded(self.numpy_forward)

    def load_torch_module(self) -> Any:
        """The class of the torch module."""
        return _loaded(self.torch_module)


_NETWORKS: dict[str, Network] = {}


def register_network(network: Network) -> None:
    """Add a row; from then on recipes, training, files and inference know the network.

    Raises:
        ValueError: there is a network with this name or with the same fields in its config.
    """
    known = {network.name, _keys(network.config)}
    for other in _NETWORKS.values():
        if known & {other.name, _keys(other.config)}:
            raise ValueError(f"{network.name} has the name or the config fields of {other.name}")
    _NETWORKS[network.name] = network


def network_names() -> list[str]:
    """The names of all networks, in the order of the table."""
    return list(_NETWORKS)


def network_named(name: str) -> Network:
    """The row with this name."""
    return _NETWORKS[name]


def network_of(config: ModelConfig) -> Network:
    """The row of the network that `config` describes."""
    return next(network for network in _NETWORKS.values() if network.config is type(config))


def model_config(stored: Mapping[str, Any]) -> ModelConfig:
    """Read a stored configuration back as that of the network whose fields it has.

    Raises:
        InputError: its keys or values fit no network.
    """
    keys = frozenset(stored) if isinstance(stored, Mapping) else frozenset[str]()
    nearest = min(_NETWORKS.values(), key=lambda network: len(keys ^ _keys(network.config)))
    return read_config(nearest.config, stored)


def _keys(config: type[ModelConfig]) -> frozenset[str]:
    return frozenset([field.name for field in fields(config)])


def _loaded(entry: str | Callable[..., Any]) -> Any:
    if not isinstance(entry, str):
        return entry
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)


register_network(
    Network(
        "pointnet",
        PointNetConfig,
        "facedis_core.model.numpy_forward:PointNetForward",
        "facedis_core.nn.pointnet:PointNetAutoEncoder",
    )
)
register_network(
    Network(
        "registered",
        RegisteredConfig,
        "facedis_core.model.numpy_forward:RegisteredForward",
        "facedis_core.nn.registered:RegisteredAutoEncoder",
    )
)
