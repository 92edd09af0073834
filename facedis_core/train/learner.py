"""A training that runs epoch by epoch and can be interrupted after any step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from facedis_core.train.profiling import step_part
from facedis_core.train.setup import allow_tf32, step_seed


@dataclass
class EpochProgress:
    """The current epoch: steps done, and sums of the values of its steps.

    Attributes:
        number: of the epoch, from 0.
        step: number of steps done.
        sums, counts: per value, over the steps that had it.
    """

    number: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Add the values of one step; not every step has every value."""
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1
        self.step += 1

    def means(self) -> dict[str, float]:
        """The mean of every value over the steps that had it."""
        return {key: total / self.counts[key] for key, total in self.sums.items()}


class Learner(ABC):
    """Networks, optimisers and the current epoch of a training.

    A subclass has the networks and optimisers, and says what an epoch and a step are.

    Args:
        epochs: number of epochs.
        steps: number of steps in an epoch.
        stream: of the random numbers of the steps.
        seed: of all random numbers.
        device: of the networks.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def __init__(
        self, *, epochs: int, steps: int, stream: int, seed: int, device: torch.device
    ) -> None:
        self.epochs, self.steps, self.stream = epochs, steps, stream
        self.seed, self.device = seed, device
        self.epoch = EpochProgress()

    def run_epoch(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None,
    ) -> dict[str, Any] | None:
        """Run the rest of the current epoch; None if `should_stop` ended it before.

        Returns:
            the epoch's log record: its number, what `_start_epoch` returned, and the mean of every
            value of its steps.

        Raises:
            InputError: a loss is not finite; the message says which one and where.
        """
        epoch = self.epoch
        record = {"epoch": epoch.number + 1} | self._start_epoch(epoch.number)
        batches = self._batches(epoch.number, epoch.step)
        with allow_tf32(self.device), closing(batches):
            for batch in _profiled(batches):
                # a seed for every step, so that a run can be resumed at any of them
                torch.manual_seed(step_seed(self.seed, self.stream, epoch.number, epoch.step))
                epoch.add(self._train_step(batch))
                on_step(epoch.number + 1, epoch.step, self.steps)
                if epoch.step < self.steps and should_stop():
                    return None
        self.epoch = EpochProgress(epoch.number + 1)
        return record | epoch.means()

    @abstractmethod
    def _start_epoch(self, number: int) -> dict[str, float]:
        """Prepare the networks and optimisers for this epoch (from 0); values for its record."""

    @abstractmethod
    def _batches(self, number: int, first: int) -> Generator[Any, None, None]:
        """The batches of this epoch, starting at step `first`."""

    @abstractmethod
    def _train_step(self, batch: Any) -> dict[str, float]:
        """Train on one batch; the values of its losses."""

    @abstractmethod
    def evaluate(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Metrics on the test faces, to be added to the record of the epoch just finished."""


def _profiled(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches; waiting for one is a part of the step in a profile."""
    while True:
        with step_part("wait for faces"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch
