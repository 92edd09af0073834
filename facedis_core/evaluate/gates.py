"""Limits on measured numbers: `e_rec<=1.2`, `e_dis.median<0.2`, `baselines.pca.e_rec>0`."""

import json
import math
import operator
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final
from xml.etree import ElementTree

from facedis_core.errors import CheckFailed, InputError, UsageError
from facedis_core.evaluate.metrics import BETTER, Summary
from facedis_core.io.streams import read_all, shown

_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_SYNTAX: Final = re.compile(r"\s*(\w+(?:\.\w+)*)\s*(<=|>=|==|<|>)\s*([^\s<>=]+)\s*")

# What may stand before a metric, and all that may follow.
_PREFIX: Final = re.compile(r"model\.|baselines\.\w+\.|")
_NAMES: Final = [*BETTER, *(f"{key}.{part}" for key in BETTER for part in Summary._fields)]
_FACTS: Final = re.compile(r"provenance\.\w+|baselines\.\w+\.(components|penalty)")
_NEAR: Final = 0.75  # how alike a slip and what was meant are, of 1


@dataclass(frozen=True)
class Check:
    """One limit: `key` is a path into a report, a bare metric name means the model's mean.

    `origin` says where the limit comes from, if not from the user.
    """

    key: str
    relation: str
    limit: float
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.key}{self.relation}{self.limit:.6g}"

    @classmethod
    def parse(cls, text: str, names: Sequence[str] = _NAMES) -> "Check":
        """Read `KEY RELATION NUMBER`; `names` are all numbers that the report may have.

        Raises:
            UsageError: it is anything else, or nearly but not quite a metric's name. A name that is
                like none is a number which was not measured, and fails when all is.
        """
        match = _SYNTAX.fullmatch(text)
        try:
            limit = float(match[3]) if match else float("nan")
        except ValueError:
            limit = float("nan")
        if match is None or limit != limit:
            raise UsageError(
                f"--check {text!r} is not a check; expected a metric, one of <= < >= > == "
                "and a number, such as 'e_rec<=1.2' or 'e_dis.median<=0.2'"
            )
        _refuse_slip(match[1], names)
        return cls(match[1], match[2], limit)

    def failure(self, report: Mapping[str, Any]) -> str | None:
        """What is wrong with the number in the report; None where the check holds.

        A number that is missing or NaN is wrong.
        """
        value = self._find(report)
        origin = f" ({self.origin})" if self.origin else ""
        if value is None:
            return f"{self.key} was not measured, limit {self.relation} {self.limit:.6g}{origin}"
        if _COMPARE[self.relation](value, self.limit):
            return None
        found, limit = f"{value:.6g}", f"{self.limit:.6g}"
        if found == limit:  # where rounded they are one, all digits tell them apart
            found, limit = f"{value:.17g}", f"{self.limit:.17g}"
        return f"{self.key} is {found}, limit {self.relation} {limit}{origin}"

    def _find(self, report: Mapping[str, Any]) -> float | None:
        path = self.key.split(".")
        found: Any = report if path[0] in report else report.get("model")
        for step in path:
            found = found.get(step) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            found = found.get("mean")
        return found if isinstance(found, int | float) else None


def _refuse_slip(key: str, names: Sequence[str]) -> None:
    prefix = match[0] if (match := _PREFIX.match(key)) else ""
    name = key.removeprefix(prefix)
    if name in names or _FACTS.fullmatch(key):
        return
    near = get_close_matches(name, names, 1, _NEAR)
    if near:
        raise UsageError(
            f"--check {key!r} is no metric; did you mean {prefix + near[0]!r}? "
            "--json shows all there are"
        )


def require_all(checks: Sequence[Check], report: Mapping[str, Any]) -> None:
    """Raise CheckFailed naming every check that does not hold, with value and limit."""
    failures = [failure for check in checks if (failure := check.failure(report))]
    if failures:
        raise CheckFailed(f"{len(failures)} of {len(checks)} checks failed: {'; '.join(failures)}")


# What two reports must share for their numbers to compare.
_SAME: Final = ("set", "split", "faces", "aligned")
_LARGEST: Final = 1 << 24  # bytes of a report
_TOLERANCE: Final = re.compile(r"\s*(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*(%?)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Tolerance:
    """How much worse a number may be: `amount` of it where `relative`, else in its own unit."""

    amount: float = 0.0
    relative: bool = False

    @classmethod
    def parse(cls, text: str) -> "Tolerance":
        """Read `2%` or `0.05`; UsageError where it is anything else."""
        match = _TOLERANCE.fullmatch(text)
        amount = float(match[1] + (match[2] or "")) if match else math.inf
        if match is None or not math.isfinite(amount):
            raise UsageError(
                f"--tolerance {text!r} is no tolerance; expected a percentage such as 2%, "
                "or a number in the metric's own unit such as 0.05"
            )
        return cls(amount / 100, True) if match[3] else cls(amount)

    def __str__(self) -> str:
        return f"{self.amount * 100:g}%" if self.relative else f"{self.amount:g}"

    def around(self, value: float) -> float:
        """How far from `value` it still is as good."""
        return self.amount * abs(value) if self.relative else self.amount


@dataclass(frozen=True)
class BaselineReport:
    """What fd-metrics --json wrote before.

    Attributes:
        label: what messages call it.
        values: metric -> its mean, of those that are better lower or higher.
        facts: its provenance.
    """

    label: str
    values: Mapping[str, float]
    facts: Mapping[str, Any]

    @classmethod
    def read(cls, source: str) -> "BaselineReport":
        """Read a report from a file, or from standard input for `-`.

        Raises:
            InputError: unreadable, no report, or one without a number to compare with.
        """
        label = shown(source)
        try:
            found = json.loads(read_all(source, _LARGEST, "a report"))
        except (ValueError, RecursionError):
            found = None
        model, facts = (
            found.get(key) if isinstance(found, Mapping) else None
            for key in ("model", "provenance")
        )
        if not isinstance(model, Mapping) or not isinstance(facts, Mapping):
            raise InputError(f"{label} is no report; expected what fd-metrics --json writes")
        values = {key: _value(key, model[key], label) for key in BETTER if key in model}
        compared = {key: value for key, value in values.items() if BETTER[key]}
        if not compared:
            raise InputError(f"{label} has no metric to compare with; make it with fd-metrics")
        return cls(label, compared, facts)

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Raise InputError unless this report was measured on what `facts` (provenance) say.

        A key that `facts` lack is one the earlier report must lack as well.
        """
        for key in _SAME:
            then, now = self.facts.get(key), facts.get(key)
            if then != now:
                raise InputError(
                    f"{self.label} is a report on {_fact(key, then)}, this one is on "
                    f"{_fact(key, now)}; compare with one of the same faces"
                )

    def checks(self, tolerance: Tolerance) -> list[Check]:
        """One check a metric, that it has not become worse by more than the tolerance."""
        found = []
        for key, value in self.values.items():
            margin = tolerance.around(value)
            lower = BETTER[key] == "lower"
            limit = value + margin if lower else value - margin
            origin = f"{value:.6g} in {self.label}, tolerance {tolerance}"
            found.append(Check(key, "<=" if lower else ">=", limit, origin))
        return found


def _value(key: str, found: Any, label: str) -> float:
    value: Any = found.get("mean") if isinstance(found, Mapping) else found
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # JSON has larger integers, and Python's JSON has NaN
    if number and -sys.float_info.max <= value <= sys.float_info.max:
        return float(value)
    raise InputError(f"{label} has no finite number for {key}; make it anew with fd-metrics")


def _fact(key: str, value: Any) -> str:
    if key == "aligned":
        return "aligned predictions" if value else "predictions as they are"
    if value is None:
        return f"no {key}"
    return f"{shown(str(value))} faces" if key == "faces" else f"{key} {shown(str(value))}"


def junit_xml(
    suite: str, checks: Mapping[str, Sequence[Check]], report: Mapping[str, Any]
) -> bytes:
    """One test suite; a check that does not hold is a failure with value and limit.

    Args:
        suite: its name.
        checks: class name of the test cases -> their checks.
        report: what the checks look at.
    """
    cases = [(group, check) for group, members in checks.items() for check in members]
    failures = [check.failure(report) for _, check in cases]
    counts = {"tests": str(len(cases)), "failures": str(len(cases) - failures.count(None))}
    root = ElementTree.Element("testsuites", counts)
    parent = ElementTree.SubElement(root, "testsuite", {"name": suite, **counts, "errors": "0"})
    for (group, check), failure in zip(cases, failures, strict=True):
        names = {"classname": f"{suite}.{group}", "name": str(check)}
        case = ElementTree.SubElement(parent, "testcase", names)
        if failure is not None:
            found = ElementTree.SubElement(case, "failure", {"message": failure})
            found.text = failure
    ElementTree.indent(root)
    return ElementTree.tostring(root, "utf-8", xml_declaration=True) + b"\n"
