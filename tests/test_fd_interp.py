import numpy as np
import pytest
from conftest import contents, face

from facedis_core.data.latents import read_latents, write_latents


@pytest.fixture
def encoded(model, tmp_path):
    """`ann.npy` and `bob.npy` with one row, `two.npy` with both, `three.npy` with one more."""
    rows = {"ann": [0], "bob": [1], "two": [0, 1], "three": [0, 1, 2]}
    found = {}
    for name, seeds in rows.items():
        vertices = np.stack([face(seed) for seed in seeds])
        found[name] = model.encode_prepared(
            vertices, [("ann", "bob", "cy")[seed] for seed in seeds]
        )
        with (tmp_path / f"{name}.npy").open("wb") as stream:
            write_latents(stream, found[name])
    return found


@pytest.mark.parametrize("part", ["both", "identity", "expression"])
@pytest.mark.parametrize("steps", [2, 5, 11])
def test_equal_steps_on_a_straight_line(call, encoded, tmp_path, part, steps):
    line = f"fd-interp ann.npy bob.npy --part {part} --steps {steps} -o out.npy"
    assert call(line).code == 0
    out = read_latents(str(tmp_path / "out.npy"))
    assert out.names == [f"ann__bob/{step:0{len(str(steps - 1))}}" for step in range(steps)]
    assert set(out.models) == set(encoded["ann"].models)
    for name in ("identity", "expression"):
        a, b = (getattr(encoded[who], name)[0].astype(float) for who in ("ann", "bob"))
        for step, row in enumerate(getattr(out, name)):
            share = step / (steps - 1) if part in ("both", name) else 0
            np.testing.assert_allclose(row, a + share * (b - a), rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(getattr(out, name)[0], a.astype(np.float32))
        if part in ("both", name):
            np.testing.assert_array_equal(getattr(out, name)[-1], b.astype(np.float32))


@pytest.mark.parametrize(
    ("words", "pairs"),
    [
        ("two.npy two.npy", ["ann__ann", "bob__bob"]),
        ("ann.npy two.npy", ["ann__ann", "ann__bob"]),
        ("two.npy bob.npy", ["ann__bob", "bob__bob"]),
        ("--all-pairs two.npy two.npy", ["ann__ann", "ann__bob", "bob__ann", "bob__bob"]),
    ],
)
def test_several_pairs_come_one_after_another(call, encoded, tmp_path, words, pairs):
    assert call(f"fd-interp {words} --steps 3 -o out.npy").code == 0
    names = read_latents(str(tmp_path / "out.npy")).names
    assert names == [f"{pair}/{step}" for pair in pairs for step in range(3)]


def test_decoded_it_is_a_folder_a_pair(call, encoded, tmp_path):
    rows = call("fd-interp ann.npy two.npy --steps 3").out
    assert call("fd-decode -o out/", stdin=rows).code == 0
    assert sorted(contents(tmp_path / "out")) == [
        f"ann__{who}/{step}.ply" for who in ("ann", "bob") for step in range(3)
    ]


def test_standard_input_and_streams_give_the_same_rows(call, encoded, tmp_path):
    piped = (tmp_path / "two.npy").read_bytes()
    assert call("fd-interp ann.npy - --stream -o out.npy", stdin=piped).code == 0
    assert call("fd-interp ann.npy two.npy -o whole.npy").code == 0
    streamed, whole = (read_latents(str(tmp_path / name)) for name in ("out.npy", "whole.npy"))
    assert streamed.names == whole.names
    np.testing.assert_array_equal(streamed.identity, whole.identity)


@pytest.mark.parametrize(
    ("words", "code", "kind", "named"),
    [
        ("ann.npy bob.npy --steps 1", 2, "arguments", "--steps"),
        ("ann.npy bob.npy --steps 1000000000", 2, "arguments", "--steps"),
        ("two.npy three.npy", 2, "row-count", "two.npy has 2 rows"),
        ("- -", 2, "same-file", "standard input (-)"),
        ("ann.npy", 2, "arguments", "'B'"),
        ("ann.npy nothing.npy", 3, "file-missing", "nothing.npy"),
    ],
)
def test_what_cannot_be(call, encoded, tmp_path, words, code, kind, named):
    result = call(f"fd-interp {words} -o out.npy")
    assert (result.code, result.kind) == (code, kind)
    assert named in result.line
    assert not (tmp_path / "out.npy").exists()


def test_two_models_do_not_mix(call, encoded, faces, other_model_file, tmp_path):
    assert call(f"fd-encode -m {other_model_file} faces/bob.ply -o other.npy").code == 0
    result = call("fd-interp ann.npy other.npy -o out.npy")
    assert (result.code, result.kind) == (3, "wrong-model")
    assert read_latents(str(tmp_path / "other.npy")).models[0] in result.line
