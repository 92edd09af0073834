"""Evaluation of a method on a face set: every metric over many faces, subject by subject."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.data.face_set import FaceSet, neutral_faces
from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate import metrics
from facedis_core.evaluate.expression_probe import probe_expression
from facedis_core.geometry.alignment import rigid_alignments
from facedis_core.model.model import Model

# Random choices of one face per subject for the between-subject spread.
DRAWS: Final = 10

PER_SUBJECT: Final[Mapping[str, Callable[[np.ndarray], float]]] = {
    "e_dis": metrics.disentanglement_error,
    "e_dis_jiang": metrics.disentanglement_error_jiang,
    "e_dis_mean_distance": metrics.disentanglement_mean_distance,
}
RECOGNITION: Final[Mapping[str, Callable[[np.ndarray, int, np.ndarray], np.ndarray]]] = {
    "rank1_cosine": metrics.recognized_by_cosine,
    "rank1_vertex": metrics.recognized_by_vertex_distance,
}
SUMMARIES: Final = ("e_rec", *PER_SUBJECT, "avd_neu", "between_subject")


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


class Sample(NamedTuple):
    """Faces of a set, (B, V, 3) mm, and the predictions for them."""

    truth: np.ndarray
    prediction: Prediction


# Faces (B, V, 3) mm -> their predictions.
Predictor = Callable[[np.ndarray], Prediction]

# Called with rows (B,) of one subject, the sample (aligned where asked for), and the subject's
# true neutral (V, 3) mm or None.
Observer = Callable[[np.ndarray, Sample, np.ndarray | None], None]


@dataclass(frozen=True, eq=False)
class Gallery:
    """One encoded neutral of each of G subjects, for rank-1 recognition.

    Attributes:
        subject: (G,).
        row: (G,) row of the encoded face, which is not used as a probe; -1 = not a face of the set.
        prediction: identity faces (G, V, 3) mm and identity latents (G, D_id); either may be None.
    """

    subject: np.ndarray
    row: np.ndarray
    prediction: Prediction


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results on some rows of a face set.

    Attributes:
        metrics: JSON key -> {mean, std, median, n} or a number; only what could be computed.
        rows: (n,).
        per_mesh: key -> (n,), NaN where a mesh has no such value.
        per_subject: key -> one value for each subject that has one.
    """

    metrics: dict[str, Any]
    rows: np.ndarray
    per_mesh: dict[str, np.ndarray]
    per_subject: dict[str, np.ndarray]


def evaluate_face_set(
    predict: Predictor,
    face_set: FaceSet,
    rows: np.ndarray,
    *,
    align: bool = False,
    batch: int = 32,
    progress: Callable[[int], None] | None = None,
    observe: Observer | None = None,
) -> Evaluation:
    """Every metric of a method on rows of a face set; arguments and errors as of `evaluate`.

    The latents of all faces are kept in memory for the expression probe.
    """
    subject = np.asarray(face_set.labels.subject)
    expression_label = np.asarray(face_set.labels.expression)
    latents: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def sample(rows: np.ndarray) -> Sample:
        truth = face_set.read(rows)
        prediction = predict(truth)
        _, _, identity, expression = prediction
        if identity is not None and expression is not None:
            latents.append((rows, identity, expression))
        return Sample(truth, prediction)

    evaluation = evaluate(
        sample,
        subject,
        rows,
        neutrals=face_set.neutrals_eval,
        gallery=_neutral_gallery(predict, face_set, np.unique(subject[rows]), align=align),
        align=align,
        batch=batch,
        progress=progress,
        observe=observe,
    )
    if latents:
        read, identity, expression = map(np.concatenate, zip(*latents, strict=True))
        evaluation.metrics.update(
            probe_expression(identity, expression, expression_label[read], subject[read])
        )
    return evaluation


def evaluate(
    sample: Callable[[np.ndarray], Sample],
    subject: np.ndarray,
    rows: np.ndarray,
    *,
    neutrals: np.ndarray | None = None,
    gallery: Gallery | None = None,
    align: bool = False,
    batch: int = 32,
    progress: Callable[[int], None] | None = None,
    observe: Observer | None = None,
) -> Evaluation:
    """Every metric of predictions on some rows.

    Memory: the identity faces of one subject, and DRAWS faces of each subject.

    Args:
        sample: rows (B,) -> their faces and predictions.
        subject: (N,) subject of each row.
        rows: (n,) rows to evaluate.
        neutrals: true neutrals (S, V, 3) mm by subject, NaN where unknown; None = none known.
        gallery: encoded neutrals; None = no recognition.
        align: align reconstructions rigidly to the faces and identity faces to the true neutrals
            first (protocol of BU-3DFE).
        batch: number of faces to predict at once.
        progress: called with the number of new faces after each batch.
        observe: called with each batch.

    Raises:
        InputError: a face or a prediction is not finite.
    """
    results = _Results(rows)
    for person in np.unique(subject[rows]):
        where = np.flatnonzero(subject[rows] == person)
        neutral = None if neutrals is None else neutrals[person]
        if neutral is not None and not np.isfinite(neutral).all():
            neutral = None
        predictions = []
        for start in range(0, len(where), batch):
            part = where[start : start + batch]
            truth, prediction = sample(rows[part])
            _check_finite(truth, prediction, rows[part])
            if align:
                prediction = align_prediction(Sample(truth, prediction), neutral)
            results.add_meshes(part, truth, prediction, neutral)
            if observe is not None:
                observe(rows[part], Sample(truth, prediction), neutral)
            predictions.append(prediction._replace(reconstruction=None))
            if progress is not None:
                progress(len(part))
        results.add_subject(where, person, _concatenated(predictions), gallery)
    per_subject = {key: np.array(values) for key, values in results.per_subject.items()}
    return Evaluation(results.metrics(), rows, results.per_mesh, per_subject)


def model_predictor(model: Model) -> Predictor:
    """The predictor of a model: latent means (no sampling), reconstructions, identity faces."""

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
    """Faces (B, V, 3) mm aligned rigidly to targets, (B, V, 3) or (V, 3)."""
    return rigid_alignments(faces, targets).apply(faces)


def align_prediction(sample: Sample, neutral: np.ndarray | None) -> Prediction:
    """The prediction with reconstructions aligned to the faces, identity faces to the neutral.

    Args:
        sample: faces of one subject and their predictions.
        neutral: true neutral (V, 3) mm; where it is None or not finite, identity faces stay.
    """
    prediction = sample.prediction
    if prediction.reconstruction is not None:
        reconstruction = align_faces(prediction.reconstruction, sample.truth)
        prediction = prediction._replace(reconstruction=reconstruction)
    if prediction.identity is not None and neutral is not None and np.isfinite(neutral).all():
        prediction = prediction._replace(identity=align_faces(prediction.identity, neutral))
    return prediction


def _neutral_gallery(
    predict: Predictor, face_set: FaceSet, subjects: np.ndarray, *, align: bool
) -> Gallery:
    """The encoded neutrals of the subjects that have one, aligned to the true neutrals if asked."""
    subject, row, predictions = [], [], []
    for person, face, vertices in neutral_faces(face_set, subjects):
        sample = Sample(vertices[None], predict(vertices[None]))
        subject.append(person)
        row.append(face)
        neutral = face_set.neutrals_eval[person]
        prediction = align_prediction(sample, neutral) if align else sample.prediction
        predictions.append(prediction._replace(reconstruction=None))
    return Gallery(np.array(subject, int), np.array(row, int), _concatenated(predictions))


def _concatenated(predictions: list[Prediction]) -> Prediction:
    """Predictions of several batches as one."""
    columns = zip(*predictions, strict=True)
    return Prediction(*(None if c[0] is None else np.concatenate(c) for c in columns))


def _check_finite(truth: np.ndarray, prediction: Prediction, rows: np.ndarray) -> None:
    for array in (truth, *prediction):
        if array is None or np.isfinite(array).all():
            continue
        bad = rows[~np.isfinite(array).reshape(len(rows), -1).all(axis=1)][0]
        raise InputError(
            f"face {bad} of the set (the first is 0) or its prediction is not finite; "
            "check set and model with fd-info --verify",
            ErrorCode.NOT_FINITE,
        )


@dataclass
class _Results:
    """Values by mesh and by subject, collected subject by subject.

    Attributes:
        rows: (n,) rows to evaluate.
        per_mesh: key -> (n,), NaN where a mesh has no such value.
        per_subject: key -> values.
        drawn: DRAWS identity faces (DRAWS, V, 3) mm of each subject.
    """

    rows: np.ndarray
    per_mesh: dict[str, np.ndarray] = field(default_factory=dict)
    per_subject: dict[str, list[float]] = field(default_factory=dict)
    drawn: list[np.ndarray] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add_meshes(
        self,
        where: np.ndarray,
        truth: np.ndarray,
        prediction: Prediction,
        neutral: np.ndarray | None,
    ) -> None:
        """Add the errors of a batch, whose rows are `self.rows[where]`."""
        if prediction.reconstruction is not None:
            error = metrics.reconstruction_error(prediction.reconstruction, truth)
            self._store("e_rec", where, error)
        if prediction.identity is not None and neutral is not None:
            self._store("avd_neu", where, metrics.neutral_error(prediction.identity, neutral))

    def add_subject(
        self, where: np.ndarray, subject: int, prediction: Prediction, gallery: Gallery | None
    ) -> None:
        """Add recognition and spreads of all faces of a subject, whose rows are `rows[where]`."""
        if gallery is not None and len(gallery.subject) > 1 and subject in gallery.subject:
            own = int(np.flatnonzero(gallery.subject == subject)[0])
            is_probe = self.rows[where] != gallery.row[own]
            pairs = (
                (prediction.identity_latent, gallery.prediction.identity_latent),
                (prediction.identity, gallery.prediction.identity),
            )
            for (key, recognized), (probes, known) in zip(RECOGNITION.items(), pairs, strict=True):
                if probes is not None and known is not None and is_probe.any():
                    self._store(key, where[is_probe], recognized(probes[is_probe], own, known))
        if prediction.identity is not None:
            self.drawn.append(prediction.identity[self.rng.integers(len(where), size=DRAWS)])
            for key, spread in PER_SUBJECT.items() if len(where) > 1 else ():
                self.per_subject.setdefault(key, []).append(spread(prediction.identity))

    def metrics(self) -> dict[str, Any]:
        """JSON key -> summary or number; only what could be computed."""
        known = {key: values[np.isfinite(values)] for key, values in self.per_mesh.items()}
        known |= {key: np.array(values) for key, values in self.per_subject.items()}
        if len(self.drawn) > 1:
            draws = zip(*self.drawn, strict=True)  # DRAWS times one face of each subject
            spreads = [metrics.between_subject_spread(np.stack(faces)) for faces in draws]
            known["between_subject"] = np.array(spreads)
        found: dict[str, Any] = {
            key: metrics.summarize(known[key])._asdict() for key in SUMMARIES if key in known
        }
        for key in RECOGNITION:
            if key in known:
                found[f"{key}_accuracy"] = float(known[key].mean())
                found["rank1_probes"] = len(known[key])
        return found

    def _store(self, key: str, where: np.ndarray, values: np.ndarray) -> None:
        self.per_mesh.setdefault(key, np.full(len(self.rows), np.nan))[where] = values
