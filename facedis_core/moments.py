"""Batch norm without the activations that it normalises.

The mean and variance of a linear layer's outputs follow exactly from the mean and covariance of
its inputs, so batch norm comes down to another weight and bias of the linear layer. What is
needed is the moments of every layer's inputs. They are summed over blocks of rows that stay in
the processor's cache, while the rows are there anyway. Of the layers between, the rows of the
narrow ones are kept for the gradient, those of the widest are computed anew.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from facedis_core import world
from facedis_core.threads import spread

_ROWS = 1024  # of a block; its activations stay in the cache
_GPU_ROWS = 1 << 18  # the same on a GPU, which wants long loops


class Moments(NamedTuple):
    """Of rows (N, C): how many, mean (C,) and biased covariance (C, C)."""

    size: int
    mean: Tensor
    covariance: Tensor


class Folded(NamedTuple):
    """A linear layer and its norm as one linear layer: weight (C_out, C_in), bias (C_out,)."""

    weight: Tensor
    bias: Tensor


def blocks(rows: Tensor) -> Iterator[Tensor]:
    """Consecutive blocks of rows (N, C), as views."""
    return iter(rows.split(_GPU_ROWS if rows.is_cuda else _ROWS))


def through(rows: Tensor, chain: Sequence[Folded], out: Tensor | None = None) -> Tensor:
    """Rows (N, C) through linear layers with a ReLU after each; `out` takes the last ones."""
    if out is not None and not chain:
        return out.copy_(rows)
    for number, layer in enumerate(chain, start=1):
        into = out if number == len(chain) else None
        rows = torch.addmm(layer.bias, rows, layer.weight.T, out=into).relu_()
    return rows


def block_moments(rows: Tensor) -> Moments:
    """Moments of one block of rows; centred before they are squared, so that nothing cancels."""
    mean = rows.mean(dim=0)
    centred = rows - mean
    return Moments(len(rows), mean, centred.T @ centred / len(rows))


def combined(parts: Iterable[Moments]) -> Moments:
    """The moments of all rows from those of its blocks; summed in double precision."""
    sizes, means = [], []
    within: Tensor | float = 0.0
    for part in parts:
        sizes.append(part.size)
        means.append(part.mean)
        within = part.covariance.double() * part.size + within
    size, precision = sum(sizes), means[0].dtype
    mean = torch.stack(means).double()
    share = mean.new_tensor(sizes) / size
    centre = share @ mean
    between = ((mean - centre) * share[:, None]).T @ (mean - centre)
    return Moments(size, centre.to(precision), (within / size + between).to(precision))


class _Moments(torch.autograd.Function):
    """Rows (N, C) -> their mean and covariance."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        found = combined(spread(torch.no_grad()(block_moments), blocks(rows), rows.device))
        ctx.save_for_backward(rows, found.mean)
        return found.mean, found.covariance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mean: Tensor, d_covariance: Tensor) -> Tensor:
        rows, mean = ctx.saved_tensors
        weight, bias = _gradient_of_moments(len(rows), mean, d_mean, d_covariance)
        return torch.addmm(bias, rows, weight)


class _Hidden(torch.autograd.Function):
    """Rows (N, C_in), weight, bias -> ReLU(rows @ weight.T + bias), its mean and covariance.

    If it is not to be kept, nothing stands for it, and the gradient computes it anew.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, keep: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        hidden = rows.new_empty(len(rows), len(weight)) if keep else None

        @torch.no_grad()
        def of_block(part: tuple[Tensor, Tensor | None]) -> Moments:
            block, out = part
            return block_moments(through(block, [Folded(weight, bias)], out))

        outs = itertools.repeat(None) if hidden is None else blocks(hidden)
        found = combined(spread(of_block, zip(blocks(rows), outs, strict=False), rows.device))
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
                out = through(block, [Folded(weight, bias)])
            gradient = torch.addmm(offset, out, slope)
            if d_out is not None:
                gradient += d_out
            gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
            if d_block is not None:
                torch.mm(gradient, weight, out=d_block)
            return gradient.T @ block, gradient.sum(dim=0)

        parts = zip(
            *(
                itertools.repeat(None) if tensor is None else blocks(tensor)
                for tensor in (rows, hidden, d_hidden, d_rows)
            ),
            strict=False,
        )
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for of_weight, of_bias in spread(of_block, parts, rows.device):
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
    return _of_all_processes(Moments(len(rows), *_Moments.apply(rows)))


class Hidden(NamedTuple):
    """The rows (N, C_out) that a layer makes of others, if they are kept, and their moments."""

    rows: Tensor | None
    moments: Moments


def hidden_layer(rows: Tensor, layer: Folded, *, keep: bool) -> Hidden:
    """ReLU(layer(rows)), its moments over the rows of all processes; differentiable.

    Args:
        rows: (N, C_in).
        layer: with its norm folded into it.
        keep: whether its rows shall stay in memory, for the layer after it to start from.
    """
    hidden, mean, covariance = _Hidden.apply(rows, *layer, keep)
    return Hidden(hidden, _of_all_processes(Moments(len(rows), mean, covariance)))


def _of_all_processes(ours: Moments) -> Moments:
    """The moments of everybody's rows, of which each process has as many; in double precision."""
    if world.size() == 1:
        return ours
    mean, covariance = ours.mean.double(), ours.covariance.double()
    sums = torch.cat([mean[None], covariance + torch.outer(mean, mean)])
    mean, *squares = world.averaged(sums)
    covariance = torch.stack(squares) - torch.outer(mean, mean)
    precision = ours.mean.dtype
    return Moments(ours.size * world.size(), mean.to(precision), covariance.to(precision))


def folded(linear: nn.Linear, norm: nn.BatchNorm1d | None, moments: Moments | None) -> Folded:
    """norm(linear(x)) as one linear layer; differentiable.

    Args:
        linear: the layer.
        norm: what follows it; None = nothing.
        moments: of the layer's inputs, for a norm by the batch, whose running statistics then
            take a step; None = the norm uses its running statistics.
    """
    weight, bias = linear.weight, linear.bias
    if norm is None:
        return Folded(weight, bias)
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
    return Folded(weight * gain[:, None], (bias - mean) * gain + norm.bias)


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of rows (B, C) by the mean and variance of the rows of all processes.

    torch has such a layer for GPUs only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) -> (B, C)."""
        if not self.training:
            return super().forward(x)
        mean = world.averaged(x.mean(dim=0))
        variance = world.averaged((x - mean).square().mean(dim=0))
        count = len(x) * world.size()
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
        return (x - mean) * (self.weight * torch.rsqrt(variance + self.eps)) + self.bias
