import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from blender import in_blender
from conftest import face, raw_mesh, raw_order, save_mesh
from glb import Glb
from images import png
from scipy.spatial import cKDTree

from facedis_core.data.latents import Latents, read_latents, write_latents
from facedis_core.geometry.distances import vertex_distances
from facedis_core.mesh.mesh import Mesh, read_mesh
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
    # the small network makes an expression of latents of zero
    assert mesh["extras"]["targetNames"] == ["expression 0", "expression 1", "expression 2"]
    (primitive,) = mesh["primitives"]
    (identity,) = model.decode(rows.take([0]), "identity")
    at = glb.array(primitive["attributes"]["POSITION"])
    np.testing.assert_allclose(at, identity / 1000, atol=1e-6)
    np.testing.assert_array_equal(glb.array(primitive["indices"]).reshape(-1, 3), model.triangles)


@pytest.mark.parametrize(("size", "exact"), [(0.01, True), (3.0, False)])
def test_an_animation_of_latents_shows_them(call, rows, model, tmp_path, size, exact):
    """The small network is not linear: near its rest it is, far from it a warning says how far."""
    frames = Latents(
        ["a", "b", "c"], rows.models, rows.identity, rows.expression * np.float32(size)
    )
    with (tmp_path / "frames.npy").open("wb") as stream:
        write_latents(stream, frames)
    line = "fd-export ann.npy --targets directions --animation frames.npy --fps 25 -o ann.glb"
    result = call(line)
    assert result.code == 0
    glb = Glb((tmp_path / "ann.glb").read_bytes())
    (sampler,) = glb.json["animations"][0]["samplers"]
    np.testing.assert_allclose(glb.array(sampler["input"]), [0, 0.04, 0.08], rtol=1e-6)
    weights = glb.array(sampler["output"]).reshape(3, 3)
    (primitive,) = glb.json["meshes"][0]["primitives"]
    targets = np.stack([glb.array(target["POSITION"]) for target in primitive["targets"]])
    at_rest = glb.array(primitive["attributes"]["POSITION"])
    played = 1000 * (at_rest + np.einsum("kt,tvc->kvc", weights, targets))
    identity = np.repeat(rows.identity[:1], 3, axis=0)
    error = vertex_distances(played, model.decode_vectors(identity, frames.expression)).mean()
    told = re.findall(
        r"warning: ann: the 3 targets of the rig show the frames to ([\d.]+) mm", result.err
    )
    if exact:
        np.testing.assert_allclose(weights[:, 0], 1, atol=1e-2)  # the face at latents of zero
        assert error < 0.1 and not told
    else:
        assert error > 0.1 and float(told[0]) == pytest.approx(error, rel=0.06)


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


def textured(path, mesh, texture):
    """An OBJ with two materials, and texture coordinates with a seam in the middle of the grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "skin.png").write_bytes(texture)
    (path.parent / "head.mtl").write_text(
        "newmtl left\nmap_Kd skin.png\nnewmtl right\nKd 1 0.5 0\n"
    )
    lines = ["mtllib head.mtl", *("v {!r} {!r} {!r}".format(*v) for v in mesh.vertices.tolist())]
    count = len(mesh.vertices)
    lines += [f"vt {side} {k / count!r}" for side in (0, 1) for k in range(count)]
    for number, triangle in enumerate(mesh.triangles.tolist()):
        side = number % 2
        lines.append(f"usemtl {('left', 'right')[side]}")
        lines.append("f " + " ".join(f"{k + 1}/{k + 1 + side * count}" for k in triangle))
    path.write_text("\n".join([*lines, ""]))


def test_onto_an_original(call, rows, model, tmp_path):
    """Vertices of fd-decode --onto, copies for seams, targets that follow, materials."""
    mesh = raw_mesh(face(1))
    textured(tmp_path / "ann.obj", mesh, png(9, 8, 7))
    line = "fd-export ann.npy --targets directions --count 2 --onto ann.obj -o ann.glb"
    result = call(line)
    assert (result.code, result.err) == (0, "")
    assert call("fd-decode ann.npy --onto ann.obj --part identity -o at_rest.obj").code == 0
    wanted = read_mesh(tmp_path / "at_rest.obj").vertices / 100  # cm
    glb = Glb((tmp_path / "ann.glb").read_bytes())
    left, right = glb.json["meshes"][0]["primitives"]
    at = glb.array(left["attributes"]["POSITION"])
    count = len(wanted)
    assert len(at) > count
    np.testing.assert_allclose(at[:count], wanted, atol=1e-6)
    copies = at[count:, None]
    assert np.abs(copies - wanted).max(axis=2).min(axis=1).max() < 1e-6
    uv = glb.array(left["attributes"]["TEXCOORD_0"])
    bare = Glb(call("fd-export ann.npy --targets directions --count 2").out)
    (plain,) = bare.json["meshes"]
    steps = [bare.array(target["POSITION"]) for target in plain["primitives"][0]["targets"]]
    for side, primitive in enumerate((left, right)):
        corners = glb.array(primitive["indices"]).reshape(-1, 3)
        triangles = mesh.triangles[side::2]
        np.testing.assert_allclose(at[corners], wanted[triangles], atol=1e-6)
        places = np.stack([np.full_like(triangles, side), 1 - triangles / count], axis=-1)
        np.testing.assert_allclose(uv[corners], places, atol=1e-6)
        for target, step in zip(primitive["targets"], steps, strict=True):
            moved = glb.array(target["POSITION"])[corners]
            of_raw = np.zeros_like(wanted)
            of_raw[raw_order(len(step))] = step
            np.testing.assert_allclose(moved, of_raw[triangles], atol=1e-6)
    one, two = glb.json["materials"]
    assert (one["name"], two["name"]) == ("left", "right")
    assert two["pbrMetallicRoughness"]["baseColorFactor"] == [1, 0.5, 0, 1]
    assert one["pbrMetallicRoughness"]["baseColorTexture"]["index"] == 0
    (image,) = glb.json["images"]
    assert glb.view(image["bufferView"], "u1", 1000).tobytes() == png(9, 8, 7)
    assert image["mimeType"] == "image/png"


def test_colors_of_vertices(call, rows, tmp_path):
    """They are seen in place of the colors of materials, and textures in place of them."""
    mesh = raw_mesh(face(1))
    textured(tmp_path / "ann.obj", mesh, png(9, 8, 7))
    colored = re.sub(r"(?m)^(v .*)$", r"\1 1 0 0.5", (tmp_path / "ann.obj").read_text())
    (tmp_path / "ann.obj").write_text(colored)
    line = "fd-export ann.npy --targets directions --count 1 --onto ann.obj --force -o ann.glb"
    result = call(line)
    assert result.code == 0
    assert "ann.obj: the colors of its vertices are left out; the rig has its tex" in result.line
    glb = Glb((tmp_path / "ann.glb").read_bytes())
    assert "COLOR_0" not in glb.json["meshes"][0]["primitives"][0]["attributes"]
    (tmp_path / "skin.png").write_bytes(png(9, 8, 7)[:-12])
    result = call(line)
    assert result.code == 0
    assert "ann.obj: its texture of 57 bytes is cut short and left out; save it" in result.line
    glb = Glb((tmp_path / "ann.glb").read_bytes())
    assert "COLOR_0" in glb.json["meshes"][0]["primitives"][0]["attributes"]
    assert "images" not in glb.json
    (tmp_path / "head.mtl").write_text("newmtl left\nKd 0.5\nd 0.5\nnewmtl right\nKd 1 0.5 0\n")
    result = call(line)
    assert (result.code, result.err) == (0, "")
    glb = Glb((tmp_path / "ann.glb").read_bytes())
    factors = [one["pbrMetallicRoughness"]["baseColorFactor"] for one in glb.json["materials"]]
    assert factors == [[1, 1, 1, 0.5], [1, 1, 1, 1]]
    colors = glb.array(glb.json["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"])
    np.testing.assert_allclose(colors, np.tile([1, 0, 0.214041], (len(colors), 1)), atol=1e-6)


def test_normals_of_an_original_turn_with_it(call, rows, tmp_path):
    mesh = raw_mesh(face(1))
    textured(tmp_path / "ann.obj", mesh, b"GIF89a")
    text = (tmp_path / "ann.obj").read_text()
    lines = ["vn 0 0 3", *(re.sub(r"(/\d+)(?= |$)", r"\1/1", line) for line in text.splitlines())]
    (tmp_path / "ann.obj").write_text("\n".join([*lines, ""]))
    result = call("fd-export ann.npy --targets directions --onto ann.obj -o ann.glb")
    assert result.code == 0 and "skin.png is left out" in result.line
    glb = Glb((tmp_path / "ann.glb").read_bytes())
    (primitive, *_) = glb.json["meshes"][0]["primitives"]
    normals = glb.array(primitive["attributes"]["NORMAL"])
    used = np.unique(glb.array(primitive["indices"]))
    assert len(np.unique(normals[used].round(5), axis=0)) == 1  # flat: as the file has it
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)


def test_originals_of_a_folder(call, rows, tmp_path):
    for name, seed in (("ann", 1), ("deep/bob", 2), ("eva", 3)):
        save_mesh(tmp_path / f"heads/{name}.ply", face(seed))
    line = "fd-export faces.npy --targets directions --onto heads -o rigs/"
    assert call(line).code == 0
    assert call("fd-decode ann.npy --onto heads/ann.ply --part identity -o rest.ply").code == 0
    glb = Glb((tmp_path / "rigs/ann.glb").read_bytes())
    (primitive,) = glb.json["meshes"][0]["primitives"]
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL"}
    at = glb.array(primitive["attributes"]["POSITION"])
    np.testing.assert_allclose(at, read_mesh(tmp_path / "rest.ply").vertices / 1000, atol=1e-7)
    (tmp_path / "heads/eva.ply").unlink()
    result = call(f"{line} --force")
    assert (result.code, result.kind) == (3, "partner-missing")
    save_mesh(tmp_path / "heads/ann.obj", face(1))
    result = call(f"{line} --force")
    assert (result.code, result.kind) == (3, "name-duplicate")
    assert "heads/ann.obj and heads/ann.ply may both be the original of 'ann'" in result.line


@pytest.mark.parametrize(
    ("words", "code", "kind", "named"),
    [
        ("ann.npy --targets directions --onto none.obj -o a.glb", 3, "file-missing", "none.obj"),
        ("ann.npy --onto ann.npy -o a.glb", 2, "option-value", "is no mesh"),
        ("ann.npy --onto ann.obj -o w.csv", 2, "option-conflict", "--onto"),
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
        (
            "ann.npy --targets directions --onto points.obj --trust-order -o a.glb",
            3,
            "no-triangles",
            "points.obj has no triangles",
        ),
        ("ann.npy -o ann.fbx", 2, "output-suffix", ".glb"),
        ("ann.npy --fps inf -o ann.glb", 2, "option-value", "inf frames"),
        ("ann.npy --targets directions --animation none.csv -o a.glb", 3, "file-missing", "none"),
    ],
)
def test_what_is_refused(call, rows, tmp_path, words, code, kind, named):
    (tmp_path / "r.csv").write_text("jawOpen\n0.5\n")
    points = "".join("v {:g} {:g} {:g}\n".format(*vertex) for vertex in raw_mesh(face(1)).vertices)
    (tmp_path / "points.obj").write_text(points)
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


VALIDATE = """
const validator = require("gltf-validator"), fs = require("fs");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1]))).then(report =>
  console.log(JSON.stringify(report.issues)));
"""
OPEN = """
bpy.ops.import_scene.gltf(filepath=sys.argv[1], merge_vertices=False)
(head,) = [one for one in bpy.data.objects if one.type == "MESH"]
keys = head.data.shape_keys.key_blocks
at = np.empty(3 * len(head.data.vertices), np.float32)
for key in keys:
    key.data.foreach_get("co", at)
    np.save(sys.argv[2] + "/" + key.name + ".npy", at.reshape(-1, 3)[:, [0, 2, 1]] * [1, 1, -1])
(layer,) = head.data.uv_layers
corners = [(loop.vertex_index, *layer.data[loop.index].uv) for loop in head.data.loops]
np.save(sys.argv[2] + "/uv.npy", corners)
print(json.dumps({"keys": [key.name for key in keys],
                  "materials": [one.name for one in head.data.materials],
                  "images": [list(one.size) for one in bpy.data.images]}))
"""


@pytest.fixture
def textured_head(tmp_path):
    """A whole head in cm with textures, `bob.obj`, and its rig, `bob.glb`."""
    mesh = read_mesh(EXAMPLES / "bob_smile.ply")
    in_cm = Mesh(mesh.vertices / 10, mesh.triangles)
    textured(tmp_path / "bob.obj", in_cm, png(9, 8, 7))
    return in_cm


@pytest.mark.slow  # 7 s: ARKit's blendshapes of a head; the independent readers
def test_a_textured_head_in_independent_readers(call, textured_head, tmp_path):
    env = {"FACEDIS_MODEL": "ict-linear"}
    assert call("fd-export bob.obj --onto bob.obj -o bob.glb", env=env).code == 0
    validated = subprocess.run(
        ["node", "-e", VALIDATE, tmp_path / "bob.glb"], capture_output=True, text=True
    )
    if validated.returncode == 0:  # node and its package are at hand
        issues = json.loads(validated.stdout)
        assert issues["numErrors"] == issues["numWarnings"] == 0, issues
    found = in_blender(OPEN, tmp_path / "bob.glb", tmp_path)
    assert found["keys"] == ["Basis", *ARKIT_NAMES]
    assert found["materials"] == ["left", "right"] and found["images"] == [[1, 1]]
    call("fd-encode bob.obj -o bob.npy", env=env)
    call("fd-decode bob.npy --part identity --onto bob.obj -o rest.obj", env=env)
    wanted = read_mesh(tmp_path / "rest.obj").vertices / 100
    at = np.load(tmp_path / "Basis.npy")
    distance, vertex = cKDTree(wanted).query(at)
    assert distance.max() < 1e-5
    assert len(np.unique(vertex)) == len(wanted)
    glb = Glb((tmp_path / "bob.glb").read_bytes())
    (primitive, _) = glb.json["meshes"][0]["primitives"]
    jaw = glb.array(primitive["targets"][ARKIT_NAMES.index("jawOpen")]["POSITION"])
    np.testing.assert_allclose(np.load(tmp_path / "jawOpen.npy") - at, jaw[vertex], atol=1e-5)
    corner, *uv = np.load(tmp_path / "uv.npy").T
    own = vertex[corner.astype(int)] / len(wanted)
    np.testing.assert_allclose(uv[1], own, atol=1e-5)
    assert set(np.unique(uv[0])) == {0, 1}


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
