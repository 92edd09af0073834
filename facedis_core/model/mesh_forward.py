"""Forward passes of networks on a hierarchy of meshes in NumPy, one face at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from facedis_core.geometry.surface import neighbour_table
from facedis_core.model.mesh_config import ConvMeshConfig, DiMeshConfig, KacemConfig, MeshConfig
from facedis_core.model.numpy_forward import LatentMeans

Product = Callable[[np.ndarray], np.ndarray]


def laplacian_product(edges: np.ndarray, vertices: int) -> Product:
    """The product x (V, C) -> L x, L = -D^-1/2 A D^-1/2 of the adjacency A and degrees D of a mesh.

    That is the symmetric normalised Laplacian I + L, of eigenvalues from 0 to 2, minus I.

    Args:
        edges: (E, 2), each once.
        vertices: V.
    """
    neighbours, _ = neighbour_table(edges, vertices)
    degree = (neighbours >= 0).sum(axis=1)
    scale = (np.maximum(degree, 1) ** -0.5).astype(np.float32)[:, None]
    # neighbour k of every vertex; those that lack one have -1, the row of zeros at the end
    neighbours = np.ascontiguousarray(neighbours.T)

    def product(x: np.ndarray) -> np.ndarray:
        padded = np.concatenate([scale * x, np.zeros((1, x.shape[1]), np.float32)])
        total = padded[neighbours[0]]
        for row in neighbours[1:]:
            total += padded[row]
        total *= -scale
        return total

    return product


def chebyshev(product: Product, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The sum of T_k(L) x W_k, with Chebyshev polynomials T_k.

    Args:
        product: x -> L x.
        x: (V, C_in).
        weight: (K, C_in, C_out).
    """
    before, last = x, product(x)
    total = before @ weight[0]
    for order in range(1, len(weight)):
        total += last @ weight[order]
        before, last = last, 2 * product(last) - before
    return total


@dataclass(frozen=True, eq=False)
class MeshForward:
    """Encoders and decoders on a hierarchy of meshes."""

    config: MeshConfig
    tensors: Mapping[str, np.ndarray]
    mean_face: np.ndarray

    def standardised(self, face: np.ndarray) -> np.ndarray:
        """Coordinates (V, 3) minus their mean, by their deviation."""
        found: np.ndarray = (face - self.mean_face) / self.tensors["deviation"]
        return found

    def encoded(self, name: str, x: np.ndarray) -> np.ndarray:
        """Standardised coordinates (V, 3) -> the outputs of an encoder's dense layer, (D,)."""
        for level, product in enumerate(self._products):
            x = self._convolved(f"{name}.convolutions.{level}", product, x)
            x = x[self.tensors[f"meshes.{level}.kept"]]
        return self.dense(f"{name}.dense", x.ravel())

    def decoded(self, name: str, z: np.ndarray) -> np.ndarray:
        """Inputs of a decoder (D,) -> normalised offsets from the mean face, (3V,)."""
        width = self.config.channels[-1]
        x = np.maximum(self.dense(f"{name}.dense", z), 0).reshape(-1, width)
        for step, level in enumerate(reversed(range(len(self._products)))):
            corners = self.tensors[f"meshes.{level}.corners"]
            x = (x[corners] * self.tensors[f"meshes.{level}.weights"][:, :, None]).sum(axis=1)
            x = self._convolved(f"{name}.convolutions.{step}", self._products[level], x)
        x = chebyshev(self._products[0], x, self.tensors[f"{name}.output.weight"])
        return (x * self.tensors["deviation"]).ravel()

    def dense(self, name: str, values: np.ndarray) -> np.ndarray:
        """One dense layer: (C_in,) -> (C_out,)."""
        found: np.ndarray = self.tensors[f"{name}.weight"] @ values + self.tensors[f"{name}.bias"]
        return found

    def latent_covariance(self, part: str) -> None:
        """None: the weights do not tell it."""

    def _convolved(self, name: str, product: Product, x: np.ndarray) -> np.ndarray:
        found = chebyshev(product, x, self.tensors[f"{name}.weight"])
        return np.maximum(found + self.tensors[f"{name}.bias"], 0)

    @cached_property
    def _products(self) -> list[Product]:
        sizes = (self.config.vertices, *self.config.levels)
        return [
            laplacian_product(self.tensors[f"meshes.{level}.edges"], sizes[level])
            for level in range(len(self.config.levels))
        ]


@dataclass(frozen=True, eq=False)
class ConvMeshForward(MeshForward):
    """CoMA: a latent, and the face that its decoder makes of it."""

    config: ConvMeshConfig

    def encode(self, face: np.ndarray) -> LatentMeans:
        """Latents of a normalised face (V, 3); one of them is empty."""
        z = self.encoded("encoder", self.standardised(face))
        if self.config.latent_relu:
            z = np.maximum(z, 0)
        return LatentMeans(z[: self.config.identity], z[: self.config.expression])

    def offsets(self, identity: np.ndarray, expression: np.ndarray, part: str) -> np.ndarray:
        """The normalised offsets of X_id or X_exp, (3V,); zero for the half that there is not."""
        own = "identity" if self.config.identity else "expression"
        if part not in ("full", own):
            return np.zeros(3 * self.config.vertices, np.float32)
        return self.decoded("decoder", identity if self.config.identity else expression)


@dataclass(frozen=True, eq=False)
class KacemForward(MeshForward):
    """Latents of neutrals, and what the decoder makes of them."""

    config: KacemConfig

    def encode(self, face: np.ndarray) -> LatentMeans:
        """Latents of the neutral of a normalised face (V, 3), and an empty one."""
        z = self.encoded("encoder", self.standardised(face))
        hidden = np.maximum(self.dense("generator.0", z), 0)
        hidden = np.maximum(self.dense("generator.1", hidden), 0)
        return LatentMeans(z + self.dense("generator.2", hidden), z[:0])

    def offsets(self, identity: np.ndarray, expression: np.ndarray, part: str) -> np.ndarray:
        """The normalised offsets of X_id, (3V,); zero without it."""
        if part == "expression":
            return np.zeros(3 * self.config.vertices, np.float32)
        return self.decoded("decoder", identity)


@dataclass(frozen=True, eq=False)
class DiMeshForward(MeshForward):
    """Means of both latents; a decoder of neutrals, and one of faces from both latents."""

    config: DiMeshConfig

    def encode(self, face: np.ndarray) -> LatentMeans:
        """Latent means of a normalised face (V, 3)."""
        x = self.standardised(face)
        return LatentMeans(
            self.encoded("identity_encoder", x)[: self.config.identity],
            self.encoded("expression_encoder", x)[: self.config.expression],
        )

    def offsets(self, identity: np.ndarray, expression: np.ndarray, part: str) -> np.ndarray:
        """Normalised offsets (3V,) of X_id, of X_exp, which depends on both latents, or of both."""
        found = np.zeros(3 * self.config.vertices, np.float32)
        if part != "identity":
            found += self.decoded("decoder", np.concatenate([identity, expression]))
        if part == "expression":
            found -= self.decoded("identity_decoder", identity)
        if part == "identity":
            found += self.decoded("identity_decoder", identity)
        return found
