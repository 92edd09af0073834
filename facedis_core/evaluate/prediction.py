"""What a method predicts for faces: reconstructions, identity faces, latents; aligned if asked."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from facedis_core.errors import ErrorCode, InputError, check_argument
from facedis_core.geometry.alignment import rigid_alignments
from facedis_core.model.model import Model


class Prediction(NamedTuple):
    """Predictions of a method for B faces; None = not predicted.

    Attributes:
        reconstruction: (B, V, 3) mm.
        identity: identity faces (B, V, 3) mm.
        identity_latent: (B, D_id).
        expression_latent: (B, D_exp).
    """

    reconstruction: np.ndarray | None = None
    identity: np.ndarray | None = None
    identity_latent: np.ndarray | None = None
    expression_latent: np.ndarray | None = None

    def within(self, region: np.ndarray) -> "Prediction":
        """The vertices of a region (V,) bool, with all latents."""
        full, identity = self.reconstruction, self.identity
        return self._replace(
            reconstruction=None if full is None else full[:, region],
            identity=None if identity is None else identity[:, region],
        )


class PredictedFaces(NamedTuple):
    """Faces of a set, (B, V, 3) mm, and the predictions for them."""

    truth: np.ndarray
    prediction: Prediction

    def within(self, region: np.ndarray | None) -> "PredictedFaces":
        """The vertices of a region (V,) bool; all for None."""
        if region is None:
            return self
        return PredictedFaces(self.truth[:, region], self.prediction.within(region))


# Faces (B, V, 3) mm -> their predictions.
Predictor = Callable[[np.ndarray], Prediction]


def check_prediction(prediction: Prediction, faces: np.ndarray) -> None:
    """Raise an error unless the shapes of a prediction are those of faces (B, V, 3).

    Raises:
        UsageError: no Prediction.
        InputError: another shape.
    """
    check_argument(prediction, Prediction, "the prediction", "a Prediction")
    for name, values in prediction._asdict().items():
        shape, expected = np.shape(values), faces.shape
        if name.endswith("latent"):
            expected = (len(faces), *shape[-1:])  # of any size
        if values is not None and shape != expected:
            raise InputError(
                f"the predicted {name} has the shape {shape}, expected {expected}",
                ErrorCode.ARRAY_SHAPE,
            )


def predicted_parts(
    full: np.ndarray, identity: np.ndarray, z_identity: np.ndarray, z_expression: np.ndarray
) -> Prediction:
    """The prediction of a model: faces (B, V, 3) mm and latents (B, D_id), (B, D_exp).

    Without identity latents it has no identity face, without expression latents no reconstruction.
    """
    has_identity, has_expression = z_identity.shape[1] > 0, z_expression.shape[1] > 0
    return Prediction(
        full if has_expression else None,
        identity if has_identity else None,
        z_identity if has_identity else None,
        z_expression if has_expression else None,
    )


def model_predictor(model: Model) -> Predictor:
    """The predictor of a model: latent means (no sampling), reconstructions, identity faces."""

    def predict(vertices: np.ndarray) -> Prediction:
        latents = model.encode_prepared(vertices)
        identity, expression = latents.identity, latents.expression
        full = model.decode_vectors(identity, expression)
        alone = full
        if model.config.identity and model.config.expression:
            alone = model.decode_vectors(identity, expression, "identity")
        return predicted_parts(full, alone, identity, expression)

    return predict


def align_faces(
    faces: np.ndarray, targets: np.ndarray, region: np.ndarray | None = None
) -> np.ndarray:
    """Faces (B, V, 3) mm aligned rigidly to targets, (B, V, 3) or (V, 3), by a region (V,)."""
    if region is None:
        return rigid_alignments(faces, targets).apply(faces)
    return rigid_alignments(faces[:, region], targets[..., region, :]).apply(faces)


def align_prediction(
    predicted: PredictedFaces, neutral: np.ndarray | None, region: np.ndarray | None = None
) -> Prediction:
    """The prediction with reconstructions aligned to the faces, identity faces to the neutral.

    Args:
        predicted: faces of one subject and their predictions.
        neutral: true neutral (V, 3) mm; where it is None or not finite, identity faces stay.
        region: (V,) bool, the vertices to align by; None = all.
    """
    prediction = predicted.prediction
    if prediction.reconstruction is not None:
        reconstruction = align_faces(prediction.reconstruction, predicted.truth, region)
        prediction = prediction._replace(reconstruction=reconstruction)
    if prediction.identity is not None and neutral is not None and np.isfinite(neutral).all():
        identity = align_faces(prediction.identity, neutral, region)
        prediction = prediction._replace(identity=identity)
    return prediction


def concatenated(predictions: Sequence[Prediction]) -> Prediction:
    """Predictions of several batches as one."""
    columns = zip(*predictions, strict=True)
    return Prediction(*(None if c[0] is None else np.concatenate(c) for c in columns))
