"""DI-MeshEncoder: independent latents of identity and expression, after Zhang et al. 2020.

Sure from the paper: two variational encoders of graph convolutions, and a discriminator of pairs
of latents that makes them independent by adversarial learning; neutrals are used. Layers are
CoMA's, sizes and weights ours.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core.model.mesh_config import DiMeshConfig
from facedis_core.nn.autoencoder import Gaussian, InitialData, Posterior
from facedis_core.nn.distributed import shard_of_permuted
from facedis_core.nn.losses import kl_divergence
from facedis_core.nn.mesh_autoencoder import MeshAutoEncoder, MeshObjective, neutral_error
from facedis_core.nn.mesh_layers import MeshDecoder, MeshEncoder
from facedis_core.nn.objective import AUTO_ENCODER, LabelledFaces, Turn, adversarial_loss

_HIDDEN = 512  # width of the discriminator
_LEAK = 0.2  # of its ReLU


class DiMeshAutoEncoder(MeshAutoEncoder):
    """Two encoders, a decoder of neutrals, and one of faces from both latents.

    X_exp is what the second decoder adds to the neutral, so that it depends on both latents.

    Example:
        >>> config = DiMeshConfig(4, 8, 6, levels=(3,), edges=(6,), channels=(16,), joint=14)
        >>> network = DiMeshAutoEncoder(config, torch.randn(4, 3), torch.zeros(3), scale=100.0)
        >>> network.expression_offsets(torch.zeros(2, 6), torch.zeros(2, 8)).shape
        torch.Size([2, 4, 3])
    """

    config: DiMeshConfig

    def __init__(self, config: Any, mean_face: Tensor, origin: Tensor, scale: float) -> None:
        super().__init__(config, mean_face, origin, scale)
        self.identity_encoder = MeshEncoder(config, 2 * config.identity)
        self.expression_encoder = MeshEncoder(config, 2 * config.expression)
        self.identity_decoder = MeshDecoder(config, config.identity)
        self.decoder = MeshDecoder(config, config.joint)

    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) -> distributions of both latents."""
        x = self.standardise(faces)
        encoders = (self.identity_encoder, self.expression_encoder)
        return Posterior(*(Gaussian(*encoder(x, self.meshes).chunk(2, 1)) for encoder in encoders))

    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> X_id minus the mean face, (B, V, 3)."""
        return self.offsets(self.identity_decoder(z, self.meshes))

    def expression_offsets(self, z: Tensor, identity: Tensor) -> Tensor:
        """Expression latents (B, D_exp) of people (B, D_id) -> X_exp, (B, V, 3)."""
        full = self.decoder(torch.cat([identity, z], dim=1), self.meshes)
        return self.offsets(full - self.identity_decoder(identity, self.meshes))

    def objective(self, recipe: Mapping[str, Any], data: InitialData) -> "DiMeshObjective":
        """Its losses."""
        return DiMeshObjective(self, recipe, data)


class DiMeshObjective(MeshObjective):
    """Reconstruction, neutral, expression, KL divergences, and independence of the latents.

    Args:
        network: the auto-encoder.
        recipe: weights of the losses.
        data: the training faces, with neutrals.

    Raises:
        UsageError: no neutrals.
    """

    def __init__(
        self, network: DiMeshAutoEncoder, recipe: Mapping[str, Any], data: InitialData
    ) -> None:
        data.check_neutrals()
        self.network, config = network, network.config
        # expressions on the mean face: only in training
        self.expression_decoder = MeshDecoder(config, config.expression)
        self.discriminator = nn.Sequential(
            nn.Linear(config.joint, _HIDDEN),
            nn.LeakyReLU(_LEAK),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.LeakyReLU(_LEAK),
            nn.Linear(_HIDDEN, 1),
        )
        self.networks = {
            AUTO_ENCODER: network,
            "discriminator": self.discriminator,
            "expression_decoder": self.expression_decoder,
        }
        self.limit = recipe["log_variance_limit"]
        rec = recipe["reconstruction"]
        self.weights = {
            "reconstruction": rec,
            "neutral": rec * recipe["neutral"],
            "neutral_expression": rec * recipe["neutral_expression"],
            "kl_identity": recipe["kl_identity"],
            "kl_expression": recipe["kl_expression"],
            "discriminator": recipe["discriminator"],
        }

    def turns(self, batch: LabelledFaces) -> Iterator[Turn]:
        """The discriminator, the decoder of expressions, then the auto-encoder."""
        network, limit = self.network, self.limit
        own, shown = (latent.clamped(limit) for latent in network.encode(batch.faces))
        z, e = own.sample(), shown.sample()
        pair = torch.cat([z, e], dim=1)
        # the same latents of identity, with expressions of other faces of the whole batch
        apart = torch.cat([z.detach(), shard_of_permuted(e)], dim=1)
        real, fake = self.discriminator(apart), self.discriminator(pair.detach())
        loss = (adversarial_loss(real, real=True) + adversarial_loss(fake, real=False)) / 2
        values = {
            "discriminator_own": loss.detach(),
            "real_accuracy": (real.detach() > 0).float().mean(),
            "fake_accuracy": (fake.detach() < 0).float().mean(),
        }
        yield Turn("discriminator", {}, loss, values)
        if batch.neutrals is not None:
            alone = self._expression_error(e.detach(), batch)
            yield Turn("expression_decoder", {}, alone, {"expression_own": alone.detach()})
        found = network.decoder(pair, network.meshes)
        terms = {
            "reconstruction": functional.l1_loss(found, network.standardise(batch.faces)),
            "neutral": neutral_error(network, network.identity_decoder(z, network.meshes), batch),
            "neutral_expression": self._expression_error(e, batch),
            "kl_identity": kl_divergence(*own),
            "kl_expression": kl_divergence(*shown),
            "discriminator": adversarial_loss(self.discriminator(pair), real=True),
        }
        yield Turn.weighted(AUTO_ENCODER, terms, self.weights)

    def _expression_error(self, e: Tensor, batch: LabelledFaces) -> Tensor:
        """Mean absolute error of the decoded expressions against faces minus neutrals."""
        predicted, known = self.expression_decoder(e, self.network.meshes), batch.neutrals
        if known is None or not len(known.places):
            return 0 * predicted.sum()
        offsets = (batch.faces[known.places] - known.faces) / self.network.deviation
        return functional.l1_loss(predicted[known.places], offsets) * known.weight
