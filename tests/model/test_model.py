"""Model files: what is written is read, with one id; everything else is refused."""

import io
from dataclasses import asdict, replace

import numpy as np
import pytest
from conftest import face, garbled
from raising import raises
from synthetic import face_set, random_model, write_face_set

from facedis_core.io.safetensors_file import content_id, read_safetensors
from facedis_core.model.config import PointNetConfig, stored_config
from facedis_core.model.model_file import load_model, write_model

FACES = np.stack([face(seed) for seed in range(3)])


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


class TestFiles:
    @pytest.mark.parametrize(
        "sizes",
        [{"channels": (8, 16)}, {"channels": (8, 16), "points": 11}, {"components": 20}],
        ids=str,
    )
    def test_what_is_written_is_read(self, load, sizes):
        model = random_model(identity=5, expression=4, **sizes)
        found = load(bytes_of(model))
        assert found.config == model.config
        assert found.weights.keys() == model.weights.keys()
        for name, array in model.weights.items():
            np.testing.assert_array_equal(found.weights[name], array)
        for name in ("mean_face", "origin", "triangles"):
            np.testing.assert_array_equal(getattr(found, name), getattr(model, name))
        for name in ("scale", "reach_mm", "recipe", "metrics", "history", "topology"):
            assert getattr(found, name) == getattr(model, name)
        np.testing.assert_array_equal(
            found.encode_prepared(FACES).identity, model.encode_prepared(FACES).identity
        )
        assert bytes_of(found) == bytes_of(model)

    def test_the_id_is_that_of_its_tensors_and_config(self, load):
        model = random_model(identity=5, expression=4, channels=(8, 16))
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
        assert found.id == written == content_id(tensors, stored_config(model.config))
        assert found.encode_prepared(FACES).models == [written] * 3
        assert write_model(io.BytesIO(), replace(model, history=[], metrics={})) == written
        assert write_model(io.BytesIO(), replace(model, scale=166.0)) != written

    @pytest.mark.filterwarnings("error")
    def test_weights_that_are_not_finite_are_not_written(self):
        """As after a training that diverged; half precision ends at 65,504."""
        model = random_model()
        model.weights["identity_decoder.output.weight"][3, 0] = 1e5
        write_model(io.BytesIO(), model)
        half = replace(model, config=replace(model.config, half_decoders=True))
        with raises("not-finite", "'identity_decoder.output.weight' .* lower learning_rate"):
            write_model(io.BytesIO(), half)

    def test_half_decoders_halve_the_decoders_and_hardly_change_the_face(self, load):
        whole = random_model(size=15)
        half = replace(whole, config=replace(whole.config, half_decoders=True))
        data = bytes_of(half)
        decoders = 2 * 3 * 225 * whole.config.decoder_hidden
        assert len(bytes_of(whole)) - len(data) == pytest.approx(2 * decoders, rel=1e-2)
        found = load(data)
        assert found.weights["identity_decoder.output.weight"].dtype == np.float16
        assert found.weights["identity_decoder.output.bias"].dtype == np.float32
        z = np.random.default_rng(0).normal(size=(2, 1, 64)).astype(np.float32)
        faces = found.decode_vectors(*z)
        assert faces.dtype == np.float32
        np.testing.assert_allclose(faces, whole.decode_vectors(*z), rtol=0, atol=0.02)
        assert bytes_of(found) == data

    def test_a_half_basis_halves_the_file_and_hardly_changes_the_face(self, load):
        whole = random_model(size=15, components=100)
        whole.weights["basis"] /= 10  # rows of length 1 to 2, as orthonormal ones are
        half = replace(whole, config=replace(whole.config, half_basis=True))
        data = bytes_of(half)
        assert len(bytes_of(whole)) - len(data) == pytest.approx(2 * 100 * 3 * 225, rel=1e-2)
        found = load(data)
        assert found.weights["basis"].dtype == np.float16
        z = np.random.default_rng(0).normal(size=(2, 1, 64)).astype(np.float32)
        np.testing.assert_allclose(
            found.decode_vectors(*z), whole.decode_vectors(*z), rtol=0, atol=0.02
        )
        assert bytes_of(found) == data

    def test_a_face_set_is_none(self, tmp_path):
        write_face_set(tmp_path / "set.safetensors", face_set(subjects=1, test=0))
        with raises("wrong-kind", "is a face set, expected a model"):
            load_model(tmp_path / "set.safetensors")

    def test_a_missing_file_is_an_input_error(self, tmp_path):
        with raises("file-missing"):
            load_model(tmp_path / "nothing.safetensors")


CONFIG = asdict(PointNetConfig(36, 3, 2, (8, 16)))
BIAS = "encoder.identity_mean.bias"
VARIANCE = "encoder.layers.0.norm.running_var"
HALF = "expression_decoder.output.weight"


def f32(*values):
    return np.array(values, np.float32)


BAD_TENSORS = {
    "surplus": ({"surplus": f32(1)}, "tensor: 'surplus'"),
    "points of no config": (
        {"encoder.points": np.arange(3, dtype=np.int32)},
        "tensor: holds .*'encoder.points'",
    ),
    "wrong shape": ({BIAS: f32(1, 2)}, rf"tensor: '{BIAS}' .*\(2,\) .* expected \(3,\)"),
    "wrong type": ({BIAS: np.zeros(3)}, "tensor: of float64, expected .* of float32"),
    "whole numbers": ({BIAS: np.zeros(3, np.int32)}, "tensor: of int32, expected"),
    "half without being so": (
        {HALF: np.zeros((108, 256), np.float16)},
        "tensor: of float16, expected",
    ),
    "nan": ({BIAS: f32(1, np.nan, 2)}, f"not-finite: '{BIAS}'"),
    "infinity": ({VARIANCE: f32(*[np.inf] * 8)}, f"not-finite: '{VARIANCE}'"),
    "negative variance": ({VARIANCE: f32(*[-1] * 8)}, "tensor: negative"),
    "mean face nan": (
        {"mean_face": np.full((36, 3), np.nan, np.float32)},
        "not-finite: 'mean_face'",
    ),
    "mean face flat": ({"mean_face": np.zeros(108, np.float32)}, "tensor: 'mean_face'"),
    "origin": ({"origin": f32(1, 2)}, "tensor: 'origin'"),
    "scale zero": ({"scale": f32(0)}, "tensor: scale 0.0"),
    "scale negative": ({"scale": f32(-1)}, "tensor: scale -1.0"),
    "scale a scalar": ({"scale": np.array(1, np.float32)}, "tensor: 'scale'"),
    "scale empty": ({"scale": f32()}, "tensor: 'scale'"),
    "triangles flat": ({"triangles": np.zeros(3, np.int32)}, "tensor: 'triangles'"),
    "triangles outside": (
        {"triangles": np.full((50, 3), 36, np.int32)},
        "vertex-index: 'triangles'",
    ),
    "index of others": ({"vertex_index": np.arange(40, dtype=np.int32)}, "tensor: 'vertex_index'"),
    "index outside": ({"vertex_index": np.full(36, 50, np.int32)}, "vertex-index: 'vertex_index'"),
}
BAD_METADATA = {
    "config null": ({"config": None}, "metadata: garbles 'config'"),
    "config a text": ({"config": "paper"}, "metadata: garbles 'config'"),
    "config of more": ({"config": CONFIG | {"depth": 3}}, "metadata: 'depth'"),
    "another size": ({"config": CONFIG | {"identity": 4}}, "tensor: has shape"),
    "more vertices": ({"config": CONFIG | {"vertices": 37}}, "tensor: has shape"),
    "more layers": ({"config": CONFIG | {"channels": [8, 16, 16]}}, "tensor: lacks"),
    "points": ({"config": CONFIG | {"points": 5}}, "tensor: lacks .*'encoder.points'"),
    "half": ({"config": CONFIG | {"half_decoders": True}}, "tensor: expected .* of float16"),
    "reach null": ({"reach_mm": None}, "metadata: garbles 'reach_mm'"),
    "reach nan": ({"reach_mm": float("nan")}, "metadata: garbles 'reach_mm'"),
    "recipe a list": ({"recipe": []}, "metadata: garbles 'recipe'"),
    "metrics a text": ({"metrics": "good"}, "metadata: garbles 'metrics'"),
    "history a table": ({"history": {}}, "metadata: garbles 'history'"),
    "id a number": ({"id": 5}, "metadata: garbles 'id'"),
    "topology of others": ({"topology": "0" * 12}, "damaged: '000000000000'"),
}


class TestStrictLoad:
    def test_what_is_garbled_by_nothing_is_whole(self, model_file, model, load):
        assert load(garbled(model_file)).id == model.id

    def test_every_tensor_must_be_there(self, model_file, load):
        for name in read_safetensors(model_file).tensors:
            with raises("tensor", f"lacks .*'{name}'"):
                load(garbled(model_file, drop=(name,)))

    def test_all_metadata_must_be_there(self, model_file, load):
        for name in read_safetensors(model_file).metadata:
            with raises("metadata", name):
                load(garbled(model_file, drop=(name,)))

    @pytest.mark.parametrize(("tensors", "error"), BAD_TENSORS.values(), ids=BAD_TENSORS)
    def test_tensors_are_those_of_the_config(self, model_file, load, tensors, error):
        with raises(error) as caught:
            load(garbled(model_file, tensors))
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize(("metadata", "error"), BAD_METADATA.values(), ids=BAD_METADATA)
    def test_metadata_is_what_we_write(self, model_file, load, metadata, error):
        with raises(error) as caught:
            load(garbled(model_file, metadata=metadata))
        assert str(caught.value).isprintable()

    def test_deviations_are_divided_by(self, load):
        model = random_model(identity=2, expression=2, components=3)
        still = model.weights | {"deviation": np.array([1, 0, 1], np.float32)}
        with raises("tensor", "'deviation' is not positive"):
            load(bytes_of(replace(model, weights=still)))

    def test_points_lie_on_the_face(self, load):
        model = random_model(identity=2, expression=2, channels=(8,), points=3)
        outside = model.weights | {"encoder.points": np.array([0, 1, 36], np.int32)}
        with raises("tensor", "outside of 36 vertices"):
            load(bytes_of(replace(model, weights=outside)))
