"""What the auto-encoders on a hierarchy of meshes share: coordinates, and parts of their losses."""

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core.geometry.mesh_hierarchy import mesh_hierarchy
from facedis_core.geometry.pca import face_blocks
from facedis_core.model.mesh_config import MeshConfig
from facedis_core.nn.autoencoder import AutoEncoder, InitialData
from facedis_core.nn.mesh_layers import Meshes
from facedis_core.nn.objective import LabelledFaces, Objective, Parameters

# Log-variance of a latent that is no distribution.
NO_VARIANCE = -20.0
# Least deviation of a coordinate, relative to that of all: what hardly varies is not magnified.
_LEAST_DEVIATION = 1e-2


class MeshAutoEncoder(AutoEncoder):
    """An auto-encoder on a hierarchy of meshes, of coordinates standardised by the training faces.

    Attributes:
        meshes: the hierarchy.
        deviation: (V, 3) of the training faces, in normalised coordinates.
    """

    is_exportable = False  # sparse products
    config: MeshConfig

    def __init__(self, config: Any, mean_face: Tensor, origin: Tensor, scale: float) -> None:
        super().__init__(config, mean_face, origin, scale)
        self.register_buffer("deviation", torch.ones_like(self.mean_face))
        self.deviation: Tensor
        self.meshes = Meshes(config)

    @classmethod
    def fresh(
        cls, config: Any, mean_face: Tensor, origin: Tensor, scale: float, data: InitialData
    ) -> Self:
        """A network with random weights, on meshes of the mean face.

        Raises:
            InputError: too few triangles for a hierarchy.
            UsageError: fast_simplification is not installed.
        """
        assert data.triangles is not None
        levels = mesh_hierarchy(mean_face.numpy(), data.triangles, len(config.channels))
        sizes = tuple(len(level.kept) for level in levels)
        config = config.on_meshes(sizes, tuple(len(level.edges) for level in levels))
        network = cls(config, mean_face, origin, scale)
        for mesh, level in zip(network.meshes, levels, strict=True):
            mesh.set_level(level)
        network.deviation.copy_(torch.from_numpy(_deviation(data) / scale))
        return network

    def standardise(self, faces: Tensor) -> Tensor:
        """Normalised coordinates minus those of the mean face, by their deviation."""
        return (faces - self.normalised_mean_face) / self.deviation

    def offsets(self, standardised: Tensor) -> Tensor:
        """The reverse, to offsets from the mean face."""
        return standardised * self.deviation


class MeshObjective(Objective):
    """Losses of a network on meshes: weights and biases of dense layers decay."""

    def parameters(self, player: str) -> Parameters:
        """The weights and biases of dense layers decay, those of convolutions do not."""
        network = self.networks[player]
        dense = {
            id(each)
            for layer in network.modules()
            if isinstance(layer, nn.Linear)
            for each in layer.parameters()
        }
        parameters = list(network.parameters())
        return Parameters(
            [each for each in parameters if id(each) in dense],
            [each for each in parameters if id(each) not in dense],
        )


def neutral_error(network: MeshAutoEncoder, predicted: Tensor, batch: LabelledFaces) -> Tensor:
    """Mean absolute error of standardised neutrals (B, V, 3), of the faces whose one is known."""
    known = batch.neutrals
    if known is None or not len(known.places):
        return 0 * predicted.sum()
    truth = network.standardise(known.faces)
    return functional.l1_loss(predicted[known.places], truth) * known.weight


def _deviation(data: InitialData) -> np.ndarray:
    """Standard deviation (V, 3) mm of every coordinate of the training faces."""
    count = len(data.rows)
    mean = sum(block.sum(axis=0) for block in face_blocks(data.vertices, data.rows)) / count
    squares = sum(
        ((block - mean) ** 2).sum(axis=0) for block in face_blocks(data.vertices, data.rows)
    )
    variance = np.asarray(squares / count)
    least = max(
        _LEAST_DEVIATION * float(np.sqrt(variance.mean())), float(np.finfo(np.float32).tiny)
    )
    return np.maximum(np.sqrt(variance), least).astype(np.float32)
