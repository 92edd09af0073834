"""Tables of a report: metrics of models and baselines, and errors of the parts of a face."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.evaluate.comparison import verdict
from facedis_core.evaluate.evaluation import PER_SUBJECT
from facedis_core.evaluate.metrics import BETTER, GENERALITY, generality_key
from facedis_core.evaluate.uncertainty import Difference, Interval
from facedis_core.model.model import Part
from facedis_core.report.comparison import ModelComparison
from facedis_core.report.figures import PART_TITLES

# The baseline that predicts the mean face for everybody. Its E_dis is 0 by construction, which is
# not called better.
MEAN_FACE_BASELINE: Final = "mean_face"


class Term(NamedTuple):
    """Title and definition of a metric."""

    title: str
    meaning: str


TERMS: Final[Mapping[str, Term]] = {
    "e_rec": Term(
        "Reconstruction error E_rec, mm",
        "mean distance of the vertices of a reconstruction to those of its face (eq. 9), by mesh",
    ),
    "e_dis": Term(
        "Disentanglement error E_dis, mm",
        "standard deviation of the distances of all identity faces of a person to their mean "
        "(eq. 10), by person",
    ),
    "e_dis_jiang": Term(
        "E_dis after Jiang et al., mm",
        "root mean square distance to that mean at a vertex, averaged over vertices, by person",
    ),
    "e_dis_mean_distance": Term(
        "Distance to the person's mean, mm",
        "mean distance of the vertices of identity faces to the person's mean one, by person",
    ),
    "avd_neu": Term(
        "Distance to the neutral AVD_neu, mm",
        "mean distance of the vertices of an identity face to the person's true neutral, by mesh",
    ),
    "e_exp": Term(
        "Expression error E_exp, mm",
        "standard deviation of the distances of the expression faces of all people with one "
        "expression to their mean, by expression",
    ),
    "e_exp_jiang": Term(
        "E_exp after Jiang et al., mm",
        "root mean square distance to that mean at a vertex, averaged over vertices, by expression",
    ),
    "e_exp_mean_distance": Term(
        "Distance to the expression's mean, mm",
        "mean distance of the vertices of expression faces to the mean one, by expression",
    ),
    "between_subject": Term(
        "Spread between people, mm",
        "the formula of E_dis over one identity face of each person: how much identity there "
        "is, to be read beside E_dis",
    ),
    "rank1_cosine_accuracy": Term(
        "Rank-1 recognition by latents",
        "share of faces whose identity latents are nearest to their own person's neutral, by angle",
    ),
    "rank1_vertex_accuracy": Term(
        "Rank-1 recognition by vertices",
        "share of identity faces nearest to their own person's neutral, by vertex distance",
    ),
    "expression_from_identity_accuracy": Term(
        "Expression classified from identity latents",
        "accuracy of a linear classifier on people it was not trained on; ideal: the chance level",
    ),
    "expression_from_expression_accuracy": Term(
        "Expression classified from expression latents",
        "accuracy of such a classifier on expression latents; ideal: 1",
    ),
    "expression_chance": Term(
        "Chance level", "share of the most frequent expression among the faces"
    ),
    "identity_from_expression_accuracy": Term(
        "Person recognized from expression latents",
        "share of faces whose nearest expression latents of another expression are of the same "
        "person; ideal: the chance level",
    ),
    "identity_from_expression_chance": Term(
        "Chance level of that", "share of the same person's faces among those compared"
    ),
    "specificity": Term(
        "Specificity, mm", "distance of sampled faces to the nearest training face, by sample"
    ),
    "specificity_real": Term(
        "The same of measured faces, mm", "distance of measured faces to the nearest training face"
    ),
    **{
        generality_key(count): Term(
            f"Generality with {count} latents, mm",
            "reconstruction error from the strongest latents alone, by mesh",
        )
        for count in GENERALITY
    },
}

_COUNTS: Final = {
    "rank1": "rank1_probes",
    "expression": "expression_faces",
    "identity": "identity_from_expression_faces",
}


class Method(NamedTuple):
    """A model or a baseline: its name and its metrics.

    Attributes:
        metrics: JSON key -> {mean, std, median, n} or a number.
        condition: what it knew of neutrals (`facedis_core.evaluate.conditions`); empty = unknown.
        intervals: JSON key -> 95 % interval.
        differences: JSON key -> paired difference to the first method; empty for the first.
    """

    label: str
    metrics: Mapping[str, Any]
    baseline: bool = False
    condition: str = ""
    intervals: Mapping[str, Interval] = MappingProxyType({})
    differences: Mapping[str, Difference] = MappingProxyType({})

    @property
    def label_pieces(self) -> list[str]:
        """The label, split where a line may break."""
        return re.split(r"(?<=[_/-])", self.label)


class MetricCell(NamedTuple):
    """Value of a metric by one method, as text; each part is empty where there is none.

    Attributes:
        verdict: how the method compares with the first: better, worse or none; higher or lower for
            a metric without a better direction.
    """

    mean: str
    interval: str
    spread: str
    verdict: str
    baseline: bool


class MetricRow(NamedTuple):
    """A metric of all methods.

    Attributes:
        key: its name in the JSON output of fd-metrics.
        better: lower, higher or None.
        counted: number of values behind each mean, as text.
    """

    key: str
    term: Term
    better: str | None
    counted: str
    cells: list[MetricCell]


def metric_rows(methods: Sequence[Method]) -> list[MetricRow]:
    """A row per metric that any method has, with a cell per method."""
    return [
        MetricRow(
            key, term, BETTER[key], _count(key, methods), [_cell(key, each) for each in methods]
        )
        for key, term in TERMS.items()
        if any(key in method.metrics for method in methods)
    ]


def _cell(key: str, method: Method) -> MetricCell:
    value, interval = method.metrics.get(key), method.intervals.get(key)
    mean, spread, word = _mean(value), "", ""
    if isinstance(value, Mapping):
        spread = f"± {value['std']:.3f} · {value['median']:.3f}"
    difference = method.differences.get(key)
    trivial = method.baseline and method.label == MEAN_FACE_BASELINE and key in PER_SUBJECT
    if difference is not None and not trivial:
        word = verdict(key, difference)
    return MetricCell(
        "–" if mean is None else f"{mean:.4f}",
        "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}",
        spread,
        word,
        method.baseline,
    )


def _mean(value: Any) -> float | None:
    if value is None:
        return None
    return float(value["mean"] if isinstance(value, Mapping) else value)


def _count(key: str, methods: Sequence[Method]) -> str:
    known = [method.metrics for method in methods if key in method.metrics]
    if isinstance(known[0][key], Mapping):
        return count_range([metrics[key]["n"] for metrics in known])
    return count_range([metrics[_COUNTS[key.partition("_")[0]]] for metrics in known])


def count_range(counts: Iterable[int]) -> str:
    """`300`, or `120–300` where counts differ."""
    low, high = min(counts := list(counts)), max(counts)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


class PartRow(NamedTuple):
    """A row of mean errors, e.g. of one expression: its name, its size, and errors as text."""

    name: str
    size: str
    cells: list[str]


class PartTable(NamedTuple):
    """Mean errors in mm, with a group of columns per part and a column per model in it.

    Attributes:
        name_title, size_title: heads of the first two columns.
        parts: titles of the groups.
        models: labels of the columns of each group.
    """

    name_title: str
    size_title: str
    parts: list[str]
    models: list[str]
    rows: list[PartRow]


def part_table(
    comparison: ModelComparison,
    name_title: str,
    size_title: str,
    names: Sequence[tuple[str, str]],
    errors: Callable[[Part, str], np.ndarray],
) -> PartTable:
    """Table of mean errors.

    Args:
        comparison: the parts and models.
        name_title: head of the column of names.
        size_title: head of the column of counts.
        names: name and size of each row.
        errors: mean errors in mm by part and model label, (rows,).
    """
    models = [result.label for result in comparison.models]
    table = np.concatenate(
        [[errors(part, label) for label in models] for part in comparison.parts]
    )  # (parts x models, rows)
    rows = [
        PartRow(name, size, [f"{e:.3f}" if np.isfinite(e) else "–" for e in table[:, number]])
        for number, (name, size) in enumerate(names)
    ]
    titles = [PART_TITLES[part] for part in comparison.parts]
    return PartTable(name_title, size_title, titles, models, rows)
