"""What linear methods reach on the same people: mean face, PCA, ridge regression.

Everything is fitted on a training split and measured by `evaluation` like a model. Sets are read in
blocks through their memory map, so memory does not grow with the number of faces.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from facedis_core.errors import InputError
from facedis_core.evaluation import evaluate_face_set
from facedis_core.faceset import TRAIN, FaceSet, check_topology
from facedis_core.linear import BLOCK, Pca, Ridge, blocks, fit_pca, fit_ridges
from facedis_core.prediction import Prediction, Predictor


@dataclass(frozen=True, eq=False)
class Baselines:
    """The fitted baselines: PCA of `components` and as many more, regressions by JSON key."""

    pca: Pca
    components: int
    ridges: Mapping[str, Ridge]
    topology: str

    def predictors(self) -> dict[str, Predictor]:
        """Each baseline as something to measure, by its JSON key.

        The mean face stands for reconstruction and identity both. PCA does not split: its identity
        face is its reconstruction. A regression predicts the identity face and reconstructs as the
        PCA that it starts from, so that the expression is the rest.
        """
        mean = self.pca.mean.reshape(1, -1, 3).astype(np.float32)

        def mean_face(vertices: np.ndarray) -> Prediction:
            faces = np.repeat(mean, len(vertices), axis=0)
            return Prediction(faces, faces)

        def pca(vertices: np.ndarray) -> Prediction:
            faces = self.pca.decode(self.pca.encode(vertices)[:, : self.components])
            return Prediction(faces, faces)

        def regression(ridge: Ridge) -> Predictor:
            def predict(vertices: np.ndarray) -> Prediction:
                coefficients = self.pca.encode(vertices)
                faces = self.pca.decode(coefficients[:, : len(ridge.weight)])
                return Prediction(faces, ridge.predict(coefficients))

            return predict

        ridges = {key: regression(ridge) for key, ridge in self.ridges.items()}
        return {"mean_face": mean_face, "pca": pca, **ridges}


def fit_baselines(train_set: FaceSet, components: int) -> Baselines:
    """Fit all baselines on the training split of a face set.

    Args:
        train_set: faces of which only the training split is looked at.
        components: of the PCA, D_identity + D_expression of the model to compare with. The
            regressions use as many, and twice as many under the same key with `_2x`. Fewer faces
            than that limit both.

    Returns:
        `ridge_identity_mean` regresses to the mean of each subject's training faces,
        `ridge_neutral` to its neutral; without any training neutral there is none.

    Raises:
        InputError: no training faces, or one that is not finite.
    """
    rows = train_set.rows(TRAIN)
    if len(rows) < 2:
        raise InputError(
            f"the face set has {len(rows)} training faces, baselines need 2 or more; "
            "do without them, or fit them on another set (fd-metrics --baselines-from)"
        )
    for start in range(0, len(rows), BLOCK):
        train_set.read(rows[start : start + BLOCK])  # names a face that is not finite
    pca = fit_pca(train_set.vertices, rows, 2 * components)
    coefficients = np.concatenate([pca.encode(block) for block in blocks(train_set.vertices, rows)])
    subject = np.asarray(train_set.labels.subject)[rows]

    def identity_mean(person: int) -> np.ndarray:
        faces = rows[subject == person]
        total = sum(block.sum(axis=0) for block in blocks(train_set.vertices, faces))
        return np.asarray(total / len(faces))

    targets = {
        "ridge_identity_mean": identity_mean,
        "ridge_neutral": lambda person: train_set.neutrals[person],
    }
    counts = [min(count, len(pca.basis)) for count in (components, 2 * components)]
    ridges: dict[str, Ridge] = {}
    for name, target in targets.items():
        fitted = fit_ridges(coefficients, subject, target, pca, counts)
        ridges.update(zip((name, f"{name}_2x"), fitted, strict=False))
    return Baselines(pca, counts[0], ridges, train_set.topology)


def evaluate_baselines(
    baselines: Baselines,
    face_set: FaceSet,
    rows: np.ndarray,
    *,
    align: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Metrics of every baseline on `rows` of a face set, by JSON key.

    Beside the metrics: `components`, how many coefficients it uses, and `penalty` of a regression.

    Raises:
        InputError: faces of another topology than the baselines were fitted on.
    """
    check_topology(face_set, "the face set", baselines.topology, "its baselines")
    found = {}
    for key, predict in baselines.predictors().items():
        facts: dict[str, Any] = {"components": baselines.components} if key == "pca" else {}
        if key in baselines.ridges:
            ridge = baselines.ridges[key]
            facts = {"components": len(ridge.weight), "penalty": ridge.penalty}
        evaluation = evaluate_face_set(predict, face_set, rows, align=align, progress=progress)
        found[key] = evaluation.metrics | facts
    return found
