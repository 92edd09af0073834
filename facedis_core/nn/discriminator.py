"""The identity discriminator: do two faces show the same person? (section III-B of the paper)"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core.model.config import DiscriminatorConfig
from facedis_core.nn.distributed import shard_of_bernoulli
from facedis_core.nn.max_pool.batch_statistics import BatchNorm
from facedis_core.nn.max_pool.layer import pool
from facedis_core.nn.pointnet import SharedLayer, pointnet


class TransformNet(nn.Module):
    """Predicts a 6 x 6 matrix that brings a pair of faces into a canonical frame."""

    def __init__(self, channels: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.channels = channels
        self.layers = pointnet((channels, 64, 128, 1024), batch_norm=batch_norm)
        self.head = nn.Sequential(
            SharedLayer(1024, 512, batch_norm=batch_norm),
            SharedLayer(512, 256, batch_norm=batch_norm),
            nn.Linear(256, channels * channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, V, C) -> (B, C, C), the identity matrix plus the prediction."""
        matrix = self.head(pool(self.layers, x)).view(-1, self.channels, self.channels)
        return matrix + torch.eye(self.channels, dtype=x.dtype, device=x.device)


class Dropout(nn.Module):
    """Dropout 0.5, drawn for the whole batch of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) -> (B, C)."""
        return x * shard_of_bernoulli(x, 0.5) * 2 if self.training else x


class DropoutLayer(nn.Module):
    """Linear, with `batch_norm` dropout 0.5 and batch norm, then ReLU."""

    def __init__(self, inputs: int, outputs: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.dropout = Dropout() if batch_norm else nn.Identity()
        self.norm = BatchNorm(outputs) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in) -> (B, C_out)."""
        return functional.relu(self.norm(self.dropout(self.linear(x))))


class IdentityDiscriminator(nn.Module):
    """Judges whether two faces show the same person.

    Args:
        config: sizes of the network.
        origin, scale: of the normalised coordinates, (3,) mm and mm per unit.
        points: int64 (K,) vertices that it sees, K = `config.points`; None if it sees all, or if
            they will be loaded with the weights.

    Example:
        >>> config = DiscriminatorConfig(vertices=50)
        >>> discriminator = IdentityDiscriminator(config, torch.zeros(3), scale=100.0)
        >>> discriminator(torch.randn(2, 50, 3), torch.randn(2, 50, 3)).shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        config: DiscriminatorConfig,
        origin: Tensor,
        scale: float,
        points: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        batch_norm = config.batch_norm
        self.transform = TransformNet(6, batch_norm=batch_norm)
        self.layers = pointnet((6, 64, 128, 1024), batch_norm=batch_norm)
        self.head = nn.Sequential(
            SharedLayer(1024, 512, batch_norm=batch_norm),
            DropoutLayer(512, 256, batch_norm=batch_norm),
            nn.Linear(256, 2),
        )
        self.register_buffer("origin", origin.float())
        self.register_buffer("scale", torch.tensor([scale], dtype=torch.float32))
        if points is None and config.points:
            points = torch.zeros(config.points, dtype=torch.int64)
        self.register_buffer("points", points)
        self.points: Tensor | None
        self.origin: Tensor
        self.scale: Tensor

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two normalised faces (B, V, 3) -> logits (B, 2): another person, the same person."""
        if self.points is not None:
            first, second = first[:, self.points], second[:, self.points]
        pair = torch.cat([first, second], dim=2)
        return self.head(pool(self.layers, pair @ self.transform(pair)))
