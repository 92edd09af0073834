"""Batch norm without the activations that it normalises.

The mean and variance of a linear layer's outputs follow exactly from the mean and covariance of
its inputs, so batch norm comes down to another weight and bias of the linear layer: no pass over
the outputs, and nothing of theirs to keep for the backward pass.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_ELEMENTS = 1 << 18  # a block of rows, its products and their gradients stay in the cache


class Moments(NamedTuple):
    """Of rows (N, C): their number, mean (C,) and biased covariance (C, C).

    Whoever spreads a batch over several processes combines them before `folded` uses them.
    """

    count: int
    mean: Tensor
    covariance: Tensor


class Folded(NamedTuple):
    """A linear layer and its norm as one linear layer: weight (C_out, C_in), bias (C_out,)."""

    weight: Tensor
    bias: Tensor


def blocks(rows: Tensor) -> Iterator[slice]:
    """Consecutive blocks of rows (N, C) that fit into the processor's cache."""
    step = max(1, _ELEMENTS // rows.shape[1])
    return (slice(start, start + step) for start in range(0, len(rows), step))


def combined(parts: Iterable[Moments]) -> Moments:
    """The moments of all rows from those of its blocks; summed in double precision."""
    counts, means, covariances = zip(*parts, strict=True)
    count = sum(counts)
    share = torch.tensor(counts, dtype=torch.float64, device=means[0].device) / count
    mean = torch.stack(means).double()
    centre = share @ mean
    apart = (mean - centre) * share.sqrt()[:, None]
    covariance = apart.T @ apart
    for weight, part in zip(share.tolist(), covariances, strict=True):
        covariance.add_(part, alpha=weight)
    return Moments(count, centre.to(means[0].dtype), covariance.to(means[0].dtype))


def block_moments(rows: Tensor) -> Moments:
    """Moments of one block of rows; centred before they are squared, so that nothing cancels."""
    mean = rows.mean(dim=0)
    centred = rows - mean
    return Moments(len(rows), mean, centred.T @ centred / len(rows))


def moments_gradient(moments: Moments, mean: Tensor, covariance: Tensor) -> Folded:
    """How a loss changes with the rows: d loss / d rows = rows @ weight.T + bias.

    Args:
        moments: of the rows.
        mean: d loss / d mean, (C,).
        covariance: d loss / d covariance, (C, C).
    """
    weight = (covariance + covariance.T) / moments.count
    return Folded(weight, mean / moments.count - weight @ moments.mean)


class _BatchMoments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        moments = combined(block_moments(rows[block]) for block in blocks(rows))
        ctx.save_for_backward(rows, moments.mean, moments.covariance)
        return moments.mean, moments.covariance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mean: Tensor, covariance: Tensor) -> Tensor:
        rows, *moments = ctx.saved_tensors
        change = moments_gradient(Moments(len(rows), *moments), mean, covariance)
        return torch.addmm(change.bias, rows, change.weight)


def batch_moments(rows: Tensor) -> Moments:
    """Moments of rows (N, C); differentiable."""
    return Moments(len(rows), *_BatchMoments.apply(rows))


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
    if moments is None:
        mean, variance = running_mean, running_variance
    else:
        mean = functional.linear(moments.mean, weight, bias)
        variance = ((weight @ moments.covariance) * weight).sum(dim=1).clamp_min(0.0)
        assert norm.momentum is not None
        with torch.no_grad():
            unbiased = variance * (moments.count / max(moments.count - 1, 1))
            running_mean.lerp_(mean, norm.momentum)
            running_variance.lerp_(unbiased, norm.momentum)
    gain = norm.weight * torch.rsqrt(variance + norm.eps)
    return Folded(weight * gain[:, None], (bias - mean) * gain + norm.bias)


class _ReluLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        output = rows.new_empty(len(rows), len(weight))
        parts = []
        for block in blocks(output):
            torch.addmm(bias, rows[block], weight.T, out=output[block])
            parts.append(block_moments(output[block].relu_()))
        moments = combined(parts)
        ctx.save_for_backward(rows, weight, output, moments.mean, moments.covariance)
        return output, moments.mean, moments.covariance

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, outer: Tensor, mean: Tensor, covariance: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        rows, weight, output, *moments = ctx.saved_tensors
        change = moments_gradient(Moments(len(output), *moments), mean, covariance)
        d_rows = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(change.bias)
        for block in blocks(output):
            gradient = torch.addmm(outer[block], output[block], change.weight)
            gradient = gradient.add_(change.bias).masked_fill_(output[block] == 0, 0.0)
            d_weight.addmm_(gradient.T, rows[block])
            d_bias += gradient.sum(dim=0)
            if d_rows is not None:
                torch.mm(gradient, weight, out=d_rows[block])
        return d_rows, d_weight, d_bias


def relu_linear(rows: Tensor, layer: Folded) -> tuple[Tensor, Moments]:
    """ReLU of a linear layer on rows (N, C_in): the outputs (N, C_out) and their moments.

    Both come from one pass over the rows in blocks, and so do their gradients.
    """
    output, mean, covariance = _ReluLinear.apply(rows, *layer)
    return output, Moments(len(output), mean, covariance)
