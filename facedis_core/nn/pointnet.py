"""The paper's auto-encoder: a PointNet encoder and two decoders with one hidden layer."""

import math
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facedis_core.geometry.pca import face_blocks, fit_pca
from facedis_core.model.config import PointNetConfig
from facedis_core.nn.augment import add_motions, pose_motions
from facedis_core.nn.autoencoder import AutoEncoder, Gaussian, InitialData, Posterior
from facedis_core.nn.max_pool.batch_statistics import BatchNorm
from facedis_core.nn.max_pool.layer import MaxPoolLinear, pool
from facedis_core.nn.pointnet_start import start_linear


class SharedLayer(nn.Module):
    """Linear, optional batch norm and ReLU, with the same weights for every vertex.

    Example:
        >>> SharedLayer(3, 64, batch_norm=True)(torch.randn(500, 3)).shape
        torch.Size([500, 64])
    """

    def __init__(self, inputs: int, outputs: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = BatchNorm(outputs) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(B*V, C_in) -> (B*V, C_out)."""
        x = self.linear(x)
        return functional.relu(x if self.norm is None else self.norm(x))


def pointnet(channels: tuple[int, ...], *, batch_norm: bool) -> nn.ModuleList:
    """Shared layers, the last one max-pooled; the first of `channels` is the width of the input.

    `max_pool.layer.pool` applies them.
    """
    steps = list(pairwise(channels))
    layers: list[nn.Module] = [SharedLayer(i, o, batch_norm=batch_norm) for i, o in steps[:-1]]
    return nn.ModuleList([*layers, MaxPoolLinear(*steps[-1], batch_norm=batch_norm)])


class PointNetEncoder(nn.Module):
    """PointNet with four linear heads (section III-A of the paper).

    Attributes:
        fixed_statistics: batch norm normalises by its running statistics also in training.

    Example:
        >>> encoder = PointNetEncoder(PointNetConfig(vertices=50, identity=8, expression=4))
        >>> encoder(torch.randn(2, 50, 3)).identity.mean.shape
        torch.Size([2, 8])
    """

    fixed_statistics = False

    def __init__(self, config: PointNetConfig, points: Tensor | None = None) -> None:
        super().__init__()
        inputs = 6 if config.encoder_offsets else 3
        self.layers = pointnet((inputs, *config.channels), batch_norm=True)
        width = config.channels[-1]
        self.identity_mean = nn.Linear(width, config.identity)
        self.identity_log_variance = nn.Linear(width, config.identity)
        self.expression_mean = nn.Linear(width, config.expression)
        self.expression_log_variance = nn.Linear(width, config.expression)
        if points is None and config.points:
            points = torch.zeros(config.points, dtype=torch.int64)
        self.register_buffer("points", points)
        self.points: Tensor | None
        self.register_buffer("spread", torch.ones(1) if config.encoder_offsets else None)
        self.spread: Tensor | None

    def train(self, mode: bool = True) -> Self:
        """Training mode, but of batch norm only if the statistics are those of the batch."""
        super().train(mode)
        self.layers.train(mode and not self.fixed_statistics)
        return self

    def forward(self, x: Tensor) -> Posterior:
        """Normalised coordinates (B, V, 3) or (B, V, 6) -> distributions of both latents."""
        features = self.features(x)
        return Posterior(
            Gaussian(self.identity_mean(features), self.identity_log_variance(features)),
            Gaussian(self.expression_mean(features), self.expression_log_variance(features)),
        )

    def features(self, x: Tensor) -> Tensor:
        """The same -> features max-pooled over vertices, (B, C)."""
        return pool(self.layers, x if self.points is None else x[:, self.points])


class HiddenLayerDecoder(nn.Module):
    """Linear, ReLU, linear: latents (B, D) -> normalised offsets (B, V, 3).

    Example:
        >>> HiddenLayerDecoder(latent=8, hidden=256, vertices=50)(torch.randn(2, 8)).shape
        torch.Size([2, 50, 3])
    """

    def __init__(self, latent: int, hidden: int, vertices: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(latent, hidden)
        self.output = nn.Linear(hidden, 3 * vertices)
        self.register_buffer("components", None)
        self.components: Tensor | None

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) -> (B, V, 3)."""
        offsets = self.output(functional.relu(self.hidden(z)))
        if self.components is not None:
            offsets = offsets @ self.components
        return offsets.unflatten(1, (-1, 3))

    @torch.no_grad()
    def learn_components(self, components: Tensor) -> None:
        """Replace the output layer by one that gives coefficients of components (K, 3V).

        Its weights are those of the output layer, without what lies outside of the components,
        which are orthogonal.
        """
        before, squares = self.output, components.square().sum(dim=1, keepdim=True)
        self.output = nn.Linear(before.in_features, len(components))
        self.output.weight.copy_(components @ before.weight / squares)
        self.output.bias.copy_(components @ before.bias / squares[:, 0])
        self.components = components

    def output_layer(self) -> tuple[Tensor, Tensor]:
        """Weight (3V, H) and bias (3V,) of the layer from the hidden one to vertices."""
        if self.components is None:
            return self.output.weight, self.output.bias
        return self.components.T @ self.output.weight, self.output.bias @ self.components


class PointNetAutoEncoder(AutoEncoder):
    """The paper's auto-encoder (section III-A).

    Args:
        config, mean_face, origin, scale: as for `AutoEncoder`.
        points: int64 (K,) vertices that the encoder sees, K = `config.points`; None if it sees all,
            or if they will be loaded with the weights.

    Example:
        >>> config = PointNetConfig(vertices=50, identity=8, expression=4)
        >>> network = PointNetAutoEncoder(config, torch.randn(50, 3), torch.zeros(3), scale=100.0)
        >>> z = network.encode(network.normalise(torch.randn(2, 50, 3)))
        >>> network.identity_offsets(z.identity.mean).shape
        torch.Size([2, 50, 3])
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
        self.encoder = PointNetEncoder(config, points)
        hidden, vertices = config.decoder_hidden, config.vertices
        self.identity_decoder = HiddenLayerDecoder(config.identity, hidden, vertices)
        self.expression_decoder = HiddenLayerDecoder(config.expression, hidden, vertices)

    @classmethod
    def fresh(
        cls,
        config: PointNetConfig,
        mean_face: Tensor,
        origin: Tensor,
        scale: float,
        data: InitialData,
    ) -> Self:
        """A network with random weights, on request with zeros in the decoders' last layers.

        Random decoders add noise of the size of the face to X_id. Without neutrals only the sum of
        X_id and X_exp is supervised, so training leaves the noise in one and its opposite in the
        other.
        """
        network = cls(config, mean_face, origin, scale, data.points)
        if network.encoder.spread is not None:
            network.encoder.spread.fill_(_spread(data) / scale)
        if data.zero_decoders:
            for decoder in (network.identity_decoder, network.expression_decoder):
                nn.init.zeros_(decoder.output.weight)
                nn.init.zeros_(decoder.output.bias)
        if data.linear_start:
            start_linear(network, data)
            network.is_fitted = True
        return network

    def reparametrise(self, data: InitialData) -> None:
        """Fixed statistics of batch norm, and decoders that learn coefficients of components.

        A step of Adam changes every weight alike. Of the 3V outputs of a decoder that moves whole
        faces by millimetres; components, in units of their standard deviation, move as far as
        faces differ along them.
        """
        self.encoder.fixed_statistics = data.linear_start
        count = data.decoder_components
        if count is None:
            return
        pca = fit_pca(data.vertices, data.rows, count)
        pca = add_motions(pca, pose_motions(pca.mean, data.poses), count)
        scaled = pca.basis * np.sqrt(pca.variance)[:, None] / float(self.scale)
        components = torch.tensor(scaled, dtype=torch.float32)
        for decoder in (self.identity_decoder, self.expression_decoder):
            decoder.learn_components(components)

    def output_parameters(self) -> list[nn.Parameter]:
        """The weights of the decoders' last layers, which may have a learning rate of their own."""
        decoders = (self.identity_decoder, self.expression_decoder)
        return [each for decoder in decoders for each in decoder.output.parameters()]

    def model_tensors(self) -> dict[str, Tensor]:
        """The tensors of a model file: decoders that give coordinates of vertices."""
        tensors = self.state_dict()
        for name in ("identity_decoder", "expression_decoder"):
            weight, bias = getattr(self, name).output_layer()
            tensors |= {f"{name}.output.weight": weight, f"{name}.output.bias": bias}
        return tensors

    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) -> distributions of both latents."""
        return self.encoder(self.encoder_input(faces))

    def encoder_input(self, faces: Tensor) -> Tensor:
        """Faces (B, V, 3) -> what the encoder sees of them, (B, V, 3) or (B, V, 6)."""
        if self.encoder.spread is None:
            return faces
        mean = self.normalised_mean_face.expand_as(faces)
        return torch.cat((mean, (faces - mean) / self.encoder.spread), dim=-1)

    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> X_id minus the mean face, (B, V, 3)."""
        return self.identity_decoder(z)

    def expression_offsets(self, z: Tensor, identity: Tensor) -> Tensor:
        """Expression latents (B, D) -> X_exp (B, V, 3), the same for all people."""
        return self.expression_decoder(z)


def _spread(data: InitialData) -> float:
    """Standard deviation of the coordinates of the training faces around their mean, mm."""
    count, shape = len(data.rows), data.vertices.shape[1:]
    mean, variance = np.zeros(shape), 0.0
    for block in face_blocks(data.vertices, data.rows):
        mean += block.sum(axis=0) / count
    for block in face_blocks(data.vertices, data.rows):
        variance += float(((block - mean) ** 2).sum(axis=0).mean()) / count
    return math.sqrt(variance)
