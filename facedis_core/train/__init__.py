"""Training: recipes, batches, the two trainers, checkpoints and runs; called, it trains a model.

Arguments and an example: `help(facedis_core.train.training.train)`.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class _Train(ModuleType):
    """The package, which is also the function `train` of the Python API."""

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The function, whose signature and help tools show."""
        try:
            from facedis_core.train.training import train
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            from facedis_core.errors import missing_extra

            raise missing_extra("train", "train") from None
        return train

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.__wrapped__(*arguments, **options)


sys.modules[__name__].__class__ = _Train
