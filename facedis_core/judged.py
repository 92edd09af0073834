"""Models measured side by side on the same faces, and what each makes of a face."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facedis_core.choice import Cast, cast, extremes
from facedis_core.errors import UsageError
from facedis_core.evaluation import Evaluation, evaluate_face_set
from facedis_core.faceset import TRAIN, FaceSet
from facedis_core.inference import Model, Part, load_model
from facedis_core.measurement import Ways, measure_baselines, open_split
from facedis_core.metrics import vertex_distances
from facedis_core.parts import PARTS, Compared, PartErrors, parts
from facedis_core.prediction import Sample, aligned, model_predictor
from facedis_core.provenance import check_topology


@dataclass(frozen=True, eq=False)
class Judged:
    """A model, what was measured of it, and the errors of its parts.

    Attributes:
        label: its name in tables and figures, unlike that of any other.
    """

    label: str
    model: Model
    evaluation: Evaluation
    errors: PartErrors


@dataclass(frozen=True, eq=False)
class Verdict:
    """Models on some rows of a face set.

    Attributes:
        baselines: key -> metrics of linear methods, as of `evaluate_baselines`; empty = not asked
            for, or no face to fit them to.
        facts: provenance, as of fd-metrics.
    """

    faces: FaceSet
    rows: np.ndarray
    models: Sequence[Judged]
    baselines: dict[str, dict[str, Any]]
    facts: dict[str, Any]
    align: bool

    @property
    def parts(self) -> list[Part]:
        """The parts of which any face has a truth."""
        return [part for part in PARTS if part in self.models[0].errors.per_mesh]

    @cached_property
    def cast(self) -> Cast | None:
        """Who stands for these faces in transfer and interpolation; None as of `cast`."""
        return cast(self.faces, self.rows)

    def show(self, model: Model, row: int) -> "Shown":
        """A face of the set and what a model makes of it."""
        truth = self.faces.read(np.array([row]))
        sample = Sample(truth, model_predictor(model)(truth))
        neutral = self.neutral(row)
        if self.align:
            sample = Sample(truth, aligned(sample, neutral))
        found = {
            part: Compared(compared.truth[0], compared.made[0])
            for part, compared in parts(sample, neutral, model.mean_face)
        }
        return Shown(self.faces.labels.names[row], sample, found)

    def neutral(self, row: int) -> np.ndarray | None:
        """The true neutral (V, 3) mm of whoever a row shows; None = unknown."""
        neutral = np.asarray(self.faces.neutrals_eval[self.faces.labels.subject[row]])
        return neutral if np.isfinite(neutral).all() else None


class Shown(NamedTuple):
    """A face, all that is predicted for it, and the parts that have a truth, each (V, 3) mm."""

    name: str
    sample: Sample
    parts: dict[Part, Compared]

    def errors(self, part: Part) -> np.ndarray:
        """How far each vertex of a part is from its truth, (V,) mm."""
        truth, made = self.parts[part]
        return vertex_distances(made, truth)


def judge(
    source: str, names: Sequence[str | None], split: str, ways: Ways, *, baselines: bool | None
) -> Verdict:
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
    judged = [
        _judge(model, label, faces, rows, ways) for model, label in zip(models, labels, strict=True)
    ]
    linear: dict[str, dict[str, Any]] = {}
    if baselines or (baselines is None and len(faces.rows(TRAIN)) > 1):
        linear = measure_baselines(faces, models[0], faces, rows, ways)
    return Verdict(faces, rows, judged, linear, facts, ways.align)


def _judge(model: Model, label: str, faces: FaceSet, rows: np.ndarray, ways: Ways) -> Judged:
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
    return Judged(label, model, found, errors)


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


def chosen(judged: Judged, part: Part, count: int) -> list[tuple[str, int]]:
    """`best`, `average` and `worst` with a row each, by the error of a part, `count` of each."""
    errors = judged.errors
    found = extremes(errors.per_mesh[part], count)._asdict()
    return [(word, int(errors.rows[place])) for word, places in found.items() for place in places]
