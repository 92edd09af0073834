"""Encoding and decoding on NumPy: against torch in double precision; what is refused."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import face
from raising import raises
from synthetic import random_model

from facedis_core.nn.inference import network_from_model

FACES = np.stack([face(seed) for seed in range(3)])


def by_torch(model, faces):
    """Latent means, and offsets of both parts in mm: the network of the training, in float64."""
    network = network_from_model(model).double().eval()
    with torch.no_grad():
        posterior = network.encode(network.normalise(torch.tensor(faces, dtype=torch.float64)))
        latents = {"identity": posterior.identity.mean, "expression": posterior.expression.mean}
        offsets = {
            "identity": network.identity_offsets(latents["identity"]) * network.scale,
            "expression": network.expression_offsets(latents["expression"], latents["identity"])
            * network.scale,
        }
    return (*({k: v.numpy() for k, v in found.items()} for found in (latents, offsets)),)


MODELS = {
    "all vertices": random_model(identity=5, expression=4, channels=(8, 8, 16)),
    "points": random_model(identity=5, expression=4, channels=(8, 16), points=11),
    "offsets": random_model(identity=5, expression=4, channels=(8, 16), encoder_offsets=True),
    "offsets of points": random_model(channels=(8, 16), points=11, encoder_offsets=True),
    "one layer": random_model(identity=1, expression=1, channels=(8,)),
    "the paper's channels": random_model(identity=64, expression=64),
    "half decoders": random_model(identity=64, expression=64, half_decoders=True),
    "several blocks of vertices": random_model(size=30, channels=(8, 16)),
    "linear": random_model(identity=5, expression=4, components=30),
    "bilinear": random_model(identity=5, expression=4, components=30, bilinear=3),
    "half bilinear": random_model(size=15, components=100, half_basis=True, bilinear=16),
    "one component": random_model(identity=2, expression=1, components=1),
    "half basis": random_model(size=15, components=100, half_basis=True),
}


def some_faces(model):
    """(3, V, 3) mm."""
    offset = np.random.default_rng(1).normal(0, 3, (3, *model.mean_face.shape))
    return (model.mean_face + offset).astype(np.float32)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
class TestForward:
    def test_numpy_and_torch_agree_on_every_vertex(self, model):
        faces = some_faces(model)
        latents, offsets = by_torch(model, faces)
        found = model.encode_prepared(faces)
        for part, expected in latents.items():
            assert getattr(found, part).dtype == np.float32
            np.testing.assert_allclose(getattr(found, part), expected, rtol=1e-4, atol=1e-4)
        full = offsets["identity"] + offsets["expression"]
        assert np.linalg.norm(full, axis=-1).mean() > 0.1  # mm: there is something to agree on
        for part, expected in {"full": full, **offsets}.items():
            vertices = model.decode_vectors(found.identity, found.expression, part)
            assert vertices.dtype == np.float32
            apart = np.linalg.norm(vertices - model.mean_face - expected, axis=-1)
            assert apart.max() < 1e-3

    @pytest.mark.parametrize("part", ["full", "identity", "expression"])
    def test_offsets_leave_the_mean_face_out(self, model, part):
        z = model.encode_prepared(some_faces(model))
        offsets = model.decode_vectors(z.identity, z.expression, part, offsets=True)
        whole = model.decode_vectors(z.identity, z.expression, part)
        np.testing.assert_array_equal(whole, offsets + model.mean_face)


class TestEncode:
    def test_names_and_model_go_with_the_latents(self, model):
        latents = model.encode_prepared(FACES, ["a", "b", "c"])
        assert latents.names == ["a", "b", "c"]
        assert latents.models == [model.id] * 3
        assert model.encode_prepared(FACES).names == ["0", "1", "2"]

    def test_a_face_does_not_depend_on_its_neighbours(self, model):
        alone = model.encode_prepared(FACES[1:2])
        np.testing.assert_allclose(
            alone.identity[0], model.encode_prepared(FACES).identity[1], rtol=1e-5
        )

    def test_points_are_all_it_looks_at(self):
        model = MODELS["points"]
        changed = FACES.copy()
        points = model.weights["encoder.points"]
        changed[:, np.setdiff1d(np.arange(36), points)] += 50
        np.testing.assert_array_equal(
            model.encode_prepared(changed).identity, model.encode_prepared(FACES).identity
        )
        changed[:, points] += 50
        assert (
            model.encode_prepared(changed).identity != model.encode_prepared(FACES).identity
        ).any()

    def test_no_face_has_no_latents(self, model):
        assert model.encode_prepared(FACES[:0]).identity.shape == (0, 3)

    @pytest.mark.parametrize("shape", [(36, 3), (1, 35, 3), (1, 36, 2), (1, 36), (1, 1, 36, 3)])
    def test_other_shapes_are_refused(self, model, shape):
        with raises("array-shape", r"expected \(B, 36, 3\)"):
            model.encode_prepared(np.zeros(shape, np.float32))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_refused(self, model, value):
        broken = FACES.copy()
        broken[2, 3, 1] = value
        with raises("not-finite"):
            model.encode_prepared(broken)


class TestDecode:
    @pytest.mark.parametrize(
        ("identity", "expression", "error"),
        [
            (np.zeros((1, 2)), np.zeros((1, 2)), r"latent-size: identity .*\(1, 2\).*\(B, 3\)"),
            (np.zeros((1, 3)), np.zeros((1, 3)), r"latent-size: expression .*\(1, 3\)"),
            (np.zeros(3), np.zeros(2), "latent-size: identity"),
            (np.zeros((2, 3)), np.zeros((1, 2)), "array-shape: 2 identities and 1 expressions"),
            (np.full((1, 3), np.nan), np.zeros((1, 2)), "not-finite: identity"),
            (np.zeros((1, 3)), np.full((1, 2), np.inf), "not-finite: expression"),
        ],
    )
    def test_other_latents_are_refused(self, model, identity, expression, error):
        with raises(error):
            model.decode_vectors(identity, expression)

    @pytest.mark.parametrize("kind", ["linear", "all vertices"])
    def test_latents_beyond_any_face_are_refused_without_a_warning(self, kind):
        model = MODELS[kind]
        z = np.full((1, 5), 3e38, np.float32), np.full((1, 4), -3e38, np.float32)
        with warnings.catch_warnings(), raises("not-finite", "too large"):
            warnings.simplefilter("error")
            model.decode_vectors(*z)

    def test_other_parts_are_refused(self, model):
        with raises("option-value", "full, identity, expression"):
            model.decode_vectors(np.zeros((1, 3)), np.zeros((1, 2)), "nose")

    def test_zero_offsets_are_the_mean_face(self, model):
        z = np.zeros((2, 3)), np.zeros((2, 2))
        silent = {
            name: np.zeros_like(array) if "decoder" in name else array
            for name, array in model.weights.items()
        }
        found = replace(model, weights=silent).decode_vectors(*z)
        np.testing.assert_array_equal(found, np.stack([model.mean_face] * 2))


def test_a_copy_with_other_weights_computes_with_them(model):
    model.encode_prepared(FACES)
    name = "encoder.layers.0.linear.weight"
    other = replace(model, weights=model.weights | {name: -model.weights[name]})
    expected, _ = by_torch(other, FACES)
    np.testing.assert_allclose(
        other.encode_prepared(FACES).identity, expected["identity"], rtol=1e-4
    )


def test_distance_to_mean_is_the_mean_over_vertices(model):
    found = model.distance_to_mean(FACES)
    expected = [
        np.mean([np.linalg.norm(v - m) for v, m in zip(f, model.mean_face, strict=True)])
        for f in FACES
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    shifted = model.mean_face + np.float32([3, 0, 4])
    np.testing.assert_allclose(model.distance_to_mean(shifted[None]), [5], rtol=1e-6)
    assert model.distance_to_mean(np.full((1, 36, 3), 1e30, np.float32))[0] > 1e30
