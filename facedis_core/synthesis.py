"""What the auto-encoder does with a batch in one training step, as a single forward pass.

One pass, because DistributedDataParallel sees a network through its forward method alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facedis_core.networks import AutoEncoder, Gaussian, Posterior
from facedis_core.recipe import Recipe


class Synthesis(NamedTuple):
    """All in network coordinates.

    Attributes:
        posterior: its log-variances within the recipe's limit.
        identity_latent: a sample, (B, D).
        identity_faces: mean face plus X_id, (B, V, 3).
        expression: X_exp, (B, V, 3).
        identity_again: a sample from what the encoder says of `identity_faces`, (B, D); None where
            the recipe has no use for it.
        partners: what becomes of the other faces of the same people; None where the recipe has
            no use for them.
        clamped: share of the log-variances that had to be moved.
    """

    posterior: Posterior
    identity_latent: Tensor
    identity_faces: Tensor
    expression: Tensor
    identity_again: Tensor | None
    partners: "Partners | None"
    clamped: Tensor


class Partners(NamedTuple):
    """The identity part of other faces of the same people.

    Attributes:
        identity_latent: its mean, (B, D).
        identity_faces: mean face plus X_id of a sample, (B, V, 3).
    """

    identity_latent: Tensor
    identity_faces: Tensor


class Synthesiser(nn.Module):
    """Faces (B, V, 3) -> all that the losses of the auto-encoder look at."""

    def __init__(self, network: AutoEncoder, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe

    def forward(self, faces: Tensor, partners: Tensor | None = None) -> Synthesis:
        """Encode, sample, decode, and encode the identity faces again.

        Args:
            faces: (B, V, 3).
            partners: (B, V, 3), other faces of the same people.
        """
        network, recipe = self.network, self.recipe
        posterior, clamped = self._clamp(network.encode(faces))
        identity_latent = posterior.identity.sample()
        identity_faces = self._identity_faces(identity_latent)
        expression = network.expression_offsets(posterior.expression.sample())
        again = theirs = None
        if recipe.neutral_latent:
            with frozen_statistics(network):
                again = self._clamp(network.encode(identity_faces))[0].identity.sample()
        if recipe.has_partners and partners is not None:
            own = self._clamp(network.encode(partners))[0].identity
            theirs = Partners(own.mean, self._identity_faces(own.sample()))
        return Synthesis(
            posterior, identity_latent, identity_faces, expression, again, theirs, clamped
        )

    def _identity_faces(self, z: Tensor) -> Tensor:
        return self.network.normalised_mean_face + self.network.identity_offsets(z)

    def _clamp(self, posterior: Posterior) -> tuple[Posterior, Tensor]:
        """Keep log-variances within the recipe's limit; also the share that had to be moved."""
        limit = self.recipe.log_variance_limit
        parts = [Gaussian(mean, lv.clamp(-limit, limit)) for mean, lv in posterior]
        moved = torch.cat([lv.detach().abs() > limit for _, lv in posterior], dim=1)
        return Posterior(*parts), moved.float().mean()


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm normalises by the batch, but leaves the running statistics alone.

    Predicted faces pass the encoder in training too; what is encoded later are real ones, and the
    running statistics should be theirs.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
