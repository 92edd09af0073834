"""Max-pooled PointNet layers, fast (`pool`) and plain (`pool_reference`): maximum over vertices.

Linear, batch norm and ReLU per vertex, then the maximum over them. `pool_reference` stores V x 1024
activations per face and as many gradients. `pool` computes the same values and gradients, up to
rounding, without them. The maximum keeps one vertex per channel, so only that vertex's input has a
gradient; and the mean and variance for batch norm follow from the mean and covariance of the
layer's inputs. So the activations of all layers are computed block by block to find vertices and
moments, then again at these vertices only.
`set_pooling(network, implementation="reference")` selects the plain one, as does torch.export.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from facedis_core.nn.max_pool.argmax import Precision, argmax_vertices
from facedis_core.nn.max_pool.batch_statistics import (
    BatchNorm,
    FoldedLayer,
    apply_layers,
    batch_moments,
    fold_batch_norm,
    hidden_layer,
)
from facedis_core.nn.max_pool.threads import thread_map

Implementation = Literal["fast", "reference"]

_FACES = 4  # faces in one task of a thread


class MaxPoolLinear(nn.Module):
    """max over vertices of ReLU(norm(linear(x))): (B, V, C_in) -> (B, C_out).

    Attributes:
        implementation: `fast` needs a fraction of the memory and time of `reference`, which holds
            every activation.
        precision: of the search of `fast` while gradients are recorded. Values and gradients have
            the precision of the weights; without gradients the search has it too.

    Example:
        >>> layer = MaxPoolLinear(64, 1024, batch_norm=True)
        >>> layer(torch.randn(2, 500, 64)).shape
        torch.Size([2, 1024])
    """

    implementation: Implementation = "fast"
    precision: Precision = "fp32"

    def __init__(self, inputs: int, outputs: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = BatchNorm(outputs) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, V, C_in) to (B, C_out)."""
        return pool([self], x)


def set_pooling(
    network: nn.Module, *, implementation: Implementation = "fast", precision: Precision = "fp32"
) -> None:
    """Set implementation and precision of every `MaxPoolLinear` of a network.

    Example:
        >>> layer = MaxPoolLinear(3, 8, batch_norm=False)
        >>> set_pooling(layer, implementation="reference")
        >>> layer.implementation
        'reference'
    """
    for module in network.modules():
        if isinstance(module, MaxPoolLinear):
            module.implementation, module.precision = implementation, precision


def has_pooling(network: nn.Module) -> bool:
    """Whether a network has a `MaxPoolLinear`."""
    return any(isinstance(module, MaxPoolLinear) for module in network.modules())


def pool_reference(layers: Iterable[Any], x: Tensor) -> Tensor:
    """Plain implementation of `pool`, with all activations in memory.

    Example:
        >>> layer, x = MaxPoolLinear(3, 8, batch_norm=True), torch.randn(2, 50, 3)
        >>> torch.allclose(pool([layer], x), pool_reference([layer], x), atol=1e-5)
        True
    """
    rows = x.reshape(-1, x.shape[2])
    for layer in layers:
        rows = layer.linear(rows)
        rows = functional.relu(rows if layer.norm is None else layer.norm(rows))
    return rows.view(*x.shape[:2], -1).amax(dim=1)


def pool(layers: Iterable[Any], x: Tensor) -> Tensor:
    """Linear, norm and ReLU for every layer, then the maximum over vertices.

    Normalisation by the batch is differentiated through the moments of the layer's inputs, to which
    every vertex contributes; the rest at the vertices with the maximum of a channel.

    Args:
        layers: modules with a `linear` and a `norm`; the last is a `MaxPoolLinear`, whose
            `implementation` is used.
        x: (B, V, C_in).

    Returns:
        (B, C_out).

    Example:
        >>> layer = MaxPoolLinear(3, 8, batch_norm=False)
        >>> pool([layer], torch.randn(2, 50, 3)).shape
        torch.Size([2, 8])
    """
    *_, widest = layers = list(layers)
    if widest.implementation == "reference" or _is_exporting():
        return pool_reference(layers, x)
    is_training = torch.is_grad_enabled()  # else the search is exact
    precision: Precision = widest.precision if is_training else "fp32"
    faces, vertices, width = x.shape
    rows = x.reshape(-1, width)
    chain, deepest, left = _fold(layers, rows)
    *shared, last = chain
    winners = argmax_vertices(
        deepest.detach().view(faces, vertices, -1), chain[-left:], precision, tf32=is_training
    )
    winners += torch.arange(0, faces * vertices, vertices, device=x.device)[:, None]
    # A vertex with the maximum of many channels is computed once. To count them waits for a GPU; to
    # compute it for each of them takes 1.8 times the memory of a step (1,000 vertices, batch 32).
    wins = torch.zeros(faces * vertices, dtype=torch.int64, device=x.device)
    wins[winners] = 1
    number = (wins.cumsum(dim=0) - 1)[winners]
    rows = rows.index_select(0, wins.nonzero()[:, 0])
    products = _ProductsAt.apply(apply_layers(rows, shared), number, last.weight)
    return functional.relu(products + last.bias)


def _is_exporting() -> bool:
    """Whether torch.export records the operations, which cannot record the search of `pool`."""
    known = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # torch < 2.7
    return bool(known())


def _fold(layers: Sequence[Any], rows: Tensor) -> tuple[list[FoldedLayer], Tensor, int]:
    """Fold the norm of every layer into its linear layer.

    Args:
        layers: as of `pool`.
        rows: (N, C_in) inputs of the first.

    Returns:
        the folded layers; the inputs of the deepest layer whose inputs are stored; the number of
        layers from that one on.
    """
    by_batch = [layer.training and layer.norm is not None for layer in layers]
    moments = batch_moments(rows) if any(by_batch) else None
    chain: list[FoldedLayer] = []
    left = len(layers)
    for number, layer in enumerate(layers, start=1):
        chain.append(
            fold_batch_norm(layer.linear, layer.norm, moments if by_batch[number - 1] else None)
        )
        if any(by_batch[number:]):
            # the last one before the widest is wide itself
            found = hidden_layer(rows, chain[-1], keep=number + 1 < len(layers))
            moments = found.moments
            if found.rows is not None:
                rows, left = found.rows, len(layers) - number
    return chain, rows, left


class _ProductsAt(torch.autograd.Function):
    """(R, C_in), (B, C_out) row numbers, (C_out, C_in) -> products (B, C_out).

    A GPU computes all faces at once, a CPU one after the other, which fit its cache.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, winners: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(rows, winners, weight)
        if rows.is_cuda:
            return (rows[winners] * weight).sum(dim=2)

        @torch.no_grad()
        def products(part: Tensor) -> Tensor:
            return torch.stack([(rows.index_select(0, w) * weight).sum(dim=1) for w in part])

        return torch.cat([*thread_map(products, winners.split(_FACES))])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        rows, winners, weight = ctx.saved_tensors
        for_rows, _, for_weight = ctx.needs_input_grad
        d_rows = torch.zeros_like(rows) if for_rows else None
        if rows.is_cuda:
            if d_rows is not None:
                d_rows.index_add_(0, winners.flatten(), (outer[..., None] * weight).flatten(0, 1))
            d_weight = torch.einsum("bo,boi->oi", outer, rows[winners]) if for_weight else None
            return d_rows, None, d_weight

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
        d_weights = [d for d in thread_map(of_part, parts) if d is not None]
        return d_rows, None, torch.stack(d_weights).sum(dim=0) if for_weight else None
