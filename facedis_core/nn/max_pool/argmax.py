"""The vertex with the largest output for each channel of the widest layer of a PointNet.

Values and gradients at these vertices are computed elsewhere, exactly; so the products of this
search may be rounded to bf16 on request.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from facedis_core.nn.max_pool.batch_statistics import FoldedLayer, apply_layers, row_blocks
from facedis_core.nn.max_pool.threads import thread_map

Precision = Literal["fp32", "bf16"]

_PRODUCTS = 1 << 19  # products in memory at a time; they fit the cache
_GPU_PRODUCTS = 1 << 26  # products in memory at a time on a GPU
_FACES = 4  # most faces in one task of a thread, which share its buffers
_FEW = 128  # up to this number of vertices an argmax is faster than the search by groups
_GROUP = 16  # vertices in a group, of which the first pass keeps the largest product
_CHANNELS = 256  # channels in one step of the second pass; their candidates fit the cache


@torch.no_grad()
def argmax_vertices(
    x: Tensor,
    chain: Sequence[FoldedLayer],
    precision: Precision = "fp32",
    *,
    tf32: bool = True,
) -> Tensor:
    """For each face (B, V, C_in) and channel of the last layer the vertex with the largest output.

    Args:
        x: (B, V, C_in).
        chain: linear layers with a ReLU between them, from the first to the widest.
        precision: of the products of the last layer; fp32 = the type of x.
        tf32: let a GPU round float32 products to TF32, by a kernel that does not store them.

    Returns:
        int64 (B, C_out).
    """
    *shared, (weight, _) = chain
    vertices, outputs = x.shape[1], len(weight)
    if x.is_cuda or vertices <= _FEW:
        step = max(1, (_GPU_PRODUCTS if x.is_cuda else _PRODUCTS) // (vertices * outputs))
        find = _by_triton if x.is_cuda and tf32 else _plainly
        return torch.cat(
            [find(*_factors(part, shared, weight, precision)) for part in x.split(step)]
        )
    threads = torch.get_num_threads()
    if len(x) < threads:  # torch divides every product among the threads instead
        return _one_by_one(x, shared, weight, precision)
    parts = x.split(min(_FACES, len(x) // threads))
    found = thread_map(lambda part: _one_by_one(part, shared, weight, precision), parts)
    return torch.cat([*found])


def _factors(
    x: Tensor, shared: Sequence[FoldedLayer], weight: Tensor, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Features of a few faces and the weight of the last layer, as they are multiplied."""
    faces, vertices, width = x.shape
    features = apply_layers(x.reshape(-1, width), shared).view(faces, vertices, -1)
    return _rounded(features, weight, precision)


def _plainly(features: Tensor, weight: Tensor) -> Tensor:
    return (features @ weight.T).argmax(dim=1)


def _by_triton(features: Tensor, weight: Tensor) -> Tensor:
    """By a kernel that stores no products, where Triton works."""
    argmax = _kernel(weight.device, weight.dtype, weight.shape) or _plainly
    return argmax(features, weight)


def _rounded(features: Tensor, weight: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
    """Features (B, V, C) and weight (C_out, C) in the precision of the products.

    For bf16 the mean over the vertices is subtracted: it does not change the argmax, and less is
    lost by rounding.
    """
    if precision == "fp32":
        return features, weight
    return (features - features.mean(dim=1, keepdim=True)).bfloat16(), weight.bfloat16()


@cache
def _kernel(
    device: torch.device, dtype: torch.dtype, shape: torch.Size
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """`argmax_triton.fused_argmax` if it works with such a weight; Triton is imported here."""
    try:
        from facedis_core.nn.max_pool import argmax_triton
    except ImportError:
        return None
    weight = torch.zeros(shape, dtype=dtype, device=device)
    if not argmax_triton.supports(weight):
        return None
    try:
        argmax_triton.fused_argmax(weight.new_zeros(1, 1, shape[1]), weight)
    except Exception as error:  # no C compiler, a GPU too new for this Triton, ...
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        warnings.warn(f"Triton does not work here, so PyTorch does instead: {reason}", stacklevel=1)
        return None
    return argmax_triton.fused_argmax


@torch.no_grad()
def _one_by_one(
    x: Tensor, shared: Sequence[FoldedLayer], weight: Tensor, precision: Precision
) -> Tensor:
    """The vertices for a few faces, one after the other in the same buffers."""
    search = _Search(x.shape[1], weight, precision)
    winners = []
    for face in x:
        for block, features in zip(row_blocks(face), row_blocks(search.features), strict=False):
            apply_layers(block, shared, out=features[: len(block)])
        winners.append(search.winners())
    return torch.stack(winners)


class _Search:
    """Argmax over the vertices of one face, with buffers for the next.

    A maximum over products in the cache is cheap, an argmax takes four times as long. So the first
    pass finds the largest product of every group of vertices, the second the vertex in the best
    group of each channel.

    Args:
        vertices: V.
        weight: (C_out, C_in) of the widest layer.
        precision: of the first pass; the second is exact.
    """

    def __init__(self, vertices: int, weight: Tensor, precision: Precision = "fp32") -> None:
        outputs, inputs = weight.shape
        groups = -(-vertices // _GROUP)
        self.vertices, self.weight, self.precision = vertices, weight, precision
        self.features = weight.new_empty(
            groups * _GROUP, inputs
        )  # of one face, written by the caller
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
        # faster than an argmax: sign is 0 for the best group of a channel, -1 for the others
        behind = (self.highest - self.highest.amax(dim=0)).sign_().to(self.number.dtype)
        group = torch.add(self.number, behind, alpha=len(groups)).amax(dim=0).long()
        place = []
        for part, weight in zip(group.split(_CHANNELS), self.weight.split(_CHANNELS), strict=True):
            candidates = self.candidates[: len(part)]
            torch.index_select(groups, 0, part, out=candidates)
            place.append(candidates.mul_(weight[:, None]).sum(dim=2).argmax(dim=1))
        return (group * _GROUP + torch.cat(place)).clamp_max_(self.vertices - 1)
