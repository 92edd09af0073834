"""The widest layer of every PointNet: linear, batch norm, ReLU, then the maximum over vertices.

Done the plain way it fills V x 1024 activations a face and as many gradients. Neither is needed:
the maximum keeps one vertex a channel, so only that vertex's input gets a gradient, and the mean
and variance that batch norm wants follow from the mean and covariance of the layer's inputs.
What is computed here equals the plain layers; tests hold it against them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from facedis_core.moments import Folded, Moments, batch_moments, folded

_PRODUCTS = 1 << 19  # products that exist at one time; they stay in the cache
_GPU_PRODUCTS = 1 << 26  # the same on a GPU, which wants long loops
_FEW = 128  # vertices of a face that is not worth the way round by groups
_GROUP = 16  # vertices of which only the largest product is kept until a channel's winner is known


class MaxLinear(nn.Module):
    """max over vertices of ReLU(norm(linear(x))): (B, V, C_in) -> (B, C_out)."""

    def __init__(self, inputs: int, outputs: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs) if batch_norm else None

    def forward(self, x: Tensor, moments: Moments | None = None) -> Tensor:
        """Pool (B, V, C_in) to (B, C_out); `moments` are those of x, where they are known."""
        faces, vertices, width = x.shape
        rows = x.reshape(-1, width)
        if moments is None and self.training and self.norm is not None:
            moments = batch_moments(rows)
        layer = folded(self.linear, self.norm, moments)
        winners = winning_vertices(x.detach(), layer.weight.detach())
        first = torch.arange(0, faces * vertices, vertices, device=x.device)
        return pooled(rows, winners + first[:, None], layer)


def pooled(rows: Tensor, winners: Tensor, layer: Folded) -> Tensor:
    """ReLU of a linear layer where each channel looks at one row alone.

    Args:
        rows: (R, C_in) of all faces.
        winners: int64 (B, C_out), a row for each face and channel.
        layer: weight (C_out, C_in) and bias (C_out,).

    Returns:
        (B, C_out).
    """
    return functional.relu(_ProductsAt.apply(rows, winners, layer.weight) + layer.bias)


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
def winning_vertices(x: Tensor, weight: Tensor) -> Tensor:
    """For each face (B, V, C_in) and channel the vertex with the largest product.

    Returns:
        int64 (B, C_out).
    """
    if x.is_cuda or x.shape[1] <= _FEW:
        step = max(1, (_GPU_PRODUCTS if x.is_cuda else _PRODUCTS) // (x.shape[1] * len(weight)))
        return torch.cat([(part @ weight.T).argmax(dim=1) for part in x.split(step)])
    columns = weight.T.contiguous()
    return torch.stack([_winners_of(face, weight, columns) for face in x])


def _winners_of(face: Tensor, weight: Tensor, columns: Tensor) -> Tensor:
    """The same for one face (V, C_in); `columns` is the transposed weight. (C_out,).

    The largest product is cheap while the products are in the cache, its place is not: so first
    the largest of each group of vertices, then the place in each channel's best group alone.
    """
    vertices, outputs = len(face), len(weight)
    step = max(_GROUP, _PRODUCTS // outputs // _GROUP * _GROUP)
    products = face.new_empty(min(step, vertices), outputs)
    highest = []
    for part in face.split(step):
        torch.mm(part, columns, out=products[: len(part)])
        whole = len(part) // _GROUP * _GROUP
        highest.append(products[:whole].view(-1, _GROUP, outputs).amax(dim=1))
        if whole < len(part):  # only in the last part
            highest.append(products[whole : len(part)].amax(dim=0, keepdim=True))
    # the last group may be short; the vertices before it lose or win all the same
    first = (torch.cat(highest).argmax(dim=0) * _GROUP).clamp_max_(vertices - _GROUP)
    around = first[:, None] + torch.arange(_GROUP, device=face.device)
    candidates = face.index_select(0, around.view(-1)).view(outputs, _GROUP, -1)
    return first + (candidates * weight[:, None]).sum(dim=2).argmax(dim=1)
