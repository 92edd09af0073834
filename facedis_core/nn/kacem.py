"""Neutralisation in latent space, after Kacem et al. 2021 (arXiv 2104.10273); sizes ours.

An auto-encoder on meshes (CoMA's), a generator that takes the latent of an expressive face to that
of the neutral, trained against a discriminator, and a classifier of the person. X_id is what the
decoder makes of the neutral's latent; there is no expression half.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core.model.mesh_config import KacemConfig
from facedis_core.nn.autoencoder import Gaussian, InitialData, Posterior
from facedis_core.nn.mesh_autoencoder import (
    NO_VARIANCE,
    MeshAutoEncoder,
    MeshObjective,
    neutral_error,
)
from facedis_core.nn.mesh_layers import MeshDecoder, MeshEncoder
from facedis_core.nn.objective import AUTO_ENCODER, LabelledFaces, Turn, adversarial_loss

# Part of the steps in which the auto-encoder is trained alone.
PRETRAINED = 0.25
_LEAK = 0.2  # of the discriminator's ReLU


class KacemAutoEncoder(MeshAutoEncoder):
    """Encoder, generator in latent space, decoder.

    Example:
        >>> config = KacemConfig(4, 8, 0, levels=(3,), edges=(6,), channels=(16,))
        >>> network = KacemAutoEncoder(config, torch.randn(4, 3), torch.zeros(3), scale=100.0)
        >>> network.encode(torch.zeros(2, 4, 3)).identity.mean.shape
        torch.Size([2, 8])
    """

    config: KacemConfig

    def __init__(self, config: Any, mean_face: Tensor, origin: Tensor, scale: float) -> None:
        super().__init__(config, mean_face, origin, scale)
        self.encoder = MeshEncoder(config, config.identity)
        self.decoder = MeshDecoder(config, config.identity)
        widths = (config.identity, config.hidden, config.hidden, config.identity)
        self.generator = nn.ModuleList(
            nn.Linear(*widths[k : k + 2]) for k in range(len(widths) - 1)
        )

    def latent(self, faces: Tensor) -> Tensor:
        """The latent of a face (B, V, 3) itself, (B, D)."""
        return self.encoder(self.standardise(faces), self.meshes)

    def neutralised(self, z: Tensor) -> Tensor:
        """Latents of faces (B, D) -> of their neutrals: the generator, with a residual."""
        first, second, last = self.generator
        return z + last(functional.relu(second(functional.relu(first(z)))))

    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) -> latents of their neutrals, and empty ones."""
        z = self.neutralised(self.latent(faces))
        parts = (z, z[:, :0])
        return Posterior(*(Gaussian(part, torch.full_like(part, NO_VARIANCE)) for part in parts))

    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> X_id minus the mean face, (B, V, 3)."""
        return self.offsets(self.decoder(z, self.meshes))

    def expression_offsets(self, z: Tensor, identity: Tensor) -> Tensor:
        """Zero, (B, V, 3)."""
        return z.new_zeros(len(z), *self.mean_face.shape)

    def objective(self, recipe: Mapping[str, Any], data: InitialData) -> "KacemObjective":
        """Its losses."""
        return KacemObjective(self, recipe, data)


class KacemObjective(MeshObjective):
    """Reconstruction, neutral face and latent, adversary in latent space, person.

    Args:
        network: the auto-encoder.
        recipe: weights of the losses.
        data: the training faces, with neutrals.

    Raises:
        UsageError: no neutrals.
    """

    def __init__(
        self, network: KacemAutoEncoder, recipe: Mapping[str, Any], data: InitialData
    ) -> None:
        data.check_neutrals()
        self.network = network
        size, hidden = network.config.identity, network.config.hidden
        self.discriminator = nn.Sequential(
            nn.Linear(size, hidden), nn.LeakyReLU(_LEAK), nn.Linear(hidden, 1)
        )
        self.classifier = nn.Linear(size, len(np.unique(data.subject)))
        self.networks = {
            AUTO_ENCODER: network,
            "discriminator": self.discriminator,
            "classifier": self.classifier,
        }
        rec = recipe["reconstruction"]
        self.weights = {
            "reconstruction": rec,
            "neutral": rec * recipe["neutral"],
            "neutral_latent": recipe["neutral_latent"],
            "discriminator": recipe["discriminator"],
            "person": recipe["person"],
        }

    def turns(self, batch: LabelledFaces) -> Iterator[Turn]:
        """The discriminator, the classifier, then the auto-encoder with its generator.

        In the first part of the steps the auto-encoder alone, as an auto-encoder.
        """
        network, known = self.network, batch.neutrals
        own = network.latent(batch.faces)
        truth = network.standardise(batch.faces)
        terms = {"reconstruction": functional.l1_loss(network.decoder(own, network.meshes), truth)}
        if batch.progress < PRETRAINED:
            yield Turn.weighted(AUTO_ENCODER, terms, self.weights)
            return
        z = network.neutralised(own)
        if known is not None:
            real = network.latent(known.faces)
            judged = self.discriminator(real.detach()), self.discriminator(z.detach())
            yield self._turn_of_discriminator(*judged, known.weight)
            terms["neutral_latent"] = (z[known.places] - real).abs().sum() * (
                known.weight / max(1, real.numel())
            )
        guessed = functional.cross_entropy(self.classifier(z.detach()), batch.person)
        yield Turn("classifier", {}, guessed, {"classifier_own": guessed.detach()})
        logits = self.classifier(z)
        terms |= {
            "neutral": neutral_error(network, network.decoder(z, network.meshes), batch),
            "discriminator": adversarial_loss(self.discriminator(z), real=True),
            "person": functional.cross_entropy(logits, batch.person),
        }
        right = (logits.detach().argmax(dim=1) == batch.person).float().mean()
        yield Turn.weighted(AUTO_ENCODER, terms, self.weights, {"person_accuracy": right})

    def _turn_of_discriminator(self, real: Tensor, fake: Tensor, weight: float) -> Turn:
        """From logits of encoded neutrals, by whose weight their mean counts, and of all faces."""
        loss = (adversarial_loss(real, real=True) * weight + adversarial_loss(fake, real=False)) / 2
        values = {
            "discriminator_own": loss.detach(),
            "real_accuracy": (real.detach() > 0).sum() * (weight / max(1, len(real))),
            "fake_accuracy": (fake.detach() < 0).float().mean(),
        }
        return Turn("discriminator", {}, loss, values)
