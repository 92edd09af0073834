"""What a network minimises that has losses of its own, in place of eq. 7 and 8 of the paper.

In a step its players take turns: each has parameters and a loss, such as a discriminator and then
the auto-encoder. The trainer knows no more of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

AUTO_ENCODER = "auto_encoder"  # the player whose network is stored as the model


class KnownNeutrals(NamedTuple):
    """The neutrals of those faces of a batch whose person has one.

    Attributes:
        places: (K,) positions of these faces in the batch.
        faces: (K, V, 3), normalised.
        weight: by which a mean over K is to be multiplied, so that the mean over all processes is
            that over all these faces; 1 in one process.
    """

    places: Tensor
    faces: Tensor
    weight: float


class LabelledFaces(NamedTuple):
    """The faces of a step, in normalised coordinates.

    Attributes:
        faces: (B, V, 3).
        person: int64 (B,), from 0 to the number of training people.
        expression: int64 (B,), from 0 to the number of expressions of the training faces.
        neutrals: None where no face of the batch has one, or where the training has no neutrals.
        progress: part of the steps that is done, from 0 to 1.
    """

    faces: Tensor
    person: Tensor
    expression: Tensor
    neutrals: KnownNeutrals | None
    progress: float


class Turn(NamedTuple):
    """A player's part of a step.

    Attributes:
        player: its name.
        terms: the terms of its loss, unweighted, for the log.
        total: what its parameters minimise.
        values: other numbers for the log; one at least without terms.
    """

    player: str
    terms: Mapping[str, Tensor]
    total: Tensor
    values: Mapping[str, Tensor]

    @classmethod
    def weighted(
        cls,
        player: str,
        terms: Mapping[str, Tensor],
        weights: Mapping[str, float],
        values: Mapping[str, Tensor] | None = None,
    ) -> Self:
        """One whose loss is the weighted sum of its terms."""
        total = sum(weights[name] * term for name, term in terms.items())
        assert isinstance(total, Tensor)
        return cls(player, terms, total, values or {})


class Parameters(NamedTuple):
    """Parameters of a player, with weight decay or without."""

    decayed: list[nn.Parameter]
    others: list[nn.Parameter]


class Objective(ABC):
    """Losses of a network, and the networks that take part in its training.

    Attributes:
        networks: player -> its module, the auto-encoder among them.
    """

    networks: Mapping[str, nn.Module]

    def parameters(self, player: str) -> Parameters:
        """Its parameters; all of them are decayed, if any."""
        return Parameters(list(self.networks[player].parameters()), [])

    @abstractmethod
    def turns(self, batch: LabelledFaces) -> Iterator[Turn]:
        """The turns of a step; each player's parameters are updated before the next turn."""


def adversarial_loss(logits: Tensor, *, real: bool) -> Tensor:
    """Mean cross-entropy of logits (B, 1) with the label real, or fake; zero of no logits.

    Example:
        >>> adversarial_loss(torch.zeros(2, 1), real=True)
        tensor(0.6931)
    """
    target = torch.full_like(logits, float(real))
    total = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    return total / max(1, len(logits))
