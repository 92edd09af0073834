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

    Of the recurrence and Clenshaw's form of it, which weights first, the one with fewer channels.

    Args:
        matrix: L.
        x: (V, B, C_in).
        weight: (K, C_in, C_out).
    """
    orders, inputs, outputs = weight.shape
    if inputs <= outputs:
        terms = [x]
        for order in range(1, orders):
            following = matrix @ terms[-1]
            terms.append(following if order == 1 else 2 * following - terms[-2])
        return torch.cat(terms, dim=-1) @ weight.flatten(0, 1)
    weighted = (x @ weight.permute(1, 0, 2).flatten(1)).unflatten(-1, (orders, outputs))
    zero = torch.zeros_like(weighted[:, :, 0])
    after, last = zero, zero
    for order in range(orders - 1, 0, -1):
        after, last = last, weighted[:, :, order] + 2 * (matrix @ last) - after
    return weighted[:, :, 0] + matrix @ last - after


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
        copied = Mesh(self.vertices, self.coarser, len(self.edges))
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
