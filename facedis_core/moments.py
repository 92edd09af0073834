"""Batch norm without the activations that it normalises.

The mean and variance of a linear layer's outputs follow exactly from the mean and covariance of
its inputs, so batch norm comes down to another weight and bias of the linear layer. What is
needed is the moments of every layer's inputs. They are summed over blocks of rows that stay in
the processor's cache, and the backward pass computes a block anew: nothing of the size of the
batch is ever kept but the rows of the first layer.
"""

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


class _BatchMoments(torch.autograd.Function):
    """Rows, then weight and bias of every layer before -> mean and covariance."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        chain = _layers(tensors)

        def moments(block: Tensor) -> Moments:
            with torch.no_grad():
                return block_moments(through(block, chain))

        found = combined(spread(moments, blocks(rows), rows.device))
        ctx.save_for_backward(rows, found.mean, *tensors)
        return found.mean, found.covariance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mean: Tensor, d_covariance: Tensor) -> tuple[Tensor | None, ...]:
        rows, mean, *tensors = ctx.saved_tensors
        # d loss / d row = row @ weight + bias, the same for every row
        weight = (d_covariance + d_covariance.T) / len(rows)
        bias = d_mean / len(rows) - mean @ weight
        for_rows = ctx.needs_input_grad[0]
        tensors = [tensor.detach().requires_grad_() for tensor in tensors]
        sums = [torch.zeros_like(tensor) for tensor in tensors]
        d_rows: list[Tensor] = []

        def of_block(block: Tensor) -> tuple[Tensor, ...]:
            block = block.detach().requires_grad_(for_rows)
            with torch.enable_grad():
                output = through(block, _layers(tensors))
            return torch.autograd.grad(
                output,
                [*tensors, block] if for_rows else tensors,
                torch.addmm(bias, output.detach(), weight),
            )

        for gradients in spread(of_block, blocks(rows), rows.device):
            for total, gradient in zip(sums, gradients, strict=False):
                total += gradient
            d_rows.extend(gradients[len(sums) :])
        return (torch.cat(d_rows) if for_rows else None), *sums


def _layers(tensors: Sequence[Tensor]) -> list[Folded]:
    return [Folded(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True)]


def batch_moments(rows: Tensor, chain: Sequence[Folded]) -> Moments:
    """Moments of `through(rows, chain)` over the rows of all processes; differentiable."""
    tensors = [tensor for layer in chain for tensor in layer]
    return _of_all_processes(Moments(len(rows), *_BatchMoments.apply(rows, *tensors)))


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
