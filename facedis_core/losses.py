"""The losses of eq. 7 and 8; coordinates are normalised, reductions are part of the recipe."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facedis_core.geometry import uniform_laplacian
from facedis_core.networks import Gaussian
from facedis_core.recipe import Recipe

SAME_PERSON = 1
ANOTHER_PERSON = 0

# Normalised; norms below it, far below a millimetre, count as squares do and have a gradient.
NORM_SMOOTHING = 1e-4


class DiscriminatorLoss(NamedTuple):
    """Cross-entropy of the discriminator's own step and the share it judged rightly."""

    loss: Tensor
    real_accuracy: Tensor
    fake_accuracy: Tensor


def reconstruction_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error over batch, vertices and coordinates; (B, V, 3) twice."""
    return functional.mse_loss(predicted, truth)


def kl_loss(posterior: Gaussian) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, I)): summed over latent dimensions, mean over the batch."""
    mean, log_variance = posterior
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1).mean()


def neutral_latent_loss(identity: Tensor, identity_again: Tensor) -> Tensor:
    """L1 between sampled z_id of X and of the re-encoded X_id, mean over batch and dimensions."""
    return functional.l1_loss(identity_again, identity)


def partner_latent_loss(identity: Tensor, partners: Tensor) -> Tensor:
    """Squared distance of z_id of two faces of a person, relative to their squared norms.

    Mean over the batch of |a - b|^2 / (|a|^2 + |b|^2), both (B, D), of latent means; relative,
    because the scale of a latent is free. It keeps the expression out of those directions of z_id
    that hardly move X_id, where no distance between faces would find it.
    """
    apart = (identity - partners).square().sum(dim=1)
    return (apart / (identity.square() + partners.square()).sum(dim=1).clamp_min(1e-12)).mean()


def expression_norm_loss(expression: Tensor, power: float) -> Tensor:
    """The norm of each vertex's expression offset to some power, mean over B and V; (B, V, 3).

    Unlike the squared norm, powers of 1 and below prefer that few vertices move far to that all
    move a little. As X_id holds what X_exp does not, it then takes of each vertex the place where
    most expressions leave it, near the neutral, not the mean of all places.
    """
    squares = expression.square().sum(dim=-1) + NORM_SMOOTHING**2
    return squares.pow(power / 2).mean()


def laplacian_matrix(triangles: np.ndarray, vertices: int) -> Tensor:
    """The uniform, row-normalised Laplacian of triangles (F, 3) as a sparse (V, V) matrix."""
    row, column, value = uniform_laplacian(triangles, vertices)
    place = torch.tensor(np.stack([row, column]), dtype=torch.int64)
    size = (vertices, vertices)
    return torch.sparse_coo_tensor(
        place, torch.tensor(value), size, check_invariants=True
    ).coalesce()


def laplacian_loss(identity_faces: Tensor, laplacian: Tensor) -> Tensor:
    """Squared norm of L X_id, summed over vertices, divided by V, mean over the batch.

    Args:
        identity_faces: (B, V, 3), mean face plus identity offsets.
        laplacian: what `laplacian_matrix` gives.
    """
    faces, vertices, _ = identity_faces.shape
    columns = identity_faces.permute(1, 0, 2).reshape(vertices, faces * 3)
    return torch.sparse.mm(laplacian, columns).square().sum() / (vertices * faces)


def same_person_loss(logits: Tensor) -> Tensor:
    """What the generator wants: its pairs (X, X_id) called the same person; logits (B, 2)."""
    wanted = torch.full((len(logits),), SAME_PERSON, device=logits.device)
    return functional.cross_entropy(logits, wanted)


def discriminator_loss(
    real: Tensor, fake: Tensor, label_smoothing: float = 0.0
) -> DiscriminatorLoss:
    """Binary cross-entropy over real pairs (X, another face of the subject) and fake (X, X_id).

    Args:
        real: logits (B, 2).
        fake: logits (B, 2), of detached faces.
        label_smoothing: share of the target given to the other class.
    """
    logits = torch.cat([real, fake])
    labels = torch.cat(
        [
            torch.full((len(real),), SAME_PERSON, device=real.device),
            torch.full((len(fake),), ANOTHER_PERSON, device=fake.device),
        ]
    )
    right = logits.detach().argmax(dim=1) == labels
    return DiscriminatorLoss(
        functional.cross_entropy(logits, labels, label_smoothing=label_smoothing),
        right[: len(real)].to(logits.dtype).mean(),
        right[len(real) :].to(logits.dtype).mean(),
    )


def loss_weights(recipe: Recipe, epoch: int) -> dict[str, float]:
    """The weight of every term in the sum, for the epoch with that number (from 0)."""
    decay = 1.0
    if recipe.kl_decay_epochs:
        decay = max(0.0, (recipe.kl_decay_epochs - epoch) / recipe.kl_decay_epochs)
    return {
        "reconstruction": recipe.reconstruction,
        "kl_identity": recipe.kl_identity * decay,
        "kl_expression": recipe.kl_expression * decay,
        "neutral": recipe.reconstruction * recipe.neutral,
        "neutral_expression": recipe.reconstruction * recipe.neutral_expression,
        "neutral_latent": recipe.neutral_latent,
        "discriminator": recipe.discriminator,
        "laplacian": recipe.laplacian,
        "swap": recipe.reconstruction * recipe.swap,
        "partner_latent": recipe.partner_latent,
        "expression_norm": recipe.expression_norm,
    }


def sum_terms(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of eq. 8."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
