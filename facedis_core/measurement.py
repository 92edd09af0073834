"""A report: every metric of a model or of a method's meshes, and what it was measured on."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from facedis_core import __version__
from facedis_core.baselines import evaluate_baselines, fit_baselines
from facedis_core.comparison import compare
from facedis_core.errors import InputError
from facedis_core.evaluation import Evaluation, evaluate_face_set
from facedis_core.faceset import SPLITS, FaceSet, load_face_set
from facedis_core.inference import Model, load_model
from facedis_core.prediction import model_predictor
from facedis_core.provenance import check_topology, made_by

Advance = Callable[[int], None]
Progress = Callable[[str, int | None], AbstractContextManager[Advance]]


def unwatched(description: str, total: int | None) -> AbstractContextManager[Advance]:
    """Shows nobody how a piece of work goes on."""
    return nullcontext(lambda steps: None)


@dataclass(frozen=True)
class Ways:
    """How to measure.

    Attributes:
        align: move predictions rigidly onto the truth first.
        inspect: told the provenance of the report before anything is computed; may raise.
        progress: a context that shows how a piece of work goes on, of so many steps.
    """

    align: bool = False
    inspect: Callable[[Mapping[str, Any]], None] | None = None
    progress: Progress = unwatched

    def facts(self, faces: int, subjects: int | None = None, **more: Any) -> dict[str, Any]:
        """Provenance of a report on so many faces, inspected."""
        facts = {"version": __version__, "aligned": self.align, "faces": faces}
        facts |= {} if subjects is None else {"subjects": subjects}
        facts |= more
        if self.inspect is not None:
            self.inspect(facts)
        return facts


class Measured(NamedTuple):
    """The report as plain values for JSON, and the errors of each mesh as CSV."""

    report: dict[str, Any]
    per_mesh: str


def open_split(source: str, model: Model, split: str) -> tuple[FaceSet, np.ndarray]:
    """A face set that a model knows how to encode, and the rows of one split of it, or of `all`.

    Raises:
        InputError: unreadable, of another topology than the model, or no such faces.
    """
    faces = load_face_set(source)
    label = f"model {model.source or model.id} ({made_by(model.history)})"
    check_topology(faces, source, model.topology, label)
    rows = faces.rows(None if split == "all" else SPLITS[split])
    if not len(rows):
        raise InputError(f"{source} has no faces in its {split} split; choose another --split")
    return faces, rows


def measure_baselines(
    training: FaceSet, model: Model, faces: FaceSet, rows: np.ndarray, ways: Ways
) -> dict[str, dict[str, Any]]:
    """Metrics of linear methods with as many coefficients as a model has latent dimensions.

    They are fitted on the training split of `training` and measured on `rows` of `faces`; keys and
    errors are those of `fit_baselines` and `evaluate_baselines`.
    """
    with ways.progress("baselines", None) as advance:
        fitted = fit_baselines(training, model.config.identity + model.config.expression)
        return evaluate_baselines(fitted, faces, rows, align=ways.align, progress=advance)


def measure_set(
    source: str,
    model: str | None,
    split: str,
    ways: Ways,
    *,
    baselines: bool = False,
    fitted_on: str | None = None,
) -> Measured:
    """Measure a model on a split of a face set.

    Args:
        source: the set, `-` for standard input.
        model: path or bundled name; None = the default one.
        split: all, train, test or validation.
        ways: how.
        baselines: also linear methods with as many coefficients as the model has.
        fitted_on: set whose training split they are fitted on; None = the same set.

    Raises:
        InputError: unreadable input, no such faces, or a set of another topology than the model.
    """
    trained = load_model(model)
    faces, rows = open_split(source, trained, split)
    labels = faces.labels
    people = len(set(labels.subject[rows].tolist()))
    origin = {"model": trained.id, "set": faces.id, "source": faces.source, "split": split}
    facts = ways.facts(len(rows), people, **origin)
    training = load_face_set(fitted_on) if fitted_on is not None else faces
    if baselines:
        check_topology(training, fitted_on or source, faces.topology, source)
    with ways.progress("measuring", len(rows)) as advance:
        found = evaluate_face_set(
            model_predictor(trained), faces, rows, align=ways.align, progress=advance
        )
    report: dict[str, Any] = {"model": found.metrics}
    if baselines:
        report["baselines"] = measure_baselines(training, trained, faces, rows, ways)
        facts["baselines_set"] = training.id
    report["provenance"] = facts
    named = [
        (
            labels.names[row],
            labels.subjects[labels.subject[row]],
            labels.expressions[labels.expression[row]],
        )
        for row in rows
    ]
    return Measured(report, _csv(named, found))


def measure_meshes(
    truth: str, predicted: str, labels: str | None, neutral: str | None, ways: Ways
) -> Measured:
    """Measure predicted meshes against true ones; arguments and errors as `compare`."""
    with ways.progress("measuring", None) as advance:
        found = compare(
            truth,
            predicted,
            labels,
            neutral=neutral,
            align=ways.align,
            on_match=ways.facts,
            progress=advance,
        )
    known = [(label.subject, label.expression) for label in found.labels]
    pairs = zip(found.names, known or [("", "")] * len(found.names), strict=True)
    people = len({label.subject for label in found.labels}) or None
    facts = ways.facts(len(found.names), people)
    report = {"model": found.evaluation.metrics, "provenance": facts}
    return Measured(report, _csv([(name, *label) for name, label in pairs], found.evaluation))


def _csv(named: Sequence[tuple[str, str, str]], found: Evaluation) -> str:
    """One line a mesh; a value that a mesh does not have is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "subject", "expression", *found.per_mesh])
    for label, values in zip(named, zip(*found.per_mesh.values(), strict=True), strict=True):
        writer.writerow([*label, *("" if value != value else f"{value:.6g}" for value in values)])
    return text.getvalue()
