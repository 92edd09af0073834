"""Checks of measured numbers for CI: limits, comparison with an earlier report, JUnit XML.

A limit reads `e_rec<=1.2`, `e_dis.median<0.2` or `baselines.pca.e_rec>0`.
"""

import json
import math
import operator
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Final
from xml.etree import ElementTree

from facedis_core.errors import CheckFailed, ErrorCode, InputError, UsageError
from facedis_core.evaluate.metrics import BETTER, Summary
from facedis_core.io.streams import read_all
from facedis_core.io.text import shown

_RELATIONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CHECK: Final = re.compile(r"\s*(\w(?:[\w./-]*\w)?)\s*(<=|>=|==|<|>)\s*([^\s<>=]+)\s*")
_TOLERANCE: Final = re.compile(r"\s*(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*(%?)\s*", re.IGNORECASE)

# Names of metrics, what may precede them, and names of other numbers.
_METRICS: Final = [*BETTER, *(f"{key}.{part}" for key in BETTER for part in Summary._fields)]
_PREFIX: Final = re.compile(r"model\.|baselines\.\w+\.|")
_OTHERS: Final = re.compile(
    r"provenance\.\w+|baselines\.\w+\.(components|penalty)|"
    r"(models|intervals|differences|strongest_baselines)\..+"
)
_TYPO_SIMILARITY: Final = 0.75  # of a mistyped name and a metric's, from 0 to 1

# Provenance that two reports must share to be compared.
_SHARED: Final = ("set", "split", "faces", "aligned", "region")
_MOST_BYTES: Final = 1 << 24  # of a report


@dataclass(frozen=True)
class Check:
    """A limit of one number.

    Attributes:
        key: path into a report; a bare metric is that of the model, a summary means its mean.
        relation: one of <= >= == < >.
        limit: the limit.
        origin: where a limit that the user did not give comes from.
    """

    key: str
    relation: str
    limit: float
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.key}{self.relation}{self.limit:.6g}"

    @classmethod
    def parse(cls, text: str, names: Sequence[str] = _METRICS) -> "Check":
        """Read `KEY RELATION NUMBER`.

        A name that resembles no metric is accepted: the check fails since it was not measured.

        Args:
            text: the limit, such as `e_rec<=1.2`.
            names: all numbers that the report can have.

        Raises:
            UsageError: another syntax, or a name that is nearly one of `names`.
        """
        match = _CHECK.fullmatch(text)
        try:
            limit = float(match[3]) if match else float("nan")
        except ValueError:
            limit = float("nan")
        if match is None or limit != limit:
            raise UsageError(
                f"--check {text!r} is not a check; expected a metric, one of <= < >= > == "
                "and a number, such as 'e_rec<=1.2' or 'e_dis.median<=0.2'",
                ErrorCode.OPTION_VALUE,
            )
        key = match[1]
        prefix = found[0] if (found := _PREFIX.match(key)) else ""
        name = key.removeprefix(prefix)
        known = name in names or _OTHERS.fullmatch(key)
        near = [] if known else get_close_matches(name, names, 1, _TYPO_SIMILARITY)
        if near:
            raise UsageError(
                f"--check {key!r} is not a metric; did you mean {prefix + near[0]!r}? "
                "--json shows all there are",
                ErrorCode.OPTION_VALUE,
            )
        return cls(key, match[2], limit)

    def of_models(self, labels: Sequence[str]) -> "list[Check]":
        """The check for each model of a report on several; itself if its key is a full path."""
        if self.key.partition(".")[0] not in BETTER:
            return [self]
        return [replace(self, key=f"models.{label}.{self.key}") for label in labels]

    @property
    def case(self) -> str:
        """Name of its test case: without the limit where that comes from an earlier report."""
        return self.key if self.origin else str(self)

    def failure(self, report: Mapping[str, Any]) -> str | None:
        """A line on why the check fails; None where it holds. A missing number or NaN fails."""
        top = self.key.partition(".")[0]
        value = _look_up(report if top in report else report.get("model"), self.key)
        if isinstance(value, Mapping):
            value = value.get("mean")
        origin = f" ({self.origin})" if self.origin else ""
        if not isinstance(value, int | float):
            return f"{self.key} was not measured, limit {self.relation} {self.limit:.6g}{origin}"
        if _RELATIONS[self.relation](value, self.limit):
            return None
        found, limit = f"{value:.6g}", f"{self.limit:.6g}"
        if found == limit:  # all digits where the rounded numbers are equal
            found, limit = f"{value:.17g}", f"{self.limit:.17g}"
        return f"{self.key} is {found}, limit {self.relation} {limit}{origin}"


@dataclass(frozen=True)
class Tolerance:
    """Tolerated change of a number for the worse, relative to it or in its own unit."""

    amount: float = 0.0
    relative: bool = False

    @classmethod
    def parse(cls, text: str) -> "Tolerance":
        """Read `2%` or `0.05`.

        Raises:
            UsageError: another syntax.
        """
        match = _TOLERANCE.fullmatch(text)
        amount = float(match[1] + (match[2] or "")) if match else math.inf
        if match is None or not math.isfinite(amount):
            raise UsageError(
                f"--tolerance {text!r} is not a tolerance; expected a percentage such as 2%, "
                "or a number in the metric's own unit such as 0.05",
                ErrorCode.OPTION_VALUE,
            )
        return cls(amount / 100, True) if match[3] else cls(amount)

    def __str__(self) -> str:
        return f"{self.amount * 100:g}%" if self.relative else f"{self.amount:g}"

    def margin(self, value: float) -> float:
        """The tolerated change of a value."""
        return self.amount * abs(value) if self.relative else self.amount


@dataclass(frozen=True)
class EarlierReport:
    """A report that fd-metrics --json wrote before.

    Attributes:
        label: its name in messages.
        values: metric -> mean, of the metrics that have a better direction.
        facts: its provenance.
    """

    label: str
    values: Mapping[str, float]
    facts: Mapping[str, Any]

    @classmethod
    def read(cls, source: str) -> "EarlierReport":
        """Read a report from a file, or from standard input for `-`.

        Raises:
            InputError: unreadable, not a report, or without a number to compare with.
        """
        label, found = shown(source), read_report(source)
        model, facts = found.get("model"), found["provenance"]
        if model is None:
            raise InputError(
                f"{label} is a report on {len(found['models'])} models; expected one on one model, "
                "made with fd-metrics and a single --model",
                ErrorCode.WRONG_KIND,
            )
        values = {key: mean_of(key, model[key], label) for key in BETTER if key in model}
        compared = {key: value for key, value in values.items() if BETTER[key]}
        if not compared:
            raise InputError(
                f"{label} has no metric to compare with; make it with fd-metrics",
                ErrorCode.METRIC_MISSING,
            )
        return cls(label, compared, facts)

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Check that this report is on the same faces as one with the provenance `facts`.

        Raises:
            InputError: it is not; a key that one of them lacks, both must lack.
        """
        for key in _SHARED:
            earlier, new = self.facts.get(key), facts.get(key)
            if earlier != new:
                raise InputError(
                    f"{self.label} is a report on {_described(key, earlier)}, this one is on "
                    f"{_described(key, new)}; compare with one of the same faces",
                    ErrorCode.NOT_COMPARABLE,
                )

    def checks(self, tolerance: Tolerance) -> list[Check]:
        """One check for each metric: that it is not worse by more than the tolerance."""
        found = []
        for key, value in self.values.items():
            margin = tolerance.margin(value)
            lower = BETTER[key] == "lower"
            limit = value + margin if lower else value - margin
            origin = f"{value:.6g} in {self.label}, tolerance {tolerance}"
            found.append(Check(key, "<=" if lower else ">=", limit, origin))
        return found


def read_report(source: str) -> Mapping[str, Any]:
    """A report that fd-metrics --json wrote, from a file or from standard input for `-`.

    It has a mapping `provenance`, and a mapping `model` or `models`; `baselines` is one if there.

    Raises:
        InputError: unreadable, or not a report.
    """
    try:
        found = json.loads(read_all(source, _MOST_BYTES, "a report"))
    except (ValueError, RecursionError):
        found = None
    parts = found if isinstance(found, Mapping) else {}
    required = parts.get("model", parts.get("models")), parts.get("provenance")
    others = parts.get("models", {}), parts.get("baselines", {})
    if not all(isinstance(part, Mapping) for part in (*required, *others)):
        raise InputError(
            f"{shown(source)} is not a report; expected what fd-metrics --json writes",
            ErrorCode.WRONG_KIND,
        )
    return parts


def require_all(checks: Sequence[Check], report: Mapping[str, Any]) -> None:
    """Check a report.

    Raises:
        CheckFailed: names every check that does not hold, with value and limit.
    """
    failures = [failure for check in checks if (failure := check.failure(report))]
    if failures:
        raise CheckFailed(
            f"{len(failures)} of {len(checks)} checks failed: {'; '.join(failures)}",
            ErrorCode.CHECK_FAILED,
        )


def junit_xml(
    suite: str, checks: Mapping[str, Sequence[Check]], report: Mapping[str, Any]
) -> bytes:
    """The checks of a report as one JUnit test suite.

    Args:
        suite: its name.
        checks: class name -> its test cases.
        report: the report to check.
    """
    cases = [(group, check) for group, members in checks.items() for check in members]
    failures = [check.failure(report) for _, check in cases]
    counts = {"tests": str(len(cases)), "failures": str(len(cases) - failures.count(None))}
    root = ElementTree.Element("testsuites", counts)
    parent = ElementTree.SubElement(root, "testsuite", {"name": suite, **counts, "errors": "0"})
    for (group, check), failure in zip(cases, failures, strict=True):
        names = {"classname": f"{suite}.{group}", "name": check.case}
        case = ElementTree.SubElement(parent, "testcase", names)
        if failure is not None:
            element = ElementTree.SubElement(case, "failure", {"message": failure})
            element.text = failure
    ElementTree.indent(root)
    return ElementTree.tostring(root, "utf-8", xml_declaration=True) + b"\n"


def _look_up(values: Any, path: str) -> Any:
    """The value at a dotted path of mappings, whose keys may have dots; None where there is none.

    The longest key that the path begins with is followed.
    """
    while path and isinstance(values, Mapping):
        found = [key for key in values if f"{path}.".startswith(f"{key}.")]
        if not found:
            return None
        key = max(found, key=len)
        values, path = values[key], path[len(key) + 1 :]
    return None if path else values


def mean_of(key: str, found: Any, label: str) -> float:
    """The mean of a metric of a report, or its only number.

    Raises:
        InputError: not a finite number.
    """
    value: Any = found.get("mean") if isinstance(found, Mapping) else found
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # JSON has larger integers, and Python's JSON has NaN
    if is_number and -sys.float_info.max <= value <= sys.float_info.max:
        return float(value)
    raise InputError(
        f"{label} has no finite number for {key}; make it again with fd-metrics",
        ErrorCode.METRIC_MISSING,
    )


def _described(key: str, value: Any) -> str:
    """A fact of the provenance in words."""
    if key == "aligned":
        return "aligned predictions" if value else "predictions as they are"
    if value is None:
        return f"no {key}"
    return f"{shown(str(value))} faces" if key == "faces" else f"{key} {shown(str(value))}"
