"""A training that runs step by step, and can be interrupted after any of them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from facedis_core.nn.face_pairs import FacePairs
from facedis_core.train.profiling import step_part
from facedis_core.train.schedule import steps_per_epoch
from facedis_core.train.setup import allow_tf32, step_seed


@dataclass
class EpochProgress:
    """The current epoch and its steps done, and sums of values since the last log record.

    Attributes:
        number: of the epoch, from 0.
        step: number of its steps done.
        sums, counts: per value, over the steps since the last record that had it.
    """

    number: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: Mapping[str, float], steps_per_epoch: int) -> None:
        """Add the values of one step; not every step has every value."""
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1
        self.step += 1
        if self.step == steps_per_epoch:
            self.number, self.step = self.number + 1, 0

    def means(self) -> dict[str, float]:
        """The mean of every value over the steps that had it."""
        return {key: total / self.counts[key] for key, total in self.sums.items()}


class Trainer(ABC):
    """Networks, optimisers and the current epoch of a training.

    A subclass has the networks and optimisers, and says what an epoch and a step are.

    Args:
        pairs: the training faces by subject.
        batch: number of faces in a step.
        steps: number of steps in all.
        stream: of the random numbers of the steps.
        seed: of all random numbers.
        device: of the networks.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    pseudo_neutral = "none"  # the estimate that stands for neutrals

    def __init__(
        self,
        *,
        pairs: FacePairs,
        batch: int,
        steps: int,
        stream: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.pairs, self.batch, self.steps, self.stream = pairs, batch, steps, stream
        self.seed, self.device = seed, device
        self.epoch = EpochProgress()

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in an epoch; the last epoch of a run may have fewer."""
        return steps_per_epoch(self.pairs.faces, self.batch)

    @property
    def steps_done(self) -> int:
        """Number of steps done in all."""
        return self.epoch.number * self.steps_per_epoch + self.epoch.step

    def run_epochs(
        self,
        every: int = 1,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[], None] = lambda: None,
    ) -> dict[str, Any] | None:
        """Train until the number of epochs is a multiple of `every`, or to the last step.

        Args:
            every: epochs between two records.
            should_stop: asked after every step but the one before a record.
            on_step: called after every step.

        Returns:
            the log record: epochs and steps done, learning rate of the last step, and the mean of
            every value since the last record. None if `should_stop` ended the training before.

        Raises:
            InputError: a loss is not finite; the message says which one and where.
        """
        # a checkpoint may lie between the last step before a record and the record
        start = self.steps_done + (not self.epoch.sums)
        interval = every * self.steps_per_epoch
        end = min(self.steps, math.ceil(start / interval) * interval)
        self._start_training()
        with allow_tf32(self.device):
            while self.steps_done < end:
                number = self.epoch.number
                with closing(self._batches(number, self.epoch.step)) as batches:
                    for batch in _profiled(batches):
                        # a seed for every step, so that a run can be resumed at any of them
                        torch.manual_seed(
                            step_seed(self.seed, self.stream, number, self.epoch.step)
                        )
                        self.epoch.add(self._train_step(batch), self.steps_per_epoch)
                        on_step()
                        if self.steps_done == end:
                            break
                        if should_stop():
                            return None
        record = {
            "epoch": math.ceil(self.steps_done / self.steps_per_epoch),
            "step": self.steps_done,
            "learning_rate": self._learning_rate(self.steps_done - 1),
            **self.epoch.means(),
        }
        self.epoch = EpochProgress(self.epoch.number, self.epoch.step)
        return record

    @property
    def is_finished(self) -> bool:
        """Whether the last step is done and its record made."""
        return self.steps_done >= self.steps and not self.epoch.sums

    @abstractmethod
    def _learning_rate(self, step: int) -> float:
        """The learning rate in the step with that number (from 0)."""

    @abstractmethod
    def _start_training(self) -> None:
        """Set the networks to training mode."""

    @abstractmethod
    def _batches(self, number: int, first: int) -> Generator[Any, None, None]:
        """The batches of the epoch with that number (from 0), starting at step `first`."""

    @abstractmethod
    def _train_step(self, batch: Any) -> dict[str, float]:
        """Train on one batch; the values of its losses."""

    @abstractmethod
    def evaluate(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Metrics on the test faces, to be added to the record just made.

        All processes must call it; only the main one has the metrics.
        """


def _profiled(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches; waiting for one is a part of the step in a profile."""
    while True:
        with step_part("wait for faces"):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch
