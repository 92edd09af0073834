"""Comparison of methods on the same faces: metrics, intervals and paired differences, as JSON.

The 95 % interval of a number lies at the same path below `intervals`, its difference to the first
model at the same path below `differences`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate.conditions import is_fair
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
# Metrics for which the strongest baseline is named.
CLAIMED: Final = ("e_rec", "e_dis", "avd_neu")
# Baselines that do not split faces: the spread of their identity faces says nothing.
NOT_SPLITTING: Final = ("mean_face", "pca")
# Errors in mm that may be rounding of float32: no model is measured by their multiples.
ROUNDING_MM: Final = 1e-3


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
    report |= strongest_part(report)
    report["provenance"] = dict(facts)
    return report


def strongest_part(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part `strongest_baselines` of a report, of each model at its path; empty = none."""
    baselines = report.get("baselines", {})
    if "model" in report:
        of_model = strongest_baselines(report["model"], baselines)
        return {"strongest_baselines": {"model": of_model}} if of_model else {}
    found = {name: strongest_baselines(m, baselines) for name, m in report["models"].items()}
    return {"strongest_baselines": {"models": found}} if any(found.values()) else {}


def strongest_baselines(
    model: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The best baseline of the same condition for each metric of CLAIMED, to make claims against.

    There is none where the baselines were fitted on a set of another condition, or beside a model
    with another number of latents. Those with more coefficients than the PCA, which has as many as
    that model has latents, do not count, nor for E_dis those that do not split faces.

    Args:
        model: metrics, `condition` and `latents` of the model.
        baselines: those of each baseline by name.

    Returns:
        metric -> `baseline`, its `mean`, and `ratio`, the model's mean divided by it, unless it is
        rounding.
    """
    most = baselines.get("pca", {}).get("components", 0)
    for fact in ("condition", "latents"):
        if model.get(fact) not in {metrics.get(fact) for metrics in baselines.values()}:
            return {}
    found = {}
    for key in CLAIMED:
        means = {
            name: float(metrics[key]["mean"])
            for name, metrics in baselines.items()
            if key in metrics
            and is_fair(metrics.get("condition"), model.get("condition"))
            and metrics.get("components", 0) <= most
            and not (key == "e_dis" and name in NOT_SPLITTING)
        }
        if means and key in model:
            best = min(means, key=lambda name: means[name])
            found[key] = {"baseline": best, "mean": means[best]}
            if means[best] > ROUNDING_MM:
                found[key]["ratio"] = float(model[key]["mean"]) / means[best]
    return found


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
    """Paired differences of the metrics that both evaluations have, the other minus the first.

    Raises:
        InputError: they are not of the same faces.
    """
    if not (
        np.array_equal(first.rows, other.rows) and np.array_equal(first.subjects, other.subjects)
    ):
        raise InputError(
            f"the evaluations are of different faces, {len(first.rows)} and {len(other.rows)}; "
            "evaluate both on one set and split",
            ErrorCode.NOT_COMPARABLE,
        )
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
    conditions = any("condition" in _at(report, *path) for path in paths)
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
            row: list[Value] = [key, path[-1]]
            row += [found.get("condition")] if conditions else []
            row += [value["mean"]]
            if has_intervals:
                interval = _at(report, "intervals", *path, key)
                row += [interval.get("low"), interval.get("high")]
            row += [value.get("std"), value.get("median"), value["n"]]
            if compared:
                difference = _at(report, "differences", *path, key)
                row += [difference.get(k) for k in ("mean", "low", "high", "p", "verdict")]
            rows.append(row)
    ends = ["low", "high"] if has_intervals else []
    told = ["condition"] if conditions else []
    columns = ["metric", "method", *told, "mean", *ends, "std", "median", "n"]
    notes = ["  ".join(f"{key} {_fact(value)}" for key, value in report["provenance"].items())]
    if has_intervals:
        few = report["provenance"].get("subjects", 0) < FEW_SUBJECTS
        notes.append(f"{_NOTE}, too narrow with so few" if few else _NOTE)
    if compared:
        columns += _DIFFERENCE
        notes.append(_DIFFERENCE_NOTE.format(first=paths[0][-1]))
    for path in paths:
        best = _at(report, "strongest_baselines", *path)
        if best:
            condition = _at(report, *path)["condition"]
            claims = ", ".join(claim(key, value) for key, value in best.items())
            notes.append(f"strongest baselines for {path[-1]} ({condition}): {claims}")
    return Table(columns, rows, "; ".join(notes))


def claim(key: str, strongest: Mapping[str, Any]) -> str:
    """A strongest baseline in words: `e_rec pca 0.480, ratio 1.06`."""
    words = f"{key} {strongest['baseline']} {strongest['mean']:.3f}"
    return f"{words}, ratio {strongest['ratio']:.2f}" if "ratio" in strongest else words


def _at(values: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The mapping at a path of keys; an empty one where there is none."""
    for key in path:
        values = values.get(key, {})
    return values


def _fact(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Mapping | list) else str(value)
