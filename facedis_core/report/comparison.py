"""Models measured on the same faces, side by side, with the errors of each part of a face.

The parts are those of X = X_id + X_exp (eq. 1). Their ground truth is that of the paper's figures 5
to 10 (Gu, Pears, Sun, FG 2023): for the full face the face itself, for the identity the person's
neutral face, for the expression the mean face plus the difference between face and neutral.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.data.face_set import TRAIN, FaceSet, check_topology
from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate.evaluation import Evaluation, evaluate_face_set
from facedis_core.evaluate.metrics_report import (
    MeasureOptions,
    label_models,
    measure_baselines,
    open_split,
    with_facts,
)
from facedis_core.evaluate.prediction import PredictedFaces, align_prediction, model_predictor
from facedis_core.geometry.distances import vertex_distances
from facedis_core.io.progress import Progress, no_progress
from facedis_core.model.model import Model, Part
from facedis_core.model.model_file import load_model
from facedis_core.report.example_faces import (
    TransferExamples,
    choose_transfer_examples,
    find_extremes,
)

PARTS: Final[tuple[Part, ...]] = ("full", "identity", "expression")


class PartResult(NamedTuple):
    """One part of B faces, true and predicted, both (B, V, 3) mm."""

    truth: np.ndarray
    predicted: np.ndarray


def part_results(
    faces: PredictedFaces, neutral: np.ndarray | None, mean_face: np.ndarray
) -> Iterator[tuple[Part, PartResult]]:
    """The parts of one person's faces for which truth and prediction are both known.

    The predicted expression is the mean face plus X_exp, the reconstruction minus the identity
    face; of aligned predictions, the aligned ones.

    Args:
        faces: B faces and their predictions.
        neutral: (V, 3) mm the person's true neutral face; None = unknown.
        mean_face: (V, 3) mm, to show expressions on.
    """
    truth, (full, identity, *_) = faces.truth, faces.prediction
    if full is not None:
        yield "full", PartResult(truth, full)
    if neutral is None or identity is None:
        return
    yield "identity", PartResult(np.broadcast_to(neutral, identity.shape), identity)
    if full is not None:
        predicted = mean_face + (full - identity)
        yield "expression", PartResult(mean_face + (truth - neutral), predicted)


@dataclass
class PartErrors:
    """Errors of each part by mesh and by vertex, collected during an evaluation of `rows`.

    For the full face and the identity these are E_rec (eq. 9) and AVD_neu; for the expression the
    same distance, d(X_exp, face - neutral), which the paper shows but does not name.

    Attributes:
        rows: (n,) ascending.
        mean_face: (V, 3) mm.
        region: (V,) bool, the vertices that errors by mesh count; None = all.
        per_mesh: part -> (n,) mm, NaN where a mesh has no such error.
    """

    rows: np.ndarray
    mean_face: np.ndarray
    region: np.ndarray | None = None
    per_mesh: dict[Part, np.ndarray] = field(default_factory=dict)
    _sums: dict[Part, np.ndarray] = field(default_factory=dict)
    _motion: np.ndarray | None = None

    def __call__(self, rows: np.ndarray, faces: PredictedFaces, neutral: np.ndarray | None) -> None:
        """Add some faces of one person."""
        where = np.searchsorted(self.rows, rows)
        for part, (truth, found) in part_results(faces, neutral, self.mean_face):
            distances = vertex_distances(found, truth)  # (B, V)
            unknown = np.full(len(self.rows), np.nan)
            counted = distances if self.region is None else distances[:, self.region]
            self.per_mesh.setdefault(part, unknown)[where] = counted.mean(-1)
            self._sums.setdefault(part, np.zeros(len(self.mean_face)))[:] += distances.sum(0)
            if part == "expression":
                motion = vertex_distances(truth, self.mean_face).sum(0)
                self._motion = motion if self._motion is None else self._motion + motion

    def by_mesh(self, part: Part) -> np.ndarray:
        """The error of each mesh, (n,) mm; NaN where it has none, as all of a part unknown."""
        found = self.per_mesh.get(part)
        return np.full(len(self.rows), np.nan) if found is None else found

    def per_vertex(self, part: Part) -> np.ndarray:
        """Mean error of each vertex over the faces that have one, (V,) mm; NaN without any."""
        if part not in self.per_mesh:
            return np.full(len(self.mean_face), np.nan)
        return self._sums[part] / self._count(part)

    def motion(self) -> np.ndarray | None:
        """Mean distance by which true expressions move each vertex, (V,) mm; None = unknown."""
        return None if self._motion is None else self._motion / self._count("expression")

    def _count(self, part: Part) -> int:
        return int(np.count_nonzero(np.isfinite(self.per_mesh[part])))


@dataclass(frozen=True, eq=False)
class ModelResult:
    """Metrics and part errors of one model.

    Attributes:
        label: unique name of the model in tables and figures.
    """

    label: str
    model: Model
    evaluation: Evaluation
    errors: PartErrors


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Results of models on some rows of a face set.

    Attributes:
        baselines: name -> evaluation of linear methods, as of `measure_baselines`; empty = none
            were measured.
        facts: provenance, as in fd-metrics.
    """

    faces: FaceSet
    rows: np.ndarray
    models: Sequence[ModelResult]
    baselines: dict[str, Evaluation]
    facts: dict[str, Any]
    align: bool

    @property
    def parts(self) -> list[Part]:
        """The parts that any model predicts, and for which any face has a truth."""
        return [part for part in PARTS if self.having(part)]

    def having(self, part: Part) -> list[ModelResult]:
        """The models with errors of a part: one of latents of one half has one part."""
        return [result for result in self.models if part in result.errors.per_mesh]

    @property
    def whole(self) -> list[ModelResult]:
        """The models of identity and expression."""
        return [r for r in self.models if r.model.config.identity and r.model.config.expression]

    @cached_property
    def transfer_examples(self) -> TransferExamples | None:
        """Faces for the figures of transfer and interpolation, see `choose_transfer_examples`."""
        return choose_transfer_examples(self.faces, self.rows)

    def face_result(self, model: Model, row: int) -> "FaceResult":
        """Prediction of a model for a face of the set."""
        truth = self.faces.read(np.array([row]))
        faces = PredictedFaces(truth, model_predictor(model)(truth))
        neutral = self.neutral(row)
        if self.align:
            faces = PredictedFaces(truth, align_prediction(faces, neutral, self.faces.region))
        found = {
            part: PartResult(compared.truth[0], compared.predicted[0])
            for part, compared in part_results(faces, neutral, model.mean_face)
        }
        return FaceResult(self.faces.labels.names[row], faces, found)

    def neutral(self, row: int) -> np.ndarray | None:
        """True neutral face (V, 3) mm of the person of a row; None = unknown."""
        neutral = np.asarray(self.faces.neutrals_eval[self.faces.labels.subject[row]])
        return neutral if np.isfinite(neutral).all() else None


class FaceResult(NamedTuple):
    """Prediction for one face, and its parts that have a truth, each (V, 3) mm."""

    name: str
    faces: PredictedFaces
    parts: dict[Part, PartResult]

    def errors(self, part: Part) -> np.ndarray:
        """Distance of each vertex of a part to its truth, (V,) mm."""
        truth, predicted = self.parts[part]
        return vertex_distances(predicted, truth)


def compare_models(
    source: str,
    names: Sequence[str | None],
    split: str = "test",
    *,
    align: bool = False,
    baselines: bool | None = None,
    progress: Progress = no_progress,
) -> ModelComparison:
    """Measure models on a split of a face set.

    Args:
        source: the set; `-` = standard input.
        names: of the models, as of `load_model`.
        split: all, train, test or validation.
        align: align predictions rigidly to the truth first.
        baselines: also measure linear methods with as many coefficients as the first model has
            latents; None = if the set has training faces.
        progress: counts the measured faces.

    Raises:
        InputError: unreadable input, no such faces, or a model of another topology than the set.
        UsageError: a model is named twice.
    """
    models = [load_model(name) for name in names]
    faces, rows = open_split(source, models[0], split)
    for model in models[1:]:
        check_topology(faces, source, model.topology, f"model {model.source}")
    ways = MeasureOptions(align, faces.region, progress=progress)
    labels = label_models(models)
    people = len(np.unique(np.asarray(faces.labels.subject)[rows]))
    facts = ways.facts(len(rows), people, set=faces.id, source=faces.source, split=split)
    results = [
        _measure(model, label, faces, rows, ways)
        for model, label in zip(models, labels, strict=True)
    ]
    if not any(result.errors.per_mesh for result in results):
        raise InputError(
            f"{', '.join(labels)} gives identity parts alone, and {source} has no true neutrals to "
            "compare them with; use a model of identity and expression",
            ErrorCode.NEUTRAL_MISSING,
        )
    linear: dict[str, Evaluation] = {}
    if baselines or (baselines is None and len(faces.rows(TRAIN)) > 1):
        try:
            named = dict(zip(labels, models, strict=True))
            linear = measure_baselines(faces, named, faces, rows, ways)
        except InputError as error:
            if baselines or error.code != ErrorCode.FACES_ALIKE:
                raise
    return ModelComparison(faces, rows, results, linear, facts, align)


def _measure(
    model: Model, label: str, faces: FaceSet, rows: np.ndarray, ways: MeasureOptions
) -> ModelResult:
    errors = PartErrors(rows, model.mean_face, ways.region)
    with ways.progress(f"measuring {label}", len(rows)) as advance:
        found = evaluate_face_set(
            model_predictor(model),
            faces,
            rows,
            region=ways.region,
            align=ways.align,
            progress=advance,
            observe=errors,
        )
    return ModelResult(label, model, with_facts(found, model), errors)


def example_rows(result: ModelResult, part: Part, count: int) -> list[tuple[str, int]]:
    """`count` rows each of the `best`, `average` and `worst` faces by the error of a part."""
    errors = result.errors
    found = find_extremes(errors.per_mesh[part], count)._asdict()
    return [(word, int(errors.rows[place])) for word, places in found.items() for place in places]
