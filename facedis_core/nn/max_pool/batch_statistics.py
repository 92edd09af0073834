"""Batch norm from the mean and covariance of a layer's inputs, without storing its outputs.

The mean and variance of a linear layer's outputs follow exactly from the mean and covariance of
its inputs, so batch norm folds into the weight and bias of the layer. The moments of the inputs are
summed over blocks of rows that fit the processor's cache. For the gradient, the outputs of narrow
layers are stored and those of the widest are recomputed.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from facedis_core.nn.distributed import all_reduce_mean, world_size
from facedis_core.nn.max_pool.threads import thread_map

_ROWS = 1024  # of a block, whose activations fit the cache
_GPU_ROWS = 1 << 18  # of a block on a GPU, where large products are efficient


class Moments(NamedTuple):
    """Number, mean (C,) and biased covariance (C, C) of rows (N, C)."""

    size: int
    mean: Tensor
    covariance: Tensor


class FoldedLayer(NamedTuple):
    """A linear layer and its norm as one linear layer: weight (C_out, C_in), bias (C_out,)."""

    weight: Tensor
    bias: Tensor


def row_blocks(rows: Tensor) -> Iterator[Tensor]:
    """Consecutive blocks of rows (N, C), as views."""
    return iter(rows.split(_GPU_ROWS if rows.is_cuda else _ROWS))


def apply_layers(rows: Tensor, chain: Sequence[FoldedLayer], out: Tensor | None = None) -> Tensor:
    """Apply linear layers with a ReLU after each to rows (N, C); `out` receives the result."""
    if out is not None and not chain:
        return out.copy_(rows)
    for number, layer in enumerate(chain, start=1):
        into = out if number == len(chain) else None
        rows = torch.addmm(layer.bias, rows, layer.weight.T, out=into).relu_()
    return rows


def block_moments(rows: Tensor) -> Moments:
    """Moments of one block of rows; centred before squaring, against cancellation."""
    mean = rows.mean(dim=0)
    centred = rows - mean
    return Moments(len(rows), mean, centred.T @ centred / len(rows))


def combine_moments(parts: Iterable[Moments]) -> Moments:
    """The moments of all rows from those of blocks, summed in double precision."""
    parts = iter(parts)
    first, second = next(parts), next(parts, None)
    if second is None:
        return first
    sizes, means = [], []
    within: Tensor | float = 0.0
    for part in itertools.chain((first, second), parts):
        sizes.append(part.size)
        means.append(part.mean)
        within = part.covariance.double() * part.size + within
    size, precision = sum(sizes), means[0].dtype
    mean = torch.stack(means).double()
    # a GPU that copies pinned memory need not be waited for
    share = torch.tensor(sizes, dtype=mean.dtype, pin_memory=mean.is_cuda)
    share = share.to(mean.device, non_blocking=True) / size
    centre = share @ mean
    between = ((mean - centre) * share[:, None]).T @ (mean - centre)
    return Moments(size, centre.to(precision), (within / size + between).to(precision))


class _MomentsFunction(torch.autograd.Function):
    """Rows (N, C) -> their mean and covariance."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        found = combine_moments(
            thread_map(torch.no_grad()(block_moments), row_blocks(rows), rows.device)
        )
        ctx.save_for_backward(rows, found.mean)
        return found.mean, found.covariance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mean: Tensor, d_covariance: Tensor) -> Tensor:
        rows, mean = ctx.saved_tensors
        weight, bias = _gradient_of_moments(len(rows), mean, d_mean, d_covariance)
        return torch.addmm(bias, rows, weight)


class _HiddenFunction(torch.autograd.Function):
    """Rows (N, C_in), weight, bias -> ReLU(rows @ weight.T + bias), its mean and covariance.

    Without `keep` the first result is None, and the backward pass recomputes it.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, keep: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        hidden = rows.new_empty(len(rows), len(weight)) if keep else None

        @torch.no_grad()
        def of_block(part: tuple[Tensor, Tensor | None]) -> Moments:
            block, out = part
            return block_moments(apply_layers(block, [FoldedLayer(weight, bias)], out))

        outs = itertools.repeat(None) if hidden is None else row_blocks(hidden)
        found = combine_moments(
            thread_map(of_block, zip(row_blocks(rows), outs, strict=False), rows.device)
        )
        ctx.save_for_backward(rows, weight, bias, hidden, found.mean)
        ctx.set_materialize_grads(False)
        return hidden, found.mean, found.covariance

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_hidden: Tensor | None, d_mean: Tensor | None, d_covariance: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        rows, weight, bias, hidden, mean = ctx.saved_tensors
        slope, offset = _gradient_of_moments(len(rows), mean, d_mean, d_covariance)
        d_rows = torch.empty_like(rows) if ctx.needs_input_grad[0] else None

        @torch.no_grad()
        def of_block(parts: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor]:
            block, out, d_out, d_block = parts
            assert block is not None
            if out is None:
                out = apply_layers(block, [FoldedLayer(weight, bias)])
            gradient = torch.addmm(offset, out, slope)
            if d_out is not None:
                gradient += d_out
            gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
            if d_block is not None:
                torch.mm(gradient, weight, out=d_block)
            return gradient.T @ block, gradient.sum(dim=0)

        parts = zip(
            *(
                itertools.repeat(None) if tensor is None else row_blocks(tensor)
                for tensor in (rows, hidden, d_hidden, d_rows)
            ),
            strict=False,
        )
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for of_weight, of_bias in thread_map(of_block, parts, rows.device):
            d_weight += of_weight
            d_bias += of_bias
        return d_rows, d_weight, d_bias, None


def _gradient_of_moments(
    size: int, mean: Tensor, d_mean: Tensor | None, d_covariance: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Slope and offset: the gradient of a row is row @ slope + offset, the same for all rows."""
    if d_mean is None:
        d_mean = torch.zeros_like(mean)
    if d_covariance is None:
        d_covariance = torch.zeros_like(torch.outer(mean, mean))
    slope = (d_covariance + d_covariance.T) / size
    return slope, d_mean / size - mean @ slope


def batch_moments(rows: Tensor) -> Moments:
    """Moments of the rows (N, C) of all processes; differentiable."""
    return _of_all_processes(Moments(len(rows), *_MomentsFunction.apply(rows)))


class Hidden(NamedTuple):
    """Outputs (N, C_out) of a layer, None if not kept, and their moments."""

    rows: Tensor | None
    moments: Moments


def hidden_layer(rows: Tensor, layer: FoldedLayer, *, keep: bool) -> Hidden:
    """ReLU(layer(rows)), its moments over the rows of all processes; differentiable.

    Args:
        rows: (N, C_in).
        layer: with its norm folded in.
        keep: whether to store the outputs, for the layer after it.
    """
    hidden, mean, covariance = _HiddenFunction.apply(rows, *layer, keep)
    return Hidden(hidden, _of_all_processes(Moments(len(rows), mean, covariance)))


def _of_all_processes(ours: Moments) -> Moments:
    """The moments of the rows of all processes, equally many each; in double precision."""
    if world_size() == 1:
        return ours
    mean, covariance = ours.mean.double(), ours.covariance.double()
    sums = torch.cat([mean[None], covariance + torch.outer(mean, mean)])
    mean, *squares = all_reduce_mean(sums)
    covariance = torch.stack(squares) - torch.outer(mean, mean)
    precision = ours.mean.dtype
    return Moments(ours.size * world_size(), mean.to(precision), covariance.to(precision))


def fold_batch_norm(
    linear: nn.Linear, norm: nn.BatchNorm1d | None, moments: Moments | None
) -> FoldedLayer:
    """norm(linear(x)) as one linear layer; differentiable.

    Args:
        linear: the layer.
        norm: the batch norm after it, or None.
        moments: of the layer's inputs, to normalise by the batch and update the running statistics;
            None = normalise by the running statistics.
    """
    weight, bias = linear.weight, linear.bias
    if norm is None:
        return FoldedLayer(weight, bias)
    running_mean, running_variance = norm.running_mean, norm.running_var
    assert running_mean is not None and running_variance is not None
    mean, variance = running_mean, running_variance
    if moments is not None:
        mean = functional.linear(moments.mean, weight, bias)
        variance = ((weight @ moments.covariance) * weight).sum(dim=1).clamp_min(0.0)
        assert norm.momentum is not None
        with torch.no_grad():
            unbiased = variance * (moments.size / max(moments.size - 1, 1))
            running_mean.lerp_(mean, norm.momentum)
            running_variance.lerp_(unbiased, norm.momentum)
    gain = norm.weight * torch.rsqrt(variance + norm.eps)
    return FoldedLayer(weight * gain[:, None], (bias - mean) * gain + norm.bias)


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of rows (B, C) with statistics over the rows of all processes.

    torch.nn.SyncBatchNorm works on GPUs only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) -> (B, C)."""
        if not self.training:
            return super().forward(x)
        mean = all_reduce_mean(x.mean(dim=0))
        variance = all_reduce_mean((x - mean).square().mean(dim=0))
        count = len(x) * world_size()
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
        return (x - mean) * (self.weight * torch.rsqrt(variance + self.eps)) + self.bias
