"""Metrics report of models on a face set or of predicted meshes, for fd-metrics."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple

import numpy as np

from facedis_core import __version__
from facedis_core.data.face_set import SPLITS, FaceSet, check_topology, load_face_set
from facedis_core.data.history import made_by
from facedis_core.data.regions import describe_region, find_region
from facedis_core.data.units import Units
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.evaluate.baselines import distinct_baselines, evaluate_baselines, fit_baselines
from facedis_core.evaluate.combination import combine_reports
from facedis_core.evaluate.comparison import Method, report_of, summary_table
from facedis_core.evaluate.conditions import model_condition
from facedis_core.evaluate.error_tables import FaceNames, by_expression, by_mesh, by_subject
from facedis_core.evaluate.evaluation import (
    Evaluation,
    OrderedMap,
    evaluate_face_set,
    map_in_one_process,
)
from facedis_core.evaluate.evaluation_parts import PartReader, PartWriter
from facedis_core.evaluate.gates import Check, EarlierReport, Tolerance
from facedis_core.evaluate.mesh_comparison import MeshComparison, compare_meshes
from facedis_core.evaluate.prediction import model_predictor
from facedis_core.evaluate.shape_space import add_shape_space
from facedis_core.evaluate.tables import Table
from facedis_core.io.progress import Progress, no_progress
from facedis_core.io.text import shown
from facedis_core.model.device import Device, on_device
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.shards import Shard, find_shards, work_id

ReportFormat = Literal["table", "json", "csv", "markdown", "latex"]
# Suffix of a report in each format.
SUFFIXES: Final[Mapping[ReportFormat, str]] = {
    **{"table": ".txt", "json": ".json", "csv": ".csv", "markdown": ".md", "latex": ".tex"}
}


@dataclass(frozen=True)
class MeasureOptions:
    """Options of a measurement.

    Attributes:
        align: align predictions rigidly to the truth first.
        region: (V,) bool, vertices to measure; None = all.
        inspect: called with the provenance of the report before anything is computed; may raise.
        progress: shows the number of measured faces.
        warn: called with each warning about a mesh.
        ordered_map: called with everything that decides the results; gives what divides the
            measurement, as of `evaluate_predictions`.
    """

    align: bool = False
    region: np.ndarray | None = None
    inspect: Callable[[Mapping[str, Any]], None] | None = None
    progress: Progress = no_progress
    warn: Callable[[str], object] = lambda line: None
    ordered_map: Callable[..., OrderedMap] = lambda *facts: map_in_one_process

    def facts(self, faces: int, subjects: int | None = None, **more: Any) -> dict[str, Any]:
        """The provenance of a report; calls `inspect` with it.

        Args:
            faces: number of faces.
            subjects: number of subjects, if known.
            more: other facts.
        """
        facts = {"version": __version__, "aligned": self.align, "faces": faces}
        facts |= {} if subjects is None else {"subjects": subjects}
        facts |= {} if self.region is None else {"region": describe_region(self.region)}
        facts |= more
        if self.inspect is not None:
            self.inspect(facts)
        return facts


@dataclass(frozen=True)
class MetricsOptions:
    """Options of fd-metrics.

    Attributes:
        inputs: face set to measure models on, none = standard input; with `combine` reports.
        models: paths or bundled names; none = the default model.
        split: split of the face set: all, train, test or validation.
        truth, predicted: meshes to compare by name, instead of a face set.
        predicted_identity: identity faces of these meshes; None = with labels, the predicted ones.
        labels: CSV file with name, subject, expression of these meshes.
        neutral: name of the neutral expression in the labels; None = `neutral`.
        units: unit of meshes that do not declare one.
        baselines: also measure the linear baselines, fitted on the training split of the set.
        baselines_from: face set to fit the baselines on instead.
        align: align predictions rigidly to the truth first.
        samples: also measure specificity with so many sampled faces, and generality; 0 = not.
        device: of the models: cpu, cuda or auto.
        region: vertices to measure: a name or a file as of `find_region`; None = those of the set.
        checks: limits of numbers.
        against: earlier report to compare with.
        tolerance: how much worse than in the earlier report a metric may be; None = not at all.
        combine: average earlier reports instead of measuring.
        shard: the part of the faces to measure; None = all.
        merge: files of all shards, whose results are read instead of measured; none = measure.
        details: tables by mesh, subject or expression are wanted too.
        report_format: format of the report.
        as_json: short for the format json.

    Raises:
        UsageError: options that do not go together.
    """

    inputs: Sequence[str] = ()
    models: Sequence[str] = ()
    split: str = "test"
    truth: str | None = None
    predicted: str | None = None
    predicted_identity: str | None = None
    labels: str | None = None
    neutral: str | None = None
    units: Units = "auto"
    baselines: bool = False
    baselines_from: str | None = None
    align: bool = False
    samples: int = 0
    device: Device = "cpu"
    region: str | None = None
    checks: Sequence[Check] = ()
    against: str | None = None
    tolerance: Tolerance | None = None
    combine: bool = False
    shard: Shard | None = None
    merge: Sequence[str] = ()
    details: bool = False
    report_format: ReportFormat = "table"
    as_json: bool = False

    def __post_init__(self) -> None:
        if self.as_json and self.report_format not in ("table", "json"):
            raise UsageError(
                f"--json and --format {self.report_format} are two formats; give one of them",
                ErrorCode.OPTION_CONFLICT,
            )
        if self.tolerance is not None and self.against is None:
            raise UsageError(
                "--tolerance belongs to --against REPORT; give both", ErrorCode.OPTION_MISSING
            )
        if self.samples and self.align:
            raise UsageError(
                "--samples decodes faces that have no truth to be aligned to; leave out --align",
                ErrorCode.OPTION_CONFLICT,
            )
        if self.neutral is not None and self.labels is None:
            raise UsageError(
                "--neutral names an expression in --labels; give both", ErrorCode.OPTION_MISSING
            )
        if self.shard is not None:
            self._check_part()
        if self.combine:
            self._check_combination()
        elif len(self.inputs) > 1:
            raise UsageError(
                f"expected one face set, got {len(self.inputs)}; several reports need --combine",
                ErrorCode.ARGUMENTS,
            )
        if self.against is not None and len(self.models) > 1:
            raise UsageError(
                "--against compares one model with an earlier report; give one --model",
                ErrorCode.OPTION_CONFLICT,
            )
        if self.of_meshes:
            if self.truth is None or not (self.predicted or self.predicted_identity):
                raise UsageError(
                    "--truth and --predicted or --predicted-identity belong together; give both",
                    ErrorCode.OPTION_MISSING,
                )
            if self.predicted_identity is not None and self.labels is None:
                raise UsageError(
                    "--predicted-identity needs the people and expressions of --labels; give both",
                    ErrorCode.OPTION_MISSING,
                )
            of_set = *self.inputs, self.models, self.baselines, self.baselines_from, self.samples
            if any(of_set) or self.split != "test" or self.device != "cpu":
                raise UsageError(
                    "SET, --model, --split, --baselines, --samples and --device do not go with "
                    "--truth; leave them out",
                    ErrorCode.OPTION_CONFLICT,
                )
        elif self.units != "auto":
            raise UsageError(
                "--units is for --truth and --predicted; a face set is in mm",
                ErrorCode.OPTION_CONFLICT,
            )

    def _check_part(self) -> None:
        others = {
            **{"--merge": self.merge, "--combine": self.combine, "--samples": self.samples},
            **{"--check": self.checks, "--against": self.against},
            "--json and --format": self.format != "table",
            "--per-mesh, --per-subject and --per-expression": self.details,
        }
        given = next((name for name, value in others.items() if value), None)
        if given is not None:
            raise UsageError(
                f"--shard measures a part of the faces and reports nothing; give {given} with "
                "--merge",
                ErrorCode.OPTION_CONFLICT,
            )

    def _check_combination(self) -> None:
        if len(self.inputs) < 2:
            raise UsageError(
                f"--combine needs two or more reports, got {len(self.inputs)}; make them with "
                "fd-metrics --json",
                ErrorCode.ARGUMENTS,
            )
        files = [os.path.realpath(source) for source in self.inputs]
        twice = [s for s, file in zip(self.inputs, files, strict=True) if files.count(file) > 1]
        if twice:
            raise UsageError(
                f"--combine is given {shown(twice[0])} twice; name each report once",
                ErrorCode.SAME_FILE,
            )
        others = {
            **{"model": self.models, "split": self.split != "test", "truth": self.truth},
            **{"predicted": self.predicted, "predicted-identity": self.predicted_identity},
            **{"labels": self.labels, "units": self.units != "auto", "region": self.region},
            **{"baselines": self.baselines, "baselines-from": self.baselines_from},
            **{
                "samples": self.samples,
                "align": self.align,
                "against": self.against,
                "device": self.device != "cpu",
                "merge": self.merge,
            },
            "per-mesh, --per-subject and --per-expression": self.details,
        }
        given = next((name for name, value in others.items() if value), None)
        if given is not None:
            raise UsageError(
                f"--combine reads reports and measures nothing; leave out --{given}",
                ErrorCode.OPTION_CONFLICT,
            )

    @property
    def face_set(self) -> str:
        """The face set to measure models on."""
        return self.inputs[0] if self.inputs else "-"

    @property
    def format(self) -> ReportFormat:
        """The format of the report."""
        return "json" if self.as_json else self.report_format

    @property
    def of_meshes(self) -> bool:
        """Whether to compare meshes instead of measuring a model on a face set."""
        of_meshes = self.truth, self.predicted, self.predicted_identity, self.labels
        return any(option is not None for option in of_meshes)

    def all_checks(self, report: Mapping[str, Any]) -> list[Check]:
        """The given checks, one for each model of a report on several."""
        if "models" not in report:
            return list(self.checks)
        return [each for check in self.checks for each in check.of_models([*report["models"]])]

    @property
    def sources(self) -> list[str | None]:
        """All inputs; at most one may be standard input."""
        if self.combine:
            return [*self.inputs]
        if self.of_meshes:
            meshes = [self.truth, self.predicted, self.predicted_identity]
            return [*meshes, self.labels, self.against]
        return [self.face_set, *self.models, self.baselines_from, self.against]


class ErrorTables(NamedTuple):
    """Errors of the models by mesh, by subject and by expression."""

    mesh: Table
    subject: Table
    expression: Table


class MetricsReport(NamedTuple):
    """Results of fd-metrics.

    Attributes:
        report: values for JSON.
        tables: errors of the models in detail; None of combined reports.
        checks: checks of the report by origin: `check` and `against`.
    """

    report: dict[str, Any]
    tables: ErrorTables | None
    checks: Mapping[str, Sequence[Check]]

    def render(self, how: ReportFormat) -> str:
        """The report in a format, with a line break at the end."""
        if how == "json":
            return json.dumps(self.report, indent=2, allow_nan=False) + "\n"
        return summary_table(self.report).render(how)


def measure(
    options: MetricsOptions,
    progress: Progress = no_progress,
    warn: Callable[[str], object] = lambda line: None,
) -> MetricsReport:
    """Measure models or predicted meshes.

    Raises:
        InputError: unreadable input, no faces in the split, topologies that do not fit, or an
            earlier report on other faces.
    """
    if options.combine:
        report = combine_reports(options.inputs)
        return MetricsReport(report, None, {"check": options.all_checks(report)})
    earlier = EarlierReport.read(options.against) if options.against is not None else None
    how = MeasureOptions(
        options.align,
        inspect=earlier.require_same if earlier else None,
        progress=progress,
        warn=warn,
    )
    readers: list[PartReader] = []
    if options.merge:

        def read_parts(*facts: Any) -> PartReader:
            readers.append(PartReader(_find_parts(options, facts)))
            return readers[-1]

        how = replace(how, ordered_map=read_parts)
    if options.truth is not None:
        report, tables = _measure_meshes(options.truth, options, how)
    else:
        report, tables = _measure_models(options, how)
    for reader in readers:
        reader.check_ends()
    checks: dict[str, Sequence[Check]] = {"check": options.all_checks(report)}
    if earlier is not None:
        checks["against"] = earlier.checks(options.tolerance or Tolerance())
    return MetricsReport(report, tables, checks)


def measure_part(options: MetricsOptions, stream: BinaryIO) -> None:
    """Measure a shard of the faces and write what `measure` then merges, without a report.

    Warnings and checks come with the report.

    Raises:
        InputError: as of `measure`.
    """
    shard = options.shard
    if shard is None:
        raise UsageError("there is no shard to measure", ErrorCode.OPTION_MISSING)
    how = MeasureOptions(
        options.align,
        ordered_map=lambda *facts: PartWriter(stream, shard, _work(options, facts)),
    )
    if options.truth is not None:
        _compare_meshes(options.truth, options, how)
    else:
        _evaluate_models(options, how)


def _work(options: MetricsOptions, facts: Sequence[Any]) -> str:
    return work_id("fd-metrics", options.align, options.region, facts)


def _find_parts(options: MetricsOptions, facts: Sequence[Any]) -> list[str]:
    return find_shards(options.merge, "fd-metrics --shard", _work(options, facts))


def label_models(models: Sequence[Model]) -> list[str]:
    """A unique name of each model: of its file, with as many of its folders as tell it apart.

    Raises:
        UsageError: a model is given twice.
    """
    ids = [model.id for model in models]
    twin = next((model for model in models if ids.count(model.id) > 1), None)
    if twin is not None:
        raise UsageError(
            f"--model names {twin.source or twin.id} twice, by one name or another; "
            "name each model once",
            ErrorCode.SAME_FILE,
        )
    paths = [Path((m.source or m.id).removesuffix(".safetensors")).parts for m in models]

    def label(path: Sequence[str], id_: str) -> str:
        for count in range(1, len(path) + 1):
            if sum(other[-count:] == path[-count:] for other in paths) == 1:
                return "/".join(path[-count:])
        return id_

    return [label(path, id_) for path, id_ in zip(paths, ids, strict=True)]


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
    training: FaceSet,
    models: Mapping[str, Model],
    faces: FaceSet,
    rows: np.ndarray,
    how: MeasureOptions,
    ordered_map: OrderedMap = map_in_one_process,
) -> dict[str, Evaluation]:
    """Evaluations of the linear baselines with as many coefficients as the first model has latents.

    A warning names the models of another size, for which they are no measure.

    Args:
        training: face set to fit them on, on its training split.
        models: by name, the models to compare with.
        faces: face set to measure them on.
        rows: its rows to measure.
        how: how to measure.
        ordered_map: divides the measurement, as of `evaluate_predictions`.

    Returns:
        By name, as of `evaluate_baselines`, without those that repeat another.

    Raises:
        InputError: errors of `fit_baselines` and `evaluate_baselines`.
    """
    name, first = next(iter(models.items()))
    others = [
        f"{other} ({_latents(model)})"
        for other, model in models.items()
        if _latents(model) != _latents(first)
    ]
    if others:
        how.warn(
            f"the baselines are fitted for the {_latents(first)} latents of {name} and are no "
            f"measure for {', '.join(others)}; measure models of another size in a run of their own"
        )
    with how.progress("baselines", None) as advance:
        fitted = fit_baselines(training, first.config.identity, first.config.expression)
        found = evaluate_baselines(
            fitted,
            faces,
            rows,
            region=how.region,
            align=how.align,
            progress=advance,
            ordered_map=ordered_map,
        )
    return distinct_baselines(found, how.warn)


def with_facts(evaluation: Evaluation, model: Model) -> Evaluation:
    """The evaluation of a model with what decides which baselines it is held against.

    That is the number of its latents, and its condition, where that is known.
    """
    facts: dict[str, Any] = {"latents": _latents(model)}
    condition = model_condition(model)
    if condition is not None:
        facts["condition"] = condition
    return replace(evaluation, metrics=evaluation.metrics | facts)


def _latents(model: Model) -> int:
    return model.config.identity + model.config.expression


def _measure_models(
    options: MetricsOptions, how: MeasureOptions
) -> tuple[dict[str, Any], ErrorTables]:
    """The report on models and a face set, and the errors of each face."""
    methods, linear, facts, names = _evaluate_models(options, how)
    return report_of(methods, linear, facts), _error_tables(methods, names)


class _Measured(NamedTuple):
    """Models and baselines with their results, the provenance, and names of the faces."""

    methods: list[Method]
    linear: list[Method]
    facts: dict[str, Any]
    names: FaceNames


def _evaluate_models(options: MetricsOptions, how: MeasureOptions) -> _Measured:
    """Measure models and baselines on a face set."""
    source, fitted_on = options.face_set, options.baselines_from
    baselines = options.baselines or fitted_on is not None
    models = [load_model(name) for name in options.models] or [load_model(None)]
    faces, rows = open_split(source, models[0], options.split)
    if options.samples:
        for model in models:
            model.check_part("identity")
            model.check_part("expression")
    for model in models[1:]:
        check_topology(faces, source, model.topology, f"model {model.source or model.id}")
    how = replace(how, region=faces.region)
    if options.region is not None:
        how = replace(how, region=find_region(options.region, faces.preparation))
    names = label_models(models)
    labels = faces.labels
    subjects = len(set(labels.subject[rows].tolist()))
    of_models: dict[str, Any] = {"model": models[0].id}
    if len(models) > 1:
        of_models = {"models": {name: m.id for name, m in zip(names, models, strict=True)}}
    origin = {"set": faces.id, "source": faces.source, "split": options.split}
    facts = how.facts(len(rows), subjects, **of_models, **origin)
    training = load_face_set(fitted_on) if fitted_on is not None else faces
    if baselines:
        check_topology(training, fitted_on or source, faces.topology, source)
    ordered_map = how.ordered_map(facts, training.id if baselines else None)
    methods = []
    for name, model in zip(names, models, strict=True):
        words = f"measuring {name}" if len(models) > 1 else "measuring"
        placed = on_device(model, options.device, len(rows))
        with how.progress(words, len(rows)) as advance:
            evaluation = evaluate_face_set(
                model_predictor(placed),
                faces,
                rows,
                region=how.region,
                align=how.align,
                progress=advance,
                ordered_map=ordered_map,
            )
        if options.samples:
            with how.progress("sampling", None) as advance:
                evaluation = add_shape_space(
                    evaluation,
                    placed,
                    faces,
                    samples=options.samples,
                    region=how.region,
                    progress=advance,
                )
        methods.append(Method(name, with_facts(evaluation, model)))
    linear = []
    if baselines:
        named = dict(zip(names, models, strict=True))
        found = measure_baselines(training, named, faces, rows, how, ordered_map)
        linear = [Method(name, evaluation) for name, evaluation in found.items()]
        facts["baselines_set"] = training.id
    face_names = FaceNames(
        [labels.names[row] for row in rows],
        labels.subjects,
        labels.expressions,
        np.asarray(labels.expression)[rows],
    )
    return _Measured(methods, linear, facts, face_names)


def _compare_meshes(truth: str, options: MetricsOptions, how: MeasureOptions) -> MeshComparison:
    """Compare predicted meshes with true ones."""

    def inspect(pairs: int, region: np.ndarray | None) -> None:
        replace(how, region=region).facts(pairs)

    with how.progress("measuring", None) as advance:
        return compare_meshes(
            truth,
            options.predicted,
            options.labels,
            identity=options.predicted_identity,
            neutral=options.neutral,
            units=options.units,
            region=options.region,
            align=how.align,
            on_match=inspect,
            warn=how.warn,
            progress=advance,
            ordered_map=how.ordered_map,
        )


def _measure_meshes(
    truth: str, options: MetricsOptions, how: MeasureOptions
) -> tuple[dict[str, Any], ErrorTables]:
    """The report on predicted meshes, and the errors of each mesh."""
    comparison = _compare_meshes(truth, options, how)
    how = replace(how, region=comparison.region)
    known = comparison.labels
    facts = how.facts(len(comparison.names), len({label.subject for label in known}) or None)
    methods = [Method("predicted", comparison.evaluation)]
    face_names = FaceNames(
        comparison.names,
        sorted({label.subject for label in known}) or [""],
        comparison.expressions or [""],
        comparison.expression,
    )
    return report_of(methods, [], facts), _error_tables(methods, face_names)


def _error_tables(methods: Sequence[Method], names: FaceNames) -> ErrorTables:
    return ErrorTables(
        by_mesh(methods, names), by_subject(methods, names), by_expression(methods, names)
    )
