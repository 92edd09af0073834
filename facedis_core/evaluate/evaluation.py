"""What a method makes of faces: the thing that is measured, whatever the method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.data.face_set import FaceSet, neutral_faces
from facedis_core.errors import InputError
from facedis_core.evaluate import metrics
from facedis_core.evaluate.expression_probe import probe_expression
from facedis_core.geometry.alignment import rigid_alignments
from facedis_core.model.model import Model


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


def align_prediction(sample: Sample, neutral: np.ndarray | None) -> Prediction:
    """The prediction aligned: reconstructions to the faces, identity faces to a known neutral."""
    prediction = sample.prediction
    if prediction.reconstruction is not None:
        reconstruction = align_faces(prediction.reconstruction, sample.truth)
        prediction = prediction._replace(reconstruction=reconstruction)
    if prediction.identity is not None and neutral is not None and np.isfinite(neutral).all():
        prediction = prediction._replace(identity=align_faces(prediction.identity, neutral))
    return prediction


def concatenate_predictions(predictions: list[Prediction]) -> Prediction:
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


# How often one face is picked for each subject to measure how far people are apart.
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

# Told the rows (B,) of faces, these and what is predicted for them, aligned if that was asked for,
# and the true neutral (V, 3) mm of the one person that all of them are of, if it is known.
Observer = Callable[[np.ndarray, Sample, np.ndarray | None], None]


@dataclass(frozen=True, eq=False)
class Gallery:
    """One encoded neutral of each of G people, for rank-1 recognition.

    Attributes:
        subject: (G,) whose.
        row: (G,) which face of the set was encoded, which is then no probe; -1 where it was none.
        prediction: identity faces (G, V, 3) and latents (G, D); either may be None.
    """

    subject: np.ndarray
    row: np.ndarray
    prediction: Prediction


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that was measured on `rows` of a set.

    Attributes:
        metrics: key -> {mean, std, median, n}, or a number; without what could not be computed.
        per_mesh: key -> (len(rows),), NaN where a mesh has no such value.
        per_subject: key -> a value for each subject that has one.
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
    """Every metric of a method over `rows` of a face set; arguments and errors as `evaluate`.

    Where it has latents, these are held for all faces, to be asked for their expressions.
    """
    subject = np.asarray(face_set.labels.subject)
    shown = np.asarray(face_set.labels.expression)
    latents: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def sample(rows: np.ndarray) -> Sample:
        truth = face_set.read(rows)
        prediction = predict(truth)
        if prediction.latent is not None and prediction.expression_latent is not None:
            latents.append((rows, prediction.latent, prediction.expression_latent))
        return Sample(truth, prediction)

    found = evaluate(
        sample,
        subject,
        rows,
        neutrals=face_set.neutrals_eval,
        gallery=neutral_gallery(predict, face_set, np.unique(subject[rows]), align=align),
        align=align,
        batch=batch,
        progress=progress,
        observe=observe,
    )
    if latents:
        read, identity, expression = map(np.concatenate, zip(*latents, strict=True))
        told = probe_expression(identity, expression, shown[read], subject[read])
        found.metrics.update(told)
    return found


def neutral_gallery(
    predict: Predictor, face_set: FaceSet, people: np.ndarray, *, align: bool = False
) -> Gallery:
    """The neutrals of `people` that have one, encoded.

    `align` moves identity faces onto the true neutrals.
    """
    subject, row, predictions = [], [], []
    for person, face, vertices in neutral_faces(face_set, people):
        sample = Sample(vertices[None], predict(vertices[None]))
        subject.append(person)
        row.append(face)
        true = face_set.neutrals_eval[person]
        prediction = align_prediction(sample, true) if align else sample.prediction
        predictions.append(prediction._replace(reconstruction=None))
    return Gallery(np.array(subject, int), np.array(row, int), concatenate_predictions(predictions))


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
    """Every metric over `rows`, in the memory of one subject's faces and DRAWS + 1 faces a subject.

    Args:
        sample: rows (B,) -> these faces and what is predicted for them.
        subject: (N,) whose face each row is.
        rows: (n,) the faces to measure.
        neutrals: (S, V, 3) mm true neutrals by subject, NaN where unknown; None = none known.
        gallery: the encoded neutrals; None = no recognition.
        align: move predictions rigidly onto the truth first, identity faces onto the true neutral.
        batch: how many faces to predict at once.
        progress: told the number of faces done, after each batch.
        observe: told what is predicted, batch by batch.

    Raises:
        InputError: a face or what is predicted for it is not finite.
    """
    tally = _Tally(rows)
    for person in np.unique(subject[rows]):
        where = np.flatnonzero(subject[rows] == person)
        neutral = None if neutrals is None else neutrals[person]
        if neutral is not None and not np.isfinite(neutral).all():
            neutral = None
        parts = []
        for start in range(0, len(where), batch):
            part = where[start : start + batch]
            truth, prediction = sample(rows[part])
            check_finite(truth, prediction, rows[part])
            if align:
                prediction = align_prediction(Sample(truth, prediction), neutral)
            tally.add_meshes(part, truth, prediction, neutral)
            if observe is not None:
                observe(rows[part], Sample(truth, prediction), neutral)
            parts.append(prediction._replace(reconstruction=None))
            if progress is not None:
                progress(len(part))
        tally.add_person(where, person, concatenate_predictions(parts), gallery)
    spreads = {key: np.array(values) for key, values in tally.per_subject.items()}
    return Evaluation(tally.metrics(), rows, tally.per_mesh, spreads)


@dataclass
class _Tally:
    """The values measured so far, by mesh and by subject."""

    rows: np.ndarray
    per_mesh: dict[str, np.ndarray] = field(default_factory=dict)
    per_subject: dict[str, list[float]] = field(default_factory=dict)
    drawn: list[np.ndarray] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def store(self, key: str, where: np.ndarray, values: np.ndarray) -> None:
        self.per_mesh.setdefault(key, np.full(len(self.rows), np.nan))[where] = values

    def add_meshes(
        self,
        where: np.ndarray,
        truth: np.ndarray,
        prediction: Prediction,
        neutral: np.ndarray | None,
    ) -> None:
        if prediction.reconstruction is not None:
            error = metrics.reconstruction_error(prediction.reconstruction, truth)
            self.store("e_rec", where, error)
        if prediction.identity is not None and neutral is not None:
            self.store("avd_neu", where, metrics.neutral_error(prediction.identity, neutral))

    def add_person(
        self, where: np.ndarray, person: int, prediction: Prediction, gallery: Gallery | None
    ) -> None:
        if gallery is not None and len(gallery.subject) > 1 and person in gallery.subject:
            own = int(np.flatnonzero(gallery.subject == person)[0])
            probes = self.rows[where] != gallery.row[own]
            known = gallery.prediction
            pairs = (prediction.latent, known.latent), (prediction.identity, known.identity)
            for (key, measure), (ours, theirs) in zip(RECOGNITION.items(), pairs, strict=True):
                if ours is not None and theirs is not None and probes.any():
                    self.store(key, where[probes], measure(ours[probes], own, theirs))
        if prediction.identity is not None:
            self.drawn.append(prediction.identity[self.rng.integers(len(where), size=DRAWS)])
            for key, spread in PER_SUBJECT.items() if len(where) > 1 else ():
                self.per_subject.setdefault(key, []).append(spread(prediction.identity))

    def metrics(self) -> dict[str, Any]:
        """The values under their JSON keys, without those that do not exist."""
        known = {key: values[np.isfinite(values)] for key, values in self.per_mesh.items()}
        known |= {key: np.array(values) for key, values in self.per_subject.items()}
        if len(self.drawn) > 1:
            picks = zip(*self.drawn, strict=True)  # DRAWS times one face of each subject
            spreads = [metrics.between_subject_spread(np.stack(pick)) for pick in picks]
            known["between_subject"] = np.array(spreads)
        found: dict[str, Any] = {
            key: metrics.summarize(known[key])._asdict() for key in SUMMARIES if key in known
        }
        for key in RECOGNITION:
            if key in known:
                found[f"{key}_accuracy"] = float(known[key].mean())
                found["rank1_probes"] = len(known[key])
        return found
