"""The registered network: it knows which vertex is which, where a PointNet takes a maximum.

Encoder and decoders are linear maps of the principal components of the training faces, in which
faces in correspondence are described best: a person's expressions and the people themselves move
along few of them. Trained by exchanging identities within a person (`swap`) and by a norm of the
expression offsets that keeps most vertices still (`expression_norm`), X_id comes near the neutral
although no face is known to be one.
"""

from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from facedis_core.errors import InputError
from facedis_core.geometry.pca import fit_pca
from facedis_core.model.config import RegisteredConfig
from facedis_core.nn.augment import add_poses
from facedis_core.nn.autoencoder import AutoEncoder, Gaussian, InitialData, Posterior

# What the encoder takes of each component at first: half of it as identity, half as expression.
_SHARE = 0.5**0.5
_SPREAD = 0.02  # of what it takes of others, so that the two do not stay alike
_FIRST_LOG_VARIANCE = -6.0

# Of the largest; what varies less is rounding, and in units of its deviation as large as a face.
_LEAST_VARIANCE = 1e-8


class LinearEncoder(nn.Module):
    """Linear heads on components in units of their deviation; the log-variances are constant."""

    def __init__(self, config: RegisteredConfig) -> None:
        super().__init__()
        self.identity_mean = _first_components(config.components, config.identity, _SPREAD)
        self.expression_mean = _first_components(config.components, config.expression, _SPREAD)
        start = _FIRST_LOG_VARIANCE
        self.identity_log_variance = nn.Parameter(torch.full((config.identity,), start))
        self.expression_log_variance = nn.Parameter(torch.full((config.expression,), start))

    def forward(self, components: Tensor) -> Posterior:
        """(B, K) -> distributions of both latents."""
        identity, expression = self.identity_mean(components), self.expression_mean(components)
        return Posterior(
            Gaussian(identity, self.identity_log_variance.expand_as(identity)),
            Gaussian(expression, self.expression_log_variance.expand_as(expression)),
        )


class RegisteredAutoEncoder(AutoEncoder):
    """Linear encoder and decoders between latents and principal components.

    Args:
        config, mean_face, origin, scale: as of any auto-encoder.
        basis: (K, 3V), orthonormal rows; None where it is loaded with the weights.
        deviation: (K,) standard deviation of the training faces along each row, normalised; None
            likewise.
    """

    config: RegisteredConfig

    def __init__(
        self,
        config: RegisteredConfig,
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
        self.identity_decoder = _first_components(config.identity, config.components)
        self.expression_decoder = _first_components(config.expression, config.components)

    @classmethod
    def fresh(
        cls,
        config: RegisteredConfig,
        mean_face: Tensor,
        origin: Tensor,
        scale: float,
        data: InitialData,
    ) -> Self:
        """A network on the principal components of the training faces, as many as they span.

        The basis is rounded to what a file of it will hold, so that what is trained is what is
        stored.

        Raises:
            InputError: the training faces are all alike.
        """
        pca = fit_pca(data.vertices, data.rows, config.components)
        if data.poses:
            pca = add_poses(pca, data.poses, config.components)
        if not len(pca.variance):
            raise InputError("the training faces are all alike; expected faces that differ")
        used = pca.variance > _LEAST_VARIANCE * pca.variance[0]
        basis = torch.from_numpy(pca.basis[used])
        return cls(
            replace(config, components=len(basis)),
            mean_face,
            origin,
            scale,
            basis.half() if config.half_basis else basis,
            torch.tensor(np.sqrt(pca.variance[used]) / scale),
        )

    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) -> distributions of both latents."""
        offsets = (faces - self.normalised_mean_face).flatten(1)
        return self.encoder(offsets @ self.basis.T / self.deviation)

    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> X_id less the mean face, (B, V, 3)."""
        return self._offsets(self.identity_decoder(z))

    def expression_offsets(self, z: Tensor) -> Tensor:
        """Expression latents (B, D) -> X_exp, (B, V, 3)."""
        return self._offsets(self.expression_decoder(z))

    def _offsets(self, components: Tensor) -> Tensor:
        return (components * self.deviation @ self.basis).unflatten(1, (-1, 3))


def _first_components(inputs: int, outputs: int, spread: float = 0.0) -> nn.Linear:
    """A layer that hands on a share of its first inputs, and of the others nearly nothing."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(_SHARE * torch.eye(outputs, inputs))
        layer.weight.add_(spread * torch.randn(outputs, inputs))
        layer.bias.zero_()
    return layer
