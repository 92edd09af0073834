import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import face, save_mesh
from glb import Glb

from facedis_core.data.latents import Latents, read_latents, write_latents
from facedis_core.rig.blendshapes import ARKIT_NAMES

EXAMPLES = Path(__file__).parent.parent / "weights" / "examples"


@pytest.fixture
def rows(call, model, tmp_path):
    """Three faces as `faces.npy`, and the first as `ann.npy`."""
    rng = np.random.default_rng(0)
    names = ["ann", "deep/bob", "eva"]
    values = rng.normal(size=(3, 3)), rng.normal(size=(3, 2))
    rows = Latents(names, [model.id] * 3, *(array.astype(np.float32) for array in values))
    for name, part in (("faces", rows), ("ann", rows.take([0]))):
        with (tmp_path / f"{name}.npy").open("wb") as stream:
            write_latents(stream, part)
    return rows


def test_expression_directions(call, rows, model, tmp_path):
    result = call("fd-export ann.npy --targets directions --count 2 -o ann.glb")
    assert (result.code, result.out) == (0, b""), result.err
    glb = Glb((tmp_path / "ann.glb").read_bytes())
    (mesh,) = glb.json["meshes"]
    assert mesh["extras"]["targetNames"] == ["expression 1", "expression 2"]
    (primitive,) = mesh["primitives"]
    (identity,) = model.decode(rows.take([0]), "identity")
    at = glb.array(primitive["attributes"]["POSITION"])
    np.testing.assert_allclose(at, identity / 1000, atol=1e-6)
    np.testing.assert_array_equal(glb.array(primitive["indices"]).reshape(-1, 3), model.triangles)


def test_an_animation_of_latents_shows_them(call, rows, model, tmp_path):
    """The small network is not linear: near its rest it is."""
    frames = Latents(
        ["a", "b", "c"], rows.models, rows.identity, rows.expression * np.float32(0.01)
    )
    with (tmp_path / "frames.npy").open("wb") as stream:
        write_latents(stream, frames)
    line = "fd-export ann.npy --targets directions --animation frames.npy --fps 25 -o ann.glb"
    assert call(line).code == 0
    glb = Glb((tmp_path / "ann.glb").read_bytes())
    (sampler,) = glb.json["animations"][0]["samplers"]
    np.testing.assert_allclose(glb.array(sampler["input"]), [0, 0.04, 0.08], rtol=1e-6)
    weights = glb.array(sampler["output"]).reshape(3, 2)
    (primitive,) = glb.json["meshes"][0]["primitives"]
    targets = np.stack([glb.array(target["POSITION"]) for target in primitive["targets"]])
    identity = np.repeat(rows.identity[:1], 3, axis=0)
    shown = model.decode_vectors(identity, frames.expression)
    shown = shown - model.decode_vectors(identity, frames.expression, "identity")
    # the targets have two directions, one standard deviation from rest each
    flat = targets.reshape(2, -1).T.astype(np.float64)
    nearest = np.linalg.lstsq(flat, shown.reshape(3, -1).T / 1000, rcond=None)[0].T
    assert np.abs(nearest).max() > 0
    np.testing.assert_allclose(weights, nearest, rtol=1e-3, atol=1e-4 * np.abs(nearest).max())


def test_a_file_a_face(call, rows, tmp_path):
    line = "fd-export faces.npy --targets directions -o rigs/"
    assert call(line).code == 0
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.glb")}
    assert found == {"rigs/ann.glb", "rigs/deep/bob.glb", "rigs/eva.glb"}
    assert call(line).kind == "output-exists"
    assert call(f"{line} --force").code == 0


def test_meshes_are_encoded(call, model, tmp_path):
    save_mesh(tmp_path / "bob.ply", face(2))
    assert call("fd-export bob.ply --targets directions -o bob.glb").code == 0
    assert call("fd-encode bob.ply -o bob.npy").code == 0
    assert call("fd-export bob.npy --targets directions -o other.glb").code == 0
    assert (tmp_path / "bob.glb").read_bytes() == (tmp_path / "other.glb").read_bytes()


def test_a_plain_array_and_a_pipe(call, rows, tmp_path):
    np.save(tmp_path / "plain.npy", np.concatenate([rows.identity, rows.expression], axis=1)[:1])
    with (tmp_path / "same.npy").open("wb") as stream:
        name = read_latents(tmp_path / "plain.npy", sizes=(3, 2)).names
        write_latents(
            stream, Latents(name, rows.models[:1], rows.identity[:1], rows.expression[:1])
        )
    plain, same = (call(f"fd-export {n}.npy --targets directions") for n in ("plain", "same"))
    assert plain.code == 0 and plain.out[:4] == b"glTF"
    assert plain.out == same.out


@pytest.mark.parametrize(
    ("words", "code", "kind", "named"),
    [
        ("faces.npy --targets directions -o one.glb", 2, "output-collision", "several outputs"),
        ("ann.npy -o ann.glb", 3, "topology", "ict-linear"),
        ("ann.npy -o weights.csv", 3, "topology", "ict-linear"),
        ("ann.npy -o ann.obj", 2, "output-suffix", ".glb"),
        ("ann.npy --animation ann.npy -o w.csv", 2, "option-conflict", "leave out --animation"),
        ("ann.npy --targets directions -o w.csv", 2, "option-conflict", "--targets"),
        ("none.npy -o ann.glb", 3, "file-missing", "none.npy"),
        (
            "ann.npy --targets directions --animation r.csv -o a.glb",
            2,
            "option-conflict",
            "latents",
        ),
        ("ann.npy -o ann.fbx", 2, "output-suffix", ".glb"),
        ("ann.npy --fps inf -o ann.glb", 2, "option-value", "inf frames"),
        ("ann.npy --targets directions --animation none.csv -o a.glb", 3, "file-missing", "none"),
    ],
)
def test_what_is_refused(call, rows, tmp_path, words, code, kind, named):
    (tmp_path / "r.csv").write_text("jawOpen\n0.5\n")
    before = sorted(tmp_path.iterdir())
    result = call(f"fd-export {words}")
    assert (result.code, result.kind) == (code, kind), result.err
    assert named in result.line
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("package", ["pygltflib", "scipy"])
def test_what_is_not_installed_is_told_first(call, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    result = call("fd-export none.npy -o ann.glb")
    assert (result.code, result.kind) == (2, "extra-missing")
    assert "pygltflib" in result.line and "scipy" in result.line


@pytest.mark.slow
def test_arkit_on_a_head(call, tmp_path):
    env = {"FACEDIS_MODEL": "ict-linear"}
    (tmp_path / "r.csv").write_text("EyeBlinkLeft,JawOpen\n0,0\n1,0.5\n")
    line = f"fd-export {EXAMPLES / 'bob_smile.ply'} --animation r.csv -o bob.glb"
    assert call(line, env=env).code == 0
    glb = Glb((tmp_path / "bob.glb").read_bytes())
    (mesh,) = glb.json["meshes"]
    assert mesh["extras"]["targetNames"] == list(ARKIT_NAMES)
    names = [material["name"] for material in glb.json["materials"]]
    assert names == ["skin", "mouth", "gums", "teeth", "sclera", "iris", "pupil"]
    assert len(mesh["primitives"]) == 7
    skin = mesh["primitives"][0]
    at = glb.array(skin["attributes"]["POSITION"])
    jaw = glb.array(skin["targets"][ARKIT_NAMES.index("jawOpen")]["POSITION"])
    assert jaw[:6706, 1].min() < -0.02  # m
    assert np.abs(jaw[at[:, 1] > at[:6706, 1].max() + 0.02]).max() < 1e-4  # not the skull
    assert not glb.array(skin["targets"][-1]["POSITION"]).any()  # tongueOut
    weights = glb.array(glb.json["animations"][0]["samplers"][0]["output"]).reshape(2, 52)
    assert weights[1, ARKIT_NAMES.index("eyeBlinkLeft")] == 1 and weights.sum() == 1.5

    assert call(f"fd-encode '{EXAMPLES}/alice*' -o faces.npy", env=env).code == 0
    assert call("fd-export faces.npy -o weights.csv", env=env).code == 0
    with (tmp_path / "weights.csv").open() as stream:
        table = {row["name"]: row for row in csv.DictReader(stream)}
    assert list(table) == read_latents(tmp_path / "faces.npy").names
    stretch, neutral, smile = (
        {key: float(value) for key, value in row.items() if key != "name"} for row in table.values()
    )
    assert stretch["jawOpen"] > 0.7
    assert min(smile["mouthSmileLeft"], smile["mouthSmileRight"]) > 0.5
    assert max(neutral.values()) < 0.1
