"""Decoded faces put onto original files: fd-decode --onto and fd-transfer of meshes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import face, raw_mesh, raw_order, save_mesh
from raising import raises

from facedis_core.data.latents import read_latents
from facedis_core.data.regions import ICT_SKIN
from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh
from facedis_core.model.model_file import load_model
from facedis_core.pipeline.onto import OntoDecoder, Originals, find_originals

HEAD = "# by hand\r\nmtllib head.mtl\r\no head\r\n"


def write_obj(path, mesh):
    """An OBJ with more in it than a mesh; CRLF."""
    lines = [HEAD[:-2], *("v {!r} {!r} {!r}".format(*v) for v in mesh.vertices.tolist())]
    lines += ["vt 0.5 0.5", "usemtl skin"]
    lines += ["f " + " ".join(f"{k + 1}/1" for k in t) for t in mesh.triangles.tolist()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\r\n".join([*lines, "# end", ""]).encode())


def rest_of(path):
    """All lines but those of vertices."""
    return [line for line in path.read_bytes().split(b"\r\n") if not line.startswith(b"v ")]


@pytest.fixture
def ann(tmp_path):
    """A raw mesh in cm, `ann.obj`, and a prepared face in mm, `bob.ply`."""
    mesh = raw_mesh(face(1), "ann")
    write_obj(tmp_path / "ann.obj", mesh)
    save_mesh(tmp_path / "bob.ply", face(2))
    return mesh


SCALE = 10  # of the expressions of the small model, whose encoder tells faces hardly apart


def wanted(model, one, other, *, detail=True):
    """Offsets (V, 3) mm of the face with the identity of one and the expression of another."""
    a, b = (model.encode_prepared(vertices[None]) for vertices in (one, other))
    new = model.decode_vectors(a.identity, SCALE * b.expression)[0]
    offsets = new - (model.decode_vectors(a.identity, a.expression)[0] if detail else one)
    assert np.abs(offsets).max() > 0.5
    return offsets


@pytest.mark.parametrize("detail", [True, False])
def test_a_raw_mesh_comes_back_with_another_expression(call, ann, model, tmp_path, detail):
    assert call("fd-encode ann.obj -o ann.npy").code == 0
    assert call("fd-encode bob.ply -o bob.npy").code == 0
    assert call(f"fd-transfer ann.npy bob.npy --scale {SCALE} -o both.npy").code == 0
    option = "" if detail else "--no-detail"
    result = call(f"fd-decode both.npy --onto ann.obj {option} -o out.obj")
    assert (result.code, result.err) == (0, "")
    found = read_mesh(tmp_path / "out.obj")
    offsets = wanted(model, face(1), face(2), detail=detail)
    moved = (found.vertices - ann.vertices)[raw_order(len(offsets))] * 10  # cm
    np.testing.assert_allclose(moved, offsets, atol=1e-4)
    assert rest_of(tmp_path / "out.obj") == rest_of(tmp_path / "ann.obj")


def test_its_own_latents_give_the_same_bytes(call, ann, tmp_path):
    assert call("fd-encode ann.obj -o ann.npy").code == 0
    assert call("fd-decode ann.npy --onto ann.obj -o out.obj").code == 0
    assert (tmp_path / "out.obj").read_bytes() == (tmp_path / "ann.obj").read_bytes()
    assert call("fd-decode ann.npy --onto ann.obj").out == (tmp_path / "ann.obj").read_bytes()


def test_pose_and_unit_are_those_of_the_original(call, model, tmp_path, ann):
    """The original is turned; the model aligns it, and the way back is the inverse."""
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    turned = Mesh((ann.vertices @ turn.T + [1, 2, 3]).astype(np.float32), ann.triangles)
    write_obj(tmp_path / "turned.obj", turned)
    for name in ("ann", "turned"):
        line = f"fd-encode {name}.obj --align rigid -o {name}.npy"
        assert call(line).code == 0
    assert call("fd-encode bob.ply -o bob.npy").code == 0
    for name in ("ann", "turned"):
        assert call(f"fd-transfer {name}.npy bob.npy --scale {SCALE} -o both.npy --force").code == 0
        line = f"fd-decode both.npy --onto {name}.obj --align rigid -o {name}_out.obj"
        assert call(line).code == 0
    upright, out = (read_mesh(tmp_path / f"{name}_out.obj").vertices for name in ("ann", "turned"))
    known = raw_order(36)
    np.testing.assert_allclose(out[known], (upright @ turn.T + [1, 2, 3])[known], atol=1e-4)
    assert np.abs(upright - ann.vertices)[known].max() > 0.05  # cm


def test_meshes_in_and_a_mesh_out(call, ann, model, tmp_path):
    result = call(f"fd-transfer ann.obj bob.ply --scale {SCALE} -o ann_as_bob.obj")
    assert (result.code, result.err) == (0, "")
    found = read_mesh(tmp_path / "ann_as_bob.obj").vertices
    moved = (found - ann.vertices)[raw_order(36)] * 10
    np.testing.assert_allclose(moved, wanted(model, face(1), face(2)), atol=1e-4)
    assert rest_of(tmp_path / "ann_as_bob.obj") == rest_of(tmp_path / "ann.obj")


def test_a_head_that_stands_elsewhere(call, ann, model, tmp_path):
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    turned = Mesh((ann.vertices @ turn.T + [1, 2, 3]).astype(np.float32), ann.triangles)
    write_obj(tmp_path / "turned.obj", turned)
    refused = call("fd-transfer turned.obj bob.ply -o out.obj")
    assert (refused.code, refused.kind) == (3, "far-face")
    assert "--align" in refused.line and "--force-encode" in refused.line
    result = call(f"fd-transfer turned.obj bob.ply --align rigid --scale {SCALE} -o out.obj")
    assert (result.code, result.err) == (0, "")
    moved = (read_mesh(tmp_path / "out.obj").vertices - turned.vertices)[raw_order(36)] * 10
    steps = "fd-encode {0} --align rigid -o {1}.npy"
    assert call(steps.format("turned.obj", "t")).code == 0
    assert call(steps.format("bob.ply", "b")).code == 0
    one, two = read_latents(tmp_path / "t.npy"), read_latents(tmp_path / "b.npy")
    offsets = model.decode_vectors(one.identity, SCALE * two.expression)[0] - model.decode(one)[0]
    placed = model.preparation.place(turned, model.mean_face, align="rigid")
    np.testing.assert_allclose(moved, placed.offsets_in_mesh(offsets) * 10, atol=1e-3)
    assert call("fd-transfer turned.obj bob.ply --force-encode -o forced.obj").code == 0
    assert call("fd-export turned.obj --targets directions --align rigid -o t.glb").code == 0


def test_meshes_in_and_latents_out(call, ann, tmp_path):
    assert call("fd-transfer bob.ply ann.obj -o both.npy").code == 0
    rows = read_latents(tmp_path / "both.npy")
    assert rows.names == ["bob__ann"]
    assert call("fd-encode ann.obj -o ann.npy").code == 0
    np.testing.assert_array_equal(rows.expression, read_latents(tmp_path / "ann.npy").expression)
    assert call("fd-transfer ann.npy bob.ply -o other.npy").code == 0
    plain = np.concatenate([rows.identity, rows.expression], axis=1)
    np.save(tmp_path / "plain.npy", plain)
    assert call("fd-transfer plain.npy bob.ply -o third.npy").code == 0


def test_a_folder_is_matched_by_name(call, ann, tmp_path):
    for number, name in enumerate(("eva", "deep/tom", "a__b")):
        write_obj(tmp_path / "heads" / f"{name}.obj", raw_mesh(face(10 + number)))
    assert call("fd-transfer heads bob.ply -o out/").code == 0
    names = {
        path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("out/**/*.obj")
    }
    assert names == {"eva__bob.obj", "deep/tom__bob.obj", "a__b__bob.obj"}
    assert call("fd-encode heads -o heads.npy").code == 0
    assert call("fd-decode heads.npy --onto heads -o same/ --jobs 2").code == 0
    for name in ("eva", "deep/tom", "a__b"):
        same, original = (tmp_path / f / f"{name}.obj" for f in ("same", "heads"))
        assert same.read_bytes() == original.read_bytes()
    assert call("fd-encode bob.ply -o bob.npy").code == 0
    result = call("fd-decode bob.npy --onto heads -o out2/")
    assert result.code == 3 and "heads has no file for 'bob'" in result.err


def test_an_earlier_result_beside_the_originals(call, ann, tmp_path):
    write_obj(tmp_path / "heads/ann.obj", ann)
    assert call("fd-transfer heads bob.ply --scale 9 -o first/").code == 0
    expected = (tmp_path / "first/ann__bob.obj").read_bytes()
    write_obj(tmp_path / "heads/ann__bob.obj", raw_mesh(face(7)))
    assert call("fd-transfer heads bob.ply --scale 9 -o second/").code == 0
    assert (tmp_path / "second/ann__bob.obj").read_bytes() == expected
    originals = find_originals(str(tmp_path / "heads"))
    assert originals.of("ann__bob", ".obj").endswith("heads/ann__bob.obj")  # as of fd-decode


@pytest.mark.parametrize("jobs", [1, 2])
def test_faces_without_a_usable_original_are_skipped(call, ann, tmp_path, jobs):
    for number, name in enumerate(("eva", "ida", "tom")):
        write_obj(tmp_path / "heads" / f"{name}.obj", raw_mesh(face(10 + number)))
    assert call("fd-encode heads bob.ply -o faces.npy").code == 0
    (tmp_path / "heads/ida.obj").write_text("v 0 0\n")
    line = f"fd-decode faces.npy --onto heads --part full --part identity --jobs {jobs}"
    assert call(f"{line} -o stopped/ -o 'stopped/{{name}}_{{part}}.obj'").code == 3
    line += " --keep-going --failures bad.jsonl"
    result = call(f"{line} -o 'out/{{name}}_{{part}}.obj'")
    assert result.code == 1 and "2 of 4 faces were skipped" in result.err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        f"{name}_{part}.obj" for name in ("eva", "tom") for part in ("full", "identity")
    ]
    listed = [json.loads(row) for row in (tmp_path / "bad.jsonl").read_text().splitlines()]
    kinds = [(row["item"], row["kind"]) for row in listed]
    assert kinds == [("ida", "mesh-syntax"), ("bob", "partner-missing")]
    assert "heads/ida.obj" in listed[0]["error"]


def test_a_skipped_face_leaves_no_file(call, ann, tmp_path):
    assert call("fd-encode ann.obj -o ann.npy").code == 0
    before = sorted(path.name for path in tmp_path.iterdir())
    result = call("fd-decode ann.npy --onto none.obj -o out.obj --keep-going")
    assert result.code == 1 and "none.obj" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.slow  # 3 s: two whole heads of a model of the narrow face
def test_the_rest_of_a_turned_head_turns_with_it(tmp_path):
    narrow = load_model("ict-pointnet")
    upright = read_mesh("weights/examples/alice_neutral.ply")
    turn = np.array([[0, 0, 1], [1, 0, 0], [0, 1.0, 0]])
    turned = Mesh((upright.vertices @ turn.T + 20).astype(np.float32), upright.triangles)
    smile = narrow.encode(read_mesh("weights/examples/bob_smile.ply"))
    found = []
    for mesh in (upright, turned):
        write_mesh(tmp_path / "head.ply", mesh)
        latents = replace(narrow.encode(mesh, align="rigid"), expression=smile.expression)
        originals = Originals(str(tmp_path / "head.ply"))
        onto = OntoDecoder(narrow, originals=originals, align="rigid")
        (tmp_path / "out.ply").write_bytes(onto.content(latents, 0, "full", ".ply"))
        found.append(read_mesh(tmp_path / "out.ply").vertices)
    np.testing.assert_allclose(found[1], found[0] @ turn.T + 20, atol=1e-3)
    moved = np.linalg.norm(found[0] - upright.vertices, axis=1)
    assert moved[ICT_SKIN:].max() > 1  # teeth, gums
    # head and neck fade: 0.75 mm where the face moves by 5.9; 2.6 where all of it is carried along
    assert moved[9409:ICT_SKIN].mean() < 1


def test_formats_of_a_folder(tmp_path):
    folder = tmp_path / "heads"
    save_mesh(folder / "ann.ply", face(1))
    assert find_originals(str(folder)).format_for("out/") == ".ply"
    write_obj(folder / "bob.obj", raw_mesh(face(2)))
    originals = find_originals(str(folder))
    with raises("output-pattern: .obj .ply"):
        originals.format_for("out/")
    assert originals.format_for("out/{name}.obj") == ".obj"
    assert originals.of("bob__ann", ".obj") == str(folder / "bob.obj")
    with raises("partner-missing: one by one"):
        originals.of("ann__bob", ".obj")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("fd-decode ann.npy --onto ann.obj -o out.ply", 2, "give a name that ends in .obj"),
        ("fd-decode ann.npy ann.npy --onto ann.obj", 2, "several faces cannot follow"),
        ("fd-decode ann.npy --onto none.obj -o out.obj", 3, "none.obj does not exist"),
        ("fd-decode ann.npy --onto ann.npy -o out.obj", 2, "is no mesh"),
        ("fd-decode ann.npy --onto ann.obj --npy -o out.npy", 2, "leave out --npy"),
        ("fd-decode ann.npy --onto ann.obj --offsets -o out.obj", 2, "leave out --npy and"),
        ("fd-transfer ann.npy bob.ply -o out.ply", 2, "IDENTITY ann.npy is none"),
        ("fd-transfer ann.obj bob.ply -o out.ply", 2, "written onto .obj"),
        ("fd-transfer none.obj bob.ply -o out.obj", 3, "none.obj does not exist"),
        ("fd-transfer ann.obj bob.ply -o ann.obj", 2, "--force"),
    ],
)
def test_what_is_refused(call, ann, tmp_path, line, code, words):
    assert call("fd-encode ann.obj -o ann.npy").code == 0
    before = sorted(path.name for path in tmp_path.iterdir())
    result = call(line)
    assert result.code == code and words in result.err, result.err
    assert len(result.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_original_itself_is_replaced_with_force(call, ann, tmp_path):
    expected = call("fd-transfer ann.obj bob.ply -o new.obj")
    assert expected.code == 0
    assert call("fd-transfer ann.obj bob.ply -o ann.obj --force").code == 0
    assert (tmp_path / "ann.obj").read_bytes() == (tmp_path / "new.obj").read_bytes()


def test_parts(call, ann, model, tmp_path):
    """The identity face on the original takes its expression away."""
    assert call("fd-encode ann.obj -o ann.npy").code == 0
    line = "fd-decode ann.npy --onto ann.obj --part identity --part full -o '{part}.obj'"
    assert call(line).code == 0
    rows = read_latents(tmp_path / "ann.npy")
    offset = model.decode(rows, "identity")[0] - model.decode(rows)[0]
    found = read_mesh(tmp_path / "identity.obj").vertices - ann.vertices
    np.testing.assert_allclose(found[raw_order(36)] * 10, offset, atol=1e-4)
    assert (tmp_path / "full.obj").read_bytes() == (tmp_path / "ann.obj").read_bytes()
