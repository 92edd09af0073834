"""Contents of the sections of a report page: facts, metrics, charts and tables of a comparison."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.data.face_set import TRAIN
from facedis_core.data.history import made_by
from facedis_core.data.regions import FACE, named_region
from facedis_core.evaluate.comparison import claim, differences, strongest_baselines
from facedis_core.evaluate.evaluation import Evaluation
from facedis_core.evaluate.uncertainty import FEW_SUBJECTS
from facedis_core.inspection.file_info import parameters
from facedis_core.model.model import Part
from facedis_core.report.charts import Series, bars, color_class, curves, histogram
from facedis_core.report.comparison import ModelComparison, ModelResult
from facedis_core.report.regions import find_regions
from facedis_core.report.tables import (
    Method,
    MetricRow,
    PartTable,
    count_range,
    metric_rows,
    part_table,
)
from facedis_core.report.training_log import CURVES, curve, read_log

PART_ERRORS: Final = {
    "full": "Reconstruction error E_rec",
    "identity": "Distance to the neutral AVD_neu",
    "expression": "Expression error",
}
SPREADS: Final = {
    "e_dis": "Disentanglement error E_dis",
    "e_dis_jiang": "E_dis after Jiang et al.",
    "e_dis_mean_distance": "Distance to the person's mean",
}


class ModelRow(NamedTuple):
    """Facts about a model, as text."""

    label: str
    id: str
    latents: str
    parameters: str
    history: str
    recipe: dict[str, str]


class Chart(NamedTuple):
    """An SVG element, the name of its file, and its caption."""

    key: str
    caption: str
    svg: str


def comparison_facts(comparison: ModelComparison) -> dict[str, str]:
    """The face set, split and settings of the measurement."""
    faces, facts = comparison.faces, comparison.facts
    return {
        "set": f"{faces.id} ({faces.source}, {faces.protocol})",
        "history": made_by(faces.history),
        "split": facts["split"],
        "faces": f"{facts['faces']:,}",
        "people": f"{facts['subjects']:,}",
        "aligned": "rigidly to the truth" if facts["aligned"] else "no",
        **({"region": facts["region"]} if "region" in facts else {}),
        "topology": f"{faces.topology}, {faces.vertices.shape[1]:,} vertices",
        "facedis": facts["version"],
    }


class Claim(NamedTuple):
    """The strongest baselines of a model's condition, as text, one of each metric."""

    label: str
    condition: str
    baselines: list[str]


class Metrics(NamedTuple):
    """Metrics of models and baselines.

    Attributes:
        differing: facts in which the models differ, as of `differing_facts`.
        components: number of components of the linear baselines; None = there are none.
        latents: number of latents of the first model.
        few_people: so few people that intervals are too narrow.
        on_training_faces: some measured faces are of the training split.
        halves: what a model of one half shows, a sentence each.
        claims: the strongest baselines for each model whose condition is known.
    """

    methods: list[Method]
    rows: list[MetricRow]
    models: list[ModelRow]
    differing: list[tuple[str, list[str]]]
    components: int | None
    latents: int
    few_people: bool
    on_training_faces: bool
    halves: list[str]
    claims: list[Claim]


def metrics_section(comparison: ModelComparison) -> Metrics:
    """Metrics of the models, and of those baselines that differ from one another."""
    baselines, first = comparison.baselines, comparison.models[0]
    evaluations = {result.label: result.evaluation for result in comparison.models}
    methods = [
        _method(label, evaluation, first.evaluation) for label, evaluation in evaluations.items()
    ]
    methods += [
        _method(key, evaluation, first.evaluation)._replace(baseline=True)
        for key, evaluation in baselines.items()
    ]
    return Metrics(
        methods,
        metric_rows(methods),
        list(map(_model_row, comparison.models)),
        differing_facts(comparison.models),
        baselines["pca"].metrics["components"] if "pca" in baselines else None,
        first.evaluation.metrics["latents"],
        comparison.facts["subjects"] < FEW_SUBJECTS,
        bool((np.asarray(comparison.faces.labels.split)[comparison.rows] == TRAIN).any()),
        [_half(result) for result in comparison.models if result not in comparison.whole],
        _claims(comparison),
    )


def _half(result: ModelResult) -> str:
    if result.model.config.identity:
        return f"{result.label} has no expression latents: it predicts identity parts alone."
    return f"{result.label} has no identity latents: it predicts full faces alone."


def _claims(comparison: ModelComparison) -> list[Claim]:
    known = {key: evaluation.metrics for key, evaluation in comparison.baselines.items()}
    found = []
    for result in comparison.models:
        metrics = result.evaluation.metrics
        if strongest := strongest_baselines(metrics, known):
            words = [claim(key, value) for key, value in strongest.items()]
            found.append(Claim(result.label, metrics["condition"], words))
    return found


def _method(label: str, evaluation: Evaluation, first: Evaluation) -> Method:
    intervals = {key: sums.interval() for key, sums in evaluation.sums.items()}
    return Method(
        label,
        evaluation.metrics,
        condition=evaluation.metrics.get("condition", ""),
        intervals={key: found for key, found in intervals.items() if found is not None},
        differences={} if evaluation is first else differences(first, evaluation),
    )


def differing_facts(models: Sequence[ModelResult]) -> list[tuple[str, list[str]]]:
    """Facts in which models differ: the name of each, and its value of each model, `–` = none.

    Of the training: command, options (recipe, neutrals, seed), sets and other inputs, then every
    value of the recipe and of the network.
    """
    tables = []
    for result in models:
        model = result.model
        facts: dict[str, Any] = {}
        if model.history:
            last = model.history[-1]
            facts |= {"command": f"{last.command} {last.version}"}
            facts |= {f"option {name}": value for name, value in last.options.items()}
            facts |= {f"input {name}": value for name, value in last.inputs.items()}
        facts |= {f"trained {name}": model.metrics.get(name) for name in ("epochs", "steps")}
        facts |= {f"recipe {name}": value for name, value in (model.recipe or {}).items()}
        facts |= {f"network {name}": value for name, value in asdict(model.config).items()}
        tables.append(facts)
    names = dict.fromkeys(name for facts in tables for name in facts)
    rows = [(name, [_fact(facts.get(name)) for facts in tables]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _model_row(result: ModelResult) -> ModelRow:
    model = result.model
    recipe = {k: "–" if v is None else str(v) for k, v in (model.recipe or {}).items()}
    return ModelRow(
        result.label,
        model.id,
        f"{model.config.identity} + {model.config.expression}",
        f"{parameters(model.weights):,}",
        made_by(model.history),
        recipe,
    )


def legend(comparison: ModelComparison) -> list[tuple[str, str]]:
    """CSS class and label of each model's series."""
    return [(color_class(n), result.label) for n, result in enumerate(comparison.models)]


def error_histograms(comparison: ModelComparison) -> list[Chart]:
    """Histograms of the errors of single meshes, and of the spreads of single people."""
    charts = []
    for part in comparison.parts:
        series = [Series(r.label, r.errors.by_mesh(part)) for r in comparison.models]
        title = PART_ERRORS[part]
        charts.append(Chart(f"histogram-{part}", f"{title}, by mesh", histogram(series, title)))
    for key, title in SPREADS.items():
        known = [(r.label, r.evaluation.per_subject.get(key)) for r in comparison.models]
        if any(values is not None for _, values in known):
            series = [Series(label, _known(values)) for label, values in known]
            charts.append(
                Chart(f"histogram-{key}", f"{title}, by person", histogram(series, title))
            )
    return charts


def _known(values: np.ndarray | None) -> np.ndarray:
    return np.array([np.nan]) if values is None else values


def errors_by_expression(comparison: ModelComparison) -> tuple[list[Chart], PartTable]:
    """Mean errors of each expression: bar charts, the highest error first, and a table."""
    labels = comparison.faces.labels
    shown = np.asarray(labels.expression)[comparison.rows]
    kinds = np.unique(shown)
    means = {
        (part, result.label): np.array(
            [_mean(result.errors.by_mesh(part)[shown == kind]) for kind in kinds]
        )
        for part in comparison.parts
        for result in comparison.models
    }
    first = comparison.parts[0]
    order = np.argsort(-means[first, comparison.having(first)[0].label], kind="stable")
    names = [labels.expressions[kinds[place]] for place in order]
    charts = []
    for part in comparison.parts:
        series = [Series(r.label, means[part, r.label][order]) for r in comparison.models]
        title = PART_ERRORS[part]
        charts.append(
            Chart(f"expressions-{part}", f"{title}, by expression", bars(names, series, title))
        )
    rows = []
    for kind in kinds:
        of_kind = [
            comparison.having(part)[0].errors.by_mesh(part)[shown == kind]
            for part in comparison.parts
        ]
        counts = [int(np.isfinite(values).sum()) for values in of_kind]
        rows.append((labels.expressions[kind], count_range(counts)))
    table = part_table(comparison, "expression", "faces", rows, lambda *key: means[key])
    return charts, table


def _fact(value: Any) -> str:
    if value is None:
        return "–"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def training_curves(comparison: ModelComparison) -> list[Chart]:
    """Curves of the trainings whose logs lie beside the models; none without logs."""
    logs = [(result.label, read_log(result.model)) for result in comparison.models]
    charts = []
    for key, (title, _) in CURVES.items():
        lines = [curve(label, records, key) for label, records in logs]
        if any(line is not None for line in lines):
            charts.append(Chart(f"training-{key}", title, curves(lines, title)))
    return charts


def errors_by_region(comparison: ModelComparison) -> PartTable:
    """Mean errors of the vertices of each region."""
    first, faces = comparison.models[0], comparison.faces
    face = faces.region
    if face is None:
        face = named_region(FACE, faces.preparation)
    motions = (result.errors.motion() for result in comparison.models)
    motion = next((each for each in motions if each is not None), None)
    regions = find_regions(first.model.mean_face, faces.triangles, motion, face)
    results = {result.label: result for result in comparison.models}

    def errors(part: Part, label: str) -> np.ndarray:
        per_vertex = results[label].errors.per_vertex(part)
        return np.array([per_vertex[inside].mean() for inside in regions.values()])

    rows = [(name, f"{inside.sum():,}") for name, inside in regions.items()]
    return part_table(comparison, "region", "vertices", rows, errors)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
