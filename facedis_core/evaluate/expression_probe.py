"""How well the expression can be read off latents: by a linear classifier, of people it never saw.

From the identity latents it should be no better than chance, from the expression latents far
better. Everything is formed in float64 and has no random part.
"""

from typing import Any, Final, NamedTuple

import numpy as np

# An expression that fewer people show is not asked for: what is told of it would be an accident.
FEWEST_SUBJECTS: Final = 5
FOLDS: Final = 10
LEAST_SHRINKAGE: Final = 1e-4

# Of a latent's values: what varies less between faces than float32 can tell apart is constant.
_CONSTANT: Final = 1e-7
# Of the largest variance along any direction of standardised latents: less is no direction.
_LEAST_VARIANCE: Final = 1e-10


class LinearDiscriminant(NamedTuple):
    """A linear score of each class: z (N, D) -> z @ weight + bias, (N, C); the highest wins."""

    weight: np.ndarray
    bias: np.ndarray

    def predict(self, latents: np.ndarray) -> np.ndarray:
        """The class of each row, (N,)."""
        return np.argmax(latents @ self.weight + self.bias, axis=1)


def fit_discriminant(latents: np.ndarray, label: np.ndarray, classes: int) -> LinearDiscriminant:
    """Linear discriminant analysis (Fisher 1936) with a shrunken covariance within classes.

    log p_c - m_c' S^-1 m_c / 2 + m_c' S^-1 z, where p_c is the share of class c and m_c its mean.
    All is done where the latents of all classes together have unit covariance, and S is shrunken
    towards a multiple of that, see `shrinkage`: so no invertible linear map of the latents, of
    which a model is free to choose any, changes what is told.

    Args:
        latents: (N, D) float64.
        label: (N,) the class of each row, below `classes`.
        classes: how many there are; one without rows is never predicted.
    """
    centre, whiten = _whitening(latents)
    white = (latents - centre) @ whiten
    counts = np.bincount(label, minlength=classes)
    members = (label[:, None] == np.arange(classes)).astype(np.float64)
    means = members.T @ white / np.maximum(counts, 1)[:, None]
    within = white - means[label]
    covariance = within.T @ within / len(within)
    share, size = shrinkage(within), len(covariance)
    target = np.trace(covariance) / max(size, 1) or 1.0
    shrunken = (1 - share) * covariance + share * target * np.eye(size)
    weight = np.linalg.solve(shrunken, means.T)
    with np.errstate(divide="ignore"):
        bias = np.log(counts / len(label)) - (means * weight.T).sum(axis=1) / 2
    weight = whiten @ weight
    return LinearDiscriminant(weight, bias - centre @ weight)


def _whitening(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (D,) and the map (D, R) to R <= D values of unit covariance; constants are left out.

    The latents are standardised first, so that the scale of one does not hide another.
    """
    centre, deviation = latents.mean(axis=0), latents.std(axis=0)
    varies = deviation > _CONSTANT * np.abs(latents).max(axis=0)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
    standard = (latents - centre) * scale
    variance, axes = np.linalg.eigh(standard.T @ standard / len(standard))
    used = variance > _LEAST_VARIANCE * max(variance[-1], 1.0)
    return centre, scale[:, None] * axes[:, used] / np.sqrt(variance[used])


def shrinkage(values: np.ndarray) -> float:
    """How far the covariance of (N, D) values of mean 0 is to go towards a multiple of I.

    The variance of the estimate over its distance to the target, from LEAST_SHRINKAGE, which keeps
    it solvable, to 1: least expected squared error (Ledoit and Wolf, "A well-conditioned estimator
    for large-dimensional covariance matrices", J. Multivar. Anal. 2004).
    """
    count, size = values.shape
    covariance = values.T @ values / count
    squares = float((covariance**2).sum())
    apart = squares - float(np.trace(covariance)) ** 2 / max(size, 1)
    spread = float(((values**2).sum(axis=1) ** 2).sum()) / count**2 - squares / count
    return float(np.clip(spread / apart if apart > 0 else 1.0, LEAST_SHRINKAGE, 1.0))


def probe_accuracy(latents: np.ndarray, label: np.ndarray, subject: np.ndarray) -> float:
    """How often a class is told rightly of faces whose subjects the classifier never saw.

    The subjects are dealt out to FOLDS parts in turn (fewer subjects: a part each); each part is
    told by a discriminant that was fitted on the others.

    Args:
        latents: (N, D).
        label: (N,) the class of each face, from 0.
        subject: (N,) whose it is, of 2 subjects at least.
    """
    z = np.asarray(latents, np.float64)
    people, person = np.unique(subject, return_inverse=True)
    fold = person % min(FOLDS, len(people))
    right = 0
    for left_out in range(fold.max() + 1):
        seen = fold != left_out
        found = fit_discriminant(z[seen], label[seen], int(label.max()) + 1)
        right += int(np.count_nonzero(found.predict(z[~seen]) == label[~seen]))
    return right / len(label)


def probe_expression(
    identity: np.ndarray, expression: np.ndarray, shown: np.ndarray, subject: np.ndarray
) -> dict[str, Any]:
    """What the latents of N faces tell of their expressions, by JSON key.

    Args:
        identity: (N, D_id) identity latents.
        expression: (N, D_exp) expression latents.
        shown: (N,) which expression each face is labelled with.
        subject: (N,) whose face it is.

    Returns:
        The accuracies from either latents, the chance level (the share of the most frequent
        expression) and how many faces they stand on: those with an expression that FEWEST_SUBJECTS
        people show. Nothing where fewer than two expressions are.
    """
    pairs = np.unique(np.stack([shown, subject], axis=1), axis=0)  # once for each who shows it
    kinds, people = np.unique(pairs[:, 0], return_counts=True)
    kinds = kinds[people >= FEWEST_SUBJECTS]
    if len(kinds) < 2:
        return {}
    rows = np.isin(shown, kinds)
    label = np.searchsorted(kinds, shown[rows])
    return {
        "expression_from_identity_accuracy": probe_accuracy(identity[rows], label, subject[rows]),
        "expression_from_expression_accuracy": probe_accuracy(
            expression[rows], label, subject[rows]
        ),
        "expression_chance": float(np.bincount(label).max() / len(label)),
        "expression_faces": len(label),
    }
