"""The widest layer of every PointNet: linear, batch norm, ReLU, then the maximum over vertices.

Done the plain way it fills V x 1024 activations a face and as many gradients. Neither is needed:
the maximum keeps one vertex a channel, so only that vertex's input gets a gradient, and the mean
and variance that batch norm wants follow from the mean and covariance of the layer's inputs.
The same goes for the layers before it: their activations are needed to find the winning vertices
and the moments, block by block, and later at the winning vertices alone.
What is computed here equals the plain layers; tests hold it against them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from facedis_core.moments import Folded, batch_moments, blocks, folded, through

_PRODUCTS = 1 << 19  # products that exist at one time; they stay in the cache
_GPU_PRODUCTS = 1 << 26  # the same on a GPU, which wants long loops
_FEW = 128  # vertices of a face that is not worth the way round by groups
_GROUP = 16  # vertices of which only the largest product is kept until a channel's winner is known
_CHANNELS = 128  # whose winners are looked for at one time; their candidates stay in the cache


class NormedLinear(Protocol):
    """What every layer of a PointNet has."""

    training: bool
    linear: nn.Linear
    norm: nn.BatchNorm1d | None


class MaxLinear(nn.Module):
    """max over vertices of ReLU(norm(linear(x))): (B, V, C_in) -> (B, C_out)."""

    def __init__(self, inputs: int, outputs: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, V, C_in) to (B, C_out)."""
        return pool([self], x)


def pool(layers: Iterable[NormedLinear], x: Tensor) -> Tensor:
    """Linear, norm and ReLU for every layer, then the maximum over vertices.

    A norm by the batch is differentiated through the moments of its layer's inputs, to which
    every vertex adds; the rest only at the vertices that win a channel.

    Args:
        layers: from the first to the widest.
        x: (B, V, C_in).

    Returns:
        (B, C_out).
    """
    faces, vertices, width = x.shape
    rows = x.reshape(-1, width)
    chain: list[Folded] = []
    for layer in layers:
        by_batch = layer.training and layer.norm is not None
        moments = batch_moments(rows, chain) if by_batch else None
        chain.append(folded(layer.linear, layer.norm, moments))
    *shared, last = chain
    winners = winning_vertices(x, chain)
    winners += torch.arange(0, faces * vertices, vertices, device=x.device)[:, None]
    # a vertex that wins many channels is computed once
    wins = torch.zeros(faces * vertices, dtype=torch.int64, device=x.device)
    wins[winners] = 1
    number = (wins.cumsum(dim=0) - 1)[winners]
    rows = rows.index_select(0, wins.nonzero()[:, 0])
    products = _ProductsAt.apply(through(rows, shared), number, last.weight)
    return functional.relu(products + last.bias)


class _ProductsAt(torch.autograd.Function):
    """(R, C_in), (B, C_out) row numbers, (C_out, C_in) -> products (B, C_out), face by face."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, winners: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(rows, winners, weight)
        return torch.stack([(rows.index_select(0, w) * weight).sum(dim=1) for w in winners])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        rows, winners, weight = ctx.saved_tensors
        for_rows, _, for_weight = ctx.needs_input_grad
        d_rows = torch.zeros_like(rows) if for_rows else None
        d_weight = torch.zeros_like(weight) if for_weight else None
        for winner, gradient in zip(winners, outer[..., None], strict=True):
            if d_rows is not None:
                d_rows.index_add_(0, winner, gradient * weight)
            if d_weight is not None:
                d_weight.addcmul_(gradient, rows.index_select(0, winner))
        return d_rows, None, d_weight


@torch.no_grad()
def winning_vertices(x: Tensor, chain: Sequence[Folded]) -> Tensor:
    """For each face (B, V, C_in) and channel of the last layer the vertex with the largest output.

    Returns:
        int64 (B, C_out).
    """
    *shared, (weight, _) = chain
    vertices, outputs = x.shape[1], len(weight)
    if x.is_cuda or vertices <= _FEW:
        step = max(1, (_GPU_PRODUCTS if x.is_cuda else _PRODUCTS) // (vertices * outputs))
        return torch.cat([_plainly(part, shared, weight) for part in x.split(step)])
    columns = weight.T.contiguous()
    features = x.new_empty(vertices, weight.shape[1])
    products = x.new_empty(max(_GROUP, _PRODUCTS // outputs // _GROUP * _GROUP), outputs)
    winners = []
    for face in x:
        for block, into in zip(blocks(face), blocks(features), strict=True):
            into.copy_(through(block, shared))
        group = torch.cat(list(_largest_of_groups(features, columns, products))).argmax(dim=0)
        # the last group may be short; the vertices before it lose or win all the same
        first = (group * _GROUP).clamp_max_(vertices - _GROUP)
        winners.append(_best_of_group(features, first, weight))
    return torch.stack(winners)


def _plainly(x: Tensor, shared: Sequence[Folded], weight: Tensor) -> Tensor:
    """Winning vertices of a few faces, with all their products in memory."""
    faces, vertices, width = x.shape
    rows = through(x.reshape(-1, width), shared)
    return (rows @ weight.T).view(faces, vertices, -1).argmax(dim=1)


def _largest_of_groups(features: Tensor, columns: Tensor, products: Tensor) -> Iterator[Tensor]:
    """The largest product of every group of vertices, (groups, C_out) at a time.

    A maximum is cheap while the products are in the cache; where it is costs four times as much.
    """
    for part in features.split(len(products)):
        found = torch.mm(part, columns, out=products[: len(part)])
        whole = len(part) // _GROUP * _GROUP
        yield found[:whole].view(-1, _GROUP, found.shape[1]).amax(dim=1)
        if whole < len(part):  # only in the last part
            yield found[whole:].amax(dim=0, keepdim=True)


def _best_of_group(features: Tensor, first: Tensor, weight: Tensor) -> Tensor:
    """The winner of each channel among the group of vertices that starts at `first`: (C_out,)."""
    group = torch.arange(_GROUP, device=features.device)
    winners = []
    for start, channels in zip(first.split(_CHANNELS), weight.split(_CHANNELS), strict=True):
        rows = (start[:, None] + group).view(-1)
        candidates = features.index_select(0, rows).view(len(start), _GROUP, -1)
        winners.append(start + candidates.mul_(channels[:, None]).sum(dim=2).argmax(dim=1))
    return torch.cat(winners)
