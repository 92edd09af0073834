"""The widest layer of every PointNet: linear, batch norm, ReLU, then the maximum over vertices.

Done the plain way it fills V x 1024 activations a face and as many gradients. Neither is needed:
the maximum keeps one vertex a channel, so only that vertex's input gets a gradient, and the mean
and variance that batch norm wants follow from the mean and covariance of the layer's inputs.
The same goes for the layers before it: their activations are needed to find the winning vertices
and the moments, block by block, and later at the winning vertices alone.
`pool_reference` is the plain way, whose values and gradients the other has, up to rounding; a
network takes it after `set_pooling(network, implementation="reference")`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from facedis_core.moments import BatchNorm, Folded, batch_moments, folded, hidden_layer, through
from facedis_core.threads import spread
from facedis_core.winners import Precision, winning_vertices

Implementation = Literal["fast", "reference"]

_FACES = 4  # whose gradients a thread sums at a time


class MaxLinear(nn.Module):
    """max over vertices of ReLU(norm(linear(x))): (B, V, C_in) -> (B, C_out).

    Attributes:
        implementation: `fast` needs a fraction of the memory and time of `reference`, which holds
            every activation.
        precision: of `fast`, for the search of the maximum where gradients are recorded. Values and
            gradients are computed at the vertices found, in the precision of the weights; so is
            what is measured, from the search on.
    """

    implementation: Implementation = "fast"
    precision: Precision = "fp32"

    def __init__(self, inputs: int, outputs: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = BatchNorm(outputs) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, V, C_in) to (B, C_out)."""
        return pool([self], x)


def set_pooling(
    network: nn.Module, *, implementation: Implementation = "fast", precision: Precision = "fp32"
) -> None:
    """Say how every `MaxLinear` of a network computes."""
    for module in network.modules():
        if isinstance(module, MaxLinear):
            module.implementation, module.precision = implementation, precision


def pool_reference(layers: Iterable[Any], x: Tensor) -> Tensor:
    """The same as `pool`, layer by layer with all activations in memory."""
    rows = x.reshape(-1, x.shape[2])
    for layer in layers:
        rows = layer.linear(rows)
        rows = functional.relu(rows if layer.norm is None else layer.norm(rows))
    return rows.view(*x.shape[:2], -1).amax(dim=1)


def pool(layers: Iterable[Any], x: Tensor) -> Tensor:
    """Linear, norm and ReLU for every layer, then the maximum over vertices.

    The last layer's `implementation` says how. In the fast one a norm by the batch is
    differentiated through the moments of its layer's inputs, to which every vertex adds; the rest
    only at the vertices that win a channel.

    Args:
        layers: modules with a `linear` and a `norm`, from the first to the widest, a `MaxLinear`.
        x: (B, V, C_in).

    Returns:
        (B, C_out).
    """
    *_, widest = layers = list(layers)
    if widest.implementation == "reference":
        return pool_reference(layers, x)
    precision: Precision = widest.precision if torch.is_grad_enabled() else "fp32"
    faces, vertices, width = x.shape
    rows = x.reshape(-1, width)
    chain, deepest, left = _fold(layers, rows)
    *shared, last = chain
    winners = winning_vertices(deepest.detach().view(faces, vertices, -1), chain[-left:], precision)
    winners += torch.arange(0, faces * vertices, vertices, device=x.device)[:, None]
    # a vertex that wins many channels is computed once
    wins = torch.zeros(faces * vertices, dtype=torch.int64, device=x.device)
    wins[winners] = 1
    number = (wins.cumsum(dim=0) - 1)[winners]
    rows = rows.index_select(0, wins.nonzero()[:, 0])
    products = _ProductsAt.apply(through(rows, shared), number, last.weight)
    return functional.relu(products + last.bias)


def _fold(layers: Sequence[Any], rows: Tensor) -> tuple[list[Folded], Tensor, int]:
    """Every layer with its norm as one linear layer.

    Args:
        layers: as of `pool`.
        rows: (N, C_in) inputs of the first.

    Returns:
        the layers; inputs of the deepest layer whose inputs are in memory; how many layers are left
        from there on.
    """
    by_batch = [layer.training and layer.norm is not None for layer in layers]
    moments = batch_moments(rows) if any(by_batch) else None
    chain: list[Folded] = []
    left = len(layers)
    for number, layer in enumerate(layers, start=1):
        chain.append(folded(layer.linear, layer.norm, moments if by_batch[number - 1] else None))
        if any(by_batch[number:]):
            # the last one before the widest is wide itself
            found = hidden_layer(rows, chain[-1], keep=number + 1 < len(layers))
            moments = found.moments
            if found.rows is not None:
                rows, left = found.rows, len(layers) - number
    return chain, rows, left


class _ProductsAt(torch.autograd.Function):
    """(R, C_in), (B, C_out) row numbers, (C_out, C_in) -> products (B, C_out).

    A GPU takes all faces at once, a processor one after the other, which stays in its cache.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, winners: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(rows, winners, weight)
        if rows.is_cuda:
            return (rows[winners] * weight).sum(dim=2)

        @torch.no_grad()
        def products(part: Tensor) -> Tensor:
            return torch.stack([(rows.index_select(0, w) * weight).sum(dim=1) for w in part])

        return torch.cat([*spread(products, winners.split(_FACES))])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        rows, winners, weight = ctx.saved_tensors
        for_rows, _, for_weight = ctx.needs_input_grad
        d_rows = torch.zeros_like(rows) if for_rows else None
        if rows.is_cuda:
            if d_rows is not None:
                d_rows.index_add_(0, winners.flatten(), (outer[..., None] * weight).flatten(0, 1))
            d_weight = torch.einsum("bo,boi->oi", outer, rows[winners]) if for_weight else None
            return d_rows, None, d_weight

        @torch.no_grad()
        def of_part(part: tuple[Tensor, Tensor]) -> Tensor | None:
            d_weight = torch.zeros_like(weight) if for_weight else None
            for winner, gradient in zip(*part, strict=True):
                if d_rows is not None:  # no other face has these rows
                    d_rows.index_add_(0, winner, gradient * weight)
                if d_weight is not None:
                    d_weight.addcmul_(gradient, rows.index_select(0, winner))
            return d_weight

        parts = zip(winners.split(_FACES), outer[..., None].split(_FACES), strict=True)
        d_weights = [d for d in spread(of_part, parts) if d is not None]
        return d_rows, None, torch.stack(d_weights).sum(dim=0) if for_weight else None
