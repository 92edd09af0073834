"""Metrics, baselines, recognition, probes, limits that gate CI; called, it measures a model.

Arguments and an example: `help(facedis_core.evaluate.evaluation.evaluate)`.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class _Evaluate(ModuleType):
    """The package, which is also the function `evaluate` of the Python API."""

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The function, whose signature and help tools show."""
        from facedis_core.evaluate.evaluation import evaluate

        return evaluate

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.__wrapped__(*arguments, **options)


sys.modules[__name__].__class__ = _Evaluate
