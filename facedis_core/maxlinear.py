"""The widest layer of every PointNet: linear, batch norm, ReLU, then the maximum over vertices.

Done the plain way it fills V x 1024 activations a face and as many gradients. Neither is needed:
the maximum keeps one vertex a channel, so only that vertex's input gets a gradient, and the mean
and variance that batch norm wants follow from the mean and covariance of the layer's inputs.
What is computed here equals the plain layers; tests hold it against them.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_BLOCK = 1 << 23  # activations that exist at one time


class Moments(NamedTuple):
    """Batch statistics of a linear layer's output: both (C_out,), variance biased."""

    mean: Tensor
    variance: Tensor


class MaxLinear(nn.Module):
    """max over vertices of ReLU(norm(linear(x))): (B, V, C_in) -> (B, C_out)."""

    def __init__(self, inputs: int, outputs: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, V, C_in) to (B, C_out)."""
        weight, bias = self.linear.weight, self.linear.bias
        gain: Tensor
        shift: Tensor
        if self.norm is None:
            gain, shift = torch.ones_like(bias), bias
        else:
            mean, variance = self._moments(x)
            gain = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
            shift = (bias - mean) * gain + self.norm.bias
        # where the gain is negative the largest output comes from the smallest product
        sign = torch.where(gain < 0, -1.0, 1.0).to(x.dtype)
        winners = _winning_vertices(x.detach(), weight.detach() * sign.detach()[:, None])
        chosen = x.gather(1, winners[..., None].expand(-1, -1, x.shape[2]))  # (B, C_out, C_in)
        products = torch.einsum("bok,ok->bo", chosen, weight)
        return functional.relu(products * gain + shift)

    def _moments(self, x: Tensor) -> Moments:
        """Mean and variance of linear(x) over the batch and vertices, or the running ones."""
        norm, weight, bias = self.norm, self.linear.weight, self.linear.bias
        assert norm is not None and norm.running_mean is not None and norm.running_var is not None
        assert norm.momentum is not None
        if not self.training:
            return Moments(norm.running_mean, norm.running_var)
        rows = x.reshape(-1, x.shape[2])
        count = len(rows)
        centre = rows.mean(dim=0)
        centred = rows - centre
        covariance = centred.T @ centred / count
        mean = functional.linear(centre, weight, bias)
        variance = torch.einsum("ok,kl,ol->o", weight, covariance, weight).clamp_min(0.0)
        with torch.no_grad():
            unbiased = variance * (count / max(count - 1, 1))
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
            norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), norm.momentum)
        return Moments(mean, variance)


@torch.no_grad()
def _winning_vertices(x: Tensor, weight: Tensor) -> Tensor:
    """For each face and channel the vertex with the largest product: int64 (B, C_out)."""
    faces, vertices, _ = x.shape
    step = max(1, _BLOCK // (vertices * len(weight)))
    winners = [
        torch.matmul(x[start : start + step], weight.T).argmax(dim=1)
        for start in range(0, faces, step)
    ]
    return torch.cat(winners)
