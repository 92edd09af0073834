"""What a method makes of faces: the thing that is measured, whatever the method."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from facedis_core.errors import InputError
from facedis_core.geometry import rigid_alignments
from facedis_core.inference import Model


class Prediction(NamedTuple):
    """What a method makes of B faces; what it does not predict is None.

    `reconstruction` and `identity` are (B, V, 3) mm; `latent` is (B, D_id), the identity part, and
    `expression_latent` (B, D_exp).
    """

    reconstruction: np.ndarray | None = None
    identity: np.ndarray | None = None
    latent: np.ndarray | None = None
    expression_latent: np.ndarray | None = None


Predictor = Callable[[np.ndarray], Prediction]  # (B, V, 3) mm -> what is predicted for them


class Sample(NamedTuple):
    """Some faces (B, V, 3) mm of a set and what is predicted for them."""

    truth: np.ndarray
    prediction: Prediction


def model_predictor(model: Model) -> Predictor:
    """A trained model as something to measure: encoded by its means, no sampling."""

    def predict(vertices: np.ndarray) -> Prediction:
        latents = model.encode(vertices)
        identity, expression = latents.identity, latents.expression
        return Prediction(
            model.decode(identity, expression),
            model.decode(identity, expression, "identity"),
            identity,
            expression,
        )

    return predict


def align_faces(faces: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Each face (B, V, 3) moved rigidly onto its target, (V, 3) or (B, V, 3): BU3DFE's protocol."""
    return rigid_alignments(faces, targets).apply(faces)


def aligned(sample: Sample, neutral: np.ndarray | None) -> Prediction:
    """The prediction aligned: reconstructions to the faces, identity faces to a known neutral."""
    prediction = sample.prediction
    if prediction.reconstruction is not None:
        reconstruction = align_faces(prediction.reconstruction, sample.truth)
        prediction = prediction._replace(reconstruction=reconstruction)
    if prediction.identity is not None and neutral is not None and np.isfinite(neutral).all():
        prediction = prediction._replace(identity=align_faces(prediction.identity, neutral))
    return prediction


def joined(predictions: list[Prediction]) -> Prediction:
    """All of these one after another; what one of them lacks, none has."""
    columns = zip(*predictions, strict=True)
    return Prediction(*(None if c[0] is None else np.concatenate(c) for c in columns))


def check_finite(truth: np.ndarray, prediction: Prediction, rows: np.ndarray) -> None:
    """Raise InputError where one of the faces in these rows, or its prediction, is not finite."""
    for array in (truth, *prediction):
        if array is None or np.isfinite(array).all():
            continue
        bad = rows[~np.isfinite(array).reshape(len(rows), -1).all(axis=1)][0]
        raise InputError(
            f"face {bad} of the set (the first is 0) or its prediction is not finite; "
            "check set and model with fd-info --verify"
        )
