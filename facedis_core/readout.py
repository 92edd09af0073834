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

# Of a latent's values: what varies less between faces than float32 can tell apart is constant, and
# what varies less within an expression, of all its variance, is as good as constant within it.
_CONSTANT: Final = 1e-7
_LEAST_WITHIN: Final = 1e-6


class Discriminant(NamedTuple):
    """A linear score of each class: z (N, D) -> z @ weight + bias, (N, C); the highest wins."""

    weight: np.ndarray
    bias: np.ndarray

    def predict(self, latents: np.ndarray) -> np.ndarray:
        """The class of each row, (N,)."""
        return np.argmax(latents @ self.weight + self.bias, axis=1)


def fit_discriminant(latents: np.ndarray, label: np.ndarray, classes: int) -> Discriminant:
    """Linear discriminant analysis with shrunken correlations.

    log p_c - m_c' S^-1 m_c / 2 + m_c' S^-1 z, where p_c is the share of class c, m_c its mean and
    S = d R d the covariance within classes (Fisher 1936). The correlations R are shrunken to
    (1 - s) R + s I (Guo, Hastie, Tibshirani, "Regularized linear discriminant analysis and its
    application in microarrays", Biostatistics 2007), so that the scale on which a model happens to
    keep a latent does not matter, and s follows from the data, see `shrinkage`.

    Args:
        latents: (N, D) float64.
        label: (N,) the class of each row, below `classes`.
        classes: how many there are; one without rows is never predicted.
    """
    counts = np.bincount(label, minlength=classes)
    members = (label[:, None] == np.arange(classes)).astype(np.float64)
    means = members.T @ latents / np.maximum(counts, 1)[:, None]
    within = latents - means[label]
    covariance = within.T @ within / len(latents)
    variance = latents.var(axis=0)
    varies = np.sqrt(variance) > _CONSTANT * np.abs(latents).max(axis=0)
    deviation = np.sqrt(np.maximum(covariance.diagonal(), _LEAST_WITHIN * variance))
    deviation = np.where(varies, deviation, np.inf)  # which takes a constant out of it
    share = shrinkage(within / deviation)
    shrunken = (1 - share) * covariance / deviation / deviation[:, None]
    shrunken += share * np.eye(len(shrunken))
    weight = np.linalg.solve(shrunken, (means / deviation).T) / deviation[:, None]
    with np.errstate(divide="ignore"):
        bias = np.log(counts / len(label)) - (means * weight.T).sum(axis=1) / 2
    return Discriminant(weight, bias)


def shrinkage(values: np.ndarray) -> float:
    """How far the correlations of (N, D) values of mean 0 and variance 1 are to go towards 0.

    The sum of the variances of all estimated correlations over the sum of their squares, from
    LEAST_SHRINKAGE, which keeps the condition at D / LEAST_SHRINKAGE, to 1: least expected squared
    error (Schäfer and Strimmer, "A shrinkage approach to large-scale covariance matrix estimation",
    Stat. Appl. Genet. Mol. Biol. 2005, target D).
    """
    count = len(values)
    correlation = values.T @ values / count
    squares = values**2
    spread = squares.T @ squares / count - correlation**2  # of each product of two values
    others = ~np.eye(len(correlation), dtype=bool)
    wanted, found = spread[others].sum() / max(count - 1, 1), (correlation[others] ** 2).sum()
    return float(np.clip(wanted / found if found > 0 else 1.0, LEAST_SHRINKAGE, 1.0))


def readout_accuracy(latents: np.ndarray, label: np.ndarray, subject: np.ndarray) -> float:
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


def expression_readout(
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
        "expression_from_identity_accuracy": readout_accuracy(identity[rows], label, subject[rows]),
        "expression_from_expression_accuracy": readout_accuracy(
            expression[rows], label, subject[rows]
        ),
        "expression_chance": float(np.bincount(label).max() / len(label)),
        "expression_faces": len(label),
    }
