"""Latent directions, against decoded random latents."""

import numpy as np
import pytest

from facedis_core.model.config import LinearConfig
from facedis_core.model.latent_directions import leading_directions
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model


@pytest.fixture(scope="module")
def linear(model) -> Model:
    """A model of principal components with random weights, on the small model's faces."""
    config = LinearConfig(model.config.vertices, identity=5, expression=3, components=12)
    rng = np.random.default_rng(4)
    weights = {
        name: rng.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in config.weight_shapes().items()
    }
    basis, _ = np.linalg.qr(rng.normal(size=(3 * config.vertices, 12)))
    weights["basis"] = np.ascontiguousarray(basis.T, np.float32)
    weights["deviation"] = np.linspace(2, 0.2, 12, dtype=np.float32)
    return Model(
        config,
        weights,
        model.mean_face,
        model.origin,
        model.scale,
        model.preparation,
        model.reach_mm,
    )


def decoded(model, part, z):
    """Offsets (N, 3V) mm in double precision of latents of one part."""
    other = "expression" if part == "identity" else "identity"
    zeros = np.zeros((len(z), getattr(model.config, other)), np.float32)
    z = z.astype(np.float32)
    pair = (z, zeros) if part == "identity" else (zeros, z)
    return model.decode_vectors(*pair, part, offsets=True).reshape(len(z), -1).astype(np.float64)


@pytest.mark.parametrize("part", ["identity", "expression"])
def test_of_a_linear_model_they_are_the_principal_components_of_its_faces(linear, part):
    """Latents as the encoder makes them of principal components c ~ N(0, 1): W c + b."""
    found = leading_directions(linear, part)
    weights = linear.weights[f"encoder.{part}_mean.weight"]
    drawn = np.random.default_rng(0).normal(size=(30_000, 12)) @ weights.T
    faces = decoded(linear, part, drawn)
    size = getattr(linear.config, part)
    variance, components = np.linalg.eigh(np.cov(faces.T))
    variance, components = variance[::-1][:size], components[:, ::-1][:, :size]
    np.testing.assert_allclose(found.mm, np.sqrt(variance / linear.config.vertices), rtol=0.02)
    moved = decoded(linear, part, found.steps) - decoded(linear, part, np.zeros_like(found.steps))
    alike = np.abs(np.einsum("kn,nk->k", moved, components)) / np.linalg.norm(moved, axis=1)
    assert alike.min() > 0.98


@pytest.mark.parametrize(
    "name", [pytest.param("ict-linear", marks=pytest.mark.slow), "ict-pointnet"]
)
def test_of_bundled_models_they_move_the_face_by_what_they_say(name):
    model = load_model(name)
    for part in ("identity", "expression"):
        found = leading_directions(model, part)
        assert found.steps.shape == (getattr(model.config, part),) * 2
        assert (np.diff(found.mm) <= 1e-9).all()
        leading = found.steps[:8]
        rest = decoded(model, part, np.zeros_like(leading[:1]))
        ahead, back = (decoded(model, part, z) - rest for z in (leading, -leading))
        ahead, back = (
            moved.reshape(8, -1, 3)[:, found.vertices].reshape(8, -1) for moved in (ahead, back)
        )
        distances = [np.sqrt(np.square(z).sum(1) / len(found.vertices)) for z in (ahead, back)]
        np.testing.assert_allclose(np.mean(distances, axis=0), found.mm[:8], rtol=1e-4)
        moved = ahead - back
        assert (moved[np.arange(8), np.abs(moved).argmax(1)] > 0).all()


def test_faces_tell_a_model_without_components_how_its_latents_vary(model):
    """Where the second latent alone varies, it leads, whatever the others would move."""
    latents = np.random.default_rng(0).normal(0, [0.01, 30, 0.01], (5000, 3))
    found = leading_directions(model, "identity", latents)
    assert np.abs(found.steps[0]).argmax() == 1
    assert abs(found.steps[0, 1]) == pytest.approx(30, rel=0.1)


@pytest.mark.parametrize("latents", [None, np.ones((1, 3)), np.empty((0, 3))])
def test_without_faces_latents_are_standard_normal(model, latents):
    found = leading_directions(model, "identity", latents)
    np.testing.assert_allclose(found.steps @ found.steps.T, np.eye(3), atol=1e-3)


def test_the_same_model_has_the_same_directions(model):
    first, second = (leading_directions(model, "expression") for _ in range(2))
    assert first.steps.tobytes() == second.steps.tobytes()
