"""Exponential moving average of a network's weights during a training (Polyak averaging)."""

import math
from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class WeightAverage(Generic[Network]):
    """The average of a network's weights and batch-norm statistics over its last steps.

    At a constant learning rate weights move around what they would converge to by steps of its
    size; their average does not, so that a model can be taken from the middle of a training.

    Args:
        network: the network that is trained.
        steps: number of steps after which the part of old weights has fallen to 1/e.

    Attributes:
        network: a copy with the averaged weights.
    """

    def __init__(self, network: Network, steps: float) -> None:
        self.network: Network = deepcopy(network).requires_grad_(False).eval()
        self.steps = steps
        learned = {name for name, _ in network.named_parameters()}
        ours, theirs = self.network.state_dict(), network.state_dict()
        self._pairs = [
            (average, theirs[name])
            for name, average in ours.items()
            if name in learned or name.rpartition(".")[2].startswith("running_")
        ]

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Add the weights after a step.

        Args:
            done: number of steps before it; of few, all weigh alike.
        """
        part = max(1 / (done + 1), -math.expm1(-1 / self.steps))
        for average, weights in self._pairs:
            average.lerp_(weights, part)
