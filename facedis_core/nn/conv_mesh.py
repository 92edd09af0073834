"""Conv-MeshAE: the convolutional mesh auto-encoder CoMA (Ranjan et al. 2018).

From a face to itself, or, as the paper's tables have it, from a face to the person's neutral.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core.errors import ErrorCode, UsageError
from facedis_core.geometry.mesh_hierarchy import mesh_hierarchy
from facedis_core.geometry.pca import face_blocks
from facedis_core.model.mesh_config import ConvMeshConfig, MeshConfig
from facedis_core.nn.autoencoder import AutoEncoder, Gaussian, InitialData, Posterior
from facedis_core.nn.mesh_layers import MeshDecoder, MeshEncoder, Meshes
from facedis_core.nn.objective import (
    AUTO_ENCODER,
    LabelledFaces,
    Objective,
    Parameters,
    Turn,
    turn,
)

Config = TypeVar("Config", bound=MeshConfig)

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


class ConvMeshAutoEncoder(MeshAutoEncoder):
    """CoMA: convolutions and pooling to one latent, and back.

    Example:
        >>> config = ConvMeshConfig(4, 0, 8, levels=(3,), edges=(6,), channels=(16,))
        >>> network = ConvMeshAutoEncoder(config, torch.randn(4, 3), torch.zeros(3), scale=100.0)
        >>> network.expression_offsets(torch.zeros(2, 8), torch.zeros(2, 0)).shape
        torch.Size([2, 4, 3])
    """

    config: ConvMeshConfig

    def __init__(self, config: Any, mean_face: Tensor, origin: Tensor, scale: float) -> None:
        super().__init__(config, mean_face, origin, scale)
        self.encoder = MeshEncoder(config, config.latent)
        self.decoder = MeshDecoder(config, config.latent)

    def latent(self, faces: Tensor) -> Tensor:
        """Faces (B, V, 3) -> (B, D)."""
        z = self.encoder(self.standardise(faces), self.meshes)
        return functional.relu(z) if self.config.latent_relu else z

    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) -> their latents; one of them is empty."""
        z = self.latent(faces)
        parts = (z[:, : self.config.identity], z[:, : self.config.expression])
        return Posterior(*(Gaussian(part, torch.full_like(part, NO_VARIANCE)) for part in parts))

    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> X_id minus the mean face, (B, V, 3); zero without latents."""
        return self._offsets(z, self.config.identity)

    def expression_offsets(self, z: Tensor, identity: Tensor) -> Tensor:
        """Expression latents (B, D) -> X_exp, (B, V, 3); zero without latents."""
        return self._offsets(z, self.config.expression)

    def objective(self, recipe: Mapping[str, Any], data: InitialData) -> "ConvMeshObjective":
        """The losses of CoMA."""
        return ConvMeshObjective(self, recipe, data)

    def _offsets(self, z: Tensor, size: int) -> Tensor:
        if not size:
            return z.new_zeros(len(z), *self.mean_face.shape)
        return self.offsets(self.decoder(z, self.meshes))


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


class ConvMeshObjective(MeshObjective):
    """Mean absolute error of standardised coordinates; weight decay of the dense layers.

    Args:
        network: the auto-encoder.
        recipe: weights of the losses.
        data: the training faces.

    Raises:
        UsageError: neutrals are the target, and none are known.
    """

    def __init__(
        self, network: ConvMeshAutoEncoder, recipe: Mapping[str, Any], data: InitialData
    ) -> None:
        self.network = network
        self.networks = {AUTO_ENCODER: network}
        self.weights = {
            "reconstruction": recipe["reconstruction"],
            "neutral": recipe["reconstruction"] * recipe["neutral"],
        }
        if network.config.identity:
            check_neutrals(data, ", or --set target=self")

    def turns(self, batch: LabelledFaces) -> Iterator[Turn]:
        """One turn: the error of the face, or of the neutrals that are known."""
        network = self.network
        predicted = network.decoder(network.latent(batch.faces), network.meshes)
        if network.config.expression:
            error = functional.l1_loss(predicted, network.standardise(batch.faces))
            yield turn(AUTO_ENCODER, {"reconstruction": error}, self.weights)
        else:
            yield turn(
                AUTO_ENCODER, {"neutral": neutral_error(network, predicted, batch)}, self.weights
            )


def neutral_error(network: MeshAutoEncoder, predicted: Tensor, batch: LabelledFaces) -> Tensor:
    """Mean absolute error of standardised neutrals (B, V, 3), of the faces whose one is known."""
    known = batch.neutrals
    if known is None or not len(known.places):
        return 0 * predicted.sum()
    truth = network.standardise(known.faces)
    return functional.l1_loss(predicted[known.places], truth) * known.weight


def check_neutrals(data: InitialData, otherwise: str = "") -> None:
    """Raise UsageError where no neutral is known; `otherwise` ends its advice."""
    if data.neutrals is None:
        raise UsageError(
            "the network learns the neutrals of faces; give --neutrals, or "
            f"--set pseudo_neutral=auto{otherwise}",
            ErrorCode.OPTION_CONFLICT,
        )


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
