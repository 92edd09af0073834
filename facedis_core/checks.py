"""Limits on measured numbers: `e_rec<=1.2`, `e_dis.median<0.2`, `baselines.pca.e_rec>0`."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from facedis_core.errors import CheckFailed, UsageError
from facedis_core.metrics import BETTER, Summary

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


def require(checks: Sequence[Check], report: Mapping[str, Any]) -> None:
    """Raise CheckFailed naming every check that does not hold, with value and limit."""
    failures = [failure for check in checks if (failure := check.failure(report))]
    if failures:
        raise CheckFailed(f"{len(failures)} of {len(checks)} checks failed: {'; '.join(failures)}")
