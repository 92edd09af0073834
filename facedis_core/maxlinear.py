"""The widest layer of every PointNet: linear, batch norm, ReLU, then the maximum over vertices.

Done the plain way it fills V x 1024 activations a face and as many gradients. Neither is needed:
the maximum keeps one vertex a channel, so only that vertex's input gets a gradient, and the mean
and variance that batch norm wants follow from the mean and covariance of the layer's inputs.
The same goes for the layers before it: their activations are needed to find the winning vertices
and the moments, block by block, and later at the winning vertices alone.
What is computed here equals the plain layers; tests hold it against them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from facedis_core.moments import Folded, batch_moments, blocks, folded, through
from facedis_core.threads import spread

_PRODUCTS = 1 << 19  # products that exist at one time; they stay in the cache
_GPU_PRODUCTS = 1 << 26  # the same on a GPU, which wants long loops
_FACES = 4  # that a thread takes at a time and in the same memory, at most
_FEW = 128  # vertices of a face that is not worth the way round by groups
_GROUP = 16  # vertices of which only the largest product is kept until a channel's winner is known
_CHANNELS = 256  # whose winners are looked for at one time; their candidates stay in the cache


class MaxLinear(nn.Module):
    """max over vertices of ReLU(norm(linear(x))): (B, V, C_in) -> (B, C_out)."""

    def __init__(self, inputs: int, outputs: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, V, C_in) to (B, C_out)."""
        return pool([self], x)


def pool(layers: Iterable[Any], x: Tensor) -> Tensor:
    """Linear, norm and ReLU for every layer, then the maximum over vertices.

    A norm by the batch is differentiated through the moments of its layer's inputs, to which
    every vertex adds; the rest only at the vertices that win a channel.

    Args:
        layers: modules with a `linear` and a `norm`, from the first to the widest.
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

        @torch.no_grad()
        def products(part: Tensor) -> Tensor:
            return torch.stack([(rows.index_select(0, w) * weight).sum(dim=1) for w in part])

        return torch.cat([*spread(products, winners.split(_FACES), rows.device)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        rows, winners, weight = ctx.saved_tensors
        for_rows, _, for_weight = ctx.needs_input_grad
        d_rows = torch.zeros_like(rows) if for_rows else None

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
        d_weights = [d for d in spread(of_part, parts, rows.device) if d is not None]
        return d_rows, None, torch.stack(d_weights).sum(dim=0) if for_weight else None


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
    threads = torch.get_num_threads()
    if len(x) < threads:  # then the threads share every product instead
        return _one_by_one(x, shared, weight)
    parts = x.split(min(_FACES, len(x) // threads))
    return torch.cat([*spread(lambda part: _one_by_one(part, shared, weight), parts)])


def _plainly(x: Tensor, shared: Sequence[Folded], weight: Tensor) -> Tensor:
    """Winning vertices of a few faces, with all their products in memory."""
    faces, vertices, width = x.shape
    rows = through(x.reshape(-1, width), shared)
    return (rows @ weight.T).view(faces, vertices, -1).argmax(dim=1)


@torch.no_grad()
def _one_by_one(x: Tensor, shared: Sequence[Folded], weight: Tensor) -> Tensor:
    """Winning vertices of a few faces, looked for in the same memory."""
    search = _Search(x.shape[1], weight)
    winners = []
    for face in x:
        for block, features in zip(blocks(face), blocks(search.features), strict=False):
            through(block, shared, out=features[: len(block)])
        winners.append(search.winners())
    return torch.stack(winners)


class _Search:
    """Winning vertices of one face after the other, in the same memory.

    A maximum is cheap while the products are in the cache, but to say where it is costs four
    times as much. So first the largest product of every group of vertices, then the place in the
    best group of each channel alone.

    Args:
        vertices: V.
        weight: (C_out, C_in) of the widest layer.
    """

    def __init__(self, vertices: int, weight: Tensor) -> None:
        outputs, inputs = weight.shape
        groups = -(-vertices // _GROUP)
        self.vertices, self.weight = vertices, weight
        self.columns = weight.T.contiguous()
        self.features = weight.new_empty(groups * _GROUP, inputs)  # put those of a face here
        self.products = weight.new_empty(_PRODUCTS // outputs // _GROUP + 1, _GROUP, outputs)
        self.highest = weight.new_empty(groups, outputs)
        self.candidates = weight.new_empty(_CHANNELS, _GROUP, inputs)
        self.number = torch.arange(groups, dtype=weight.dtype, device=weight.device)[:, None]

    def winners(self) -> Tensor:
        """The vertex of the largest product for each channel: int64 (C_out,)."""
        self.features[self.vertices :] = self.features[self.vertices - 1]  # fills the last group
        groups = self.features.view(len(self.highest), _GROUP, -1)
        step = len(self.products)
        for part, highest in zip(groups.split(step), self.highest.split(step), strict=True):
            products = self.products[: len(part)]
            torch.mm(part.flatten(0, 1), self.columns, out=products.flatten(0, 1))
            torch.amax(products, dim=1, out=highest)
        # faster than an argmax: 0 for the best group of a channel, -1 for the others
        behind = (self.highest - self.highest.amax(dim=0)).sign_()
        group = torch.add(self.number, behind, alpha=len(groups)).amax(dim=0).long()
        place = []
        for part, weight in zip(group.split(_CHANNELS), self.weight.split(_CHANNELS), strict=True):
            candidates = self.candidates[: len(part)]
            torch.index_select(groups, 0, part, out=candidates)
            place.append(candidates.mul_(weight[:, None]).sum(dim=2).argmax(dim=1))
        return (group * _GROUP + torch.cat(place)).clamp_max_(self.vertices - 1)
