"""Models as torch modules, against their NumPy forward pass."""

import numpy as np
import pytest
import torch
from raising import raises
from synthetic import random_model

from facedis_core.errors import ErrorCode

MODELS = {
    "pointnet": random_model(identity=5, expression=4, channels=(8, 8, 16)),
    "points": random_model(identity=5, expression=4, channels=(8, 16), points=11),
    "linear": random_model(identity=5, expression=4, components=30),
}
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_torch_module_agrees_with_numpy_on_every_vertex(model, device: str) -> None:
    faces = model.mean_face + np.random.default_rng(0).normal(0, 3, (3, *model.mean_face.shape))
    faces = faces.astype(np.float32)
    with torch.no_grad():
        found = model.to_torch(device)(torch.tensor(faces, device=device))
    z = model.encode_prepared(faces)
    for part in ("identity", "expression"):
        latents = getattr(found.posteriors, part).mean.cpu().numpy()
        np.testing.assert_allclose(latents, getattr(z, part), rtol=1e-4, atol=1e-4)
    for ours, part, offsets in (
        (found.reconstruction, "full", False),
        (found.identity, "identity", False),
        (found.expression, "expression", True),
    ):
        expected = model.decode_vectors(z.identity, z.expression, part, offsets=offsets)
        apart = np.linalg.norm(ours.cpu().numpy() - expected, axis=-1)
        assert apart.max() < 1e-3  # mm


def test_a_torch_module_is_differentiable() -> None:
    network = MODELS["pointnet"].to_torch()
    assert not network.training
    face = torch.tensor(MODELS["pointnet"].mean_face[None], requires_grad=True)
    network(face).reconstruction.square().mean().backward()
    assert face.grad is not None and face.grad.abs().max() > 0


def test_what_is_no_batch_of_faces_and_no_device_is_told() -> None:
    model = MODELS["linear"]
    network, face = model.to_torch(), torch.tensor(model.mean_face)
    for wrong in (face, face[None, :5], face[None].double(), face[None, None]):
        with raises(ErrorCode.ARRAY_SHAPE):
            network(wrong)
    with raises(ErrorCode.ARGUMENT_TYPE):
        network(model.mean_face[None])
    for device in ("gpu", "cuda:99"):
        with raises(ErrorCode.DEVICE):
            model.to_torch(device)
