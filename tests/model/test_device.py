"""Models that compute by torch instead of NumPy, and when `auto` takes a GPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Run
from raising import raises
from synthetic import random_model

from facedis_core.model import device as model_device
from facedis_core.model.device import on_device

MODELS = {
    "pointnet": random_model(identity=5, expression=4, channels=(8, 8, 16)),
    "linear": random_model(identity=5, expression=4, components=30),
}
DEVICES = ["cpu:0", "cuda"] if torch.cuda.is_available() else ["cpu:0"]  # of torch
ENOUGH = model_device.LEAST_VERTICES // 36  # faces


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
class TestTorch:
    def test_latents_and_every_vertex_are_those_of_numpy(self, model, device: str) -> None:
        faces = model.mean_face + np.random.default_rng(0).normal(0, 3, (3, 36, 3))
        faces = faces.astype(np.float32)
        other = replace(model, device=device)
        other._torch_forward.batch = 2  # the last batch has one face
        z, found = (
            model.encode_prepared(faces, ["a", "b", "c"]),
            other.encode_prepared(faces, ["a", "b", "c"]),
        )
        assert (found.names, found.models) == (z.names, z.models)
        np.testing.assert_allclose(found.identity, z.identity, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.expression, z.expression, rtol=1e-4, atol=1e-4)
        for part in ("full", "identity", "expression"):
            ours = other.decode_vectors(z.identity, z.expression, part)
            assert ours.dtype == np.float32
            expected = model.decode_vectors(z.identity, z.expression, part)
            assert np.linalg.norm(ours - expected, axis=-1).max() < 1e-3  # mm
        assert other.encode_prepared(faces[:0]).identity.shape == (0, 5)

    def test_latents_beyond_any_face_are_refused(self, model, device: str) -> None:
        z = np.full((1, 5), 3e38, np.float32), np.full((1, 4), -3e38, np.float32)
        with raises("not-finite", "too large"):
            replace(model, device=device).decode_vectors(*z)


@pytest.mark.parametrize(
    ("gpu", "faces", "jobs", "expected"),
    [
        (True, ENOUGH + 1, 1, "cuda"),
        (True, ENOUGH // 2, 1, "cpu"),
        (True, None, 1, "cpu"),
        (True, ENOUGH + 1, 2, "cpu"),
        (False, ENOUGH + 1, 1, "cpu"),
    ],
)
def test_auto_takes_a_gpu_for_many_vertices(monkeypatch, gpu, faces, jobs, expected) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert on_device(MODELS["linear"], "auto", faces, jobs).device == expected


def test_a_gpu_that_is_asked_for_must_be_there(monkeypatch) -> None:
    model = MODELS["linear"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert on_device(model, "cuda", None).device == "cuda"
    with raises("option-conflict", "--jobs"):
        on_device(model, "cuda", 1, jobs=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with raises("device", "--device cpu"):
        on_device(model, "cuda", 1)
    monkeypatch.setattr(model_device, "find_spec", lambda name: None)
    assert on_device(model, "auto", ENOUGH + 1) is model
    with raises("extra-missing"):
        on_device(model, "cuda", 1)


def test_commands_need_no_torch_until_a_gpu_is_asked_for(shell: Run, faces, without_torch) -> None:
    line = "fd-encode --device auto faces | tee z.npy | fd-decode --device auto --npy -o x.npy"
    assert shell(line, env=without_torch).code == 0
    assert shell("fd-encode --device cuda faces", env=without_torch).code == 2
    assert shell("fd-decode --device cuda z.npy > faces.ply", env=without_torch).code == 2
