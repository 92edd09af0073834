"""The sections of a report page, each made of a comparison or of figures."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.charts import Series, bars, histogram, legend
from facedis_core.embedded import embedded
from facedis_core.faceset import TRAIN
from facedis_core.figures import Figure
from facedis_core.inference import Part
from facedis_core.info import parameters
from facedis_core.markup import Markup, element
from facedis_core.model_comparison import ModelComparison, ModelResult
from facedis_core.provenance import made_by
from facedis_core.regions import MEANING, regions
from facedis_core.report_tables import TRIVIAL, Column, meanings, part_table, scoreboard, span

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


class Section(NamedTuple):
    """A part of the page that can be gone to.

    Attributes:
        key: by which links find it.
        content: as of `element`.
    """

    key: str
    title: str
    content: Any

    def html(self) -> Markup:
        """The section with its heading."""
        heading = element("h2", self.title, id=f"{self.key}-title")
        labelled = f"{self.key}-title"
        return element("section", heading, self.content, id=self.key, aria_labelledby=labelled)


def summary(comparison: ModelComparison) -> Markup:
    """What was measured on what, as a list of facts."""
    faces, facts = comparison.faces, comparison.facts
    pairs = {
        "set": f"{faces.id} ({faces.source}, {faces.protocol})",
        "history": made_by(faces.history),
        "split": facts["split"],
        "faces": f"{facts['faces']:,}",
        "people": f"{facts['subjects']:,}",
        "aligned": "rigidly to the truth" if facts["aligned"] else "no",
        "topology": f"{faces.topology}, {faces.vertices.shape[1]:,} vertices",
        "facedis": facts["version"],
    }
    return element("dl", [_fact(*pair) for pair in pairs.items()], class_="facts")


def metrics(comparison: ModelComparison) -> Section:
    """The table of all metrics, and which models these are."""
    columns = [Column(result.label, result.evaluation.metrics) for result in comparison.models]
    columns += [Column(key, found, True) for key, found in _baselines(comparison)]
    notes: list[Any] = ["The best of a row is bold."]
    if (np.asarray(comparison.faces.labels.split)[comparison.rows] == TRAIN).any():
        notes.append(
            " Some of these faces are of the training split: what was fitted to them looks better "
            "than it is."
        )
    if comparison.baselines:
        config = comparison.models[0].model.config
        latents, used = (
            config.identity + config.expression,
            comparison.baselines["pca"]["components"],
        )
        reason = f"as many as {comparison.models[0].label} has latent dimensions"
        if used < latents:
            reason = (
                f"all that these faces have; {comparison.models[0].label} has {latents} latents"
            )
        notes += [
            " Beside the models stand linear methods, fitted to the training faces of the same "
            f"set, with {used} components, {reason} (_2x: twice as many where there are). ",
            element("code", TRIVIAL),
            " is one face for everybody; that it has no spread is no merit, so it is never best.",
        ]
    return Section(
        "metrics",
        "Metrics",
        [
            element("p", notes),
            _scrolled(scoreboard(columns), "All metrics"),
            element("details", element("summary", "What the rows mean"), meanings(columns)),
            element("h3", "Models"),
            _scrolled(_models(comparison.models), "Models"),
            [_recipe(result) for result in comparison.models],
        ],
    )


def _baselines(comparison: ModelComparison) -> list[tuple[str, dict[str, Any]]]:
    """Those that differ: with twice as many components only where there are more."""
    found = comparison.baselines

    def more(key: str) -> bool:
        half = found.get(key.removesuffix("_2x"), {})
        return not key.endswith("_2x") or found[key]["components"] > half["components"]

    return [(key, metrics) for key, metrics in found.items() if more(key)]


def distributions(comparison: ModelComparison) -> Section:
    """Histograms of the errors of single meshes and people."""
    drawn = []
    for part in comparison.parts:
        series = [
            Series(result.label, result.errors.per_mesh[part]) for result in comparison.models
        ]
        drawn.append(_chart(histogram(series, PART_ERRORS[part]), f"{PART_ERRORS[part]}, by mesh"))
    for key, title in SPREADS.items():
        known = [(j.label, j.evaluation.per_subject.get(key)) for j in comparison.models]
        if all(values is not None for _, values in known):
            spreads = [Series(label, values) for label, values in known if values is not None]
            drawn.append(_chart(histogram(spreads, title), f"{title}, by person"))
    return Section(
        "distributions",
        "Distributions",
        [
            element(
                "p",
                "How errors are spread; heights are shares of all meshes or people, dashed lines "
                "are means. The expression error is the distance between the predicted expression "
                "and the face minus the person's neutral, on any face.",
            ),
            _legend(comparison),
            element("div", drawn, class_="charts"),
        ],
    )


def expressions(comparison: ModelComparison) -> Section:
    """Mean errors of each expression."""
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
    drawn = []
    order = np.argsort(-means[comparison.parts[0], comparison.models[0].label], kind="stable")
    for part in comparison.parts:
        of_part = [means[part, result.label] for result in comparison.models]
        names = [labels.expressions[kinds[place]] for place in order]
        series = [
            Series(result.label, values[order])
            for result, values in zip(comparison.models, of_part, strict=True)
        ]
        drawn.append(_chart(bars(names, series, PART_ERRORS[part]), PART_ERRORS[part]))
    errors = comparison.models[0].errors.per_mesh
    heads = []
    for kind in kinds:
        of_kind = [values[shown == kind] for values in errors.values()]
        counts = [int(np.isfinite(values).sum()) for values in of_kind]
        heads.append((labels.expressions[kind], span(counts)))
    table = part_table(comparison, "expression", "faces", heads, lambda *which: means[which])
    return Section(
        "expressions",
        "By expression",
        [
            element(
                "p",
                f"Mean errors, in the order of {comparison.models[0].label} on full faces.",
            ),
            _legend(comparison),
            element("div", drawn, class_="charts"),
            element(
                "details", element("summary", "All numbers"), _scrolled(table, "By expression")
            ),
        ],
    )


def places(comparison: ModelComparison, figure: Figure) -> Section:
    """Where on the face errors are: a picture, and regions."""
    first = comparison.models[0]
    found = regions(first.model.mean_face, comparison.faces.triangles, first.errors.motion())

    def values(part: Part, label: str) -> np.ndarray:
        result = next(result for result in comparison.models if result.label == label)
        errors = result.errors.per_vertex(part)
        return np.array([errors[inside].mean() for inside in found.values()])

    heads = [(name, f"{inside.sum():,}") for name, inside in found.items()]
    table = part_table(comparison, "region", "vertices", heads, values)
    return Section(
        "regions",
        "Where on the face",
        [
            embedded(figure),
            _scrolled(table, "By region"),
            element("p", MEANING, class_="note"),
        ],
    )


def extremes(figures: Iterable[Figure]) -> Section:
    """Best, average and worst faces."""
    words = (
        "By the error of each part and model. All pictures of a figure have one camera, and the "
        "error maps of a part one scale, whatever the model."
    )
    held = element("div", map(embedded, figures), class_="narrow")
    return Section("faces", "Best, average and worst faces", [element("p", words), held])


def mixtures(figures: Iterable[Figure]) -> Section:
    """Transfer, interpolation, and identities side by side."""
    words = (
        "People and expressions are chosen by rules that see no picture: people equally far apart "
        "in the order of the set, and expressions as different as can be."
    )
    held = element("div", map(embedded, figures), class_="wide")
    return Section("mixtures", "Transfer and interpolation", [element("p", words), held])


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _fact(name: str, words: str) -> Markup:
    return element("div", element("dt", name), element("dd", words))


def _chart(drawn: Markup, caption: str) -> Markup:
    return element("figure", element("figcaption", caption), drawn, class_="plot")


def _legend(comparison: ModelComparison) -> Markup:
    return legend([result.label for result in comparison.models])


def _scrolled(table: Markup, label: str) -> Markup:
    """A table that scrolls by itself where the page is narrow, by keys too."""
    return element("div", table, class_="scrolled", role="region", aria_label=label, tabindex=0)


def _models(models: Sequence[ModelResult]) -> Markup:
    heads = {
        "model": None,
        "id": "word",
        "latents, identity + expression": None,
        "parameters": None,
        "history": "words",
    }
    rows = []
    for result in models:
        model = result.model
        values = (
            element("code", model.id),
            f"{model.config.identity} + {model.config.expression}",
            f"{parameters(model.weights):,}",
            made_by(model.history),
        )
        kinds = list(heads.values())[1:]
        cells = [element("td", v, class_=kind) for v, kind in zip(values, kinds, strict=True)]
        rows.append(element("tr", element("th", result.label, scope="row"), cells))
    head = [element("th", word, scope="col", class_=kind) for word, kind in heads.items()]
    return element("table", element("thead", element("tr", head)), element("tbody", rows))


def _recipe(result: ModelResult) -> Markup:
    recipe = result.model.recipe
    if not recipe:
        return Markup()
    facts = [_fact(name, "–" if value is None else str(value)) for name, value in recipe.items()]
    return element(
        "details",
        element("summary", f"Recipe of {result.label}"),
        element("dl", facts, class_="facts small"),
    )
