"""Contents of the sections of a report page: facts, metrics, charts and tables of a comparison."""

from typing import Final, NamedTuple

import numpy as np

from facedis_core.data.face_set import TRAIN
from facedis_core.data.history import made_by
from facedis_core.inspection.file_info import parameters
from facedis_core.model.model import Part
from facedis_core.report.charts import Series, bars, color_class, histogram
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
    """An SVG element and its caption."""

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


class Metrics(NamedTuple):
    """Metrics of models and baselines.

    Attributes:
        components: number of components of the linear baselines; None = there are none.
        latents: number of latents of the first model.
        on_training_faces: some measured faces are of the training split.
    """

    methods: list[Method]
    rows: list[MetricRow]
    models: list[ModelRow]
    components: int | None
    latents: int
    on_training_faces: bool


def metrics_section(comparison: ModelComparison) -> Metrics:
    """Metrics of the models, and of those baselines that differ from one another."""
    baselines = comparison.baselines
    methods = [Method(result.label, result.evaluation.metrics) for result in comparison.models]
    for key, metrics in baselines.items():
        # twice the components: left out where the training faces have no more of them
        half = baselines.get(key.removesuffix("_2x"), {})
        if not key.endswith("_2x") or metrics["components"] > half["components"]:
            methods.append(Method(key, metrics, baseline=True))
    config = comparison.models[0].model.config
    return Metrics(
        methods,
        metric_rows(methods),
        list(map(_model_row, comparison.models)),
        baselines["pca"]["components"] if baselines else None,
        config.identity + config.expression,
        bool((np.asarray(comparison.faces.labels.split)[comparison.rows] == TRAIN).any()),
    )


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
        series = [Series(r.label, r.errors.per_mesh[part]) for r in comparison.models]
        title = PART_ERRORS[part]
        charts.append(Chart(f"{title}, by mesh", histogram(series, title)))
    for key, title in SPREADS.items():
        known = [(r.label, r.evaluation.per_subject.get(key)) for r in comparison.models]
        if all(values is not None for _, values in known):
            series = [Series(label, values) for label, values in known if values is not None]
            charts.append(Chart(f"{title}, by person", histogram(series, title)))
    return charts


def errors_by_expression(comparison: ModelComparison) -> tuple[list[Chart], PartTable]:
    """Mean errors of each expression: bar charts, the highest error first, and a table."""
    labels = comparison.faces.labels
    shown = np.asarray(labels.expression)[comparison.rows]
    kinds = np.unique(shown)
    means = {
        (part, result.label): np.array(
            [_mean(result.errors.per_mesh[part][shown == kind]) for kind in kinds]
        )
        for part in comparison.parts
        for result in comparison.models
    }
    order = np.argsort(-means[comparison.parts[0], comparison.models[0].label], kind="stable")
    names = [labels.expressions[kinds[place]] for place in order]
    charts = []
    for part in comparison.parts:
        series = [Series(r.label, means[part, r.label][order]) for r in comparison.models]
        charts.append(Chart(PART_ERRORS[part], bars(names, series, PART_ERRORS[part])))
    rows = []
    for kind in kinds:
        of_kind = [e[shown == kind] for e in comparison.models[0].errors.per_mesh.values()]
        counts = [int(np.isfinite(values).sum()) for values in of_kind]
        rows.append((labels.expressions[kind], count_range(counts)))
    table = part_table(comparison, "expression", "faces", rows, lambda *key: means[key])
    return charts, table


def errors_by_region(comparison: ModelComparison) -> PartTable:
    """Mean errors of the vertices of each region."""
    first = comparison.models[0]
    regions = find_regions(first.model.mean_face, comparison.faces.triangles, first.errors.motion())
    results = {result.label: result for result in comparison.models}

    def errors(part: Part, label: str) -> np.ndarray:
        per_vertex = results[label].errors.per_vertex(part)
        return np.array([per_vertex[inside].mean() for inside in regions.values()])

    rows = [(name, f"{inside.sum():,}") for name, inside in regions.items()]
    return part_table(comparison, "region", "vertices", rows, errors)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
