"""What a run drives: something that learns epoch by epoch and can be stopped within one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from facedis_core.build import fast_products, step_seed
from facedis_core.profiling import step_part


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


class Learner(ABC):
    """The networks of a training, their optimisers, and the epoch under way.

    A subclass gives them, the batches of an epoch and what is done with one.

    Args:
        epochs: how many there shall be.
        steps: how many an epoch has.
        stream: of the random numbers of its steps.
        seed: fixes everything that is random.
        device: where it computes.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def __init__(
        self, *, epochs: int, steps: int, stream: int, seed: int, device: torch.device
    ) -> None:
        self.epochs, self.steps, self.stream = epochs, steps, stream
        self.seed, self.device = seed, device
        self.epoch = Epoch()

    def run_epoch(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None,
    ) -> dict[str, Any] | None:
        """Go on with the current epoch to its end; None if `should_stop` ended it before.

        Returns:
            the epoch's record: its number, the mean of every term, and what `_begin` has to say.

        Raises:
            InputError: a term is not finite; the message says which one and where.
        """
        epoch = self.epoch
        record = {"epoch": epoch.number + 1} | self._begin(epoch.number)
        batches = self._batches(epoch.number, epoch.step)
        with fast_products(self.device), closing(batches):
            for batch in _profiled(batches):
                # of its own for every step, so that one may start anywhere
                torch.manual_seed(step_seed(self.seed, self.stream, epoch.number, epoch.step))
                epoch.add(self._step(batch))
                on_step(epoch.number + 1, epoch.step, self.steps)
                if epoch.step < self.steps and should_stop():
                    return None
        self.epoch = Epoch(epoch.number + 1)
        return record | epoch.means()

    @abstractmethod
    def _begin(self, number: int) -> dict[str, float]:
        """Make the networks ready for the epoch with that number (from 0); what to say of it."""

    @abstractmethod
    def _batches(self, number: int, first: int) -> Generator[Any, None, None]:
        """The batches of the epoch with that number, from its step `first` on."""

    @abstractmethod
    def _step(self, batch: Any) -> dict[str, float]:
        """Learn from a batch; the values of its terms."""

    @abstractmethod
    def evaluate(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What the record of an epoch just ended shall say of people who were not trained on."""


def _profiled(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches; the wait for each is a part of the step."""
    while True:
        with step_part("wait for faces"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch
