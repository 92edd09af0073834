"""Metrics reports: every metric of a model or of predicted meshes, and what was measured."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from facedis_core import __version__
from facedis_core.data.face_set import SPLITS, FaceSet, check_topology, load_face_set
from facedis_core.data.history import made_by
from facedis_core.errors import InputError, UsageError
from facedis_core.evaluate.baselines import evaluate_baselines, fit_baselines
from facedis_core.evaluate.evaluation import Evaluation, evaluate_face_set, model_predictor
from facedis_core.evaluate.gates import BaselineReport, Check, Tolerance
from facedis_core.evaluate.mesh_comparison import compare_meshes
from facedis_core.io.progress import Progress, no_progress
from facedis_core.model.model import Model, load_model


@dataclass(frozen=True)
class MeasureOptions:
    """How to measure.

    Attributes:
        align: align predictions rigidly to the truth first.
        inspect: called with the provenance of the report before anything is computed; may raise.
        progress: context manager of a description and a number of steps; yields a function to
            call with the steps just done.
    """

    align: bool = False
    inspect: Callable[[Mapping[str, Any]], None] | None = None
    progress: Progress = no_progress

    def facts(self, faces: int, subjects: int | None = None, **more: Any) -> dict[str, Any]:
        """The provenance of a report, after `inspect` has seen it."""
        facts = {"version": __version__, "aligned": self.align, "faces": faces}
        facts |= {} if subjects is None else {"subjects": subjects}
        facts |= more
        if self.inspect is not None:
            self.inspect(facts)
        return facts


@dataclass(frozen=True)
class MetricsOptions:
    """What fd-metrics measures, on which faces, against which limits.

    Attributes:
        face_set: a face set (`-` = standard input) on which `model` is measured.
        model: path or bundled name; None = the default model.
        split: of the face set: all, train, test or validation.
        truth, predicted: instead of a face set, meshes that are matched by name.
        labels: CSV with name, subject, expression of these meshes.
        neutral: name of the neutral expression in the labels; None = `neutral`.
        baselines: also measure linear methods, fitted on the training split of the set.
        baselines_from: fit them on the training split of this set instead.
        align: align predictions rigidly to the truth first.
        checks: limits that the numbers must keep.
        against: an earlier report that they must not be worse than, by more than `tolerance`.

    Raises:
        UsageError: options that do not go together.
    """

    face_set: str | None = None
    model: str | None = None
    split: str = "test"
    truth: str | None = None
    predicted: str | None = None
    labels: str | None = None
    neutral: str | None = None
    baselines: bool = False
    baselines_from: str | None = None
    align: bool = False
    checks: Sequence[Check] = ()
    against: str | None = None
    tolerance: Tolerance | None = None

    def __post_init__(self) -> None:
        if self.tolerance is not None and self.against is None:
            raise UsageError("--tolerance belongs to --against REPORT; give both")
        if self.neutral is not None and self.labels is None:
            raise UsageError("--neutral names an expression in --labels; give both")
        if self.of_meshes:
            if self.truth is None or self.predicted is None:
                raise UsageError("--truth and --predicted belong together; give both")
            of_set = self.face_set, self.model, self.baselines, self.baselines_from
            if any(of_set) or self.split != "test":
                raise UsageError(
                    "SET, --model, --split and --baselines do not go with --truth; leave them out"
                )

    @property
    def of_meshes(self) -> bool:
        """Whether meshes are compared, not a model measured on a face set."""
        return not (self.truth is None and self.predicted is None and self.labels is None)

    @property
    def sources(self) -> list[str | None]:
        """Everything that is read; at most one may be standard input."""
        if self.of_meshes:
            return [self.truth, self.predicted, self.labels, self.against]
        return [self.face_set or "-", self.model, self.baselines_from, self.against]


class MetricsReport(NamedTuple):
    """What fd-metrics found.

    Attributes:
        report: plain values for JSON.
        per_mesh: the errors of each mesh as CSV.
        checks: the limits that the report must keep, by where they come from.
    """

    report: dict[str, Any]
    per_mesh: str
    checks: Mapping[str, Sequence[Check]]


def measure(options: MetricsOptions, progress: Progress = no_progress) -> MetricsReport:
    """Measure what the options say.

    Raises:
        InputError: unreadable input, no such faces, or topologies that do not fit.
    """
    earlier = BaselineReport.read(options.against) if options.against is not None else None
    ways = MeasureOptions(options.align, earlier.require_same if earlier else None, progress)
    if options.truth is not None and options.predicted is not None:
        report, table = _measure_meshes(
            options.truth, options.predicted, options.labels, options.neutral, ways
        )
    else:
        report, table = _measure_model(options, ways)
    checks = {"check": options.checks}
    if earlier is not None:
        checks["against"] = earlier.checks(options.tolerance or Tolerance())
    return MetricsReport(report, table, checks)


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
    training: FaceSet, model: Model, faces: FaceSet, rows: np.ndarray, ways: MeasureOptions
) -> dict[str, dict[str, Any]]:
    """Metrics of linear methods with as many coefficients as a model has latent dimensions.

    They are fitted on the training split of `training` and measured on `rows` of `faces`; keys and
    errors are those of `fit_baselines` and `evaluate_baselines`.
    """
    with ways.progress("baselines", None) as advance:
        fitted = fit_baselines(training, model.config.identity + model.config.expression)
        return evaluate_baselines(fitted, faces, rows, align=ways.align, progress=advance)


def _measure_model(options: MetricsOptions, ways: MeasureOptions) -> tuple[dict[str, Any], str]:
    """The report on a model and a face set, and the errors of each face as CSV."""
    source, fitted_on = options.face_set or "-", options.baselines_from
    baselines = options.baselines or fitted_on is not None
    trained = load_model(options.model)
    faces, rows = open_split(source, trained, options.split)
    labels = faces.labels
    people = len(set(labels.subject[rows].tolist()))
    origin = {"model": trained.id, "set": faces.id, "source": faces.source, "split": options.split}
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
    return report, _csv(named, found)


def _measure_meshes(
    truth: str, predicted: str, labels: str | None, neutral: str | None, ways: MeasureOptions
) -> tuple[dict[str, Any], str]:
    """The report on predicted meshes, and the errors of each mesh as CSV."""
    with ways.progress("measuring", None) as advance:
        found = compare_meshes(
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
    return report, _csv([(name, *label) for name, label in pairs], found.evaluation)


def _csv(named: Sequence[tuple[str, str, str]], found: Evaluation) -> str:
    """One line per mesh; a value that a mesh does not have is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "subject", "expression", *found.per_mesh])
    for label, values in zip(named, zip(*found.per_mesh.values(), strict=True), strict=True):
        writer.writerow([*label, *("" if value != value else f"{value:.6g}" for value in values)])
    return text.getvalue()
