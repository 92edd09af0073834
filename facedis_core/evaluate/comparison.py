"""Comparison of methods on the same faces: metrics, intervals and paired differences, as JSON.

The 95 % interval of a number lies at the same path below `intervals`, its difference to the first
model at the same path below `differences`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from facedis_core.evaluate.evaluation import Evaluation
from facedis_core.evaluate.metrics import BETTER
from facedis_core.evaluate.tables import Table, Value
from facedis_core.evaluate.uncertainty import FEW_SUBJECTS, Difference, paired_difference

_NOTE: Final = "low, high: 95 % interval, by bootstrap over people"
_DIFFERENCE_NOTE: Final = (
    "difference to {first}, paired by person; none: its interval contains 0, or p is above 0.05"
)
_COUNTS: Final = {
    "rank1": "rank1_probes",
    "expression": "expression_faces",
    "identity": "identity_from_expression_faces",
}
_DIFFERENCE: Final = ("difference", "difference_low", "difference_high", "p", "verdict")


class Method(NamedTuple):
    """A model or a baseline: its name and its results."""

    name: str
    evaluation: Evaluation


def report_of(
    models: Sequence[Method], baselines: Sequence[Method], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The report on methods that were measured on the same faces.

    One model is `model`, several are `models` by name; differences are those to the first.
    """
    first = models[0]
    named = {method.name: method for method in models}
    several = len(models) > 1
    report: dict[str, Any] = {}

    def each(values: Any, skip_first: bool = False) -> dict[str, Any]:
        """Values of a function of each method, at the paths of the methods."""
        found: dict[str, Any] = {}
        if several:
            found["models"] = {
                name: values(method)
                for name, method in named.items()
                if not (skip_first and method is first)
            }
        elif not skip_first:
            found["model"] = values(first)
        if baselines:
            found["baselines"] = {method.name: values(method) for method in baselines}
        return found

    report |= each(lambda method: method.evaluation.metrics)
    report["intervals"] = each(_intervals)
    if several or baselines:
        report["differences"] = each(lambda method: _differences(first, method), skip_first=True)
    report["provenance"] = dict(facts)
    return report


def _intervals(method: Method) -> dict[str, Any]:
    found = {}
    for key in method.evaluation.metrics:
        sums = method.evaluation.sums.get(key)
        interval = None if sums is None else sums.interval()
        if interval is not None:
            found[key] = interval._asdict()
    return found


def _differences(first: Method, other: Method) -> dict[str, Any]:
    known = differences(first.evaluation, other.evaluation)
    return {
        key: {**value._asdict(), "verdict": verdict(key, value)} for key, value in known.items()
    }


def differences(first: Evaluation, other: Evaluation) -> dict[str, Difference]:
    """Paired differences of the metrics that both evaluations have, the other minus the first."""
    found = {}
    for key in other.metrics:
        if key in other.sums and key in first.sums:
            difference = paired_difference(first.sums[key], other.sums[key])
            if difference is not None:
                found[key] = difference
    return found


def verdict(key: str, difference: Difference) -> str:
    """`none`, `better` or `worse`; `higher` or `lower` for a metric without a better direction."""
    if difference.none:
        return "none"
    direction = "lower" if difference.mean < 0 else "higher"
    if BETTER[key] is None:
        return direction
    return "better" if direction == BETTER[key] else "worse"


def summary_table(report: Mapping[str, Any]) -> Table:
    """A report as a table, with the methods of each metric below each other."""
    paths: list[tuple[str, ...]] = [("models", name) for name in report.get("models", ())]
    paths = paths or [("model",)]
    paths += [("baselines", name) for name in report.get("baselines", ())]
    has_intervals = any(_at(report, "intervals", *path) for path in paths)
    compared = bool(report.get("differences"))
    rows: list[list[Value]] = []
    for key in BETTER:
        if key in _COUNTS.values():
            continue
        for path in paths:
            found = _at(report, *path)
            if key not in found:
                continue
            value = found[key]
            if not isinstance(value, Mapping):
                value = {"mean": float(value), "n": found[_COUNTS[key.partition("_")[0]]]}
            row: list[Value] = [key, path[-1], value["mean"]]
            if has_intervals:
                interval = _at(report, "intervals", *path, key)
                row += [interval.get("low"), interval.get("high")]
            row += [value.get("std"), value.get("median"), value["n"]]
            if compared:
                difference = _at(report, "differences", *path, key)
                row += [difference.get(k) for k in ("mean", "low", "high", "p", "verdict")]
            rows.append(row)
    ends = ["low", "high"] if has_intervals else []
    columns = ["metric", "method", "mean", *ends, "std", "median", "n"]
    notes = ["  ".join(f"{key} {_fact(value)}" for key, value in report["provenance"].items())]
    if has_intervals:
        few = report["provenance"].get("subjects", 0) < FEW_SUBJECTS
        notes.append(f"{_NOTE}, too narrow with so few" if few else _NOTE)
    if compared:
        columns += _DIFFERENCE
        notes.append(_DIFFERENCE_NOTE.format(first=paths[0][-1]))
    return Table(columns, rows, "; ".join(notes))


def _at(values: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The mapping at a path of keys; an empty one where there is none."""
    for key in path:
        values = values.get(key, {})
    return values


def _fact(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Mapping | list) else str(value)
