"""Which vertex wins each channel of the widest layer of a PointNet, and nothing else about it.

The values at these vertices, and their gradients, are computed elsewhere and exactly; so products
that choose may be of less precision where somebody asks for it.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from facedis_core.moments import Folded, blocks, through
from facedis_core.threads import spread

Precision = Literal["fp32", "bf16"]

_PRODUCTS = 1 << 19  # products that exist at one time; they stay in the cache
_GPU_PRODUCTS = 1 << 26  # the same on a GPU, which wants long loops
_FACES = 4  # that a thread takes at a time and in the same memory, at most
_FEW = 128  # vertices of a face that is not worth the way round by groups
_GROUP = 16  # vertices of which only the largest product is kept until a channel's winner is known
_CHANNELS = 256  # whose winners are looked for at one time; their candidates stay in the cache


@torch.no_grad()
def winning_vertices(x: Tensor, chain: Sequence[Folded], precision: Precision = "fp32") -> Tensor:
    """For each face (B, V, C_in) and channel of the last layer the vertex with the largest output.

    Args:
        x: (B, V, C_in).
        chain: linear layers with a ReLU between them, from the first to the widest.
        precision: of the products of the last layer; fp32 = as x has it.

    Returns:
        int64 (B, C_out).
    """
    *shared, (weight, _) = chain
    vertices, outputs = x.shape[1], len(weight)
    if x.is_cuda or vertices <= _FEW:
        step = max(1, (_GPU_PRODUCTS if x.is_cuda else _PRODUCTS) // (vertices * outputs))
        return torch.cat([_together(part, shared, weight, precision) for part in x.split(step)])
    threads = torch.get_num_threads()
    if len(x) < threads:  # then the threads share every product instead
        return _one_by_one(x, shared, weight, precision)
    parts = x.split(min(_FACES, len(x) // threads))
    found = spread(lambda part: _one_by_one(part, shared, weight, precision), parts)
    return torch.cat([*found])


def _together(x: Tensor, shared: Sequence[Folded], weight: Tensor, precision: Precision) -> Tensor:
    """Winning vertices of a few faces at once."""
    faces, vertices, width = x.shape
    features = through(x.reshape(-1, width), shared).view(faces, vertices, -1)
    find = _by_triton if x.is_cuda else _plainly
    return find(*_rounded(features, weight, precision))


def _plainly(features: Tensor, weight: Tensor) -> Tensor:
    return (features @ weight.T).argmax(dim=1)


def _by_triton(features: Tensor, weight: Tensor) -> Tensor:
    """No product is in memory where Triton can be had."""
    largest = _kernel(weight.device, weight.dtype, weight.shape) or _plainly
    return largest(features, weight)


def _rounded(features: Tensor, weight: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
    """Features (B, V, C) and weight (C_out, C) as they are multiplied.

    What all vertices of a face have in common wins nothing, and without it less is rounded away.
    """
    if precision == "fp32":
        return features, weight
    return (features - features.mean(dim=1, keepdim=True)).bfloat16(), weight.bfloat16()


@cache
def _kernel(
    device: torch.device, dtype: torch.dtype, shape: torch.Size
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """`fusedmax.largest` if it works with such a weight; imported here, for few need it."""
    try:
        from facedis_core import fusedmax
    except ImportError:
        return None
    weight = torch.zeros(shape, dtype=dtype, device=device)
    if not fusedmax.suits(weight):
        return None
    try:
        fusedmax.largest(weight.new_zeros(1, 1, shape[1]), weight)
    except Exception as error:  # no C compiler, a GPU too new for this Triton, ...
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        warnings.warn(f"Triton does not work here, so PyTorch does instead: {reason}", stacklevel=1)
        return None
    return fusedmax.largest


@torch.no_grad()
def _one_by_one(
    x: Tensor, shared: Sequence[Folded], weight: Tensor, precision: Precision
) -> Tensor:
    """Winning vertices of a few faces, looked for in the same memory."""
    search = _Search(x.shape[1], weight, precision)
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
        precision: of the products that choose the group; the place in it is chosen exactly.
    """

    def __init__(self, vertices: int, weight: Tensor, precision: Precision = "fp32") -> None:
        outputs, inputs = weight.shape
        groups = -(-vertices // _GROUP)
        self.vertices, self.weight, self.precision = vertices, weight, precision
        self.features = weight.new_empty(groups * _GROUP, inputs)  # put those of a face here
        _, multiplied = _rounded(self.features[None], weight, precision)
        self.columns = multiplied.T.contiguous()
        self.products = self.columns.new_empty(_PRODUCTS // outputs // _GROUP + 1, _GROUP, outputs)
        self.highest = self.columns.new_empty(groups, outputs)
        self.candidates = weight.new_empty(_CHANNELS, _GROUP, inputs)
        self.number = torch.arange(groups, dtype=weight.dtype, device=weight.device)[:, None]

    def winners(self) -> Tensor:
        """The vertex of the largest product for each channel: int64 (C_out,)."""
        self.features[self.vertices :] = self.features[self.vertices - 1]  # fills the last group
        groups = self.features.view(len(self.highest), _GROUP, -1)
        (rounded,), _ = _rounded(self.features[None], self.weight, self.precision)
        step = len(self.products)
        parts = rounded.view(groups.shape).split(step)
        for part, highest in zip(parts, self.highest.split(step), strict=True):
            products = self.products[: len(part)]
            torch.mm(part.flatten(0, 1), self.columns, out=products.flatten(0, 1))
            torch.amax(products, dim=1, out=highest)
        # faster than an argmax: 0 for the best group of a channel, -1 for the others
        behind = (self.highest - self.highest.amax(dim=0)).sign_().to(self.number.dtype)
        group = torch.add(self.number, behind, alpha=len(groups)).amax(dim=0).long()
        place = []
        for part, weight in zip(group.split(_CHANNELS), self.weight.split(_CHANNELS), strict=True):
            candidates = self.candidates[: len(part)]
            torch.index_select(groups, 0, part, out=candidates)
            place.append(candidates.mul_(weight[:, None]).sum(dim=2).argmax(dim=1))
        return (group * _GROUP + torch.cat(place)).clamp_max_(self.vertices - 1)
