"""What the auto-encoder does with a batch in one training step, as a single forward pass.

One pass, because DistributedDataParallel sees a network through its forward method alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facedis_core.nn.autoencoder import AutoEncoder, Gaussian, Posterior


class StepOutput(NamedTuple):
    """All that the losses of the auto-encoder look at, in network coordinates.

    Attributes:
        posterior: its log-variances clamped to the limit.
        identity_latent: a sample, (B, D).
        identity_faces: mean face plus X_id, (B, V, 3).
        expression: X_exp, (B, V, 3).
        identity_again: a sample of the latents of `identity_faces`, (B, D); None unless asked for.
        partners: the identity part of other faces of the same people; None unless given.
        clamped: share of the log-variances that were clamped.
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


class ForwardStep(nn.Module):
    """Faces (B, V, 3) -> all that the losses of the auto-encoder look at.

    Args:
        network: the auto-encoder.
        log_variance_limit: log-variances are clamped to this, up and down.
        encode_again: whether the identity faces are encoded too.
    """

    def __init__(
        self, network: AutoEncoder, *, log_variance_limit: float, encode_again: bool
    ) -> None:
        super().__init__()
        self.network = network
        self.log_variance_limit, self.encode_again = log_variance_limit, encode_again

    def forward(self, faces: Tensor, partners: Tensor | None = None) -> StepOutput:
        """Encode, sample, decode, and encode the identity faces again.

        Args:
            faces: (B, V, 3).
            partners: (B, V, 3), other faces of the same people; None = their identities are not
                wanted.
        """
        network = self.network
        posterior, clamped = self._clamp(network.encode(faces))
        identity_latent = posterior.identity.sample()
        identity_faces = self._identity_faces(identity_latent)
        expression = network.expression_offsets(posterior.expression.sample())
        again = theirs = None
        if self.encode_again:
            with frozen_statistics(network):
                again = self._clamp(network.encode(identity_faces))[0].identity.sample()
        if partners is not None:
            own = self._clamp(network.encode(partners))[0].identity
            theirs = Partners(own.mean, self._identity_faces(own.sample()))
        return StepOutput(
            posterior, identity_latent, identity_faces, expression, again, theirs, clamped
        )

    def _identity_faces(self, z: Tensor) -> Tensor:
        return self.network.normalised_mean_face + self.network.identity_offsets(z)

    def _clamp(self, posterior: Posterior) -> tuple[Posterior, Tensor]:
        """Clamp log-variances to the limit; also the share that this changed."""
        limit = self.log_variance_limit
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
