"""The linear auto-encoder: linear maps between latents and principal components.

It needs faces in dense correspondence, whose subjects and expressions vary along few principal
components of the training faces. With a neutral of each person, known or estimated, it starts at
the closed-form split of these components. Without, it starts anywhere: trained with exchanged
identities of a person (`swap`) and a norm of the expression offsets that keeps most vertices still
(`expression_norm`), X_id comes near the neutral although no face is known to be neutral.
"""

from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.pca import Pca, face_blocks, fit_pca
from facedis_core.model.config import LinearConfig
from facedis_core.nn.augment import add_poses, pose_motions
from facedis_core.nn.autoencoder import AutoEncoder, Gaussian, InitialData, Posterior
from facedis_core.nn.linear_split import LinearSplit, split_components

# Initial weight of a component in encoder and decoder: half of the reconstruction is identity,
# half expression.
_INITIAL_WEIGHT = 0.5**0.5
_INITIAL_STD = 0.02  # of random weights in the encoder, so that both latents do not stay equal
_INITIAL_LOG_VARIANCE = -6.0

# Relative to the largest variance. Components below it are rounding errors, which division by their
# standard deviation would make as large as a face.
_LEAST_VARIANCE = 1e-8


class LinearEncoder(nn.Module):
    """Linear heads on standardised components; log-variances are the same for all faces."""

    def __init__(self, config: LinearConfig) -> None:
        super().__init__()
        self.identity_mean = _diagonal(config.components, config.identity, _INITIAL_STD)
        self.expression_mean = _diagonal(config.components, config.expression, _INITIAL_STD)
        initial = _INITIAL_LOG_VARIANCE
        self.identity_log_variance = nn.Parameter(torch.full((config.identity,), initial))
        self.expression_log_variance = nn.Parameter(torch.full((config.expression,), initial))

    def forward(self, components: Tensor) -> Posterior:
        """(B, K) -> distributions of both latents."""
        identity, expression = self.identity_mean(components), self.expression_mean(components)
        return Posterior(
            Gaussian(identity, self.identity_log_variance.expand_as(identity)),
            Gaussian(expression, self.expression_log_variance.expand_as(expression)),
        )


class LinearAutoEncoder(AutoEncoder):
    """Linear encoder and decoders between latents and principal components.

    Args:
        config, mean_face, origin, scale: as for `AutoEncoder`.
        basis: (K, 3V), orthonormal rows; None if it will be loaded with the weights.
        deviation: (K,) standard deviation of the training faces along each row, in normalised
            coordinates; None if it will be loaded with the weights.

    Example:
        >>> config = LinearConfig(vertices=50, identity=8, expression=4, components=20)
        >>> network = LinearAutoEncoder(config, torch.randn(50, 3), torch.zeros(3), scale=100.0)
        >>> network.expression_offsets(torch.randn(2, 4)).shape
        torch.Size([2, 50, 3])
    """

    config: LinearConfig

    def __init__(
        self,
        config: LinearConfig,
        mean_face: Tensor,
        origin: Tensor,
        scale: float,
        basis: Tensor | None = None,
        deviation: Tensor | None = None,
    ) -> None:
        super().__init__(config, mean_face, origin, scale)
        if basis is None:
            basis = torch.zeros(config.components, mean_face.numel())
        if deviation is None:
            deviation = torch.ones(config.components)
        self.register_buffer("basis", basis.float())
        self.register_buffer("deviation", deviation.float())
        self.basis: Tensor
        self.deviation: Tensor
        self.encoder = LinearEncoder(config)
        self.identity_decoder = _diagonal(config.identity, config.components)
        self.expression_decoder = _diagonal(config.expression, config.components)

    @classmethod
    def fresh(
        cls,
        config: LinearConfig,
        mean_face: Tensor,
        origin: Tensor,
        scale: float,
        data: InitialData,
    ) -> Self:
        """A network on the principal components of the training faces, as many as they span.

        With neutrals it is the closed-form split, else it has random weights. The basis is rounded
        as in its file, so that the network trained is the one stored.

        Raises:
            InputError: the training faces are all alike.
        """
        pca = fit_pca(data.vertices, data.rows, config.components)
        if data.poses:
            pca = add_poses(pca, data.poses, config.components)
        if not len(pca.variance):
            raise InputError(
                "the training faces are all alike; expected faces that differ",
                ErrorCode.FACES_ALIKE,
            )
        used = pca.variance > _LEAST_VARIANCE * pca.variance[0]
        basis = pca.basis[used].astype(np.float16 if config.half_basis else np.float32)
        pca = Pca(pca.mean, basis.astype(np.float64), pca.variance[used])
        network = cls(
            replace(config, components=len(basis)),
            mean_face,
            origin,
            scale,
            torch.from_numpy(basis),
            torch.tensor(np.sqrt(pca.variance) / scale),
        )
        if data.neutrals is not None:
            network._start_from(_split(pca, data, data.neutrals, config), np.sqrt(pca.variance))
        return network

    @torch.no_grad()
    def _start_from(self, split: LinearSplit, deviation: np.ndarray) -> None:
        """Take the maps of a split, for components in mm of this deviation, as weights."""
        heads, inverse = self.encoder, 1 / deviation[:, None]
        for layer, weight, bias in (
            (heads.identity_mean, split.identity_encoder * deviation, split.identity_bias),
            (heads.expression_mean, split.expression_encoder * deviation, split.expression_bias),
            (
                self.identity_decoder,
                split.identity_decoder * inverse,
                split.identity_mean * inverse[:, 0],
            ),
            (self.expression_decoder, split.expression_decoder * inverse, np.zeros(len(deviation))),
        ):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))

    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) -> distributions of both latents."""
        offsets = (faces - self.normalised_mean_face).flatten(1)
        return self.encoder(offsets @ self.basis.T / self.deviation)

    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> X_id minus the mean face, (B, V, 3)."""
        return self._offsets(self.identity_decoder(z))

    def expression_offsets(self, z: Tensor) -> Tensor:
        """Expression latents (B, D) -> X_exp, (B, V, 3)."""
        return self._offsets(self.expression_decoder(z))

    def _offsets(self, components: Tensor) -> Tensor:
        return (components * self.deviation @ self.basis).unflatten(1, (-1, 3))


def _split(pca: Pca, data: InitialData, neutrals: np.ndarray, config: LinearConfig) -> LinearSplit:
    """The closed-form split of the training faces by the neutrals of their subjects."""
    blocks = face_blocks(data.vertices, data.rows)
    coefficients = np.concatenate([pca.encode(block) for block in blocks])
    people, subject = np.unique(data.subject, return_inverse=True)
    motions = pose_motions(pca.mean, data.poses) @ pca.basis.T
    return split_components(
        coefficients - coefficients.mean(axis=0),
        subject,
        np.concatenate([pca.encode(neutrals[[person]]) for person in people]),
        motions.T @ motions,
        identity=config.identity,
        expression=config.expression,
        trust=data.trust,
    )


def _diagonal(inputs: int, outputs: int, std: float = 0.0) -> nn.Linear:
    """A linear layer with a constant diagonal and random weights of this standard deviation."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(_INITIAL_WEIGHT * torch.eye(outputs, inputs))
        layer.weight.add_(std * torch.randn(outputs, inputs))
        layer.bias.zero_()
    return layer
