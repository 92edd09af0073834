"""Models measured on the same faces, side by side, with the errors of each part of a face.

The parts are those of X = X_id + X_exp (eq. 1). Their ground truth is that of the paper's figures 5
to 10 (Gu, Pears, Sun, FG 2023): for the full face the face itself, for the identity the person's
neutral face, for the expression the mean face plus the difference between face and neutral.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.errors import UsageError
from facedis_core.evaluation import Evaluation, evaluate_face_set
from facedis_core.example_faces import TransferExamples, choose_transfer_examples, find_extremes
from facedis_core.faceset import TRAIN, FaceSet, check_topology
from facedis_core.inference import Model, Part, load_model
from facedis_core.measurement import Ways, measure_baselines, open_split
from facedis_core.metrics import vertex_distances
from facedis_core.prediction import Sample, aligned, model_predictor

PARTS: Final[tuple[Part, ...]] = ("full", "identity", "expression")


class PartResult(NamedTuple):
    """One part of B faces as it is and as it was predicted, both (B, V, 3) mm."""

    truth: np.ndarray
    predicted: np.ndarray


def part_results(
    sample: Sample, neutral: np.ndarray | None, mean_face: np.ndarray
) -> Iterator[tuple[Part, PartResult]]:
    """The parts of faces of one person of which truth and prediction are both known.

    The predicted expression is the mean face plus reconstruction minus identity face, which is
    X_exp; of predictions that were aligned first it is that of the aligned ones.

    Args:
        sample: B faces and what is predicted for them.
        neutral: (V, 3) mm the person's true neutral; None = unknown.
        mean_face: (V, 3) mm that expressions are shown on.
    """
    truth, (full, identity, *_) = sample.truth, sample.prediction
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
    """Watches an evaluation of `rows`: the errors of each part, by mesh and by vertex.

    Of the full face and the identity these are E_rec (eq. 9) and AVD_neu; of the expression the
    same distance, d(X_exp, face - neutral), which the paper shows but does not name.

    Attributes:
        rows: (n,) ascending.
        mean_face: (V, 3) mm.
        per_mesh: part -> (n,) mm, NaN where a mesh has no such error.
    """

    rows: np.ndarray
    mean_face: np.ndarray
    per_mesh: dict[Part, np.ndarray] = field(default_factory=dict)
    _sums: dict[Part, np.ndarray] = field(default_factory=dict)
    _motion: np.ndarray | None = None

    def __call__(self, rows: np.ndarray, sample: Sample, neutral: np.ndarray | None) -> None:
        """Take in some more faces of one person."""
        where = np.searchsorted(self.rows, rows)
        for part, (truth, predicted) in part_results(sample, neutral, self.mean_face):
            distances = vertex_distances(predicted, truth)  # (B, V)
            unknown = np.full(len(self.rows), np.nan)
            self.per_mesh.setdefault(part, unknown)[where] = distances.mean(-1)
            self._sums.setdefault(part, np.zeros(len(self.mean_face)))[:] += distances.sum(0)
            if part == "expression":
                motion = vertex_distances(truth, self.mean_face).sum(0)
                self._motion = motion if self._motion is None else self._motion + motion

    def per_vertex(self, part: Part) -> np.ndarray:
        """The mean error of each vertex over the faces that have one, (V,) mm."""
        return self._sums[part] / self._count(part)

    def motion(self) -> np.ndarray | None:
        """How far true expressions move each vertex on average, (V,) mm; None = unknown."""
        return None if self._motion is None else self._motion / self._count("expression")

    def _count(self, part: Part) -> int:
        return int(np.count_nonzero(np.isfinite(self.per_mesh[part])))


@dataclass(frozen=True, eq=False)
class ModelResult:
    """A model, what was measured of it, and the errors of its parts.

    Attributes:
        label: its name in tables and figures, unlike that of any other.
    """

    label: str
    model: Model
    evaluation: Evaluation
    errors: PartErrors


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Models on some rows of a face set.

    Attributes:
        baselines: key -> metrics of linear methods, as of `evaluate_baselines`; empty = not asked
            for, or no face to fit them to.
        facts: provenance, as of fd-metrics.
    """

    faces: FaceSet
    rows: np.ndarray
    models: Sequence[ModelResult]
    baselines: dict[str, dict[str, Any]]
    facts: dict[str, Any]
    align: bool

    @property
    def parts(self) -> list[Part]:
        """The parts of which any face has a truth."""
        return [part for part in PARTS if part in self.models[0].errors.per_mesh]

    @cached_property
    def transfer_examples(self) -> TransferExamples | None:
        """Faces for the figures of transfer and interpolation, see `choose_transfer_examples`."""
        return choose_transfer_examples(self.faces, self.rows)

    def face_result(self, model: Model, row: int) -> "FaceResult":
        """A face of the set and what a model makes of it."""
        truth = self.faces.read(np.array([row]))
        sample = Sample(truth, model_predictor(model)(truth))
        neutral = self.neutral(row)
        if self.align:
            sample = Sample(truth, aligned(sample, neutral))
        found = {
            part: PartResult(compared.truth[0], compared.predicted[0])
            for part, compared in part_results(sample, neutral, model.mean_face)
        }
        return FaceResult(self.faces.labels.names[row], sample, found)

    def neutral(self, row: int) -> np.ndarray | None:
        """The true neutral (V, 3) mm of whoever a row shows; None = unknown."""
        neutral = np.asarray(self.faces.neutrals_eval[self.faces.labels.subject[row]])
        return neutral if np.isfinite(neutral).all() else None


class FaceResult(NamedTuple):
    """A face, all that is predicted for it, and the parts that have a truth, each (V, 3) mm."""

    name: str
    sample: Sample
    parts: dict[Part, PartResult]

    def errors(self, part: Part) -> np.ndarray:
        """How far each vertex of a part is from its truth, (V,) mm."""
        truth, predicted = self.parts[part]
        return vertex_distances(predicted, truth)


def compare_models(
    source: str, names: Sequence[str | None], split: str, ways: Ways, *, baselines: bool | None
) -> ModelComparison:
    """Measure models on a split of a face set.

    Args:
        source: the set, `-` for standard input.
        names: of the models, as of `load_model`.
        split: all, train, test or validation.
        ways: how.
        baselines: also linear methods with as many coefficients as the first model has latent
            dimensions; None = if there are faces to fit them to.

    Raises:
        InputError: unreadable input, no such faces, or models of another topology than the set.
        UsageError: one model twice.
    """
    models = [load_model(name) for name in names]
    faces, rows = open_split(source, models[0], split)
    for model in models[1:]:
        check_topology(faces, source, model.topology, f"model {model.source}")
    labels = _labels(models)
    people = len(np.unique(np.asarray(faces.labels.subject)[rows]))
    facts = ways.facts(len(rows), people, set=faces.id, source=faces.source, split=split)
    results = [
        _measure(model, label, faces, rows, ways)
        for model, label in zip(models, labels, strict=True)
    ]
    linear: dict[str, dict[str, Any]] = {}
    if baselines or (baselines is None and len(faces.rows(TRAIN)) > 1):
        linear = measure_baselines(faces, models[0], faces, rows, ways)
    return ModelComparison(faces, rows, results, linear, facts, ways.align)


def _measure(model: Model, label: str, faces: FaceSet, rows: np.ndarray, ways: Ways) -> ModelResult:
    errors = PartErrors(rows, model.mean_face)
    with ways.progress(f"measuring {label}", len(rows)) as advance:
        found = evaluate_face_set(
            model_predictor(model),
            faces,
            rows,
            align=ways.align,
            progress=advance,
            observe=errors,
        )
    return ModelResult(label, model, found, errors)


def _labels(models: Sequence[Model]) -> list[str]:
    """The names of the models' files, with their ids where these do not tell them apart."""
    ids = [model.id for model in models]
    twin = next((id_ for id_ in ids if ids.count(id_) > 1), None)
    if twin is not None:
        raise UsageError(f"--model names model {twin} twice; name each model once")
    stems = [Path(model.source).stem for model in models]
    return [
        stem if stems.count(stem) == 1 else f"{stem} {id_}"
        for stem, id_ in zip(stems, ids, strict=True)
    ]


def example_rows(result: ModelResult, part: Part, count: int) -> list[tuple[str, int]]:
    """`best`, `average` and `worst` with a row each, by the error of a part, `count` of each."""
    errors = result.errors
    found = find_extremes(errors.per_mesh[part], count)._asdict()
    return [(word, int(errors.rows[place])) for word, places in found.items() for place in places]
