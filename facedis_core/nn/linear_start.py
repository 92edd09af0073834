"""Closed-form start of the linear auto-encoder: identity by ridge regression, expression by PCA.

Given each training face x and its subject's neutral n, known or estimated, both as coefficients of
principal components: the identity face lies in the span A of the first D components of the
neutrals, the expression offset in the span E of the first components of what remains. For
projections P_E and the ridge prediction n(x) of the neutral the identity latent minimises

    |(I - P_E)(x - A z)|^2 + t |n(x) - A z|^2

so that a small `trust` t lets X_id take part in the reconstruction, a large one keeps it at the
neutral. E follows from A z and the other way round, in a few rounds.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

ROUNDS: Final = 6
# Ridge penalty relative to the mean variance of a component: it only keeps the system regular.
PENALTY: Final = 1e-5


@dataclass(frozen=True, eq=False)
class LinearSplit:
    """Linear maps between K coefficients and latents of unit variance.

    Attributes:
        identity_encoder, expression_encoder: (D, K), with biases (D,).
        identity_decoder, expression_decoder: (K, D); a bias (K,) of identities alone.
    """

    identity_encoder: np.ndarray
    identity_bias: np.ndarray
    identity_decoder: np.ndarray
    identity_mean: np.ndarray
    expression_encoder: np.ndarray
    expression_bias: np.ndarray
    expression_decoder: np.ndarray


def split_components(
    moments: np.ndarray,
    coefficients: np.ndarray,
    neutrals: np.ndarray,
    *,
    identity: int,
    expression: int,
    trust: float,
) -> LinearSplit:
    """Fit the maps.

    Args:
        moments: (K, K) mean outer product of what is added to the coefficients at random without
            changing the identity, such as poses.
        coefficients: (n, K) of the training faces, centred.
        neutrals: (n, K) of the neutral of each face's subject.
        identity, expression: latent sizes.
        trust: t above, positive.
    """
    count = len(coefficients)
    mean = neutrals.mean(axis=0)
    basis = np.linalg.svd(neutrals - mean, full_matrices=False)[2][:identity]  # A, (D, K)
    second = coefficients.T @ coefficients / count + moments
    ridge = second + PENALTY * np.trace(second) / len(second) * np.eye(len(second))
    neutral_map = np.linalg.solve(ridge, coefficients.T @ (neutrals - mean) / count)  # (K, K)
    encoder, bias = neutral_map @ basis.T, np.zeros(len(basis))
    for _ in range(ROUNDS):
        span = _residual_span(coefficients, moments, encoder, bias, basis, mean, expression)
        outside = np.eye(len(second)) - span.T @ span
        inverse = np.linalg.inv(basis @ outside @ basis.T + trust * np.eye(len(basis)))
        encoder = (outside + trust * neutral_map) @ basis.T @ inverse
        bias = -mean @ outside @ basis.T @ inverse
    span = _residual_span(coefficients, moments, encoder, bias, basis, mean, expression)
    latents = coefficients @ encoder + bias
    remainder = (coefficients - mean - latents @ basis) @ span.T
    size = np.maximum(latents.std(axis=0), 1e-12)
    spread = np.maximum(np.sqrt((remainder**2).mean(axis=0)), 1e-12)
    centre = latents.mean(axis=0)
    keep = np.eye(len(second)) - encoder @ basis
    return LinearSplit(
        identity_encoder=(encoder / size).T,
        identity_bias=(bias - centre) / size,
        identity_decoder=(basis * size[:, None]).T,
        identity_mean=mean + centre @ basis,
        expression_encoder=(keep @ span.T / spread).T,
        expression_bias=-(mean + bias @ basis) @ span.T / spread,
        expression_decoder=(span * spread[:, None]).T,
    )


def _residual_span(
    coefficients: np.ndarray,
    moments: np.ndarray,
    encoder: np.ndarray,
    bias: np.ndarray,
    basis: np.ndarray,
    mean: np.ndarray,
    expression: int,
) -> np.ndarray:
    """The first principal directions (D, K) of faces minus identity faces, about zero."""
    remainder = coefficients - mean - (coefficients @ encoder + bias) @ basis
    keep = np.eye(len(moments)) - encoder @ basis
    second = remainder.T @ remainder / len(remainder) + keep.T @ moments @ keep
    return np.linalg.eigh(second)[1][:, ::-1][:, :expression].T
