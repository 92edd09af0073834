"""Combination of reports on several runs: mean and spread of each metric over the runs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from facedis_core import __version__
from facedis_core.errors import ErrorCode, InputError
from facedis_core.evaluate.comparison import strongest_part
from facedis_core.evaluate.gates import mean_of, read_report
from facedis_core.evaluate.metrics import BETTER
from facedis_core.io.text import shown

# Provenance that all reports must share.
_SHARED: Final = ("split", "aligned", "region")


def combine_reports(sources: Sequence[str]) -> dict[str, Any]:
    """Mean, sample standard deviation and median of each metric over the runs, n of them.

    The runs are those of several seeds or identity folds; each counts as much as any other,
    whatever its number of faces. The value of a run is the mean of the metric.

    Args:
        sources: at least two reports of fd-metrics --json; `-` = standard input.

    Returns:
        A report with `model` or `models`, and `baselines`, as in the reports.

    Raises:
        InputError: not a report, or reports on other methods, splits, alignments or regions.
    """
    runs = [read_report(source) for source in sources]
    first = runs[0]
    for source, run in zip(sources, runs, strict=True):
        for key in _SHARED:
            one, other = (each["provenance"].get(key) for each in (first, run))
            if one != other:
                raise InputError(
                    f"{shown(source)} has {key} {other}, {shown(sources[0])} has {one}; combine "
                    "reports that were made in one way",
                    ErrorCode.NOT_COMPARABLE,
                )
        if _methods(run).keys() != _methods(first).keys():
            raise InputError(
                f"{shown(source)} is a report on {_names(run)}, {shown(sources[0])} on "
                f"{_names(first)}; combine reports on the same methods",
                ErrorCode.NOT_COMPARABLE,
            )
    combined: dict[str, Any] = {}
    for path in _methods(first):
        *groups, last = path
        place = combined
        for group in groups:
            place = place.setdefault(group, {})
        members = [_methods(run)[path] for run in runs]
        place[last] = _summaries(members, sources) | _shared_facts(members)
    combined |= strongest_part(combined)
    facts = {key: first["provenance"][key] for key in _SHARED if key in first["provenance"]}
    names = [shown(source) for source in sources]
    combined["provenance"] = {"version": __version__, **facts, "reports": names}
    return combined


def _methods(report: Mapping[str, Any]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    """The metrics of each method by its path."""
    found: dict[tuple[str, ...], Any] = {("model",): report["model"]} if "model" in report else {}
    for group in ("models", "baselines"):
        found |= {(group, name): metrics for name, metrics in report.get(group, {}).items()}
    return {path: metrics for path, metrics in found.items() if isinstance(metrics, Mapping)}


def _names(report: Mapping[str, Any]) -> str:
    return ", ".join(path[-1] for path in _methods(report))


def _shared_facts(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The condition and the numbers of latents and coefficients, where all runs agree."""
    first = runs[0]
    return {
        key: first[key]
        for key in ("condition", "components", "latents")
        if key in first and all(run.get(key) == first[key] for run in runs)
    }


def _summaries(runs: Sequence[Mapping[str, Any]], sources: Sequence[str]) -> dict[str, Any]:
    """JSON key -> {mean, std, median, n} over the runs that have the metric."""
    found = {}
    for key in BETTER:
        values = [
            mean_of(key, run[key], shown(source))
            for run, source in zip(runs, sources, strict=True)
            if key in run
        ]
        if values and not key.endswith(("_probes", "_faces")):
            found[key] = {
                "mean": float(np.mean(values)),
                "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
                "median": float(np.median(values)),
                "n": len(values),
            }
    return found
