"""Conv-MeshAE: the convolutional mesh auto-encoder CoMA (Ranjan et al. 2018).

From a face to itself, or, as the paper's tables have it, from a face to the person's neutral.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from facedis_core.model.mesh_config import ConvMeshConfig
from facedis_core.nn.autoencoder import Gaussian, InitialData, Posterior
from facedis_core.nn.mesh_autoencoder import (
    NO_VARIANCE,
    MeshAutoEncoder,
    MeshObjective,
    neutral_error,
)
from facedis_core.nn.mesh_layers import MeshDecoder, MeshEncoder
from facedis_core.nn.objective import AUTO_ENCODER, LabelledFaces, Turn


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
            data.check_neutrals(", or --set target=self")

    def turns(self, batch: LabelledFaces) -> Iterator[Turn]:
        """One turn: the error of the face, or of the neutrals that are known."""
        network = self.network
        predicted = network.decoder(network.latent(batch.faces), network.meshes)
        if network.config.expression:
            error = functional.l1_loss(predicted, network.standardise(batch.faces))
            yield Turn.weighted(AUTO_ENCODER, {"reconstruction": error}, self.weights)
        else:
            yield Turn.weighted(
                AUTO_ENCODER, {"neutral": neutral_error(network, predicted, batch)}, self.weights
            )
