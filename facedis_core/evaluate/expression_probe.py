"""Expression probe: accuracy of a linear classifier that predicts the expression from latents.

The classifier is tested on subjects that it was not fitted on. From identity latents the accuracy
should be at chance, from expression latents far above it. Computed in float64, nothing is random.
"""

from typing import Final, NamedTuple

import numpy as np

# Expressions with fewer subjects are left out; their accuracy would be accidental.
FEWEST_SUBJECTS: Final = 5
FOLDS: Final = 10
LEAST_SHRINKAGE: Final = 1e-4

# Standard deviation of a latent relative to its largest value below which it is constant: float32
# cannot resolve less.
_CONSTANT: Final = 1e-7
# Variance along a direction of standardised latents, relative to the largest, below which the
# direction is dropped.
_LEAST_VARIANCE: Final = 1e-10


class LinearDiscriminant(NamedTuple):
    """Scores z @ weight + bias of C classes, (N, C), for latents z (N, D); the highest wins.

    Attributes:
        weight: (D, C).
        bias: (C,).
    """

    weight: np.ndarray
    bias: np.ndarray

    def predict(self, latents: np.ndarray) -> np.ndarray:
        """The class (N,) of each of the latents (N, D)."""
        return np.argmax(latents @ self.weight + self.bias, axis=1)


class ExpressionProbe(NamedTuple):
    """Result for N faces; faces with a rare expression do not count.

    Attributes:
        from_identity, from_expression: (N,) 1 where the expression was predicted from these
            latents, else 0; NaN where a face does not count.
        chance: share of the most frequent expression.
        faces: number of faces that count.
    """

    from_identity: np.ndarray
    from_expression: np.ndarray
    chance: float
    faces: int


def probe_expression(
    identity: np.ndarray, expression: np.ndarray, expression_label: np.ndarray, subject: np.ndarray
) -> ExpressionProbe | None:
    """Predictions of the expression from identity and from expression latents.

    Only faces with an expression of at least FEWEST_SUBJECTS subjects count.

    Args:
        identity: identity latents (N, D_id).
        expression: expression latents (N, D_exp).
        expression_label: (N,) labelled expression of each face.
        subject: (N,) subject of each face.

    Returns:
        None with fewer than two expressions that count.
    """
    pairs = np.unique(np.stack([expression_label, subject], axis=1), axis=0)
    expressions, subjects = np.unique(pairs[:, 0], return_counts=True)
    expressions = expressions[subjects >= FEWEST_SUBJECTS]
    if len(expressions) < 2:
        return None
    rows = np.isin(expression_label, expressions)
    label = np.searchsorted(expressions, expression_label[rows])
    hits = np.full((2, len(rows)), np.nan)
    for found, latents in zip(hits, (identity, expression), strict=True):
        found[rows] = probe_hits(latents[rows], label, subject[rows])
    chance = float(np.bincount(label).max() / len(label))
    return ExpressionProbe(hits[0], hits[1], chance, len(label))


def probe_hits(latents: np.ndarray, label: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """Whether the class is predicted from latents, by cross-validation over subjects, (N,) bool.

    The subjects are divided into FOLDS folds (fewer subjects: one each); the faces of a fold are
    classified by a discriminant fitted on the other folds.

    Args:
        latents: (N, D).
        label: (N,) class of each face, from 0.
        subject: (N,) subject of each face, at least 2 different ones.
    """
    z = np.asarray(latents, np.float64)
    subjects, number = np.unique(subject, return_inverse=True)
    fold = number % min(FOLDS, len(subjects))
    hits = np.zeros(len(label), bool)
    for held_out in range(fold.max() + 1):
        train, test = fold != held_out, fold == held_out
        discriminant = fit_discriminant(z[train], label[train], int(label.max()) + 1)
        hits[test] = discriminant.predict(z[test]) == label[test]
    return hits


def fit_discriminant(latents: np.ndarray, label: np.ndarray, classes: int) -> LinearDiscriminant:
    """Linear discriminant analysis (Fisher 1936) with a shrunken within-class covariance S.

    The score of class c is log p_c - m_c' S^-1 m_c / 2 + m_c' S^-1 z, with p_c its share of the
    rows and m_c its mean. The latents are whitened first (all classes together), and S is shrunken
    towards a multiple of the identity there, see `shrinkage`. So an invertible linear map of the
    latents does not change the predictions; a model is free to choose any such map.

    Args:
        latents: (N, D) float64.
        label: (N,) class of each row, from 0.
        classes: number C of classes; a class without rows is never predicted.
    """
    centre, whiten = _whitening(latents)
    white = (latents - centre) @ whiten
    counts = np.bincount(label, minlength=classes)
    members = (label[:, None] == np.arange(classes)).astype(np.float64)
    means = members.T @ white / np.maximum(counts, 1)[:, None]
    within = white - means[label]
    covariance = within.T @ within / len(within)
    intensity, size = shrinkage(within), len(covariance)
    target = np.trace(covariance) / max(size, 1) or 1.0
    shrunken = (1 - intensity) * covariance + intensity * target * np.eye(size)
    weight = np.linalg.solve(shrunken, means.T)
    with np.errstate(divide="ignore"):
        bias = np.log(counts / len(label)) - (means * weight.T).sum(axis=1) / 2
    weight = whiten @ weight
    return LinearDiscriminant(weight, bias - centre @ weight)


def _whitening(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and the map (D, R) to R <= D values of unit covariance; constants are dropped.

    The latents are standardised first, so that a large scale of one does not hide another.
    """
    centre, deviation = latents.mean(axis=0), latents.std(axis=0)
    varies = deviation > _CONSTANT * np.abs(latents).max(axis=0)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
    standard = (latents - centre) * scale
    variance, axes = np.linalg.eigh(standard.T @ standard / len(standard))
    used = variance > _LEAST_VARIANCE * max(variance[-1], 1.0)
    return centre, scale[:, None] * axes[:, used] / np.sqrt(variance[used])


def shrinkage(values: np.ndarray) -> float:
    """Optimal shrinkage intensity of the covariance of values (N, D) of mean 0 (Ledoit and Wolf).

    The variance of the covariance estimate divided by its squared distance to the target, a
    multiple of the identity; at most 1, and at least LEAST_SHRINKAGE, which keeps the covariance
    invertible. It minimises the expected squared error. Source: "A well-conditioned estimator for
    large-dimensional covariance matrices", J. Multivar. Anal. 2004.
    """
    count, size = values.shape
    covariance = values.T @ values / count
    squares = float((covariance**2).sum())
    distance = squares - float(np.trace(covariance)) ** 2 / max(size, 1)
    variance = float(((values**2).sum(axis=1) ** 2).sum()) / count**2 - squares / count
    return float(np.clip(variance / distance if distance > 0 else 1.0, LEAST_SHRINKAGE, 1.0))
