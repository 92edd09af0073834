import numpy as np
import pytest
from conftest import face

from facedis_core.data.latents import read_latents, write_latents


@pytest.fixture
def encoded(faces, model, tmp_path):
    """`ann.npy` and `bob.npy` with one row, `two.npy` with both, `all.npy` with five."""
    rows = {"ann": [0], "bob": [1], "two": [0, 1], "all": [0, 1, 2, 3, 4]}
    names = ["ann", "bob", "cy", "dan", "eva"]
    found = {}
    for name, seeds in rows.items():
        vertices = np.stack([face(seed) for seed in seeds])
        found[name] = model.encode_prepared(vertices, [names[seed] for seed in seeds])
        with (tmp_path / f"{name}.npy").open("wb") as stream:
            write_latents(stream, found[name])
    return found


def test_identity_of_the_first_expression_of_the_second(call, encoded, tmp_path):
    assert call("fd-transfer ann.npy bob.npy -o out.npy").code == 0
    out = read_latents(str(tmp_path / "out.npy"))
    assert out.names == ["ann__bob"]
    assert out.models == encoded["ann"].models
    np.testing.assert_array_equal(out.identity, encoded["ann"].identity)
    np.testing.assert_array_equal(out.expression, encoded["bob"].expression)


@pytest.mark.parametrize("words", ["ann.npy -", "- bob.npy"])
def test_either_may_be_standard_input(call, encoded, tmp_path, words):
    piped = tmp_path / ("bob.npy" if words.startswith("ann") else "ann.npy")
    result = call(f"fd-transfer {words}", stdin=piped.read_bytes())
    assert result.code == 0
    assert result.out == call("fd-transfer ann.npy bob.npy").out


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("ann.npy two.npy", ["ann__ann", "ann__bob"]),
        ("two.npy bob.npy", ["ann__bob", "bob__bob"]),
        ("two.npy two.npy", ["ann__ann", "bob__bob"]),
        ("--all-pairs two.npy two.npy", ["ann__ann", "ann__bob", "bob__ann", "bob__bob"]),
    ],
)
def test_how_rows_pair_up(call, encoded, tmp_path, words, names):
    assert call(f"fd-transfer {words} -o out.npy").code == 0
    assert read_latents(str(tmp_path / "out.npy")).names == names


@pytest.mark.parametrize("plain", ["identity", "expression"])
def test_one_of_the_two_may_be_a_plain_array(call, encoded, tmp_path, plain):
    values = np.concatenate([encoded["bob"].identity, encoded["bob"].expression], axis=1)
    np.save(tmp_path / "plain.npy", values.astype(np.float64))
    words = "plain.npy ann.npy" if plain == "identity" else "ann.npy plain.npy"
    assert call(f"fd-transfer {words} -o out.npy").code == 0
    out = read_latents(str(tmp_path / "out.npy"))
    assert out.models == encoded["ann"].models
    taken, other = (encoded["bob"], encoded["ann"])[:: 1 if plain == "identity" else -1]
    assert out.names == (["row0000__ann"] if plain == "identity" else ["ann__row0000"])
    np.testing.assert_array_equal(out.identity, taken.identity)
    np.testing.assert_array_equal(out.expression, other.expression)


def test_scale(call, encoded, tmp_path):
    assert call("fd-transfer ann.npy bob.npy --scale -0.5 -o out.npy").code == 0
    out = read_latents(str(tmp_path / "out.npy"))
    np.testing.assert_array_equal(out.expression, encoded["bob"].expression * np.float32(-0.5))


@pytest.mark.parametrize(
    ("words", "code", "kind", "named"),
    [
        ("two.npy all.npy", 2, "row-count", "two.npy has 2 rows"),
        ("- -", 2, "same-file", "standard input (-)"),
        ("ann.npy", 2, "arguments", "EXPRESSION"),
        ("ann.npy bob.npy --scale nan", 2, "option-value", "nan"),
        ("ann.npy bob.npy --scale 1e300", 2, "option-value", "1e+300"),
        ("ann.npy nothing.npy", 3, "file-missing", "nothing.npy"),
        ("ann.npy bob", 3, "wrong-kind", "fd-encode"),  # a mesh, but not by its name
        ("plain.npy plain.npy", 2, "option-conflict", "plain.npy"),
        ("ann.npy short.npy", 3, "latent-size", "short.npy: has 4 columns"),
    ],
)
def test_what_cannot_be(call, encoded, tmp_path, words, code, kind, named):
    np.save(tmp_path / "plain.npy", np.zeros((1, 5)))
    np.save(tmp_path / "short.npy", np.zeros((1, 4)))
    (tmp_path / "bob").write_bytes((tmp_path / "faces" / "bob.ply").read_bytes())
    result = call(f"fd-transfer {words} -o out.npy")
    assert (result.code, result.kind) == (code, kind)
    assert named in result.line
    assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("ann.npy bob.npy -o x.stl", "IDENTITY ann.npy is none to write it onto"),
        ("faces/ann.ply bob.npy -o x.stl", "a face is written onto .ply; give a name"),
        ("faces/ann.ply bob.npy -o x.glb", "fd-export"),
        ("faces/ann.ply bob.npy -o x.png", "holds latents"),
    ],
)
def test_outputs_that_are_none(call, encoded, tmp_path, words, named):
    result = call(f"fd-transfer {words}")
    assert (result.code, result.kind) == (2, "output-suffix")
    assert named in result.line


def test_latents_of_two_models_do_not_mix(call, encoded, model, other_model_file, tmp_path):
    assert call(f"fd-encode -m {other_model_file} faces/bob.ply -o other.npy").code == 0
    other = read_latents(str(tmp_path / "other.npy"))
    result = call("fd-transfer ann.npy other.npy -o out.npy")
    assert (result.code, result.kind) == (3, "wrong-model")
    assert model.id in result.line
    assert other.models[0] in result.line
    assert not (tmp_path / "out.npy").exists()


def test_an_existing_output_needs_force(call, encoded):
    assert call("fd-transfer ann.npy bob.npy -o two.npy").kind == "output-exists"
    assert call("fd-transfer ann.npy bob.npy -o two.npy --force").code == 0


def test_a_model_that_is_named_is_that_of_the_latents(call, encoded, model_file):
    assert call(f"fd-transfer ann.npy bob.npy -m {model_file} -o out.npy").code == 0
    result = call("fd-transfer ann.npy bob.npy -m ict-linear -o other.npy")
    assert (result.code, result.kind) == (3, "wrong-model")
    assert "'ann'" in result.line
    assert call("fd-transfer ann.npy bob.npy -m no.safetensors -o other.npy").code == 3
