"""The networks of the paper: PointNet encoder, two decoders, identity discriminator."""

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core import world
from facedis_core.config import DiscriminatorConfig, ModelConfig, PointNetConfig
from facedis_core.maxlinear import MaxLinear, pool
from facedis_core.moments import BatchNorm


class Gaussian(NamedTuple):
    """A diagonal normal distribution over latents: both (B, D)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """Reparametrised sample, (B, D)."""
        return self.mean + world.normal_like(self.mean) * (0.5 * self.log_variance).exp()


class Posterior(NamedTuple):
    """What the encoder says of a face."""

    identity: Gaussian
    expression: Gaussian


class SharedLayer(nn.Module):
    """One layer applied to every vertex alike: linear, optional batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = BatchNorm(outputs) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(B*V, C_in) -> (B*V, C_out)."""
        x = self.linear(x)
        return functional.relu(x if self.norm is None else self.norm(x))


def pointnet(channels: tuple[int, ...], *, batch_norm: bool) -> nn.ModuleList:
    """Shared layers through `channels` (the first is the input's width), the last one pooling."""
    steps = list(pairwise(channels))
    layers: list[nn.Module] = [SharedLayer(i, o, batch_norm=batch_norm) for i, o in steps[:-1]]
    return nn.ModuleList([*layers, MaxLinear(*steps[-1], batch_norm=batch_norm)])


class Encoder(nn.Module):
    """PointNet with four linear heads (section III-A of the paper)."""

    def __init__(self, config: PointNetConfig, points: Tensor | None) -> None:
        super().__init__()
        self.layers = pointnet((3, *config.channels), batch_norm=True)
        width = config.channels[-1]
        self.identity_mean = nn.Linear(width, config.identity)
        self.identity_log_variance = nn.Linear(width, config.identity)
        self.expression_mean = nn.Linear(width, config.expression)
        self.expression_log_variance = nn.Linear(width, config.expression)
        self.register_buffer("points", points)
        self.points: Tensor | None

    def forward(self, x: Tensor) -> Posterior:
        """Normalised absolute coordinates (B, V, 3) -> distributions of both latents."""
        if self.points is not None:
            x = x[:, self.points]
        features = pool(self.layers, x)
        return Posterior(
            Gaussian(self.identity_mean(features), self.identity_log_variance(features)),
            Gaussian(self.expression_mean(features), self.expression_log_variance(features)),
        )


class Decoder(nn.Module):
    """Latents (B, D) -> normalised offsets (B, V, 3)."""

    def __init__(self, latent: int, hidden: int, vertices: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(latent, hidden)
        self.output = nn.Linear(hidden, 3 * vertices)

    def forward(self, z: Tensor) -> Tensor:
        """Offsets of one part of the face."""
        return self.output(functional.relu(self.hidden(z))).view(len(z), -1, 3)


class AutoEncoder(nn.Module, ABC):
    """A variational auto-encoder with an identity and an expression decoder (eq. 1).

    Works in normalised coordinates (X - origin) / scale; `normalise` takes mm there.

    Args:
        mean_face: (V, 3) mm.
        origin: (3,) mm.
        scale: mm a unit.
    """

    def __init__(
        self, config: ModelConfig, mean_face: Tensor, origin: Tensor, scale: float
    ) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean_face", mean_face.float())
        self.register_buffer("origin", origin.float())
        self.register_buffer("scale", torch.tensor([scale], dtype=torch.float32))
        self.mean_face: Tensor
        self.origin: Tensor
        self.scale: Tensor

    @abstractmethod
    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) -> distributions of both latents."""

    @abstractmethod
    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> X_id less the mean face, (B, V, 3)."""

    @abstractmethod
    def expression_offsets(self, z: Tensor) -> Tensor:
        """Expression latents (B, D) -> X_exp, (B, V, 3)."""

    def normalise(self, vertices: Tensor) -> Tensor:
        """Mm -> network coordinates."""
        return (vertices - self.origin) / self.scale

    @property
    def normalised_mean_face(self) -> Tensor:
        """(V, 3) in network coordinates."""
        return self.normalise(self.mean_face)


class PointNetAutoEncoder(AutoEncoder):
    """The paper's: PointNet encoder, decoders with a hidden layer.

    Args:
        points: int64 (K,) vertices the encoder looks at; None = all.
    """

    config: PointNetConfig

    def __init__(
        self,
        config: PointNetConfig,
        mean_face: Tensor,
        origin: Tensor,
        scale: float,
        points: Tensor | None = None,
    ) -> None:
        super().__init__(config, mean_face, origin, scale)
        self.encoder = Encoder(config, points)
        self.identity_decoder = Decoder(config.identity, config.decoder_hidden, config.vertices)
        self.expression_decoder = Decoder(config.expression, config.decoder_hidden, config.vertices)

    def initialise_decoders_to_zero(self) -> None:
        """Start both decoders' last layers at zero.

        The usual initialisation adds noise of the size of the face to X_id and the opposite noise
        to X_exp: only their sum is supervised when there are no neutrals, so it would stay.
        """
        for decoder in (self.identity_decoder, self.expression_decoder):
            nn.init.zeros_(decoder.output.weight)
            nn.init.zeros_(decoder.output.bias)

    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) -> distributions of both latents."""
        return self.encoder(faces)

    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> X_id less the mean face, (B, V, 3)."""
        return self.identity_decoder(z)

    def expression_offsets(self, z: Tensor) -> Tensor:
        """Expression latents (B, D) -> X_exp, (B, V, 3)."""
        return self.expression_decoder(z)


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
        """(B, V, C) -> (B, C, C), the identity matrix plus what is predicted."""
        matrix = self.head(pool(self.layers, x)).view(-1, self.channels, self.channels)
        return matrix + torch.eye(self.channels, dtype=x.dtype, device=x.device)


class Dropout(nn.Module):
    """Half of the entries become zero in training, the others twice as large."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) -> (B, C)."""
        return x * world.kept_like(x, 0.5) * 2 if self.training else x


class DropoutLayer(nn.Module):
    """Linear, dropout 0.5 and batch norm where batch norm is used, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.dropout = Dropout() if batch_norm else nn.Identity()
        self.norm = BatchNorm(outputs) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in) -> (B, C_out)."""
        return functional.relu(self.norm(self.dropout(self.linear(x))))


class IdentityDiscriminator(nn.Module):
    """Do two faces show the same person? (section III-B of the paper)."""

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
