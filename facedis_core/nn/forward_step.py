"""The forward pass of a training step: encode, sample, decode, and encode X_id again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facedis_core.nn.autoencoder import AutoEncoder, Posterior


class StepOutput(NamedTuple):
    """The tensors for the losses of the auto-encoder, in normalised coordinates.

    Attributes:
        posterior: its log-variances clamped to the limit.
        identity_latent: a sample, (B, D).
        identity_faces: mean face plus X_id, (B, V, 3).
        expression: X_exp, (B, V, 3).
        identity_again: a sample of z_id of `identity_faces`, (B, D); None without `encode_again`.
        partners: identities of the partners; None without partners.
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
    """Identities of other faces of the same subjects.

    Attributes:
        identity_latent: latent means, (B, D).
        identity_faces: mean face plus X_id of a sample, (B, V, 3).
    """

    identity_latent: Tensor
    identity_faces: Tensor


def forward_step(
    network: AutoEncoder,
    faces: Tensor,
    partners: Tensor | None = None,
    *,
    log_variance_limit: float,
    encode_again: bool,
) -> StepOutput:
    """Encode, sample, decode, and encode the identity faces again.

    Args:
        network: the auto-encoder.
        faces: (B, V, 3).
        partners: (B, V, 3), other faces of the same subjects, if their identities are needed.
        log_variance_limit: log-variances are clamped to this, up and down.
        encode_again: whether the identity faces are encoded too.
    """

    def identity_faces_of(z: Tensor) -> Tensor:
        return network.normalised_mean_face + network.identity_offsets(z)

    posterior, clamped = _clamp(network.encode(faces), log_variance_limit)
    identity_latent = posterior.identity.sample()
    identity_faces = identity_faces_of(identity_latent)
    expression = network.expression_offsets(posterior.expression.sample(), identity_latent)
    again = theirs = None
    if encode_again:
        with frozen_statistics(network):
            found, _ = _clamp(network.encode(identity_faces), log_variance_limit)
        again = found.identity.sample()
    if partners is not None:
        own = _clamp(network.encode(partners), log_variance_limit)[0].identity
        theirs = Partners(own.mean, identity_faces_of(own.sample()))
    return StepOutput(
        posterior, identity_latent, identity_faces, expression, again, theirs, clamped
    )


def _clamp(posterior: Posterior, limit: float) -> tuple[Posterior, Tensor]:
    """Clamp log-variances to the limit; also the share that this changed."""
    parts = [latent.clamped(limit) for latent in posterior]
    moved = torch.cat([lv.detach().abs() > limit for _, lv in posterior], dim=1)
    return Posterior(*parts), moved.float().mean()


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm normalises by the batch and does not update its running statistics.

    For predicted faces: the running statistics should be those of real faces, which are encoded
    after the training.
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
