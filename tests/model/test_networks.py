"""A network of somebody else's: one row in the table, and everything else knows it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import synthetic
import torch
from torch import Tensor, nn

from facedis_core.model import networks
from facedis_core.model.config import ModelConfig, PointNetConfig, Shapes
from facedis_core.model.model import load_model, write_model
from facedis_core.model.networks import Network, network_names, network_of, register_network
from facedis_core.model.numpy_forward import LatentMeans
from facedis_core.nn.autoencoder import AutoEncoder, Gaussian, InitialData, Posterior
from facedis_core.nn.inference import network_from_model
from facedis_core.train.checkpoint import export_model
from facedis_core.train.recipe import load_recipe
from facedis_core.train.setup import build_auto_encoder, training_frame

FACES = synthetic.face_set()


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
    def __init__(
        self, config: OneMatrixConfig, tensors: Mapping[str, np.ndarray], mean_face: np.ndarray
    ) -> None:
        self.tensors, self.mean_face = tensors, mean_face

    def encode(self, face: np.ndarray) -> LatentMeans:
        offset = (face - self.mean_face).ravel()
        return LatentMeans(self.tensors["identity"] @ offset, self.tensors["expression"] @ offset)

    def offsets(self, identity: np.ndarray | None, expression: np.ndarray | None) -> np.ndarray:
        face = np.zeros(self.mean_face.size, np.float32)
        for name, z in (("identity", identity), ("expression", expression)):
            if z is not None:
                face += z @ self.tensors[name]
        return face

    def latent_covariance(self, part: str) -> None:
        return None


class OneMatrixAutoEncoder(AutoEncoder):
    def __init__(self, config: Any, mean_face: Tensor, origin: Tensor, scale: float) -> None:
        super().__init__(config, mean_face, origin, scale)
        for name, shape in config.weight_shapes().items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape) * 0.1))

    @classmethod
    def fresh(cls, config: Any, mean_face: Tensor, origin: Tensor, scale: float, data: InitialData):
        return cls(config, mean_face, origin, scale)

    def encode(self, faces: Tensor) -> Posterior:
        offsets = (faces - self.normalised_mean_face).flatten(1)
        means = [offsets @ self.get_parameter(name).T for name in ("identity", "expression")]
        return Posterior(*(Gaussian(mean, torch.zeros_like(mean)) for mean in means))

    def identity_offsets(self, z: Tensor) -> Tensor:
        return (z @ self.get_parameter("identity")).unflatten(1, (-1, 3))

    def expression_offsets(self, z: Tensor) -> Tensor:
        return (z @ self.get_parameter("expression")).unflatten(1, (-1, 3))


ONE_MATRIX = Network("one-matrix", OneMatrixConfig, OneMatrixForward, OneMatrixAutoEncoder)


@pytest.fixture(autouse=True)
def _table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(networks, "_NETWORKS", dict(networks._NETWORKS))
    yield


def test_a_third_network_is_trained_written_and_read_like_the_others(tmp_path: Path) -> None:
    register_network(ONE_MATRIX)
    recipe = load_recipe("linear", neutrals=False, changes=["network=one-matrix", "identity=5"])
    frame = training_frame(FACES, recipe)
    network = build_auto_encoder(recipe, frame, FACES, seed=0)
    assert isinstance(network, OneMatrixAutoEncoder)
    kept = {"reach_mm": frame.reach_mm, "recipe": {}, "metrics": {}, "history": []}
    path = tmp_path / "m.safetensors"
    with path.open("w+b") as stream:
        write_model(stream, export_model(network, FACES.preparation, **kept))
    model = load_model(path)
    assert model.config == OneMatrixConfig(36, 5, 64)
    again = network_from_model(model)
    assert isinstance(again, OneMatrixAutoEncoder)
    faces = torch.tensor(FACES.vertices[:4])
    latents = model.encode_prepared(FACES.vertices[:4])
    with torch.no_grad():
        expected = again.encode(again.normalise(faces)).identity.mean
        offsets = again.identity_offsets(expected) * again.scale
    np.testing.assert_allclose(latents.identity, expected.numpy(), atol=1e-5)
    found = model.decode_vectors(latents.identity, latents.expression, "identity", offsets=True)
    np.testing.assert_allclose(found, offsets.numpy(), atol=1e-3)


def test_names_and_fields_are_taken_once() -> None:
    register_network(ONE_MATRIX)
    assert network_names() == ["pointnet", "linear", "one-matrix"]
    assert network_of(OneMatrixConfig(36, 5, 64)) is ONE_MATRIX
    for other in (ONE_MATRIX, replace(ONE_MATRIX, name="other")):
        with pytest.raises(ValueError, match="one-matrix"):
            register_network(other)
    with pytest.raises(ValueError, match="pointnet"):
        register_network(replace(ONE_MATRIX, name="other", config=PointNetConfig))
