"""A report against an earlier one: no number may have become worse by more than a tolerance."""

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from facedis_core.checks import Check
from facedis_core.errors import InputError, UsageError
from facedis_core.metrics import BETTER
from facedis_core.streams import read_all, shown

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
class EarlierReport:
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
    def read(cls, source: str) -> "EarlierReport":
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
