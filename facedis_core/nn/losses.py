"""The losses of the paper (eq. 7 and 8) and three of ours, on plain tensors.

Eq. 7, what the identity discriminator D minimises, with cross-entropy CE:

    L_D = CE(D(X, X'), same) + CE(D(X, X_id), different)          `discriminator_loss`

for a face X, another face X' of the same subject, and the detached identity face X_id.

Eq. 8, what the auto-encoder minimises, with reconstruction X_id + X_exp and neutral X_neu:

    L = w_rec   |X_id + X_exp - X|^2                              `reconstruction_loss`
      + w_kl    KL(N(mu, sigma^2) || N(0, I))  for z_id and z_exp  `kl_divergence`
      + w_disc  CE(D(X, X_id), same)                              `generator_loss`
      + w_neu   |X_id - X_neu|^2               with neutrals      `reconstruction_loss`
      + w_lat   |z_id(X) - z_id(X_id)|_1                          `neutral_latent_loss`
      + w_lap   |L X_id|^2                     without neutrals   `laplacian_loss`

The other terms separate identity and expression without neutrals and without a discriminator: the
reconstruction of X with the identity of another face of the subject (`swap`),
`partner_latent_loss` and `expression_norm_loss`.

A weight means what it does only with its reduction. Coordinates are normalised. Squared errors are
means over B, V and 3; KL is a sum over D and a mean over B; cross-entropies are means over B; the
latent L1 is a mean over B and D; the Laplacian is a sum over V and 3, divided by V, mean over B.
Letters: B batch, V vertices, D latent size, F triangles.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facedis_core.geometry.surface import uniform_laplacian

SAME_PERSON = 1
ANOTHER_PERSON = 0

# In normalised coordinates, far below 1 mm: smooths the norm at 0, where it has no gradient.
NORM_SMOOTHING = 1e-4


@dataclass(frozen=True)
class LossWeights:
    """The factor of every term in the sum of eq. 8; the fields are the names of the terms.

    Example:
        >>> LossWeights(reconstruction=5000.0, kl_identity=3e-5).swap
        0.0
    """

    reconstruction: float = 0.0
    kl_identity: float = 0.0
    kl_expression: float = 0.0
    neutral: float = 0.0
    neutral_expression: float = 0.0
    neutral_latent: float = 0.0
    discriminator: float = 0.0
    laplacian: float = 0.0
    swap: float = 0.0
    partner_latent: float = 0.0
    expression_norm: float = 0.0


class DiscriminatorLoss(NamedTuple):
    """The cross-entropy of eq. 7, and the shares of real and fake pairs classified correctly."""

    loss: Tensor
    real_accuracy: Tensor
    fake_accuracy: Tensor


def reconstruction_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """|predicted - truth|^2 of eq. 8, the mean over B, V and 3; both (B, V, 3).

    Example:
        >>> reconstruction_loss(torch.ones(1, 2, 3), torch.zeros(1, 2, 3))
        tensor(1.)
    """
    return functional.mse_loss(predicted, truth)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, I)) of eq. 8, the sum over D and the mean over B; both (B, D).

    In closed form 1/2 (mu^2 + sigma^2 - 1 - log sigma^2) for each dimension.

    Example:
        >>> kl_divergence(torch.ones(2, 4), torch.zeros(2, 4))  # 4 dimensions of 1/2
        tensor(2.)
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1).mean()


def neutral_latent_loss(identity: Tensor, identity_again: Tensor) -> Tensor:
    """|z_id(X) - z_id(X_id)|_1 of eq. 8, the mean over B and D of samples; both (B, D).

    Example:
        >>> neutral_latent_loss(torch.zeros(2, 3), torch.ones(2, 3))
        tensor(1.)
    """
    return functional.l1_loss(identity_again, identity)


def partner_latent_loss(identity: Tensor, partners: Tensor) -> Tensor:
    """|a - b|^2 / (|a|^2 + |b|^2) of z_id of two faces of a subject, the mean over B.

    Both (B, D), latent means. Relative to the norms, because the scale of a latent is arbitrary.
    It removes the expression also from directions of z_id that hardly change X_id, which no
    distance between faces can measure.

    Example:
        >>> partner_latent_loss(torch.ones(2, 3), -torch.ones(2, 3))
        tensor(2.)
    """
    apart = (identity - partners).square().sum(dim=1)
    return (apart / (identity.square() + partners.square()).sum(dim=1).clamp_min(1e-12)).mean()


def expression_norm_loss(expression: Tensor, power: float) -> Tensor:
    """|X_exp|^power per vertex, the mean over B and V; (B, V, 3).

    Powers of 1 and below prefer offsets of few vertices, where the squared norm prefers small
    offsets of all. The remainder is X_id: its vertices then lie where most expressions leave them,
    near the neutral, instead of at the mean over the expressions.

    Example:
        >>> expression_norm_loss(torch.tensor([[[3.0, 4.0, 0.0]]]), power=1.0)
        tensor(5.)
    """
    squares = expression.square().sum(dim=-1) + NORM_SMOOTHING**2
    return squares.pow(power / 2).mean()


def laplacian_matrix(triangles: np.ndarray, vertices: int) -> Tensor:
    """The uniform, row-normalised Laplacian of triangles (F, 3) as a sparse (V, V) matrix.

    Example:
        >>> laplacian_matrix(np.array([[0, 1, 2]]), 3).to_dense()[0]
        tensor([ 1.0000, -0.5000, -0.5000])
    """
    row, column, value = uniform_laplacian(triangles, vertices)
    place = torch.tensor(np.stack([row, column]), dtype=torch.int64)
    size = (vertices, vertices)
    return torch.sparse_coo_tensor(
        place, torch.tensor(value), size, check_invariants=True
    ).coalesce()


def laplacian_loss(identity_faces: Tensor, laplacian: Tensor) -> Tensor:
    """|L X_id|^2 of eq. 8: the sum over V and 3, divided by V, and the mean over B.

    Args:
        identity_faces: (B, V, 3), mean face plus identity offsets.
        laplacian: sparse (V, V), from `laplacian_matrix`.

    Example:
        >>> laplacian = laplacian_matrix(np.array([[0, 1, 2]]), 3)
        >>> laplacian_loss(torch.ones(2, 3, 3), laplacian)  # all vertices in one point
        tensor(0.)
    """
    faces, vertices, _ = identity_faces.shape
    columns = identity_faces.permute(1, 0, 2).reshape(vertices, faces * 3)
    return torch.sparse.mm(laplacian, columns).square().sum() / (vertices * faces)


def generator_loss(logits: Tensor) -> Tensor:
    """CE(D(X, X_id), same) of eq. 8, the mean over B; logits (B, 2) of the pairs (X, X_id).

    Example:
        >>> generator_loss(torch.tensor([[-20.0, 20.0]]))  # taken for the same person
        tensor(0.)
    """
    wanted = torch.full((len(logits),), SAME_PERSON, device=logits.device)
    return functional.cross_entropy(logits, wanted)


def discriminator_loss(
    real: Tensor, fake: Tensor, label_smoothing: float = 0.0
) -> DiscriminatorLoss:
    """Eq. 7: cross-entropy, the mean over the real and the fake pairs together.

    Args:
        real: logits (B, 2) of pairs (X, X'), X' another face of the subject.
        fake: logits (B, 2) of pairs (X, X_id), X_id detached.
        label_smoothing: share of the target given to the other class.

    Example:
        >>> same, another = torch.tensor([[-20.0, 20.0]]), torch.tensor([[20.0, -20.0]])
        >>> discriminator_loss(real=same, fake=another).fake_accuracy
        tensor(1.)
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


def weighted_sum(terms: Mapping[str, Tensor], weights: LossWeights) -> Tensor:
    """The whole of eq. 8: sum over the terms that a step has of weight times term.

    Example:
        >>> terms = {"reconstruction": torch.tensor(2.0), "swap": torch.tensor(1.0)}
        >>> weighted_sum(terms, LossWeights(reconstruction=10.0, swap=1.0))
        tensor(21.)
    """
    return torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
