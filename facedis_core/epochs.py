"""What a run drives: something that learns epoch by epoch and can be stopped within one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from facedis_core.profiling import StepProfile


@dataclass
class Epoch:
    """What is known of an epoch under way; `sums` and `counts` are of the terms of its steps."""

    number: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Count the terms of one step; not every step has every term."""
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1
        self.step += 1

    def means(self) -> dict[str, float]:
        """The mean of every term over the steps that had it."""
        return {key: total / self.counts[key] for key, total in self.sums.items()}


class Learner(Protocol):
    """The networks of a training, their optimisers, and the epoch under way.

    Attributes:
        epochs: how many there shall be.
        profile: looks at a few of the steps.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    epoch: Epoch
    epochs: int
    device: torch.device
    profile: StepProfile

    def run_epoch(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None,
    ) -> dict[str, Any] | None:
        """Go on with the current epoch to its end; None if `should_stop` ended it before.

        Returns:
            the epoch's record: its number and the mean of every term.

        Raises:
            InputError: a term is not finite; the message says which one and where.
        """
        ...

    def evaluate(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What the record of an epoch just ended shall say of people who were not trained on."""
        ...
