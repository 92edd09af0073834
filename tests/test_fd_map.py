"""fd-map, and the commands that take its map."""

import json
from pathlib import Path

import numpy as np
import pytest
from glb import Glb
from rigs import MODEL, head, pose, prepared, rig
from runner import run_command

from facedis_core.data.face_set import load_face_set
from facedis_core.data.latents import read_latents
from facedis_core.data.topology_map import read_map
from facedis_core.geometry.distances import vertex_distances
from facedis_core.io.safetensors_file import read_safetensors, write_safetensors
from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh
from facedis_core.model.model_file import load_model

ENV = {"FACEDIS_MODEL": MODEL}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Meshes of a rig, heads of the model's data set, and the map `m.safetensors`."""
    path: Path = tmp_path_factory.mktemp("rig")
    for name in ("alice_neutral", "alice_smile", "carol_mouth_stretch"):
        write_mesh(path / f"{name}.obj", rig(name))
        write_mesh(path / f"{name}.ply", head(name))
    write_mesh(path / "face.ply", prepared("alice_neutral"))
    line = "fd-map alice_neutral.obj face.ply --units cm -o m.safetensors"
    result = run_command(line, stdin=b"", folder=path, env=ENV)
    assert result.code == 0
    assert "rig -> model -> rig 0.0" in result.err
    assert "expression" not in result.err
    return path


@pytest.fixture
def mapped(folder, call):
    """Run a command in the folder with the model of the map."""
    return lambda line, **options: call(line, folder=folder, env=ENV, **options)


def test_the_pose_of_a_registered_face_is_found(folder):
    found, matrix = read_map(folder / "m.safetensors").pose, np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = found.rotation * found.scale, found.translation
    corners = np.array([[80, 80, 100, 1], [-80, 0, 100, 1], [0, -80, 50, 1.0]])
    assert 10 * np.abs(corners @ (matrix - pose()).T).max() < 0.5  # mm


@pytest.mark.slow
def test_a_head_that_is_not_at_rest_is_told(mapped, folder):
    write_mesh(folder / "open.ply", prepared("carol_mouth_stretch"))
    line = "fd-map carol_mouth_stretch.obj open.ply --units cm -o open.safetensors"
    result = mapped(line)
    assert result.code == 0
    assert "carol_mouth_stretch seems to show an expression" in result.err
    at_rest, shown = (read_map(folder / f"{name}.safetensors") for name in ("m", "open"))
    assert at_rest.quality.expression_mm < 3
    assert shown.quality.expression_mm > 15


@pytest.mark.slow
def test_the_face_of_another_head_is_refused(mapped, folder):
    write_mesh(folder / "carol.ply", prepared("carol_neutral"))
    line = "fd-map alice_neutral.obj carol.ply --units cm -o carol.safetensors"
    result = mapped(line)
    assert (result.code, result.kind) == (3, "no-face")
    assert "carol lies 1." in result.line and "the same head at most 0.9 mm" in result.line


def test_meshes_of_the_rig_are_encoded_like_those_of_the_model(mapped, folder):
    line = "fd-encode {0}.obj carol_mouth_stretch.ply --map m.safetensors -o {0}.npy --force"
    for name in ("alice_smile", "carol_mouth_stretch"):
        result = mapped(line.format(name))
        assert (result.code, result.err) == (0, "")
        rows = read_latents(folder / f"{name}.npy")
        model = load_model(MODEL)
        faces = model.decode_vectors(rows.identity, rows.expression)
        assert vertex_distances(faces[0], prepared(name).vertices).mean() < 1.0
        assert vertex_distances(faces[1], prepared("carol_mouth_stretch").vertices).mean() < 1.0


def test_a_face_goes_onto_a_mesh_of_the_rig(mapped, folder):
    assert mapped("fd-encode alice_neutral.obj --map m.safetensors -o own.npy --force").code == 0
    line = "fd-decode own.npy --map m.safetensors --onto alice_neutral.obj -o own.obj --force"
    assert (result := mapped(line)).code == 0, result.err
    assert (folder / "own.obj").read_bytes() == (folder / "alice_neutral.obj").read_bytes()


def test_a_rig_gets_morph_targets(mapped, folder):
    line = "fd-export {0} --onto {0} --map m.safetensors --targets directions --count 3 -o r.glb"
    assert (result := mapped(line.format("alice_smile.obj"))).code == 0, result.err
    glb = Glb((folder / "r.glb").read_bytes())
    (primitive,) = glb.json["meshes"][0]["primitives"]
    at = glb.array(primitive["attributes"]["POSITION"])
    line = "fd-decode r.npy --map m.safetensors --part identity --onto alice_smile.obj -o rest.obj"
    assert mapped("fd-encode alice_smile.obj --map m.safetensors -o r.npy").code == 0
    assert mapped(line).code == 0
    np.testing.assert_allclose(at, read_mesh(folder / "rest.obj").vertices / 100, atol=1e-6)
    moved = [glb.array(target["POSITION"]) for target in primitive["targets"]]
    covered = read_map(folder / "m.safetensors").rig_covered
    assert all(np.abs(target[covered]).max() > 1e-3 for target in moved)  # m
    half = np.sqrt(0.5)  # the rig has z up, glTF y
    np.testing.assert_allclose(glb.json["nodes"][0]["rotation"], [-half, 0, 0, half], atol=1e-12)


@pytest.mark.parametrize("expression", ["alice_smile.ply", "alice_smile.obj"])
def test_an_expression_of_either_topology_on_a_head_of_the_rig(mapped, folder, expression):
    line = f"fd-transfer alice_neutral.obj {expression} --map m.safetensors -o new.obj --force"
    assert (result := mapped(line)).code == 0, result.err
    covered = read_map(folder / "m.safetensors").rig_covered
    found, true = read_mesh(folder / "new.obj").vertices, rig("alice_smile").vertices
    error = 10 * vertex_distances(found, true)[covered]
    moved = 10 * vertex_distances(rig("alice_neutral").vertices, true)[covered]
    assert error.mean() < 0.35 * moved.mean()
    assert error.mean() < 0.6


def test_a_face_of_the_rig_on_a_head_of_the_model(mapped, folder):
    line = (
        "fd-transfer carol_mouth_stretch.ply alice_smile.obj --map m.safetensors -o c.ply --force"
    )
    assert mapped(line).code == 0
    assert len(read_mesh(folder / "c.ply").vertices) == 26719


def test_a_face_set_of_meshes_of_the_rig(mapped, folder):
    meshes = folder / "meshes"
    meshes.mkdir(exist_ok=True)
    for name in ("alice_neutral", "alice_smile", "carol_mouth_stretch"):
        write_mesh(meshes / f"{name}.obj", rig(name))
    line = "fd-prep folder meshes --pattern {subject}_{expression}.obj --map m.safetensors "
    line += "--like ict-pointnet -o set.safetensors --force --jobs 1"
    assert (result := mapped(line)).code == 0, result.err
    faces = load_face_set(folder / "set.safetensors")
    assert faces.labels.names == ["alice_neutral", "alice_smile", "carol_mouth_stretch"]
    assert faces.preparation.topology == load_model(MODEL).topology
    for name, face in zip(faces.labels.names, faces.vertices, strict=True):
        assert vertex_distances(face, prepared(name).vertices).mean() < 0.5
    step = mapped("fd-info --history set.safetensors").out.decode()
    assert f"map:{read_map(folder / 'm.safetensors').id}" in step
    assert "m.safetensors" not in step  # a path says nothing elsewhere


def test_what_a_map_holds(mapped, folder):
    facts = json.loads(mapped("fd-info --json --verify m.safetensors").out)
    found = read_map(folder / "m.safetensors")
    assert facts["kind"] == "map between topologies"
    assert facts["id"] == facts["verified"]["id"] == found.id
    assert facts["topology"] == load_model(MODEL).topology
    assert (facts["rig_topology"], facts["rig_unit_mm"]) == (found.rig_topology, 10)
    assert 0.95 < facts["coverage"] <= 1
    assert facts["history"][0]["command"] == "fd-map"


@pytest.mark.slow
def test_a_map_without_history_has_the_same_id(mapped, folder):
    (folder / "pose.txt").write_text(" ".join(map(str, pose().ravel())))
    ids = []
    for option in ("", "--no-history"):
        line = (
            f"fd-map alice_neutral.obj face.ply --pose pose.txt {option} -o n.safetensors --force"
        )
        assert mapped(line).code == 0
        ids.append(read_map(folder / "n.safetensors").id)
    assert ids[0] == ids[1]
    assert read_map(folder / "n.safetensors").history == []


@pytest.mark.parametrize(
    ("line", "code", "kind", "named"),
    [
        ("fd-encode odd.obj --map m.safetensors", 3, "vertex-count", "make a map"),
        ("fd-encode other.obj --map m.safetensors", 3, "topology", "--trust-order"),
        ("fd-encode -m ict-linear alice_smile.obj --map m.safetensors", 3, "wrong-model", "fd-map"),
        ("fd-encode alice_smile.obj", 3, "vertex-count", "3040"),
        ("fd-encode alice_smile.obj --map face.ply", 3, "wrong-kind", "PLY"),
        ("fd-encode alice_smile.obj --map odd.obj", 3, "wrong-kind", "as fd-map writes it"),
        ("fd-encode alice_smile.obj --map cut.safetensors", 3, "damaged", "a map between"),
        ("fd-encode alice_smile.obj --map none.safetensors", 3, "file-missing", "none"),
        ("fd-encode alice_smile.obj --map m.safetensors --units m", 3, "unit", "--units cm"),
        ("fd-decode own.npy --map m.safetensors", 2, "option-missing", "--onto"),
        ("fd-decode own.npy --map m.safetensors --onto odd.obj", 3, "vertex-count", "make a map"),
        ("fd-transfer own.npy own.npy --map m.safetensors", 2, "option-conflict", "--map"),
        (
            "fd-prep scans . --map m.safetensors --pattern {subject}_{expression}.obj",
            2,
            None,
            "map",
        ),
        (
            "fd-prep folder . --simplify 9 --map m.safetensors "
            "--pattern {subject}_{expression}.obj",
            2,
            "option-conflict",
            "--simplify",
        ),
        ("fd-map alice_neutral.obj face.ply -o m.npy", 2, "output-suffix", ".safetensors"),
        ("fd-map none.obj -o x.safetensors", 3, "file-missing", "none.obj"),
        ("fd-map odd.obj face.ply --units mm -o x.safetensors", 3, "no-face", "does not lie on"),
        ("fd-map alice_neutral.obj own.npy -o x.safetensors", 3, "wrong-kind", "fd-decode"),
    ],
)
def test_what_cannot_be(mapped, folder, line, code, kind, named):
    mesh = rig("alice_smile")
    write_mesh(folder / "odd.obj", Mesh(mesh.vertices[:900], mesh.triangles[:1] * 0 + [0, 1, 2]))
    write_mesh(folder / "other.obj", Mesh(mesh.vertices, mesh.triangles[::-1]))
    (folder / "cut.safetensors").write_bytes((folder / "m.safetensors").read_bytes()[:-9])
    if not (folder / "own.npy").exists():
        assert mapped("fd-encode alice_neutral.obj --map m.safetensors -o own.npy").code == 0
    out = "" if line.startswith("fd-map") else " -o x.safetensors" if "fd-prep" in line else ""
    result = mapped(line + out)
    assert result.code == code, result.err
    assert kind is None or result.kind == kind
    assert named in result.line
    assert not (folder / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("fd-encode {ply} {rig} -o x.npy", False),
        ("fd-encode {ply} -o x.npy", True),
        ("fd-transfer {ply} {rig} -o x.npy", False),
        ("fd-transfer {ply} {ply} -o x.ply", True),
        ("fd-decode own.npy --onto {rig} -o x.obj", False),
        ("fd-decode own.npy --onto {ply} -o x.ply", True),
        ("fd-decode own.npy --onto {ply} --shard 1/1 -o x/", True),
        pytest.param("fd-decode frames.npy --onto {ply} -j 2 -o x/", True, marks=pytest.mark.slow),
        pytest.param("fd-decode frames.npy --onto {rig} -j 2 -o x/", False, marks=pytest.mark.slow),
        ("fd-export {rig} --onto {ply} --targets directions --count 1 -o x.glb", False),
        ("fd-export {ply} --onto {ply} --targets directions --count 1 -o x.glb", True),
    ],
)
def test_a_map_that_nothing_needs_is_told(mapped, folder, line, told):
    assert mapped("fd-encode alice_neutral.obj --map m.safetensors -o own.npy --force").code == 0
    if "frames" in line:  # more rows than a process decodes at once
        assert mapped("fd-interp own.npy own.npy --steps 17 -o frames.npy --force").code == 0
    line = line.format(ply="alice_smile.ply", rig="alice_smile.obj")
    result = mapped(f"{line} --map m.safetensors --force")
    assert result.code == 0, result.err
    assert ("--map m.safetensors was not used" in result.err) == told


def test_other_triangles_with_trust_order(mapped, folder):
    mesh = rig("alice_smile")
    write_mesh(folder / "other.obj", Mesh(mesh.vertices, mesh.triangles[::-1], "other"))
    line = "fd-encode other.obj --map m.safetensors --trust-order -o other.npy --force"
    assert (result := mapped(line)).code == 0, result.err


@pytest.mark.parametrize(
    ("tensors", "kind"),
    [
        ({"rig": np.zeros((5, 3), "f4")}, "vertex-index"),
        ({"to_rig.columns": None}, "tensor"),
        ({"to_model.starts": None}, "tensor"),
    ],
)
def test_a_damaged_map(mapped, folder, tensors, kind):
    file = read_safetensors(folder / "m.safetensors")
    changed = {**file.tensors, **tensors}
    changed = {name: array for name, array in changed.items() if array is not None}
    metadata = {key: value for key, value in file.metadata.items() if key != "checksum"}
    with (folder / "bad.safetensors").open("wb") as stream:
        write_safetensors(stream, "map", changed, metadata)
    result = mapped("fd-encode alice_smile.obj --map bad.safetensors")
    assert (result.code, result.kind) == (3, kind)
