"""Forward passes of trained networks in NumPy, one face at a time.

All coordinates are normalised, (X - origin) / scale.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from facedis_core.model.config import LinearConfig, ModelConfig, PointNetConfig

_NORM_EPSILON: Final = 1e-5  # of torch's batch norm
_VERTEX_BLOCK: Final = 512  # vertices whose activations fit the processor's cache


class LatentMeans(NamedTuple):
    """The means of both latents of one face, (D_id,) and (D_exp,)."""

    identity: np.ndarray
    expression: np.ndarray


class Forward(Protocol):
    """Encoder and decoder of one network.

    Args:
        config: the network's configuration.
        tensors: its learned tensors by name.
        mean_face: (V, 3), normalised.
    """

    def __init__(
        self, config: Any, tensors: Mapping[str, np.ndarray], mean_face: np.ndarray
    ) -> None: ...

    def encode(self, face: np.ndarray) -> LatentMeans:
        """Latent means of a normalised face (V, 3)."""
        ...

    def offsets(self, identity: np.ndarray, expression: np.ndarray, part: str) -> np.ndarray:
        """Normalised offsets (3V,) of latents (D_id,) and (D_exp,).

        Of X_id (part `identity`), of X_exp (`expression`), which may depend on both latents, or of
        their sum (`full`).
        """
        ...

    def latent_covariance(self, part: str) -> np.ndarray | None:
        """Covariance (D, D) of a latent over the training faces; None if the weights lack it."""
        ...


@dataclass(frozen=True, eq=False)
class _Network:
    """A network's tensors; float16 tensors are converted to float32 on first use."""

    config: ModelConfig
    tensors: Mapping[str, np.ndarray]
    mean_face: np.ndarray

    def linear(self, name: str, values: np.ndarray) -> np.ndarray:
        """One linear layer: (C_in,) -> (C_out,)."""
        return self.float32(f"{name}.weight") @ values + self.tensors[f"{name}.bias"]

    def float32(self, name: str) -> np.ndarray:
        """The tensor as float32."""
        found = self.tensors[name]
        if found.dtype != np.float32:
            if name not in self._converted:
                self._converted[name] = found.astype(np.float32)
            found = self._converted[name]
        return found

    @cached_property
    def _converted(self) -> dict[str, np.ndarray]:
        return {}


@dataclass(frozen=True, eq=False)
class PointNetForward(_Network):
    """The paper's network: PointNet encoder, decoders with one hidden layer."""

    config: PointNetConfig

    def encode(self, face: np.ndarray) -> LatentMeans:
        """Latent means of a normalised face (V, 3)."""
        seen = slice(None) if self.config.points is None else self.tensors["encoder.points"]
        points = face[seen]
        if self.config.encoder_offsets:
            mean = self.mean_face[seen]
            points = np.hstack((mean, (points - mean) / self.tensors["encoder.spread"]))
        features = self._pool(points)
        return LatentMeans(
            self.linear("encoder.identity_mean", features),
            self.linear("encoder.expression_mean", features),
        )

    def offsets(self, identity: np.ndarray, expression: np.ndarray, part: str) -> np.ndarray:
        """Normalised offsets (3V,) of X_id, of X_exp, or of their sum."""
        face = np.zeros(3 * self.config.vertices, np.float32)
        for name, z in (("identity", identity), ("expression", expression)):
            if part in ("full", name):
                hidden = self.linear(f"{name}_decoder.hidden", z)
                face += self.linear(f"{name}_decoder.output", np.maximum(hidden, 0.0))
        return face

    def latent_covariance(self, part: str) -> None:
        """None: the weights of a PointNet do not tell it."""

    def _pool(self, points: np.ndarray) -> np.ndarray:
        """Features of one face: the maximum over vertices of the last layer, (C,)."""
        *shared, (wide, wide_bias) = self._folded
        highest = np.full(len(wide_bias), -np.inf, np.float32)
        for start in range(0, len(points), _VERTEX_BLOCK):
            hidden = points[start : start + _VERTEX_BLOCK]
            for weight, bias in shared:
                hidden = hidden @ weight
                hidden += bias
                np.maximum(hidden, 0.0, out=hidden)
            np.maximum(highest, (hidden @ wide).max(axis=0), out=highest)
        # the bias is the same at every vertex and ReLU is monotone, so both follow the maximum
        return np.maximum(highest + wide_bias, 0.0)

    @cached_property
    def _folded(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each shared layer with its batch norm folded in: (C_in, C_out), (C_out,)."""
        folded = []
        for index in range(len(self.config.channels)):
            part = {
                key: self.tensors[f"encoder.layers.{index}.{key}"].astype(np.float64)
                for key in (
                    "linear.weight",
                    "linear.bias",
                    "norm.weight",
                    "norm.bias",
                    "norm.running_mean",
                    "norm.running_var",
                )
            }
            gain = part["norm.weight"] / np.sqrt(part["norm.running_var"] + _NORM_EPSILON)
            bias = (part["linear.bias"] - part["norm.running_mean"]) * gain + part["norm.bias"]
            weight = np.ascontiguousarray((part["linear.weight"] * gain[:, None]).T, np.float32)
            folded.append((weight, bias.astype(np.float32)))
        return folded


@dataclass(frozen=True, eq=False)
class LinearForward(_Network):
    """Linear maps of principal components, which are standardised by `deviation`.

    Of a bilinear model the map of the expression latent depends on the identity latent.
    """

    config: LinearConfig

    def encode(self, face: np.ndarray) -> LatentMeans:
        """Latent means of a normalised face (V, 3)."""
        offsets, prefix = face - self.mean_face, ""
        if self.config.points is not None:
            offsets, prefix = offsets[self.tensors["encoder.points"]], "encoder."
        components = self.float32(f"{prefix}basis") @ offsets.ravel()
        components /= self.tensors[f"{prefix}deviation"]
        return LatentMeans(
            self.linear("encoder.identity_mean", components),
            self.linear("encoder.expression_mean", components),
        )

    def offsets(self, identity: np.ndarray, expression: np.ndarray, part: str) -> np.ndarray:
        """Normalised offsets (3V,) of X_id, of X_exp, or of their sum."""
        components = np.zeros_like(self.tensors["deviation"])
        for name, z in (("identity", identity), ("expression", expression)):
            if part in ("full", name):
                components += self.linear(f"{name}_decoder", z)
        if self.config.bilinear is not None and part != "identity":
            factors = self.tensors["bilinear.factors.weight"] @ expression
            products = np.outer(identity, factors).ravel()
            components += self.float32("bilinear.products.weight") @ products
        components *= self.tensors["deviation"]
        return components @ self.float32("basis")

    def latent_covariance(self, part: str) -> np.ndarray:
        """Covariance (D, D) of a latent over the training faces.

        Standardised components c are uncorrelated with unit variance, so that of W c + b is W W^T.
        """
        weights = self.tensors[f"encoder.{part}_mean.weight"].astype(np.float64)
        return weights @ weights.T
