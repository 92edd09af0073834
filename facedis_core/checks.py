"""Limits on measured numbers: `e_rec<=1.2`, `e_dis.median<0.2`, `baselines.pca.e_rec>0`."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from facedis_core.errors import CheckFailed, UsageError

_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_SYNTAX: Final = re.compile(r"\s*(\w+(?:\.\w+)*)\s*(<=|>=|==|<|>)\s*([^\s<>=]+)\s*")


@dataclass(frozen=True)
class Check:
    """One limit: `key` is a path into a report, a bare metric name means the model's mean."""

    key: str
    relation: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> "Check":
        """Read `KEY RELATION NUMBER`; UsageError where it is anything else."""
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
        return cls(match[1], match[2], limit)

    def failure(self, report: Mapping[str, Any]) -> str | None:
        """What is wrong with the number in the report; None where the check holds.

        A number that is missing or NaN is wrong.
        """
        value = self._find(report)
        if value is None:
            return f"{self.key} was not measured, limit {self.relation} {self.limit:g}"
        if _COMPARE[self.relation](value, self.limit):
            return None
        return f"{self.key} is {value:.6g}, limit {self.relation} {self.limit:g}"

    def _find(self, report: Mapping[str, Any]) -> float | None:
        path = self.key.split(".")
        found: Any = report if path[0] in report else report.get("model")
        for step in path:
            found = found.get(step) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            found = found.get("mean")
        return found if isinstance(found, int | float) else None


def require(checks: Sequence[Check], report: Mapping[str, Any]) -> None:
    """Raise CheckFailed naming every check that does not hold, with value and limit."""
    failures = [failure for check in checks if (failure := check.failure(report))]
    if failures:
        raise CheckFailed(f"{len(failures)} of {len(checks)} checks failed: {'; '.join(failures)}")
