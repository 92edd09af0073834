"""Closed-form split of principal components: identity by ridge regression, expression by PCA.

Given each training face x and its subject's neutral, known or estimated, both as coefficients of
principal components: the identity face lies in the span A of the first components of the neutrals,
the expression offset in the span E of the first components of what remains. For the projection P_E
on E and the ridge prediction n(x) of the neutral the identity latent z minimises

    |(I - P_E)(x - A z)|^2 + t |n(x) - A z|^2

so that a small `trust` t lets X_id take part in the reconstruction, a large one keeps it at the
neutral. E follows from A z and the other way round, in a few rounds.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from facedis_core.geometry.ridge import PENALTIES, held_out_errors, ridge_maps

ROUNDS: Final = 6

FOLDS: Final = 20  # of the people: with fewer, each fold lacks directions that all of them span
# The penalty is the least whose error on held-out people is within this factor of the best: a small
# one keeps X_id of a person together, and all people together need less than a fold does.
TOLERANCE: Final = 1.2

_ROUNDING: Final = 1e-6  # relative size of directions that are rounding errors


@dataclass(frozen=True, eq=False)
class LinearSplit:
    """Affine maps between K coefficients and latents.

    Identity latents have unit variance. Expression latents have a common scale, so that their
    Euclidean distances are those of expression offsets: with unit variances, rests of the identity
    in the least components would weigh as much as a smile. Latents beyond what the neutrals or the
    offsets span are zero.

    Attributes:
        identity_encoder, expression_encoder: (D, K); both with a bias (D,).
        identity_decoder, expression_decoder: (K, D); that of identities with a bias (K,), the
            coefficients of the mean identity face.
        penalty: of the ridge regression, relative to the mean variance of a component.
    """

    identity_encoder: np.ndarray
    identity_bias: np.ndarray
    identity_decoder: np.ndarray
    identity_mean: np.ndarray
    expression_encoder: np.ndarray
    expression_bias: np.ndarray
    expression_decoder: np.ndarray
    penalty: float


def split_components(
    coefficients: np.ndarray,
    subject: np.ndarray,
    neutrals: np.ndarray,
    moments: np.ndarray,
    *,
    identity: int,
    expression: int,
    trust: float,
    penalty: float | None = None,
) -> LinearSplit:
    """Fit the maps.

    Args:
        coefficients: (n, K) of the training faces; their mean is zero.
        subject: (n,) of each face, a row of `neutrals`.
        neutrals: (S, K) of the subjects; NaN where one is not known: the faces of these subjects
            count for the expressions only. One at least is known.
        moments: (K, K) mean outer product of what random poses add to the coefficients, which is no
            part of an identity; zero for aligned faces.
        identity: size of its latent.
        expression: size of its latent.
        trust: t above, positive.
        penalty: of the ridge regression; None = by cross-validation over people.
    """
    known = np.isfinite(neutrals).all(axis=1)[subject]
    faces, people = coefficients[known], subject[known]
    target = neutrals[people]
    mean, face_mean = target.mean(axis=0), faces.mean(axis=0)
    target = target - mean
    basis = _directions(target.T @ target, identity)  # A, (D, K)
    if penalty is None:
        penalty = choose_penalty(faces, people, target, moments)
    centred = faces - face_mean
    second, mixed = (centred.T @ each / len(faces) for each in (centred, target))
    (prediction,) = ridge_maps(second + moments, mixed, [penalty])
    encoder = prediction @ basis.T
    bias = -face_mean @ encoder
    for _ in range(ROUNDS):
        shift = bias + mean @ encoder  # of the latents of faces minus the mean neutral
        span = _residual_span(coefficients - mean, moments, encoder, shift, basis, expression)
        outside = np.eye(len(mean)) - span.T @ span
        inverse = np.linalg.inv(basis @ outside @ basis.T + trust * np.eye(len(basis)))
        encoder = (outside + trust * prediction) @ basis.T @ inverse
        bias = -(mean @ outside + trust * face_mean @ prediction) @ basis.T @ inverse
    shift = bias + mean @ encoder
    span = _residual_span(coefficients - mean, moments, encoder, shift, basis, expression)
    latents = faces @ encoder + bias
    remainder = (coefficients - mean - (coefficients @ encoder + bias) @ basis) @ span.T
    centre, size = latents.mean(axis=0), latents.std(axis=0)
    spread = max(np.sqrt((remainder**2).mean()), np.finfo(float).tiny)
    keep = np.eye(len(mean)) - encoder @ basis
    return LinearSplit(
        identity_encoder=_padded((encoder * _inverse(size)).T, identity),
        identity_bias=_padded((bias - centre) * _inverse(size), identity),
        identity_decoder=_padded(basis * size[:, None], identity).T,
        identity_mean=mean + centre @ basis,
        expression_encoder=_padded((keep @ span.T).T / spread, expression),
        expression_bias=_padded(-(mean + bias @ basis) @ span.T / spread, expression),
        expression_decoder=_padded(span * spread, expression).T,
        penalty=penalty,
    )


def choose_penalty(
    coefficients: np.ndarray, subject: np.ndarray, target: np.ndarray, moments: np.ndarray
) -> float:
    """The ridge penalty from faces (n, K) to neutrals (n, K), by cross-validation over people."""
    people, person = np.unique(subject, return_inverse=True)
    if len(people) < 2:
        return PENALTIES[-1]
    fold = np.random.default_rng(0).permutation(len(people)) % FOLDS
    errors = held_out_errors(coefficients, target, fold[person], moments).sum(axis=1)
    return PENALTIES[int(np.argmax(errors <= TOLERANCE * errors.min()))]


def _residual_span(
    centred: np.ndarray,
    moments: np.ndarray,
    encoder: np.ndarray,
    shift: np.ndarray,
    basis: np.ndarray,
    expression: int,
) -> np.ndarray:
    """The first principal directions (D, K) of faces minus identity faces, about zero."""
    remainder = centred - (centred @ encoder + shift) @ basis
    keep = np.eye(len(moments)) - encoder @ basis
    return _directions(remainder.T @ remainder / len(centred) + keep.T @ moments @ keep, expression)


def _directions(second: np.ndarray, count: int) -> np.ndarray:
    """The eigenvectors (<= count, K) of a matrix (K, K) with the largest eigenvalues above zero."""
    values, vectors = np.linalg.eigh(second)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    return vectors[:, values > _ROUNDING**2 * values[0]].T


def _inverse(size: np.ndarray) -> np.ndarray:
    """1 / size, zero where a latent does not vary."""
    varies = size > _ROUNDING * size.max(initial=0.0)
    return np.divide(1.0, size, out=np.zeros_like(size), where=varies)


def _padded(rows: np.ndarray, count: int) -> np.ndarray:
    """The rows, and zeros up to `count` of them."""
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]))])
