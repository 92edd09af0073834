"""Evaluation of a method on a face set: every metric over many faces, subject by subject."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np

from facedis_core.data.face_set import (
    FaceSet,
    Split,
    check_topology,
    load_face_set,
    neutral_faces,
)
from facedis_core.errors import ErrorCode, InputError, check_argument
from facedis_core.evaluate import metrics
from facedis_core.evaluate.expression_faces import ExpressionFaces, ExpressionLabels
from facedis_core.evaluate.expression_probe import probe_expression
from facedis_core.evaluate.identity_probe import probe_identity
from facedis_core.evaluate.metrics import FaceSpread
from facedis_core.evaluate.prediction import (
    PredictedFaces,
    Prediction,
    Predictor,
    align_prediction,
    check_prediction,
    concatenated,
    model_predictor,
)
from facedis_core.evaluate.uncertainty import SubjectSums
from facedis_core.model.model import Model

# Random choices of one face per subject for the between-subject spread.
DRAWS: Final = 10

PER_SUBJECT: Final[Mapping[str, Callable[[FaceSpread], float]]] = {
    "e_dis": FaceSpread.std,
    "e_dis_jiang": FaceSpread.jiang,
    "e_dis_mean_distance": FaceSpread.mean_distance,
}
# Value of each expression, and the contribution of each person's face to it.
PER_EXPRESSION: Final[
    Mapping[str, tuple[Callable[[FaceSpread], float], Callable[[FaceSpread], np.ndarray]]]
] = {
    "e_exp": (FaceSpread.std, FaceSpread.std_contributions),
    "e_exp_jiang": (FaceSpread.jiang, FaceSpread.jiang_contributions),
    "e_exp_mean_distance": (FaceSpread.mean_distance, FaceSpread.mean_distance_contributions),
}
RECOGNITION: Final[Mapping[str, Callable[[np.ndarray, int, np.ndarray], np.ndarray]]] = {
    "rank1_cosine": metrics.recognized_by_cosine,
    "rank1_vertex": metrics.recognized_by_vertex_distance,
}
# Keys of values by mesh, in the order of tables.
_MESH_COLUMNS: Final = (
    *("e_rec", "avd_neu", "e_dis_mean_distance", "e_exp_mean_distance"),
    *RECOGNITION,
)
SUMMARIES: Final = ("e_rec", *PER_SUBJECT, "avd_neu", *PER_EXPRESSION, "between_subject")


# Called with rows (B,) of one subject, the predicted faces (aligned where asked for), and the
# subject's true neutral (V, 3) mm or None.
Observer = Callable[[np.ndarray, PredictedFaces, np.ndarray | None], None]

Item = TypeVar("Item")
Result = TypeVar("Result")


class OrderedMap(Protocol):
    """Applies a function to items, in order; of several processes each may take some of them.

    `everywhere`: all processes get all results, instead of the main one alone and the others none.
    """

    def __call__(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, everywhere: bool = False
    ) -> Iterable[Result]: ...


def map_in_one_process(
    function: Callable[[Item], Result], items: Sequence[Item], *, everywhere: bool = False
) -> Iterable[Result]:
    """The result of each item, one after the other."""
    return map(function, items)


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

    def recognized(
        self, prediction: Prediction, subject: int, rows: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Key of RECOGNITION -> hits (B,) of faces of a subject, NaN where they are no probes."""
        is_probe = ~np.isin(rows, self.row[self.subject == subject])
        if len(self.subject) < 2 or subject not in self.subject or not is_probe.any():
            return {}
        own = int(np.flatnonzero(self.subject == subject)[0])
        pairs = (
            (prediction.identity_latent, self.prediction.identity_latent),
            (prediction.identity, self.prediction.identity),
        )
        found = {}
        for (key, recognized), (probes, known) in zip(RECOGNITION.items(), pairs, strict=True):
            if probes is not None and known is not None:
                found[key] = np.full(len(rows), np.nan)
                found[key][is_probe] = recognized(probes[is_probe], own, known)
        return found


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Results on n rows of a face set, of S subjects and E expressions.

    Attributes:
        metrics: JSON key -> {mean, std, median, n} or a number; only what could be computed.
        rows: (n,).
        subject: (n,) index of each row into `subjects`.
        subjects: (S,) labels.
        per_mesh: key -> (n,), NaN where a mesh has no such value. `e_dis_mean_distance` is the
            distance to the mean identity face of the subject, `e_exp_mean_distance` that to the
            mean expression face of the expression.
        per_subject: key -> (S,), NaN where a subject has no such value.
        expressions: (E,) labels; empty = not labelled.
        per_expression: key -> (E,), NaN where an expression has no such value.
        sums: key -> the metric as sums over the faces of each subject, for its uncertainty.
    """

    metrics: dict[str, Any]
    rows: np.ndarray
    subject: np.ndarray
    subjects: np.ndarray
    per_mesh: dict[str, np.ndarray]
    per_subject: dict[str, np.ndarray]
    expressions: np.ndarray
    per_expression: dict[str, np.ndarray]
    sums: dict[str, SubjectSums]

    def __repr__(self) -> str:
        keys = [key for key in ("e_rec", "e_dis", "avd_neu") if key in self.metrics]
        means = ", ".join(f"{key} {self.metrics[key]['mean']:.3f} mm" for key in keys)
        return f"Evaluation({len(self.rows)} faces of {len(self.subjects)} people: {means})"

    def add_share(self, key: str, values: np.ndarray) -> None:
        """Add a metric that is the share of hits among the faces, `values` (n,) 1, 0 or NaN."""
        self.per_mesh[key] = values
        self.metrics[f"{key}_accuracy"] = float(np.nanmean(values))
        self.sums[f"{key}_accuracy"] = SubjectSums.of_values(
            values, self.subject, len(self.subjects)
        )


def evaluate(
    model: Model,
    face_set: FaceSet | str | Path,
    *,
    split: Split | None = "test",
    align: bool = False,
) -> Evaluation:
    """Every metric of a model on a face set, as fd-metrics measures it.

    Args:
        model: the model.
        face_set: a face set, or its path.
        split: the faces to measure; None = all.
        align: align reconstructions and identity faces to the truth first (protocol of BU-3DFE).

    Raises:
        InputError: another topology, no faces, or faces that are not finite.
        UsageError: an unknown split, or an argument of another type.

    Example:
        >>> found = evaluate(load_model("ict-linear"), "demo/faces.safetensors", split=None)
        >>> found
        Evaluation(9 faces of 3 people: e_rec ..., e_dis ..., avd_neu ...)
        >>> found.metrics["e_rec"]["mean"] < 1  # mm
        True
        >>> found.per_mesh["e_rec"].shape
        (9,)
    """
    check_argument(model, Model, "evaluate: model", "a Model")
    check_argument(face_set, (FaceSet, str, Path), "evaluate: face_set", "a FaceSet or a path")
    faces = face_set if isinstance(face_set, FaceSet) else load_face_set(face_set)
    check_topology(faces, "the face set", model.topology, "the model")
    rows = faces.rows(split)
    if not len(rows):
        raise InputError(
            f"the face set has no {split} faces; choose another split", ErrorCode.SPLIT_EMPTY
        )
    return evaluate_face_set(model_predictor(model), faces, rows, region=faces.region, align=align)


def evaluate_face_set(
    predict: Predictor,
    face_set: FaceSet,
    rows: np.ndarray,
    *,
    region: np.ndarray | None = None,
    align: bool = False,
    batch: int = 32,
    progress: Callable[[int], None] | None = None,
    observe: Observer | None = None,
    ordered_map: OrderedMap = map_in_one_process,
) -> Evaluation:
    """Every metric of a method on rows of a face set.

    Args:
        predict: faces (B, V, 3) mm -> their `Prediction`.
        face_set: the faces, their labels and the true neutrals.
        rows: (n,) rows to evaluate, such as `face_set.rows("test")`.
        region: (V,) bool, vertices to measure and to align by; None = all.
        align: align predictions rigidly to the truth first.
        batch: number of faces to predict at once.
        progress: called with the number of new faces after each batch.
        observe: called with each batch.
        ordered_map: divides the batches among processes.

    Returns:
        the metrics, and their values by face, person and expression.

    Raises:
        UsageError: `predict` gives no Prediction.
        InputError: a prediction of another shape than the faces, or not finite.

    Example:
        >>> from facedis_core.evaluate.prediction import Prediction
        >>> faces = load_face_set("demo/faces.safetensors")
        >>> mean = faces.read(faces.rows("train")).mean(axis=0)
        >>> def mean_face(vertices):
        ...     everyone = np.broadcast_to(mean, vertices.shape)
        ...     return Prediction(reconstruction=everyone, identity=everyone)
        >>> evaluate_face_set(mean_face, faces, faces.rows(None))
        Evaluation(9 faces of 3 people: e_rec ..., e_dis 0.0..., avd_neu ...)
    """
    labels = face_set.labels
    subject = np.asarray(labels.subject)

    def checked(vertices: np.ndarray) -> Prediction:
        prediction = predict(vertices)
        check_prediction(prediction, vertices)
        return prediction

    def predict_rows(rows: np.ndarray) -> PredictedFaces:
        truth = face_set.read(rows)
        return PredictedFaces(truth, checked(truth))

    people = np.unique(subject[rows]).tolist()
    gallery = _neutral_gallery(
        checked, face_set, people, region=region, align=align, ordered_map=ordered_map
    )
    return evaluate_predictions(
        predict_rows,
        subject,
        rows,
        neutrals=face_set.neutrals_eval,
        expressions=ExpressionLabels(np.asarray(labels.expression), np.asarray(labels.level)),
        gallery=gallery,
        region=region,
        align=align,
        batch=batch,
        progress=progress,
        observe=observe,
        ordered_map=ordered_map,
    )


def evaluate_predictions(
    predict_rows: Callable[[np.ndarray], PredictedFaces],
    subject: np.ndarray,
    rows: np.ndarray,
    *,
    neutrals: np.ndarray | None = None,
    expressions: ExpressionLabels | None = None,
    gallery: Gallery | None = None,
    region: np.ndarray | None = None,
    align: bool = False,
    batch: int = 32,
    progress: Callable[[int], None] | None = None,
    observe: Observer | None = None,
    ordered_map: OrderedMap = map_in_one_process,
) -> Evaluation:
    """Every metric of predictions on some rows.

    Memory: the identity faces of one subject, DRAWS identity faces of each subject, the latents of
    all faces, and 256 MiB of expression faces; the rest of those is in a temporary file.

    Args:
        predict_rows: rows (B,) -> their faces and predictions.
        subject: (N,) subject of each row.
        rows: (n,) rows to evaluate.
        neutrals: true neutrals (S, V, 3) mm by subject, NaN where unknown; None = none known.
        expressions: for E_exp and the probes of latents; None = not labelled.
        gallery: encoded neutrals, in the region and aligned; None = no recognition.
        region: (V,) bool, vertices to measure and to align by; None = all.
        align: align reconstructions rigidly to the faces and identity faces to the true neutrals
            first (protocol of BU-3DFE).
        batch: number of faces to predict at once.
        progress: called with the number of new faces after each batch.
        observe: called with each batch, all vertices of it, in the process that predicts it.
        ordered_map: divides the batches among processes; the main one has the results, and those
            of the others are empty.

    Raises:
        InputError: a face or a prediction is not finite.
    """
    apexes = np.empty(0, int) if expressions is None else expressions.apexes(rows, subject)
    people = np.unique(subject[rows])

    def measure(part: np.ndarray) -> BatchResult:
        """Errors, identity faces and latents of `rows[part]`, faces of one subject."""
        person = int(subject[rows[part[0]]])
        neutral = None if neutrals is None else neutrals[person]
        if neutral is not None and not np.isfinite(neutral).all():
            neutral = None
        truth, prediction = predict_rows(rows[part])
        _check_finite(truth, prediction, rows[part])
        splits = prediction.identity is not prediction.reconstruction
        if align:
            prediction = align_prediction(PredictedFaces(truth, prediction), neutral, region)
        if observe is not None:
            observe(rows[part], PredictedFaces(truth, prediction), neutral)
        measured = PredictedFaces(truth, prediction).within(region)
        full, identity = measured.prediction.reconstruction, measured.prediction.identity
        values, is_apex, expression = {}, np.isin(part, apexes), None
        if full is not None:
            values["e_rec"] = metrics.reconstruction_error(full, measured.truth)
        if identity is not None and neutral is not None:
            known = neutral if region is None else neutral[region]
            values["avd_neu"] = metrics.neutral_error(identity, known)
        if gallery is not None:
            values |= gallery.recognized(measured.prediction, person, rows[part])
        # a method that does not split faces, with one array for both parts, has no E_exp
        if splits and full is not None and identity is not None:
            expression = full[is_apex] - identity[is_apex]  # X_exp (eq. 1)
        latents = measured.prediction._replace(reconstruction=None)
        return BatchResult(values, latents, is_apex, expression)

    batches = [
        where[start : start + batch]
        for where in (np.flatnonzero(subject[rows] == person) for person in people)
        for start in range(0, len(where), batch)
    ]
    with ExpressionFaces(apexes) as shown:
        results, latents = _Results(len(rows), people, shown), []
        # not strict: ordered_map has results in the main process only
        measured = zip(batches, ordered_map(measure, batches), strict=False)
        for person, of_person in groupby(measured, lambda pair: int(subject[rows[pair[0][0]]])):
            where, predictions = [], []
            for part, found in of_person:
                results.add_batch(part, found)
                where.append(part)
                predictions.append(found.prediction)
                if progress is not None:
                    progress(len(part))
            together = concatenated(predictions)
            if together.identity is not None:
                results.add_subject(person, np.concatenate(where), together.identity)
            latents.append(together._replace(identity=None))
        if expressions is not None:
            results.add_expressions(expressions.expression[rows], subject[rows])
    evaluation = results.evaluation(rows, subject[rows])
    if expressions is not None and latents:
        predicted = concatenated(latents)
        _add_probes(evaluation, np.concatenate(batches), predicted, expressions.expression[rows])
    return evaluation


def _neutral_gallery(
    predict: Predictor,
    face_set: FaceSet,
    people: Sequence[int],
    *,
    region: np.ndarray | None,
    align: bool,
    ordered_map: OrderedMap,
) -> Gallery | None:
    """The encoded neutrals of the people that have one, aligned to the true neutrals if asked.

    None if nobody has one.
    """

    def encode(person: int) -> tuple[int, int, Prediction] | None:
        """Person, row and prediction, of a neutral."""
        face = next(neutral_faces(face_set, [person]), None)
        if face is None:
            return None
        predicted = PredictedFaces(face.vertices[None], predict(face.vertices[None]))
        if align:
            neutral = face_set.neutrals_eval[person]
            predicted = PredictedFaces(
                predicted.truth, align_prediction(predicted, neutral, region)
            )
        prediction = predicted.within(region).prediction._replace(reconstruction=None)
        return person, face.row, prediction

    encoded = [each for each in ordered_map(encode, people, everywhere=True) if each is not None]
    if not encoded:
        return None
    subject, row, predictions = zip(*encoded, strict=True)
    return Gallery(np.array(subject), np.array(row), concatenated(predictions))


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


def _add_probes(
    evaluation: Evaluation, where: np.ndarray, latents: Prediction, expression: np.ndarray
) -> None:
    """Add the probes of latents, if both kinds are predicted.

    Args:
        evaluation: of n rows.
        where: (n,) places among the rows, in the order of the latents.
        latents: of n faces.
        expression: (n,) labels of the rows.
    """
    identity, shown = latents.identity_latent, latents.expression_latent
    if identity is None or shown is None:
        return

    def in_order(values: np.ndarray) -> np.ndarray:
        """Values of the faces in the order of `rows`."""
        found = np.empty(len(where))
        found[where] = values
        return found

    subject = evaluation.subject[where]
    probe = probe_expression(identity, shown, expression[where], subject)
    if probe is not None:
        evaluation.add_share("expression_from_identity", in_order(probe.from_identity))
        evaluation.add_share("expression_from_expression", in_order(probe.from_expression))
        evaluation.metrics["expression_chance"] = probe.chance
        evaluation.metrics["expression_faces"] = probe.faces
    people = probe_identity(shown, expression[where], subject)
    counted = np.isfinite(people.hits)
    if counted.any():
        evaluation.add_share("identity_from_expression", in_order(people.hits))
        chance = float(people.chance[counted].mean())
        evaluation.metrics["identity_from_expression_chance"] = chance
        evaluation.metrics["identity_from_expression_faces"] = int(counted.sum())


class BatchResult(NamedTuple):
    """Results of B faces of one subject.

    Attributes:
        values: key -> (B,), NaN where a face has no such value.
        prediction: identity faces in the region, and latents.
        is_apex: (B,) bool, the k faces that count in E_exp.
        expression: their expression faces (k, V, 3) mm; None = not predicted.
    """

    values: dict[str, np.ndarray]
    prediction: Prediction
    is_apex: np.ndarray
    expression: np.ndarray | None


@dataclass
class _Results:
    """Values by mesh, subject and expression, collected subject by subject.

    Attributes:
        faces: number n of faces.
        people: (S,) their subjects, ascending.
        shown: expression faces, X_exp, on which E_exp is measured.
        per_mesh: key -> (n,), NaN where a mesh has no such value.
        per_subject: key -> (S,), NaN where a subject has no such value.
        per_expression: key -> (E,), NaN where an expression has no such value.
        contributions: key of E_exp -> (S, E).
        drawn: DRAWS identity faces (DRAWS, V, 3) mm of each subject.
    """

    faces: int
    people: np.ndarray
    shown: ExpressionFaces
    per_mesh: dict[str, np.ndarray] = field(default_factory=dict)
    per_subject: dict[str, np.ndarray] = field(default_factory=dict)
    expressions: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    per_expression: dict[str, np.ndarray] = field(default_factory=dict)
    contributions: dict[str, np.ndarray] = field(default_factory=dict)
    drawn: list[np.ndarray] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add_batch(self, where: np.ndarray, found: BatchResult) -> None:
        """Add the results of faces, whose places among all are `where` (B,)."""
        for key, values in found.values.items():
            self._store(key, where, values)
        if found.expression is not None:
            self.shown.store(where[found.is_apex], found.expression)

    def add_subject(self, subject: int, where: np.ndarray, identity: np.ndarray) -> None:
        """Add the spreads of all identity faces of a subject, whose places are `where` (B,)."""
        self.drawn.append(identity[self.rng.integers(len(where), size=DRAWS)])
        if len(where) > 1:
            spread = FaceSpread.of(identity)
            self._store("e_dis_mean_distance", where, spread.mean_distance_contributions())
            place = int(np.searchsorted(self.people, subject))
            for key, value in PER_SUBJECT.items():
                unknown = np.full(len(self.people), np.nan)
                self.per_subject.setdefault(key, unknown)[place] = value(spread)

    def add_expressions(self, expression: np.ndarray, subject: np.ndarray) -> None:
        """Add E_exp of each expression; labels (n,) of the rows."""
        self.expressions, number = np.unique(expression, return_inverse=True)
        chosen = self.shown.places
        for place in range(len(self.expressions)):
            members = chosen[number[chosen] == place]
            faces = self.shown.read(members) if len(members) > 1 else None
            if faces is None:
                continue
            spread = FaceSpread.of(faces)
            self._store("e_exp_mean_distance", members, spread.mean_distance_contributions())
            person = np.searchsorted(self.people, subject[members])
            for key, (value, contributions) in PER_EXPRESSION.items():
                unknown = np.full(len(self.expressions), np.nan)
                self.per_expression.setdefault(key, unknown)[place] = value(spread)
                table = np.full((len(self.people), len(self.expressions)), np.nan)
                shares = self.contributions.setdefault(key, table)
                shares[person, place] = contributions(spread)

    def evaluation(self, rows: np.ndarray, subject: np.ndarray) -> Evaluation:
        """All results; rows (n,) and their subjects."""
        place, count = np.searchsorted(self.people, subject), len(self.people)
        per_mesh = {key: self.per_mesh[key] for key in _MESH_COLUMNS if key in self.per_mesh}
        tables = {key: values[:, None] for key, values in self.per_subject.items()}
        tables |= self.contributions
        known: dict[str, Sequence[float] | np.ndarray] = {
            key: values[np.isfinite(values)]
            for key, values in {**per_mesh, **self.per_subject, **self.per_expression}.items()
        }
        if len(self.drawn) > 1:
            draws = zip(*self.drawn, strict=True)  # DRAWS times one face of each subject
            spreads = [FaceSpread.of(np.stack(faces)) for faces in draws]
            known["between_subject"] = [spread.std() for spread in spreads]
            shares = [spread.std_contributions() for spread in spreads]
            tables["between_subject"] = np.stack(shares, axis=1)
        found = Evaluation(
            {key: metrics.summarize(known[key])._asdict() for key in SUMMARIES if key in known},
            rows,
            place,
            self.people,
            per_mesh,
            self.per_subject,
            self.expressions,
            self.per_expression,
            {key: SubjectSums.of_table(values) for key, values in tables.items()},
        )
        for key in ("e_rec", "avd_neu"):
            if key in per_mesh:
                found.sums[key] = SubjectSums.of_values(per_mesh[key], place, count)
        for key in RECOGNITION:
            if key in per_mesh:
                found.add_share(key, per_mesh[key])
                found.metrics["rank1_probes"] = len(known[key])
        return found

    def _store(self, key: str, where: np.ndarray, values: np.ndarray) -> None:
        self.per_mesh.setdefault(key, np.full(self.faces, np.nan))[where] = values
