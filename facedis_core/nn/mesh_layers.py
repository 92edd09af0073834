"""Layers of networks on a hierarchy of meshes: Chebyshev convolution, pooling, the way back.

After CoMA (Ranjan et al. 2018; Defferrard et al. 2016 for the convolution). Features are
(V, B, C), so that a product with a sparse (V, V) matrix is one of (V, V) and (V, B C).
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core.geometry.mesh_hierarchy import MeshLevel
from facedis_core.model.mesh_config import MeshConfig

# CoMA's initial weights and biases
_INITIAL_STD: Final = 0.1
_INITIAL_BIAS: Final = 0.1


class _Rows(NamedTuple):
    """A sparse matrix by its rows: columns and values of all, and where each row begins."""

    column: Tensor
    value: Tensor
    start: Tensor

    @classmethod
    def of(cls, row: Tensor, column: Tensor, value: Tensor, rows: int) -> Self:
        """From the places of the values."""
        order = torch.argsort(row, stable=True)
        start = functional.pad(torch.bincount(row, minlength=rows).cumsum(0), (1, 0))
        return cls(column[order], value[order], start)

    def product(self, x: Tensor) -> Tensor:
        """(W, C) -> (V, C); of the sparse products of torch the fastest by far on a CPU."""
        return functional.embedding_bag(
            self.column,
            x.contiguous(),
            self.start,
            mode="sum",
            per_sample_weights=self.value,
            include_last_offset=True,
        )


class _Product(torch.autograd.Function):
    """Sparse matrix times dense, whose gradient is that by the transposed matrix."""

    @staticmethod
    def forward(ctx: Any, matrix: _Rows, transposed: _Rows, x: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix.product(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed.product(gradient)


class SparseMatrix:
    """A constant sparse matrix (V, W).

    Args:
        row, column: int64 (n,).
        value: (n,).
        size: (V, W).
    """

    def __init__(self, row: Tensor, column: Tensor, value: Tensor, size: tuple[int, int]) -> None:
        self.rows = _Rows.of(row, column, value, size[0])
        self.columns = _Rows.of(column, row, value, size[1])

    def __matmul__(self, x: Tensor) -> Tensor:
        """(W, B, C) -> (V, B, C)."""
        found: Tensor = _Product.apply(self.rows, self.columns, x.flatten(1))
        return found.unflatten(1, x.shape[1:])


def chebyshev(matrix: SparseMatrix, x: Tensor, weight: Tensor) -> Tensor:
    """The sum of T_k(L) x W_k, with Chebyshev polynomials T_k: (V, B, C_in) -> (V, B, C_out).

    Of the recurrence and Clenshaw's form of it, which weights first, the one with fewer channels;
    the gradient is by the other one.

    Args:
        matrix: L.
        x: (V, B, C_in).
        weight: (K, C_in, C_out).
    """
    kind = _TermsFirst if x.shape[2] <= weight.shape[2] else _WeightsFirst
    found: Tensor = kind.apply(matrix, x, weight)
    return found


class _TermsFirst(torch.autograd.Function):
    """T_k(L) x, which are kept for the gradient, then their weighted sum."""

    @staticmethod
    def forward(ctx: Any, matrix: SparseMatrix, x: Tensor, weight: Tensor) -> Tensor:
        terms = _terms(matrix.rows, x, len(weight))
        ctx.matrix = matrix
        ctx.save_for_backward(terms, weight)
        return _weighted_sum(terms, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None, Tensor]:
        terms, weight = ctx.saved_tensors
        by_weight = terms.flatten(1, 2).transpose(1, 2) @ gradient.flatten(0, 1)
        if not ctx.needs_input_grad[1]:
            return None, None, by_weight
        return None, _clenshaw(ctx.matrix.columns, gradient, weight.transpose(1, 2)), by_weight


class _WeightsFirst(torch.autograd.Function):
    """The sum of T_k(L) (x W_k) without the terms of either."""

    @staticmethod
    def forward(ctx: Any, matrix: SparseMatrix, x: Tensor, weight: Tensor) -> Tensor:
        ctx.matrix = matrix
        ctx.save_for_backward(x, weight)
        return _clenshaw(matrix.rows, x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        terms = _terms(ctx.matrix.columns, gradient, len(weight))
        by_weight = x.flatten(0, 1).T @ terms.flatten(1, 2)
        return None, _weighted_sum(terms, weight.transpose(1, 2)), by_weight


def _terms(rows: _Rows, x: Tensor, orders: int) -> Tensor:
    """T_k(L) x of all orders k, (K, V, B, C)."""
    terms = x.new_empty(orders, *x.shape)
    flat = terms.flatten(2)
    flat[0] = x.flatten(1)
    for order in range(1, orders):
        product = rows.product(flat[order - 1])
        if order > 1:
            product.mul_(2).sub_(flat[order - 2])
        flat[order] = product
    return terms


def _weighted_sum(terms: Tensor, weight: Tensor) -> Tensor:
    """The sum of terms (K, V, B, C) times W_k, (V, B, C_out)."""
    flat = terms.flatten(1, 2)
    total = flat[0] @ weight[0]
    for each, matrix in zip(flat[1:], weight[1:], strict=True):
        total.addmm_(each, matrix)
    return total.unflatten(0, terms.shape[1:3])


def _clenshaw(rows: _Rows, x: Tensor, weight: Tensor) -> Tensor:
    """The sum of T_k(L) (x W_k), (V, B, C_out)."""
    flat, shape = x.flatten(0, 1), (len(x), -1)
    last, after = (flat @ weight[-1]).view(shape), None
    for order in range(len(weight) - 2, -1, -1):
        # y_k = x W_k + 2 L y_(k+1) - y_(k+2), and at the end L once
        following = (flat @ weight[order]).view(shape)
        following.add_(rows.product(last), alpha=2 if order else 1)
        if after is not None:
            following.sub_(after)
        last, after = following, last
    return last.view(*x.shape[:2], -1)


class Mesh(nn.Module):
    """A mesh of the hierarchy, of V vertices, and its relation to the next of W vertices."""

    def __init__(self, vertices: int, coarser: int, edges: int) -> None:
        super().__init__()
        self.vertices, self.coarser = vertices, coarser
        for name, shape in (
            ("edges", (edges, 2)),
            ("kept", (coarser,)),
            ("corners", (vertices, 3)),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(vertices, 3))
        self.edges: Tensor
        self.kept: Tensor
        self.corners: Tensor
        self.weights: Tensor
        self._matrices: dict[torch.device, tuple[SparseMatrix, SparseMatrix]] = {}

    def set_level(self, level: MeshLevel) -> None:
        """Take the mesh from the hierarchy."""
        for name, array in level._asdict().items():
            getattr(self, name).copy_(torch.from_numpy(array))

    @property
    def laplacian(self) -> SparseMatrix:
        """L = -D^-1/2 A D^-1/2: the symmetric normalised Laplacian minus the identity."""
        return self._made()[0]

    @property
    def up(self) -> SparseMatrix:
        """(V, W): features at the nearest points of the coarser mesh."""
        return self._made()[1]

    def _made(self) -> tuple[SparseMatrix, SparseMatrix]:
        """Both matrices, made on first use: the weights are loaded by then."""
        device = self.edges.device
        if device not in self._matrices:
            start, end = torch.cat([self.edges, self.edges.flip(1)]).T
            degree = torch.bincount(start, minlength=self.vertices)
            value = -(degree[start] * degree[end]).to(torch.float32).rsqrt()
            rows = torch.arange(self.vertices, device=device).repeat_interleave(3)
            self._matrices[device] = (
                SparseMatrix(start, end, value, (self.vertices, self.vertices)),
                SparseMatrix(
                    rows,
                    self.corners.flatten(),
                    self.weights.flatten(),
                    (self.vertices, self.coarser),
                ),
            )
        return self._matrices[device]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Mesh":
        copied = Mesh(self.vertices, self.coarser, len(self.edges)).to(self.weights)
        copied.load_state_dict(self.state_dict())
        return copied


class Meshes(nn.ModuleList):
    """The meshes of a configuration, the finest first; the coarsest has no module."""

    def __init__(self, config: MeshConfig) -> None:
        sizes = (config.vertices, *config.levels)
        super().__init__(map(Mesh, sizes, config.levels, config.edges))

    def __iter__(self) -> Iterator[Mesh]:
        return super().__iter__()  # type: ignore[return-value]  # the same


class Convolution(nn.Module):
    """Weights of a Chebyshev convolution.

    Example:
        >>> Convolution(6, 3, 16).weight.shape
        torch.Size([6, 3, 16])
    """

    def __init__(self, orders: int, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(orders, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        _initialise(self)

    def forward(self, x: Tensor, matrix: SparseMatrix) -> Tensor:
        """(V, B, C_in) -> (V, B, C_out)."""
        found = chebyshev(matrix, x, self.weight)
        return found if self.bias is None else found + self.bias


class MeshEncoder(nn.Module):
    """Convolution, ReLU and pooling on each mesh, then a dense layer."""

    def __init__(self, config: MeshConfig, outputs: int) -> None:
        super().__init__()
        widths = (3, *config.channels)
        self.convolutions = nn.ModuleList(
            Convolution(config.orders, *widths[k : k + 2]) for k in range(len(config.channels))
        )
        self.dense = nn.Linear(config.levels[-1] * widths[-1], outputs)
        _initialise(self.dense)

    def forward(self, x: Tensor, meshes: Meshes) -> Tensor:
        """Standardised coordinates (B, V, 3) -> (B, D)."""
        x = x.transpose(0, 1)
        for mesh, convolution in zip(meshes, self.convolutions, strict=True):
            x = functional.relu(convolution(x, mesh.laplacian))[mesh.kept]
        return self.dense(x.transpose(0, 1).flatten(1))


class MeshDecoder(nn.Module):
    """A dense layer, then the way back to each finer mesh, convolution and ReLU."""

    def __init__(self, config: MeshConfig, inputs: int) -> None:
        super().__init__()
        widths = (config.channels[-1], *config.channels[::-1])
        self.width = widths[0]
        self.dense = nn.Linear(inputs, config.levels[-1] * self.width)
        _initialise(self.dense)
        self.convolutions = nn.ModuleList(
            Convolution(config.orders, *widths[k : k + 2]) for k in range(len(config.channels))
        )
        self.output = Convolution(config.orders, widths[-1], 3, bias=False)

    def forward(self, z: Tensor, meshes: Meshes) -> Tensor:
        """(B, D) -> standardised coordinates (B, V, 3)."""
        x = functional.relu(self.dense(z)).unflatten(1, (-1, self.width)).transpose(0, 1)
        for mesh, convolution in zip(reversed(list(meshes)), self.convolutions, strict=True):
            x = functional.relu(convolution(mesh.up @ x, mesh.laplacian))
        return self.output(x, next(iter(meshes)).laplacian).transpose(0, 1)


def _initialise(layer: Convolution | nn.Linear) -> None:
    """Weights of CoMA's truncated normal distribution."""
    limit = 2 * _INITIAL_STD
    nn.init.trunc_normal_(layer.weight, 0.0, _INITIAL_STD, -limit, limit)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, _INITIAL_BIAS)
