"""The table of networks: name -> configuration, NumPy forward pass, torch module.

Another package adds a row by `register_network`, or for the commands by an entry point of the group
`facedis.networks` whose value is a `Network`. Entry points are looked up where the table lacks a
network.
"""

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from typing import Any, Final

from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.model.config import (
    LinearConfig,
    ModelConfig,
    PointNetConfig,
    later_fields,
    read_config,
)
from facedis_core.model.jiang_config import JiangConfig
from facedis_core.model.mesh_config import ConvMeshConfig, DiMeshConfig, KacemConfig

ENTRY_POINTS: Final = "facedis.networks"


@dataclass(frozen=True)
class Network:
    """A row of the table: the classes of one kind of auto-encoder.

    `numpy_forward` and `torch_module` are classes, or `module:name` strings that are imported on
    first use, so that the table needs neither NumPy nor torch.

    Attributes:
        name: value of `network` in a recipe.
        config: its configuration; the field names identify the network of a model file, so no two
            networks have the same.
        numpy_forward: (config, weights, normalised mean face) -> a `numpy_forward.Forward`.
        torch_module: a subclass of `nn.autoencoder.AutoEncoder`.
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
    """Add a network to the table, for recipes, training, model files and inference.

    Raises:
        ValueError: another network with this name or with the same config fields exists.
    """
    known = {network.name, _keys(network.config)}
    for other in _NETWORKS.values():
        if other == network:
            return
        if known & {other.name, _keys(other.config)}:
            raise ValueError(f"{network.name} has the name or the config fields of {other.name}")
    _NETWORKS[network.name] = network


def network_names() -> list[str]:
    """The names of all networks, in the order of the table."""
    return list(_NETWORKS)


def has_network(name: object) -> bool:
    """Whether there is a network with this name.

    Raises:
        UsageError: a network of another package cannot be loaded.
    """
    if isinstance(name, str) and name not in _NETWORKS:
        _register_entry_points()
    return isinstance(name, str) and name in _NETWORKS


def network_named(name: str) -> Network:
    """The row with this name, for which `has_network` is true."""
    return _NETWORKS[name]


def network_of(config: ModelConfig) -> Network:
    """The row of the network that `config` describes."""
    if not any(network.config is type(config) for network in _NETWORKS.values()):
        _register_entry_points()  # in a worker process
    return next(network for network in _NETWORKS.values() if network.config is type(config))


def model_config(stored: Mapping[str, Any], name: object = None) -> ModelConfig:
    """The configuration in a model file, of the network with the same field names.

    Args:
        stored: the configuration, from JSON.
        name: name of the network in the recipe of the file, where it has one; for messages.

    Raises:
        InputError: keys or values fit no network.
        UsageError: a network of another package cannot be loaded.
    """
    keys = frozenset(stored) if isinstance(stored, Mapping) else frozenset[str]()
    if all(keys - later_fields(row.config) != _keys(row.config) for row in _NETWORKS.values()):
        _register_entry_points()
        if isinstance(name, str) and name not in _NETWORKS:
            raise InputError(
                f"it is a model of the network {reprlib.repr(name)}, known are "
                f"{', '.join(network_names())}; install the package that defines the network "
                f"(entry point group {ENTRY_POINTS})",
                ErrorCode.METADATA,
            )
    nearest = min(_NETWORKS.values(), key=lambda network: len(keys ^ _keys(network.config)))
    return read_config(nearest.config, stored)


def _keys(config: type[ModelConfig]) -> frozenset[str]:
    """The fields that every file of the network has."""
    return frozenset([field.name for field in fields(config)]) - later_fields(config)


@cache
def _register_entry_points() -> None:
    """Add the networks of installed packages, once."""
    from importlib.metadata import entry_points  # takes longer than the rest of this module

    for entry in entry_points(group=ENTRY_POINTS):
        try:
            network = entry.load()
            if not isinstance(network, Network):
                raise TypeError(f"it is {type(network).__name__}, expected a Network")
            register_network(network)
        except Exception as error:
            raise UsageError(
                f"the network {entry.name!r} of another package cannot be loaded from "
                f"{entry.value}: {' '.join(str(error).split())}; repair or uninstall that package",
                ErrorCode.NETWORK_BROKEN,
            ) from error


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
        "linear",
        LinearConfig,
        "facedis_core.model.numpy_forward:LinearForward",
        "facedis_core.nn.linear:LinearAutoEncoder",
    )
)
register_network(
    Network(
        "conv-mesh-ae",
        ConvMeshConfig,
        "facedis_core.model.mesh_forward:ConvMeshForward",
        "facedis_core.nn.conv_mesh:ConvMeshAutoEncoder",
    )
)
register_network(
    Network(
        "kacem",
        KacemConfig,
        "facedis_core.model.mesh_forward:KacemForward",
        "facedis_core.nn.kacem:KacemAutoEncoder",
    )
)
register_network(
    Network(
        "di-mesh-encoder",
        DiMeshConfig,
        "facedis_core.model.mesh_forward:DiMeshForward",
        "facedis_core.nn.di_mesh:DiMeshAutoEncoder",
    )
)
register_network(
    Network(
        "jiang",
        JiangConfig,
        "facedis_core.model.jiang_forward:JiangForward",
        "facedis_core.nn.jiang:JiangAutoEncoder",
    )
)
