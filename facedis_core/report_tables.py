"""Tables of a report: all metrics, methods side by side, and errors of the parts of a face."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.figures import PART_TITLES
from facedis_core.inference import Part
from facedis_core.markup import Markup, element
from facedis_core.metrics import BETTER
from facedis_core.model_comparison import ModelComparison

# Predicts one face for everybody: its spread is 0 by construction, which is no merit.
TRIVIAL: Final = "mean_face"


class Term(NamedTuple):
    """A metric in words."""

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
    "between_subject": Term(
        "Spread between people, mm",
        "the formula of E_dis over one identity face each of all people: how much identity there "
        "is, to be read beside E_dis",
    ),
    "rank1_cosine_accuracy": Term(
        "Rank-1 recognition by latents",
        "share of faces whose identity latents are nearest to their own person's neutral, by angle",
    ),
    "rank1_vertex_accuracy": Term(
        "Rank-1 recognition by vertices",
        "the same of identity faces, by the distance of vertices",
    ),
    "expression_from_identity_accuracy": Term(
        "Expression told by identity latents",
        "accuracy of a linear classifier on people it never saw; at best the chance level",
    ),
    "expression_from_expression_accuracy": Term(
        "Expression told by expression latents",
        "the same from expression latents; at best 1",
    ),
    "expression_chance": Term(
        "Chance level", "share of the most frequent expression among the faces"
    ),
}

_COUNTS: Final = {"rank1": "rank1_probes", "expression": "expression_faces"}


class Column(NamedTuple):
    """A method: its name, its metrics, and whether it is a model or a baseline."""

    label: str
    metrics: Mapping[str, Any]
    baseline: bool = False


def best(key: str, columns: Sequence[Column]) -> set[int]:
    """The places of the columns that are best, as far as the table's digits tell."""
    way = BETTER[key]
    means = {
        place: round(value, 4)
        for place, column in enumerate(columns)
        if (value := _mean(column.metrics.get(key))) is not None
        and not (column.baseline and column.label == TRIVIAL)
    }
    if way is None or len(means) < 2:
        return set()
    most = min(means.values()) if way == "lower" else max(means.values())
    return {place for place, value in means.items() if value == most}


def scoreboard(columns: Sequence[Column]) -> Markup:
    """A row a metric that any method has, a column a method."""
    keys = [key for key in TERMS if any(key in column.metrics for column in columns)]
    head = [element("th", "metric", scope="col"), element("th", "n", scope="col")]
    head += [
        element(
            "th",
            _breakable(column.label),
            scope="col",
            class_="baseline" if column.baseline else None,
        )
        for column in columns
    ]
    rows = [_row(key, columns) for key in keys]
    return element(
        "table",
        element("caption", "Mean, and below it ± standard deviation and median"),
        element("thead", element("tr", head)),
        element("tbody", rows),
        class_="scores",
    )


def meanings(columns: Sequence[Column]) -> Markup:
    """What the rows of that table say."""
    found = []
    for key, term in TERMS.items():
        if any(key in column.metrics for column in columns):
            found += [
                element("dt", term.title, " ", element("code", key)),
                element("dd", term.meaning),
            ]
    return element("dl", found, class_="terms")


def _row(key: str, columns: Sequence[Column]) -> Markup:
    winners = best(key, columns)
    better = {"lower": "↓ lower is better", "higher": "↑ higher is better", None: ""}[BETTER[key]]
    arrow = element("abbr", better[:1], title=better[2:]) if better else None
    cells = [
        element("th", TERMS[key].title, Markup("&nbsp;") if arrow else None, arrow, scope="row"),
        element("td", _count(key, columns), class_="count"),
    ]
    return element("tr", cells, [_cell(c, key, n in winners) for n, c in enumerate(columns)])


def _cell(column: Column, key: str, wins: bool) -> Markup:
    found = column.metrics.get(key)
    mean = _mean(found)
    words: list[Any] = ["–" if mean is None else f"{mean:.4f}"]
    if wins:
        words = [element("strong", words), element("span", " best", class_="unseen")]
    if isinstance(found, Mapping):
        words += [element("small", f"± {found['std']:.3f} · {found['median']:.3f}")]
    kind = " ".join(["baseline"] * column.baseline + ["best"] * wins)
    return element("td", words, class_=kind or None)


def _breakable(label: str) -> list[Any]:
    """A name that may go on in the next line after each of its joints."""
    pieces = re.split(r"(?<=[_/-])", label)
    return [part for piece in pieces for part in (piece, Markup("<wbr>"))][:-1]


def _mean(found: Any) -> float | None:
    if found is None:
        return None
    return float(found["mean"] if isinstance(found, Mapping) else found)


def _count(key: str, columns: Sequence[Column]) -> str:
    """How many values the numbers of a row stand on."""
    known = [column.metrics for column in columns if key in column.metrics]
    if isinstance(known[0][key], Mapping):
        return span([found[key]["n"] for found in known])
    return span([found[_COUNTS[key.partition("_")[0]]] for found in known])


def span(counts: Iterable[int]) -> str:
    """`300`, or `120–300` where counts differ."""
    low, high = min(counts := list(counts)), max(counts)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def part_table(
    comparison: ModelComparison,
    what: str,
    counted: str,
    heads: Sequence[tuple[str, str]],
    values: Callable[[Part, str], np.ndarray],
) -> Markup:
    """A row a head, a group of columns a part, a column a model; the least of a group is bold.

    Args:
        comparison: says which parts and models.
        what: heads are.
        counted: what their counts are of.
        heads: the name of a row, and how many.
        values: mean errors in mm of a part and a model, one a head.
    """
    known, models = comparison.parts, [result.label for result in comparison.models]
    cells = np.array([[values(part, label) for label in models] for part in known])
    first = [
        element("th", what, scope="col", rowspan=2),
        element("th", counted, scope="col", rowspan=2),
    ]
    first += [element("th", PART_TITLES[p], scope="colgroup", colspan=len(models)) for p in known]
    second = [element("th", label, scope="col") for _ in known for label in models]
    rows = []
    for row, (name, count) in enumerate(heads):
        numbers = []
        for group in cells[:, :, row]:
            least = round(float(np.nanmin(group)), 3) if np.isfinite(group).any() else None
            for value in group:
                words: Any = f"{value:.3f}" if np.isfinite(value) else "–"
                if len(models) > 1 and round(float(value), 3) == least:
                    words = element("strong", words)
                numbers.append(element("td", words))
        cells_of_row = [element("th", name, scope="row"), element("td", count)]
        rows.append(element("tr", cells_of_row, numbers))
    return element(
        "table",
        element("caption", "Mean error, mm"),
        element("thead", element("tr", first), element("tr", second)),
        element("tbody", rows),
    )
