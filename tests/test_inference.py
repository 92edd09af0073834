"""The model on NumPy: against a loop over vertices, against torch, and against broken files."""

import io
import warnings
from dataclasses import asdict, replace

import numpy as np
import pytest
from conftest import face
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import grid_mesh, one_byte_changed

from facedis_core.data.history import HistoryStep
from facedis_core.data.preparation import Preparation
from facedis_core.errors import InputError, UsageError
from facedis_core.io.safetensors_file import content_id, read_safetensors, write_safetensors
from facedis_core.mesh.mesh import topology_id
from facedis_core.model.config import PointNetConfig, RegisteredConfig
from facedis_core.model.model import Model, load_model, write_model

FACES = np.stack([face(seed) for seed in range(3)])


def make_model(size=6, scale=165.0, seed=0, **sizes):
    """A model with random weights, as wild as those of a trained one, on a grid of size^2."""
    rng = np.random.default_rng(seed)
    mean_face, triangles = grid_mesh(size)
    options = {"identity": 64, "expression": 64} | sizes
    kind = RegisteredConfig if "components" in options else PointNetConfig
    config = kind(len(mean_face), **options)
    weights = {}
    for name, shape in config.weight_shapes().items():
        fan_in = shape[-1] if len(shape) == 2 else 16
        weights[name] = rng.normal(0, 1 / np.sqrt(fan_in), shape).astype(np.float32)
        if name.endswith("running_var"):
            weights[name] = rng.uniform(0.05, 2, shape).astype(np.float32)
        elif name.endswith("norm.weight"):  # a gain may be negative
            weights[name] += np.float32(1)
        elif name == "deviation":
            weights[name] = rng.uniform(0.01, 0.1, shape).astype(np.float32)
        elif "decoder.output" in name:
            weights[name] *= np.float32(0.02)
        elif name == "encoder.points":
            weights[name] = np.sort(rng.permutation(len(mean_face))[: shape[0]]).astype(np.int32)
    return Model(
        config=config,
        weights=weights,
        mean_face=mean_face,
        origin=np.array([1.5, -2.5, 3.5], np.float32),
        scale=scale,
        preparation=Preparation(
            triangles,
            np.arange(len(mean_face), dtype=np.int32),
            len(mean_face),
            topology_id(triangles),
            1.0,
        ),
        reach_mm=5.0,
        recipe={"batch": 8},
        metrics={"e_rec": {"mean": 1.5}},
        history=[HistoryStep("fd-train")],
    )


def bytes_of(model):
    stream = io.BytesIO()
    write_model(stream, model)
    return stream.getvalue()


@pytest.fixture
def load(tmp_path):
    def load_bytes(data):
        path = tmp_path / "model.safetensors"
        path.write_bytes(data)
        return load_model(path)

    return load_bytes


# The slow truth: float64, one vertex after the other, batch norm where it is written.


def slow_features(model, vertices):
    if isinstance(model.config, RegisteredConfig):
        return slow_components(model, vertices)
    w = {name: np.asarray(array, np.float64) for name, array in model.weights.items()}
    if model.config.points is not None:
        vertices = [vertices[point] for point in model.weights["encoder.points"]]
    best = np.full(model.config.channels[-1], -np.inf)
    for vertex in vertices:
        x = (np.asarray(vertex, np.float64) - model.origin) / model.scale
        for index in range(len(model.config.channels)):
            layer = f"encoder.layers.{index}"
            x = w[f"{layer}.linear.weight"] @ x + w[f"{layer}.linear.bias"]
            x = (x - w[f"{layer}.norm.running_mean"]) / np.sqrt(
                w[f"{layer}.norm.running_var"] + 1e-5
            )
            x = np.maximum(x * w[f"{layer}.norm.weight"] + w[f"{layer}.norm.bias"], 0)
        best = np.maximum(best, x)
    return best


def slow_components(model, vertices):
    """How far the face goes along each principal component, in its standard deviations."""
    offset = (np.asarray(vertices, np.float64) - model.mean_face) / model.scale
    w = model.weights
    rows = zip(w["basis"].astype(np.float64), w["deviation"], strict=True)
    return np.array([row @ offset.ravel() / deviation for row, deviation in rows])


def slow_head(model, features, name):
    weight = model.weights[f"encoder.{name}.weight"].astype(np.float64)
    return weight @ features + model.weights[f"encoder.{name}.bias"]


def slow_offsets(model, name, z):
    """X_id or X_exp of one latent, in mm: (V, 3)."""
    w = {key: np.asarray(array, np.float64) for key, array in model.weights.items()}
    if isinstance(model.config, RegisteredConfig):
        steps = w[f"{name}.weight"] @ z + w[f"{name}.bias"]
        face = sum(s * d * row for s, d, row in zip(steps, w["deviation"], w["basis"], strict=True))
        return model.scale * face.reshape(-1, 3)
    hidden = np.maximum(w[f"{name}.hidden.weight"] @ z + w[f"{name}.hidden.bias"], 0)
    output = w[f"{name}.output.weight"] @ hidden + w[f"{name}.output.bias"]
    return model.scale * np.array([output[3 * v : 3 * v + 3] for v in range(model.config.vertices)])


MODELS = {
    "all vertices": make_model(identity=5, expression=4, channels=(8, 8, 16)),
    "points": make_model(identity=5, expression=4, channels=(8, 16), points=11),
    "one layer": make_model(identity=1, expression=1, channels=(8,)),
    "the paper's channels": make_model(identity=64, expression=64),
    "registered": make_model(identity=5, expression=4, components=30),
    "one component": make_model(identity=2, expression=1, components=1),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
class TestForward:
    def test_encoding_is_a_loop_over_vertices(self, model):
        latents = model.encode(FACES)
        for row, vertices in enumerate(FACES):
            features = slow_features(model, vertices)
            for part in ("identity", "expression"):
                expected = slow_head(model, features, f"{part}_mean")
                found = getattr(latents, part)[row]
                assert found.dtype == np.float32
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    def test_decoding_is_a_product_for_every_vertex(self, model):
        rng = np.random.default_rng(0)
        identity = rng.normal(size=(2, model.config.identity)).astype(np.float32)
        expression = rng.normal(size=(2, model.config.expression)).astype(np.float32)
        full = model.decode(identity, expression)
        assert full.dtype == np.float32
        for row in range(2):
            parts = slow_offsets(model, "identity_decoder", identity[row])
            parts = parts + slow_offsets(model, "expression_decoder", expression[row])
            np.testing.assert_allclose(full[row], model.mean_face + parts, rtol=0, atol=1e-3)

    def test_there_and_back_agrees_to_a_micrometre(self, model):
        latents = model.encode(FACES)
        found = model.decode(latents.identity, latents.expression)
        for row, vertices in enumerate(FACES):
            features = slow_features(model, vertices)
            expected = model.mean_face.astype(np.float64)
            for part in ("identity", "expression"):
                z = slow_head(model, features, f"{part}_mean")
                expected = expected + slow_offsets(model, f"{part}_decoder", z)
            assert np.linalg.norm(found[row] - expected, axis=1).max() < 1e-3

    def test_parts_add_up(self, model):
        z = model.encode(FACES)
        full, identity, expression = (
            model.decode(z.identity, z.expression, part)
            for part in ("full", "identity", "expression")
        )
        np.testing.assert_allclose(full, identity + expression - model.mean_face, atol=1e-4)
        assert np.abs(identity - full).max() > 0.1
        assert np.abs(expression - full).max() > 0.1

    @pytest.mark.parametrize("part", ["full", "identity", "expression"])
    def test_offsets_leave_the_mean_face_out(self, model, part):
        z = model.encode(FACES)
        offsets = model.decode(z.identity, z.expression, part, offsets=True)
        whole = model.decode(z.identity, z.expression, part)
        np.testing.assert_array_equal(whole, offsets + model.mean_face)


class TestEncode:
    def test_names_and_model_go_with_the_latents(self, model):
        latents = model.encode(FACES, ["a", "b", "c"])
        assert latents.names == ["a", "b", "c"]
        assert latents.models == [model.id] * 3
        assert model.encode(FACES).names == ["0", "1", "2"]

    def test_a_face_does_not_depend_on_its_neighbours(self, model):
        alone = model.encode(FACES[1:2])
        np.testing.assert_allclose(alone.identity[0], model.encode(FACES).identity[1], rtol=1e-5)

    def test_many_vertices_are_pooled_block_by_block(self):
        model = make_model(size=30, identity=2, expression=2, channels=(8, 16))  # 900 vertices
        vertices = model.mean_face + np.random.default_rng(0).normal(size=(900, 3))
        expected = slow_head(model, slow_features(model, vertices), "identity_mean")
        np.testing.assert_allclose(model.encode(vertices[None]).identity[0], expected, atol=1e-4)

    def test_points_are_all_it_looks_at(self):
        model = MODELS["points"]
        changed = FACES.copy()
        points = model.weights["encoder.points"]
        changed[:, np.setdiff1d(np.arange(36), points)] += 50
        np.testing.assert_array_equal(model.encode(changed).identity, model.encode(FACES).identity)
        changed[:, points] += 50
        assert (model.encode(changed).identity != model.encode(FACES).identity).any()

    def test_no_face_has_no_latents(self, model):
        assert model.encode(FACES[:0]).identity.shape == (0, 3)

    @pytest.mark.parametrize("shape", [(36, 3), (1, 35, 3), (1, 36, 2), (1, 36), (1, 1, 36, 3)])
    def test_other_shapes_are_refused(self, model, shape):
        with pytest.raises(InputError, match=r"expected \(B, 36, 3\) for model .*fd-prep"):
            model.encode(np.zeros(shape, np.float32))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_refused(self, model, value):
        broken = FACES.copy()
        broken[2, 3, 1] = value
        with pytest.raises(InputError, match="not finite"):
            model.encode(broken)


class TestDecode:
    @pytest.mark.parametrize(
        ("identity", "expression", "message"),
        [
            (np.zeros((1, 2)), np.zeros((1, 2)), r"identity latents of shape \(1, 2\).*\(B, 3\)"),
            (np.zeros((1, 3)), np.zeros((1, 3)), r"expression latents of shape \(1, 3\)"),
            (np.zeros(3), np.zeros(2), "identity latents of shape"),
            (np.zeros((2, 3)), np.zeros((1, 2)), "2 identities and 1 expressions"),
            (np.full((1, 3), np.nan), np.zeros((1, 2)), "identity latents are not finite"),
            (np.zeros((1, 3)), np.full((1, 2), np.inf), "expression latents are not finite"),
        ],
    )
    def test_other_latents_are_refused(self, model, identity, expression, message):
        with pytest.raises(InputError, match=message):
            model.decode(identity, expression)

    @pytest.mark.parametrize("kind", ["registered", "all vertices"])
    def test_latents_beyond_any_face_are_refused_without_a_warning(self, kind):
        model = MODELS[kind]
        z = np.full((1, 5), 3e38, np.float32), np.full((1, 4), -3e38, np.float32)
        with warnings.catch_warnings(), pytest.raises(InputError, match="too large for a face"):
            warnings.simplefilter("error")
            model.decode(*z)

    def test_other_parts_are_refused(self, model):
        with pytest.raises(UsageError, match="expected one of full, identity, expression"):
            model.decode(np.zeros((1, 3)), np.zeros((1, 2)), "nose")

    def test_zero_offsets_are_the_mean_face(self, model):
        z = np.zeros((2, 3)), np.zeros((2, 2))
        silent = {
            name: np.zeros_like(array) if "decoder" in name else array
            for name, array in model.weights.items()
        }
        found = replace(model, weights=silent).decode(*z)
        np.testing.assert_array_equal(found, np.stack([model.mean_face] * 2))


def test_a_copy_with_other_weights_computes_with_them(model):
    model.encode(FACES)
    name = "encoder.layers.0.linear.weight"
    other = replace(model, weights=model.weights | {name: -model.weights[name]})
    expected = slow_head(other, slow_features(other, FACES[0]), "identity_mean")
    np.testing.assert_allclose(other.encode(FACES).identity[0], expected, rtol=1e-4, atol=1e-4)


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


class TestFiles:
    @pytest.mark.parametrize(
        "sizes",
        [{"channels": (8, 16)}, {"channels": (8, 16), "points": 11}, {"components": 20}],
        ids=str,
    )
    def test_what_is_written_is_read(self, load, sizes):
        model = make_model(identity=5, expression=4, **sizes)
        found = load(bytes_of(model))
        assert found.config == model.config
        assert found.weights.keys() == model.weights.keys()
        for name, array in model.weights.items():
            np.testing.assert_array_equal(found.weights[name], array)
        for name in ("mean_face", "origin", "triangles"):
            np.testing.assert_array_equal(getattr(found, name), getattr(model, name))
        for name in ("scale", "reach_mm", "recipe", "metrics", "history", "topology"):
            assert getattr(found, name) == getattr(model, name)
        np.testing.assert_array_equal(found.encode(FACES).identity, model.encode(FACES).identity)
        assert bytes_of(found) == bytes_of(model)

    def test_the_id_is_that_of_its_tensors_and_config(self, load):
        model = make_model(identity=5, expression=4, channels=(8, 16))
        stream = io.BytesIO()
        written = write_model(stream, model)
        found = load(stream.getvalue())
        tensors = {
            **model.weights,
            **model.preparation.tensors(),
            "mean_face": model.mean_face,
            "origin": model.origin,
            "scale": np.array([model.scale], np.float32),
        }
        assert found.id == written == content_id(tensors, asdict(model.config))
        assert found.encode(FACES).models == [written] * 3
        assert write_model(io.BytesIO(), replace(model, history=[], metrics={})) == written
        assert write_model(io.BytesIO(), replace(model, scale=166.0)) != written

    def test_half_decoders_halve_the_decoders_and_hardly_change_the_face(self, load):
        whole = make_model(size=15)
        half = replace(whole, config=replace(whole.config, half_decoders=True))
        data = bytes_of(half)
        decoders = 2 * 3 * 225 * whole.config.decoder_hidden
        assert len(bytes_of(whole)) - len(data) == pytest.approx(2 * decoders, rel=1e-2)
        found = load(data)
        assert found.weights["identity_decoder.output.weight"].dtype == np.float16
        assert found.weights["identity_decoder.output.bias"].dtype == np.float32
        z = np.random.default_rng(0).normal(size=(2, 1, 64)).astype(np.float32)
        faces = found.decode(*z)
        assert faces.dtype == np.float32
        np.testing.assert_allclose(faces, whole.decode(*z), rtol=0, atol=0.02)
        assert bytes_of(found) == data

    def test_a_half_basis_halves_the_file_and_hardly_changes_the_face(self, load):
        whole = make_model(size=15, components=100)
        whole.weights["basis"] /= 10  # rows of length 1 to 2, as orthonormal ones are
        half = replace(whole, config=replace(whole.config, half_basis=True))
        data = bytes_of(half)
        assert len(bytes_of(whole)) - len(data) == pytest.approx(2 * 100 * 3 * 225, rel=1e-2)
        found = load(data)
        assert found.weights["basis"].dtype == np.float16
        z = np.random.default_rng(0).normal(size=(2, 1, 64)).astype(np.float32)
        np.testing.assert_allclose(found.decode(*z), whole.decode(*z), rtol=0, atol=0.02)
        assert bytes_of(found) == data

    def test_a_face_set_is_none(self, tmp_path):
        with (tmp_path / "set.safetensors").open("w+b") as stream:
            write_safetensors(stream, "faceset", {}, {})
        with pytest.raises(InputError, match="is a face set, expected a model"):
            load_model(tmp_path / "set.safetensors")

    def test_a_missing_file_is_an_input_error(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            load_model(tmp_path / "nothing.safetensors")


def garbled(path, tensors=None, metadata=None, drop=()):
    container = read_safetensors(path)
    arrays = container.tensors | (tensors or {})
    values = container.metadata | (metadata or {})
    stream = io.BytesIO()
    write_safetensors(
        stream,
        "model",
        {name: array for name, array in arrays.items() if name not in drop},
        {key: value for key, value in values.items() if key not in drop},
    )
    return stream.getvalue()


CONFIG = asdict(PointNetConfig(36, 3, 2, (8, 16)))
BIAS = "encoder.identity_mean.bias"
VARIANCE = "encoder.layers.0.norm.running_var"
HALF = "expression_decoder.output.weight"


def f32(*values):
    return np.array(values, np.float32)


BAD_TENSORS = {
    "surplus": ({"surplus": f32(1)}, "holds the tensor 'surplus'"),
    "points of no config": ({"encoder.points": np.arange(3, dtype=np.int32)}, "holds .*points"),
    "wrong shape": ({BIAS: f32(1, 2)}, rf"'{BIAS}' has shape \(2,\) .* expected \(3,\)"),
    "wrong type": ({BIAS: np.zeros(3)}, "of float64, expected .* of float32"),
    "whole numbers": ({BIAS: np.zeros(3, np.int32)}, "of int32, expected .* of float32"),
    "half without being so": ({HALF: np.zeros((108, 256), np.float16)}, "of float16, expected"),
    "nan": ({BIAS: f32(1, np.nan, 2)}, f"'{BIAS}' is not finite"),
    "infinity": ({VARIANCE: f32(*[np.inf] * 8)}, "not finite"),
    "negative variance": ({VARIANCE: f32(*[-1] * 8)}, "negative"),
    "mean face nan": ({"mean_face": np.full((36, 3), np.nan, np.float32)}, "not finite"),
    "mean face flat": ({"mean_face": np.zeros(108, np.float32)}, "'mean_face' has shape"),
    "origin": ({"origin": f32(1, 2)}, "'origin' has shape"),
    "scale zero": ({"scale": f32(0)}, "scale 0.0, expected a length"),
    "scale negative": ({"scale": f32(-1)}, "scale -1.0"),
    "scale a scalar": ({"scale": np.array(1, np.float32)}, "'scale' has shape"),
    "scale empty": ({"scale": f32()}, "'scale' has shape"),
    "triangles flat": ({"triangles": np.zeros(3, np.int32)}, "'triangles' is int32"),
    "triangles outside": ({"triangles": np.full((50, 3), 36, np.int32)}, "outside of the 36"),
    "index of others": ({"vertex_index": np.arange(40, dtype=np.int32)}, "'vertex_index' has sh"),
    "index outside": ({"vertex_index": np.full(36, 50, np.int32)}, "outside of the 50"),
}
BAD_METADATA = {
    "config null": ({"config": None}, "garbles 'config'"),
    "config a text": ({"config": "paper"}, "garbles 'config'"),
    "config of more": ({"config": CONFIG | {"depth": 3}}, "'depth' is missing or unknown"),
    "another size": ({"config": CONFIG | {"identity": 4}}, "has shape"),
    "more vertices": ({"config": CONFIG | {"vertices": 37}}, "has shape"),
    "more layers": ({"config": CONFIG | {"channels": [8, 16, 16]}}, "lacks the tensor"),
    "points": ({"config": CONFIG | {"points": 5}}, "lacks the tensor 'encoder.points'"),
    "half": ({"config": CONFIG | {"half_decoders": True}}, "expected .* of float16"),
    "reach null": ({"reach_mm": None}, "garbles 'reach_mm'"),
    "reach nan": ({"reach_mm": float("nan")}, "garbles 'reach_mm'"),
    "recipe a list": ({"recipe": []}, "garbles 'recipe'"),
    "metrics a text": ({"metrics": "good"}, "garbles 'metrics'"),
    "history a table": ({"history": {}}, "garbles 'history'"),
    "id a number": ({"id": 5}, "garbles 'id'"),
    "topology of others": ({"topology": "0" * 12}, "the file is damaged"),
}


class TestStrictLoad:
    def test_what_is_garbled_by_nothing_is_whole(self, model_file, model, load):
        assert load(garbled(model_file)).id == model.id

    def test_every_tensor_must_be_there(self, model_file, load):
        for name in read_safetensors(model_file).tensors:
            with pytest.raises(InputError, match=f"lacks .*'{name}'"):
                load(garbled(model_file, drop=(name,)))

    def test_all_metadata_must_be_there(self, model_file, load):
        for name in read_safetensors(model_file).metadata:
            with pytest.raises(InputError, match=f"{name}|config.*missing|does not fit"):
                load(garbled(model_file, drop=(name,)))

    @pytest.mark.parametrize(("tensors", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
    def test_tensors_are_those_of_the_config(self, model_file, load, tensors, message):
        with pytest.raises(InputError, match=message) as caught:
            load(garbled(model_file, tensors))
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize(("metadata", "message"), BAD_METADATA.values(), ids=BAD_METADATA)
    def test_metadata_is_what_we_write(self, model_file, load, metadata, message):
        with pytest.raises(InputError, match=message) as caught:
            load(garbled(model_file, metadata=metadata))
        assert str(caught.value).isprintable()

    def test_deviations_are_divided_by(self, load):
        model = make_model(identity=2, expression=2, components=3)
        still = model.weights | {"deviation": np.array([1, 0, 1], np.float32)}
        with pytest.raises(InputError, match="'deviation' is not positive"):
            load(bytes_of(replace(model, weights=still)))

    def test_points_lie_on_the_face(self, load):
        model = make_model(identity=2, expression=2, channels=(8,), points=3)
        outside = model.weights | {"encoder.points": np.array([0, 1, 36], np.int32)}
        with pytest.raises(InputError, match="outside of 36 vertices"):
            load(bytes_of(replace(model, weights=outside)))

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
    def test_any_changed_byte_is_read_or_refused(
        self, model_file, tmp_path_factory, position, byte, early
    ):
        path = tmp_path_factory.getbasetemp() / "changed_model.safetensors"
        one_byte_changed(model_file, path, position, byte, early)
        try:
            found = load_model(path)
        except InputError as error:
            assert str(error).isprintable()
        else:
            assert found.config.vertices == len(found.mean_face)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"points": 200},
        {"half_decoders": True},
        {"components": 150},
        {"components": 150, "half_basis": True},
    ],
    ids=str,
)
def test_numpy_and_torch_agree_on_every_vertex(load, sizes):
    torch = pytest.importorskip("torch")
    from facedis_core.train.checkpoint import network_from_model

    made = make_model(size=23, **sizes)  # 529 vertices, scale 165 mm
    model = load(bytes_of(made))
    network = network_from_model(model).eval()
    rng = np.random.default_rng(1)
    faces = (model.mean_face + rng.normal(0, 3, (4, 529, 3))).astype(np.float32)
    latents = model.encode(faces)
    with torch.no_grad():
        z = network.encode(network.normalise(torch.tensor(faces)))
        identity = network.identity_offsets(z.identity.mean) * network.scale + network.mean_face
        offset = network.expression_offsets(z.expression.mean) * network.scale
    for part, expected in {"full": identity + offset, "identity": identity}.items():
        found = model.decode(latents.identity, latents.expression, part)
        assert np.linalg.norm(found - expected.numpy(), axis=-1).max() < 1e-3
    assert offset.norm(dim=-1).mean() > 1  # mm: there is something to agree on
