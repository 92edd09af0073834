"""Forward pass of the network after Jiang et al. 2019 in NumPy, one face at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from facedis_core.geometry.deformation_representation import DeformationRepresentation
from facedis_core.model.jiang_config import (
    ENCODER_WIDTHS,
    FUSION_WIDTHS,
    LAST_WIDTHS,
    LEAK,
    JiangConfig,
)
from facedis_core.model.mesh_forward import Product, chebyshev, laplacian_product
from facedis_core.model.numpy_forward import LatentMeans


@dataclass(frozen=True, eq=False)
class JiangForward:
    """Encoders and decoders of identity and expression, and the fusion of both."""

    config: JiangConfig
    tensors: Mapping[str, np.ndarray]
    mean_face: np.ndarray

    def encode(self, face: np.ndarray) -> LatentMeans:
        """Latent means of a normalised face (V, 3)."""
        if self.config.deformation:
            x = self._representation.features(face[None])[0].astype(np.float32)
        else:
            x = face - self.mean_face - self.tensors["neutral"]
        x = (x - self.tensors["centre"]) / self.tensors["half_range"]
        return LatentMeans(*(self._latent(branch, x) for branch in LAST_WIDTHS))

    def offsets(self, identity: np.ndarray, expression: np.ndarray, part: str) -> np.ndarray:
        """Normalised offsets (3V,) of X_id, of X_exp, which depends on both latents, or of both."""
        own = self._decoded("identity", identity)
        neutral = self._offsets(self._scaled(own))
        if part == "identity":
            return neutral.ravel()
        shown = self._decoded("expression", expression)
        x = np.concatenate([own, shown], axis=1)
        for layer in range(len(FUSION_WIDTHS)):
            x = _leaky(self._convolved("fusion", layer, x))
        change = np.tanh(self._convolved("fusion", len(FUSION_WIDTHS), x))
        found = self._scaled(own) + self._scaled(shown) + self.tensors["half_range"] * change
        face = self._offsets(found)
        return (face - neutral if part == "expression" else face).ravel()

    def latent_covariance(self, part: str) -> None:
        """None: the weights do not tell it."""

    def _latent(self, branch: str, x: np.ndarray) -> np.ndarray:
        name, last = f"{branch}_encoder", len(ENCODER_WIDTHS)
        for layer in range(last):
            x = _leaky(self._convolved(name, layer, x))
        x = self._convolved(name, last, x)
        x = _leaky(x) if branch == "identity" else np.tanh(x)
        return self._dense(f"{name}.mean", _leaky(self._dense(f"{name}.hidden", x.ravel())))

    def _decoded(self, branch: str, z: np.ndarray) -> np.ndarray:
        """Features (V, C) in their range."""
        hidden = _leaky(self._dense(f"{branch}_decoder.hidden", z))
        found: np.ndarray = np.tanh(self._dense(f"{branch}_decoder.output", hidden))
        return found.reshape(-1, self.config.channels)

    def _offsets(self, features: np.ndarray) -> np.ndarray:
        """Features (V, C) -> offsets from the mean face (V, 3), normalised."""
        if not self.config.deformation:
            found: np.ndarray = self.tensors["neutral"] + features
            return found
        face = self._representation.faces(features[None])[0]
        return (face - self.mean_face).astype(np.float32)

    def _scaled(self, features: np.ndarray) -> np.ndarray:
        """Features (V, C) from their range."""
        found: np.ndarray = self.tensors["centre"] + self.tensors["half_range"] * features
        return found

    def _convolved(self, name: str, layer: int, x: np.ndarray) -> np.ndarray:
        key = f"{name}.convolutions.{layer}"
        found = chebyshev(self._product, x, self.tensors[f"{key}.weight"])
        bias = self.tensors.get(f"{key}.bias")
        return found if bias is None else found + bias

    def _dense(self, name: str, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.tensors[f"{name}.weight"] @ values + self.tensors[f"{name}.bias"]
        return found

    @cached_property
    def _representation(self) -> DeformationRepresentation:
        """That of faces against the mean neutral."""
        return DeformationRepresentation(
            (self.mean_face + self.tensors["neutral"]).astype(np.float64),
            self.tensors["edges"],
            self.tensors["edge_weights"],
            self.tensors["steadiness"],
        )

    @cached_property
    def _product(self) -> Product:
        """The product with the normalised Laplacian, rescaled to eigenvalues from -1 to 1."""
        minus_one = laplacian_product(self.tensors["edges"], self.config.vertices)
        factor = 2 / self.tensors["eigenvalue"]
        return lambda x: factor * (x + minus_one(x)) - x


def _leaky(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, LEAK * x)
