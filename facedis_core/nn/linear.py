"""The linear auto-encoder: linear maps between latents and principal components.

Its bilinear form has a map of the expression latent that depends on the identity latent.

It needs faces in dense correspondence, whose subjects and expressions vary along few principal
components of the training faces. With a neutral of each person, known or estimated, it starts at
the closed-form split of these components. Without, it starts anywhere: trained with exchanged
identities of a person (`swap`) and a norm of the expression offsets that keeps most vertices still
(`expression_norm`), X_id comes near the neutral although no face is known to be neutral.
"""

from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn

from facedis_core.errors import ErrorCode, UsageError
from facedis_core.model.config import LinearConfig
from facedis_core.nn.autoencoder import AutoEncoder, Gaussian, InitialData, Posterior
from facedis_core.nn.flame_start import flame_weights
from facedis_core.nn.linear_fit import fit_weights

# Initial weight of a component in encoder and decoder: half of the reconstruction is identity,
# half expression.
_INITIAL_WEIGHT = 0.5**0.5
_INITIAL_STD = 0.02  # of random weights in the encoder, so that both latents do not stay equal
_INITIAL_LOG_VARIANCE = -6.0

# Closed forms of all weights, by their name in a recipe.
_FITS = {"split": fit_weights, "flame": flame_weights}


class LinearEncoder(nn.Module):
    """Linear heads on standardised components; log-variances are the same for all faces.

    With `points` the components are those of some vertices, in a basis of the encoder's own.
    """

    def __init__(self, config: LinearConfig) -> None:
        super().__init__()
        components = config.components
        if config.points is not None:
            components = config.encoder_components or 0
            self.register_buffer("points", torch.zeros(config.points, dtype=torch.int64))
            self.register_buffer("basis", torch.zeros(components, 3 * config.points))
            self.register_buffer("deviation", torch.ones(components))
            self.points: Tensor
            self.basis: Tensor
            self.deviation: Tensor
        self.identity_mean = _diagonal(components, config.identity, _INITIAL_STD)
        self.expression_mean = _diagonal(components, config.expression, _INITIAL_STD)
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


class BilinearTerms(nn.Module):
    """What the identity adds to expressions: the products z_i (F e)_j, to components.

    Example:
        >>> config = LinearConfig(50, identity=8, expression=4, components=20, bilinear=3)
        >>> BilinearTerms(config)(torch.randn(2, 8), torch.randn(2, 4)).shape
        torch.Size([2, 20])
    """

    def __init__(self, config: LinearConfig) -> None:
        super().__init__()
        count = config.bilinear or 0
        self.factors = nn.Linear(config.expression, count, bias=False)
        self.products = nn.Linear(config.identity * count, config.components, bias=False)

    def forward(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Latents (B, D_id) and (B, D_exp) -> components (B, K), zero where one latent is."""
        factors = self.factors(expression)
        products: Tensor = self.products((identity[:, :, None] * factors[:, None]).flatten(1))
        return products


class LinearAutoEncoder(AutoEncoder):
    """Linear encoder and decoders between latents and principal components.

    Args:
        config, mean_face, origin, scale: as for `AutoEncoder`; the rest is zero until weights are
            loaded.

    Example:
        >>> config = LinearConfig(vertices=50, identity=8, expression=4, components=20)
        >>> network = LinearAutoEncoder(config, torch.randn(50, 3), torch.zeros(3), scale=100.0)
        >>> network.expression_offsets(torch.randn(2, 4), torch.randn(2, 8)).shape
        torch.Size([2, 50, 3])

    Attributes:
        basis: (K, 3V), orthonormal rows.
        deviation: (K,) by which coefficients are divided, in normalised coordinates: the standard
            deviation of the training faces along each row.
    """

    config: LinearConfig

    def __init__(
        self, config: LinearConfig, mean_face: Tensor, origin: Tensor, scale: float
    ) -> None:
        super().__init__(config, mean_face, origin, scale)
        self.register_buffer("basis", torch.zeros(config.components, mean_face.numel()))
        self.register_buffer("deviation", torch.ones(config.components))
        self.basis: Tensor
        self.deviation: Tensor
        self.encoder = LinearEncoder(config)
        self.identity_decoder = _diagonal(config.identity, config.components)
        self.expression_decoder = _diagonal(config.expression, config.components)
        self.bilinear = None if config.bilinear is None else BilinearTerms(config)

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

        With neutrals it is their closed-form split or FLAME's model, else it has random weights. A
        basis is rounded as in its file, so that the network trained is the one stored.

        Raises:
            InputError: the training faces are all alike.
            UsageError: an encoder of points or bilinear terms, and no neutrals; both; or FLAME's
                model without neutrals, with either or of faces in random poses.
        """
        if config.points is not None and config.bilinear is not None:
            raise UsageError(
                "a bilinear network sees all vertices; --set points=none, or --set bilinear=none",
                ErrorCode.OPTION_CONFLICT,
            )
        key = "points" if config.points is not None else "bilinear"
        if getattr(config, key) is not None and data.neutrals is None:
            raise UsageError(
                f"a linear network with {key} has no random start; give neutrals, or "
                f"--set pseudo_neutral=auto, or --set {key}=none",
                ErrorCode.OPTION_CONFLICT,
            )
        fit = _FITS[data.linear_fit]
        weights = {
            name: torch.from_numpy(array)
            for name, array in fit(config, data, mean_face.numpy(), scale).items()
        }
        seen = weights.get("encoder.deviation")
        config = replace(
            config,
            components=len(weights["deviation"]),
            encoder_components=None if seen is None else len(seen),
        )
        network = cls(config, mean_face, origin, scale)
        network.load_state_dict(weights, strict=False)
        network.is_fitted = data.neutrals is not None
        return network

    def encode(self, faces: Tensor) -> Posterior:
        """Faces (B, V, 3) -> distributions of both latents."""
        offsets = faces - self.normalised_mean_face
        if self.config.points is None:
            return self.encoder(offsets.flatten(1) @ self.basis.T / self.deviation)
        seen = offsets[:, self.encoder.points].flatten(1)
        return self.encoder(seen @ self.encoder.basis.T / self.encoder.deviation)

    def identity_offsets(self, z: Tensor) -> Tensor:
        """Identity latents (B, D) -> X_id minus the mean face, (B, V, 3)."""
        return self._offsets(self.identity_decoder(z))

    def expression_offsets(self, z: Tensor, identity: Tensor) -> Tensor:
        """Expression latents (B, D_exp) of people (B, D_id) -> X_exp, (B, V, 3)."""
        components = self.expression_decoder(z)
        if self.bilinear is not None:
            components = components + self.bilinear(identity, z)
        return self._offsets(components)

    def _offsets(self, components: Tensor) -> Tensor:
        return (components * self.deviation @ self.basis).unflatten(1, (-1, 3))


def _diagonal(inputs: int, outputs: int, std: float = 0.0) -> nn.Linear:
    """A linear layer with a constant diagonal and random weights of this standard deviation."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(_INITIAL_WEIGHT * torch.eye(outputs, inputs))
        layer.weight.add_(std * torch.randn(outputs, inputs))
        layer.bias.zero_()
    return layer
