"""Mean errors of the parts of a face, models side by side."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from facedis_core.figures import TITLES
from facedis_core.inference import Part
from facedis_core.judged import Verdict
from facedis_core.markup import Markup, element
from facedis_core.parts import PARTS


def known_parts(verdict: Verdict) -> list[Part]:
    """The parts that have a truth."""
    return [part for part in PARTS if verdict.known(part)]


def part_table(
    verdict: Verdict,
    what: str,
    counted: str,
    heads: Sequence[tuple[str, str]],
    values: Callable[[Part, str], np.ndarray],
) -> Markup:
    """A row a head, a group of columns a part, a column a model; the least of a group is bold.

    Args:
        verdict: says which parts and models.
        what: heads are.
        counted: what their counts are of.
        heads: the name of a row, and how many.
        values: mean errors in mm of a part and a model, one a head.
    """
    known, models = known_parts(verdict), [judged.label for judged in verdict.models]
    cells = np.array([[values(part, label) for label in models] for part in known])
    first = [
        element("th", what, scope="col", rowspan=2),
        element("th", counted, scope="col", rowspan=2),
    ]
    first += [element("th", TITLES[p], scope="colgroup", colspan=len(models)) for p in known]
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
