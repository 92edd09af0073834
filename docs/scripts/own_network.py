"""A network of another package in one file; docs/python.md says how facedis finds its last line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from facedis_core.model.config import ModelConfig, Shapes
from facedis_core.model.networks import Network
from facedis_core.model.numpy_forward import LatentMeans
from facedis_core.nn import AutoEncoder, Gaussian, InitialData, Posterior


@dataclass(frozen=True)
class OneMatrixConfig(ModelConfig):
    """Both latents are maps of the face by one matrix, and back by its transpose."""

    matrix: int = 1

    def weight_shapes(self) -> Shapes:
        size = 3 * self.vertices
        return {name: (getattr(self, name), size) for name in ("identity", "expression")}

    def stored_type(self, name: str) -> str:
        return "float32"

    @classmethod
    def from_recipe(cls, vertices: int, recipe: Mapping[str, Any]) -> Self:
        return cls(vertices, recipe["identity"], recipe["expression"])


class OneMatrixForward:
    """Its forward pass in NumPy, face by face."""

    def __init__(
        self, config: OneMatrixConfig, tensors: Mapping[str, np.ndarray], mean_face: np.ndarray
    ) -> None:
        self.tensors, self.mean_face = tensors, mean_face

    def encode(self, face: np.ndarray) -> LatentMeans:
        offset = (face - self.mean_face).ravel()
        return LatentMeans(self.tensors["identity"] @ offset, self.tensors["expression"] @ offset)

    def offsets(self, identity: np.ndarray, expression: np.ndarray, part: str) -> np.ndarray:
        face = np.zeros(self.mean_face.size, np.float32)
        for name, z in (("identity", identity), ("expression", expression)):
            if part in ("full", name):
                face += z @ self.tensors[name]
        return face

    def latent_covariance(self, part: str) -> None:
        return None


class OneMatrixAutoEncoder(AutoEncoder):
    """Its torch module, with the weights of the configuration by name."""

    def __init__(self, config: Any, mean_face: Tensor, origin: Tensor, scale: float) -> None:
        super().__init__(config, mean_face, origin, scale)
        for name, shape in config.weight_shapes().items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape) * 0.1))

    @classmethod
    def fresh(
        cls, config: Any, mean_face: Tensor, origin: Tensor, scale: float, data: InitialData
    ) -> Self:
        return cls(config, mean_face, origin, scale)

    def encode(self, faces: Tensor) -> Posterior:
        offsets = (faces - self.normalised_mean_face).flatten(1)
        means = [offsets @ self.get_parameter(name).T for name in ("identity", "expression")]
        return Posterior(*(Gaussian(mean, torch.zeros_like(mean)) for mean in means))

    def identity_offsets(self, z: Tensor) -> Tensor:
        return (z @ self.get_parameter("identity")).view(len(z), -1, 3)

    def expression_offsets(self, z: Tensor, identity: Tensor) -> Tensor:
        return (z @ self.get_parameter("expression")).view(len(z), -1, 3)


ONE_MATRIX = Network("one-matrix", OneMatrixConfig, OneMatrixForward, OneMatrixAutoEncoder)
