"""Metrics report of a model on a face set or of predicted meshes, for fd-metrics."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from facedis_core import __version__
from facedis_core.data.face_set import SPLITS, FaceSet, check_topology, load_face_set
from facedis_core.data.history import made_by
from facedis_core.data.units import Units
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.evaluate.baselines import evaluate_baselines, fit_baselines
from facedis_core.evaluate.evaluation import Evaluation, evaluate_face_set, model_predictor
from facedis_core.evaluate.gates import Check, EarlierReport, Tolerance
from facedis_core.evaluate.mesh_comparison import compare_meshes
from facedis_core.io.progress import Progress, no_progress
from facedis_core.model.model import Model, load_model


@dataclass(frozen=True)
class MeasureOptions:
    """Options of a measurement.

    Attributes:
        align: align predictions rigidly to the truth first.
        inspect: called with the provenance of the report before anything is computed; may raise.
        progress: shows the number of measured faces.
        warn: called with each warning about a mesh.
    """

    align: bool = False
    inspect: Callable[[Mapping[str, Any]], None] | None = None
    progress: Progress = no_progress
    warn: Callable[[str], object] = lambda line: None

    def facts(self, faces: int, subjects: int | None = None, **more: Any) -> dict[str, Any]:
        """The provenance of a report; calls `inspect` with it.

        Args:
            faces: number of faces.
            subjects: number of subjects, if known.
            more: other facts.
        """
        facts = {"version": __version__, "aligned": self.align, "faces": faces}
        facts |= {} if subjects is None else {"subjects": subjects}
        facts |= more
        if self.inspect is not None:
            self.inspect(facts)
        return facts


@dataclass(frozen=True)
class MetricsOptions:
    """Options of fd-metrics.

    Attributes:
        face_set: face set to measure the model on; None = standard input.
        model: path or bundled name; None = the default model.
        split: split of the face set: all, train, test or validation.
        truth, predicted: meshes to compare by name, instead of a face set.
        labels: CSV file with name, subject, expression of these meshes.
        neutral: name of the neutral expression in the labels; None = `neutral`.
        units: unit of meshes that do not declare one.
        baselines: also measure the linear baselines, fitted on the training split of the set.
        baselines_from: face set to fit the baselines on instead.
        align: align predictions rigidly to the truth first.
        checks: limits of numbers.
        against: earlier report to compare with.
        tolerance: how much worse than in the earlier report a metric may be; None = not at all.

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
    units: Units = "auto"
    baselines: bool = False
    baselines_from: str | None = None
    align: bool = False
    checks: Sequence[Check] = ()
    against: str | None = None
    tolerance: Tolerance | None = None

    def __post_init__(self) -> None:
        if self.tolerance is not None and self.against is None:
            raise UsageError(
                "--tolerance belongs to --against REPORT; give both", ErrorCode.OPTION_MISSING
            )
        if self.neutral is not None and self.labels is None:
            raise UsageError(
                "--neutral names an expression in --labels; give both", ErrorCode.OPTION_MISSING
            )
        if self.of_meshes:
            if self.truth is None or self.predicted is None:
                raise UsageError(
                    "--truth and --predicted belong together; give both", ErrorCode.OPTION_MISSING
                )
            of_set = self.face_set, self.model, self.baselines, self.baselines_from
            if any(of_set) or self.split != "test":
                raise UsageError(
                    "SET, --model, --split and --baselines do not go with --truth; leave them out",
                    ErrorCode.OPTION_CONFLICT,
                )
        elif self.units != "auto":
            raise UsageError(
                "--units is for --truth and --predicted; a face set is in mm",
                ErrorCode.OPTION_CONFLICT,
            )

    @property
    def of_meshes(self) -> bool:
        """Whether to compare meshes instead of measuring a model on a face set."""
        return not (self.truth is None and self.predicted is None and self.labels is None)

    @property
    def sources(self) -> list[str | None]:
        """All inputs; at most one may be standard input."""
        if self.of_meshes:
            return [self.truth, self.predicted, self.labels, self.against]
        return [self.face_set or "-", self.model, self.baselines_from, self.against]


class MetricsReport(NamedTuple):
    """Results of fd-metrics.

    Attributes:
        report: values for JSON.
        per_mesh: errors of each mesh as CSV.
        checks: checks of the report by origin: `check` and `against`.
    """

    report: dict[str, Any]
    per_mesh: str
    checks: Mapping[str, Sequence[Check]]


def measure(
    options: MetricsOptions,
    progress: Progress = no_progress,
    warn: Callable[[str], object] = lambda line: None,
) -> MetricsReport:
    """Measure a model or predicted meshes.

    Raises:
        InputError: unreadable input, no faces in the split, topologies that do not fit, or an
            earlier report on other faces.
    """
    earlier = EarlierReport.read(options.against) if options.against is not None else None
    how = MeasureOptions(options.align, earlier.require_same if earlier else None, progress, warn)
    if options.truth is not None and options.predicted is not None:
        report, table = _measure_meshes(
            options.truth,
            options.predicted,
            options.labels,
            options.neutral,
            options.units,
            how,
        )
    else:
        report, table = _measure_model(options, how)
    checks = {"check": options.checks}
    if earlier is not None:
        checks["against"] = earlier.checks(options.tolerance or Tolerance())
    return MetricsReport(report, table, checks)


def open_split(source: str, model: Model, split: str) -> tuple[FaceSet, np.ndarray]:
    """A face set in the topology of a model, and the rows of one split, or of `all`.

    Raises:
        InputError: unreadable, of another topology, or no faces in the split.
    """
    faces = load_face_set(source)
    label = f"model {model.source or model.id} ({made_by(model.history)})"
    check_topology(faces, source, model.topology, label)
    rows = faces.rows(None if split == "all" else SPLITS[split])
    if not len(rows):
        raise InputError(
            f"{source} has no faces in its {split} split; choose another --split",
            ErrorCode.SPLIT_EMPTY,
        )
    return faces, rows


def measure_baselines(
    training: FaceSet, model: Model, faces: FaceSet, rows: np.ndarray, how: MeasureOptions
) -> dict[str, dict[str, Any]]:
    """Metrics of the linear baselines with as many coefficients as the model has latents.

    Args:
        training: face set to fit them on, on its training split.
        model: the model to compare with.
        faces: face set to measure them on.
        rows: its rows to measure.
        how: how to measure.

    Returns:
        The metrics by name, as of `evaluate_baselines`.

    Raises:
        InputError: errors of `fit_baselines` and `evaluate_baselines`.
    """
    with how.progress("baselines", None) as advance:
        fitted = fit_baselines(training, model.config.identity + model.config.expression)
        return evaluate_baselines(fitted, faces, rows, align=how.align, progress=advance)


def _measure_model(options: MetricsOptions, how: MeasureOptions) -> tuple[dict[str, Any], str]:
    """The report on a model and a face set, and the errors of each face as CSV."""
    source, fitted_on = options.face_set or "-", options.baselines_from
    baselines = options.baselines or fitted_on is not None
    model = load_model(options.model)
    faces, rows = open_split(source, model, options.split)
    labels = faces.labels
    subjects = len(set(labels.subject[rows].tolist()))
    origin = {"model": model.id, "set": faces.id, "source": faces.source, "split": options.split}
    facts = how.facts(len(rows), subjects, **origin)
    training = load_face_set(fitted_on) if fitted_on is not None else faces
    if baselines:
        check_topology(training, fitted_on or source, faces.topology, source)
    with how.progress("measuring", len(rows)) as advance:
        evaluation = evaluate_face_set(
            model_predictor(model), faces, rows, align=how.align, progress=advance
        )
    report: dict[str, Any] = {"model": evaluation.metrics}
    if baselines:
        report["baselines"] = measure_baselines(training, model, faces, rows, how)
        facts["baselines_set"] = training.id
    report["provenance"] = facts
    names = [
        (
            labels.names[row],
            labels.subjects[labels.subject[row]],
            labels.expressions[labels.expression[row]],
        )
        for row in rows
    ]
    return report, _csv(names, evaluation)


def _measure_meshes(
    truth: str,
    predicted: str,
    labels: str | None,
    neutral: str | None,
    units: Units,
    how: MeasureOptions,
) -> tuple[dict[str, Any], str]:
    """The report on predicted meshes, and the errors of each mesh as CSV."""
    with how.progress("measuring", None) as advance:
        comparison = compare_meshes(
            truth,
            predicted,
            labels,
            neutral=neutral,
            units=units,
            align=how.align,
            on_match=how.facts,
            warn=how.warn,
            progress=advance,
        )
    names, known = comparison.names, comparison.labels
    subjects = len({label.subject for label in known}) or None
    facts = how.facts(len(names), subjects)
    report = {"model": comparison.evaluation.metrics, "provenance": facts}
    columns = [(label.subject, label.expression) for label in known]
    pairs = zip(names, columns or [("", "")] * len(names), strict=True)
    return report, _csv([(name, *label) for name, label in pairs], comparison.evaluation)


def _csv(names: Sequence[tuple[str, str, str]], evaluation: Evaluation) -> str:
    """Errors of each mesh as CSV, empty where a mesh has none.

    Args:
        names: name, subject and expression of each mesh.
        evaluation: of these meshes.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "subject", "expression", *evaluation.per_mesh])
    for name, values in zip(names, zip(*evaluation.per_mesh.values(), strict=True), strict=True):
        writer.writerow([*name, *("" if value != value else f"{value:.6g}" for value in values)])
    return text.getvalue()
