"""Expressions that depend on the identity, fitted to what the linear split leaves of faces.

    X_exp = (B + sum_i z_i B_i) e

is linear in the expression latents e, and zero where they are, and linear in the identity latents
z. The maps B_i see the P leading expression directions. All maps come from one ridge regression
from e and the products z_i (F e)_j. The less z_i moves a face, the larger is the penalty of its
products: people who hardly differ move alike. It is chosen by cross-validation over people, with a
split that has not seen them either, because it fits the identities of unseen people less well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from facedis_core.geometry.ridge import PENALTIES, ridge_maps
from facedis_core.nn.linear_split import LinearSplit, split_components

FOLDS: Final = 5  # of the people; each costs a split and a regression


@dataclass(frozen=True, eq=False)
class Bilinear:
    """Maps from latents z and e to coefficients, in place of the expression decoder of a split.

    X_exp has the coefficients expression_decoder @ e + products @ kron(z, factors @ e).

    Attributes:
        expression_decoder: B, (K, D_exp).
        factors: F, (P, D_exp), orthonormal rows.
        products: all B_i, (K, D_id P).
        penalty: of the products, relative to their mean variance.
    """

    expression_decoder: np.ndarray
    factors: np.ndarray
    products: np.ndarray
    penalty: float


class TrainingComponents(NamedTuple):
    """The training faces as a split sees them.

    Attributes:
        coefficients: (n, K) of the faces; their mean is zero.
        subject: (n,) of each face, a row of `neutrals`.
        neutrals: (S, K) of the subjects; NaN where one is not known.
        motions: (6, K), what random poses add to the coefficients to first order.
    """

    coefficients: np.ndarray
    subject: np.ndarray
    neutrals: np.ndarray
    motions: np.ndarray


def fit_bilinear(
    split: LinearSplit, faces: TrainingComponents, *, count: int, trust: float
) -> Bilinear:
    """Fit the maps.

    Args:
        split: of these faces.
        faces: the training faces.
        count: P, at most D_exp.
        trust: with which the split was made.
    """
    penalty = _choose_penalty(split, faces, count, trust)
    seen = _seen_by(split, faces.coefficients)
    inputs = _inputs_of(split, seen.expression, faces.motions, count)
    (maps,) = inputs.regressions(seen, [penalty])
    linear, products = np.split(maps.T, [seen.expression.shape[1]], axis=1)
    return Bilinear(
        split.expression_decoder + linear,
        inputs.factors,
        products * np.repeat(inputs.size, len(inputs.factors)),
        penalty,
    )


class _SeenFaces(NamedTuple):
    """Latents (n, D_id) and (n, D_exp) of faces, and what a split leaves of them, (n, K)."""

    identity: np.ndarray
    expression: np.ndarray
    rest: np.ndarray


class _Inputs(NamedTuple):
    """The inputs of the regression: e, and products of latents in mm.

    Attributes:
        size: (D_id,) mm, how far a unit of each identity latent moves the coefficients.
        factors: (P, D_exp), leading directions of the expression latents.
        moved: (6, D_exp), what random poses add to the expression latents.
    """

    size: np.ndarray
    factors: np.ndarray
    moved: np.ndarray

    def of(self, faces: _SeenFaces) -> np.ndarray:
        """(n, D_exp + D_id P)."""
        e = faces.expression
        products = (faces.identity * self.size)[:, :, None] * (e @ self.factors.T)[:, None]
        return np.hstack([e, products.reshape(len(e), -1)])

    def regressions(self, faces: _SeenFaces, penalties: Sequence[float]) -> list[np.ndarray]:
        """Maps (D_exp + D_id P, K) from the inputs to the rest, for each penalty of the products.

        Neither is centred, so that the rest of a face without expression is zero. The faces are in
        random poses, which change the inputs, but not the rest.
        """
        inputs, z = self.of(faces), faces.identity * self.size
        turned = self.moved @ self.factors.T  # (6, P)
        across = np.kron(z.mean(axis=0), self.moved.T @ turned)
        second = inputs.T @ inputs / len(z) + np.block(
            [
                [self.moved.T @ self.moved, across],
                [across.T, np.kron(z.T @ z / len(z), turned.T @ turned)],
            ]
        )
        mixed = inputs.T @ faces.rest / len(z)
        # e is not penalised: its part is taken out, and follows from that of the products
        count = len(self.factors.T)
        solve = np.linalg.pinv(second[:count, :count], rcond=1e-10, hermitian=True)
        explained = solve @ second[:count, count:]
        products = ridge_maps(
            second[count:, count:] - second[count:, :count] @ explained,
            mixed[count:] - explained.T @ mixed[:count],
            penalties,
        )
        return [np.vstack([solve @ mixed[:count] - explained @ each, each]) for each in products]


def _seen_by(split: LinearSplit, coefficients: np.ndarray) -> _SeenFaces:
    """Faces (n, K) as a split sees them."""
    z = coefficients @ split.identity_encoder.T + split.identity_bias
    e = coefficients @ split.expression_encoder.T + split.expression_bias
    rest = coefficients - split.identity_mean - z @ split.identity_decoder.T
    return _SeenFaces(z, e, rest - e @ split.expression_decoder.T)


def _inputs_of(split: LinearSplit, e: np.ndarray, motions: np.ndarray, count: int) -> _Inputs:
    """The inputs for expression latents e (n, D_exp) of the training faces."""
    _, vectors = np.linalg.eigh(e.T @ e)
    return _Inputs(
        np.linalg.norm(split.identity_decoder, axis=0),
        vectors.T[::-1][:count].copy(),
        motions @ split.expression_encoder.T,
    )


def _choose_penalty(
    split: LinearSplit, faces: TrainingComponents, count: int, trust: float
) -> float:
    """The penalty whose error on held-out people is least; arguments as of `fit_bilinear`."""
    coefficients, subject, neutrals, motions = faces
    known = np.flatnonzero(np.isfinite(neutrals).all(axis=1))
    fold = np.full(len(neutrals), -1)  # people of unknown neutrals are in all trainings
    fold[known] = np.random.default_rng(0).permutation(len(known)) % FOLDS
    if len(known) < 2:
        return PENALTIES[-1]
    fold = fold[subject]
    errors = np.zeros(len(PENALTIES))
    for number in range(min(FOLDS, len(known))):
        out = fold == number
        mean = coefficients[~out].mean(axis=0)
        without = split_components(
            coefficients[~out] - mean,
            subject[~out],
            neutrals - mean,
            motions.T @ motions,
            identity=len(split.identity_bias),
            expression=len(split.expression_bias),
            trust=trust,
            penalty=split.penalty,
        )
        seen, unseen = (_seen_by(without, coefficients[each] - mean) for each in (~out, out))
        inputs = _inputs_of(without, seen.expression, motions, count)
        given = inputs.of(unseen)
        for k, maps in enumerate(inputs.regressions(seen, PENALTIES)):
            errors[k] += np.linalg.norm(given @ maps - unseen.rest, axis=1).sum()
    return PENALTIES[int(errors.argmin())]
