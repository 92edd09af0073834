import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import face
from synthetic import face_set, write_discriminator, write_face_set

from facedis_core.inspection import file_info
from facedis_core.io.safetensors_file import KINDS
from facedis_core.model.bundled import weights_folder


@pytest.fixture
def set_file(tmp_path):
    return write_face_set(tmp_path / "set.safetensors", face_set())


def facts(result):
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def test_a_mesh(call, faces, model):
    (found,) = facts(call("fd-info --json 'faces/eva grün.ply'"))
    assert found["file"] == "faces/eva grün.ply"
    assert found["kind"] == "mesh"
    assert found["name"] == "eva grün"
    assert (found["vertices"], found["triangles"], found["unit"]) == (36, 50, "mm")
    assert found["topology"] == model.topology
    np.testing.assert_allclose(found["maximum"], face(4).max(axis=0), rtol=1e-4)


def test_latents(call, faces, model):
    assert call("fd-encode faces -o all.npy").code == 0
    (found,) = facts(call("fd-info --json all.npy"))
    assert found["kind"] == "latents"
    assert (found["faces"], found["identity"], found["expression"]) == (5, 3, 2)
    assert found["models"] == [model.id]
    assert found["names"][3] == "deep/dan"


def test_rows_of_floats(call, tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((4, 5), np.float32))
    assert facts(call("fd-info --json rows.npy")) == [
        {"file": "rows.npy", "kind": "latents", "faces": 4, "columns": 5}
    ]


def test_a_face_set(call, set_file):
    (found,) = facts(call("fd-info --json --verify set.safetensors"))
    assert found["kind"] == "face set"
    assert (found["faces"], found["subjects"], found["neutrals"]) == (40, 10, 10)
    assert found["splits"] == {"train": 28, "test": 12, "validation": 0}
    assert (found["vertices"], found["triangles"]) == (36, 50)
    assert len(found["id"]) == 12
    verified = found["verified"]
    assert (verified["id"], verified["without_neutral"]) == (found["id"], [])
    assert len(verified["mean_face_mm"]) == 3
    assert 0 < verified["mean_distance_mm"] < verified["maximum_distance_mm"]
    assert verified["farthest"].startswith("person")


def test_nothing_is_verified_unasked(call, faces, model_file, set_file):
    for found in facts(call(f"fd-info --json set.safetensors {model_file} faces/ann.ply")):
        assert "verified" not in found
    assert "verified" not in call("fd-info set.safetensors").out.decode()


def test_a_model(call, model, model_file):
    (found,) = facts(call(f"fd-info --json --verify {model_file}"))
    assert found["kind"] == "model"
    assert found["id"] == model.id
    assert (found["identity"], found["expression"]) == (3, 2)
    assert (found["raw_vertices"], found["raw_unit_mm"]) == (50, 10.0)
    assert found["config"]["channels"] == [8, 16]
    assert found["verified"] == {"id": model.id}


def test_a_discriminator(call, tmp_path):
    write_discriminator(tmp_path / "disc.safetensors")
    (found,) = facts(call("fd-info --json disc.safetensors"))
    assert (found["kind"], found["parameters"], found["vertices"]) == ("discriminator", 6, 36)
    result = call("fd-info --verify disc.safetensors")
    assert (result.code, result.kind) == (3, "id-mismatch")
    assert "1" * 12 in result.line


def test_every_kind_of_file_is_described(call):
    assert set(file_info._DESCRIBERS) == set(KINDS)
    (table,) = (weights_folder() / "arkit").glob("*.safetensors")
    (shown,) = facts(call(f"fd-info --json --verify {table}"))
    assert shown["kind"] == "blendshapes" and "jawOpen" in shown["names"]


def test_several_files_one_line_each(call, faces, set_file):
    found = facts(call("fd-info --json faces/ann.ply faces/bob.ply set.safetensors"))
    assert [fact["kind"] for fact in found] == ["mesh", "mesh", "face set"]


def test_standard_input(call, faces):
    meshes = b"".join((faces / f"{name}.ply").read_bytes() for name in ("ann", "bob"))
    found = facts(call("fd-info --json -", stdin=meshes))
    assert [fact["name"] for fact in found] == ["ann", "bob"]
    (found,) = facts(call("fd-info --json", stdin=call("fd-encode faces").out))
    assert found["faces"] == 5


def test_the_page_for_people(call, faces, model_file, set_file):
    result = call(f"fd-info faces/ann.ply set.safetensors {model_file}")
    assert result.code == 0
    page = result.out.decode()
    assert page.startswith("faces/ann.ply: mesh\n")
    assert "set.safetensors: face set\n" in page
    assert "  raw_unit_mm    10\n" in page


def test_names_stay_on_one_line(call, faces):
    (faces / "ann.ply").rename(faces / "a\nb.ply")
    page = call(["fd-info", "faces/a\nb.ply"]).out.decode()
    assert page.startswith("'faces/a\\nb.ply': mesh\n  name           'a\\nb'\n")


def test_verify_names_who_is_on_both_sides_after_saying_what_it_is(call, tmp_path):
    faces = face_set()
    faces.labels.split[21] = 1
    write_face_set(tmp_path / "leak.safetensors", faces)
    assert call("fd-info leak.safetensors").code == 0
    result = call("fd-info --verify leak.safetensors")
    assert (result.code, result.kind) == (3, "split-overlap")
    assert "'person5'" in result.line
    assert result.out.decode().startswith("leak.safetensors: face set\n")


def test_verify_doubts_faces_in_metres(call, tmp_path):
    faces = face_set()
    names = ("vertices", "neutrals", "neutrals_eval")
    metres = {name: getattr(faces, name) / np.float32(1000) for name in names}
    write_face_set(tmp_path / "m.safetensors", replace(faces, **metres))
    result = call("fd-info --verify m.safetensors")
    assert result.code == 0
    assert result.line.startswith("fd-info: warning: m.safetensors: 0.1")
    assert "fd-prep --units" in result.line
    assert "  verified       mean_face_mm 0.1" in result.out.decode()


def test_verify_names_a_few_who_have_no_neutral(call, tmp_path):
    write_face_set(tmp_path / "set.safetensors", face_set(neutrals=False))
    page = call("fd-info --verify set.safetensors").out.decode()
    names = " ".join(f"person{k}" for k in range(6))
    assert f"  verified       without_neutral {names} ... (10)\n" in page


def test_help_explains_what_the_page_does_not(call):
    page = call("fd-info --help").out.decode()
    for word in ("reach_mm", "protocol", "neutrals_eval"):
        assert f"\n  {word} " in page


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("bad.npy", b"", "empty"),
        ("bad.npy", b"text", "wrong-kind"),
        ("bad.safetensors", b"a text that is long enough", "wrong-kind"),
        ("bad.safetensors", "set.safetensors", "damaged"),  # the beginning of it
        ("bad.ply", "faces/ann.ply", "truncated"),
        ("bad.ply", None, "file-missing"),
    ],
)
def test_bad_files(call, faces, set_file, tmp_path, name, content, kind):
    if content is not None:
        content = content if isinstance(content, bytes) else (tmp_path / content).read_bytes()[:200]
        (tmp_path / name).write_bytes(content)
    result = call(f"fd-info {name}")
    assert (result.code, result.kind) == (3, kind)
    assert result.line.startswith(f"fd-info: {name}")


def test_a_list_of_files(call, faces):
    listed = sorted(str(path) for path in faces.rglob("*.*"))
    result = call("fd-info --json --files-from -", stdin="\0".join([*listed, ""]).encode())
    assert result.code == 0
    assert [json.loads(line)["file"] for line in result.out.splitlines()] == listed


def test_a_folder_is_counted(call, faces, tmp_path):
    (tmp_path / "faces" / "notes.txt").write_text("x")
    (tmp_path / "faces" / "a.npy").write_bytes(b"x")
    found = json.loads(call("fd-info faces --json").out)
    assert found["kind"] == "folder"
    assert (found["meshes"], found["arrays"], found["files"]) == (5, 1, 7)
    assert sum(found["formats"].values()) == 5
    assert found["vertices"] == 36 and found["first"] == "ann.ply"
    (tmp_path / "empty").mkdir()
    assert json.loads(call("fd-info empty --json").out)["meshes"] == 0


def test_reports(call, tmp_path):
    write_face_set(tmp_path / "set.safetensors", face_set())
    assert call("fd-metrics set.safetensors --json -o m.json").code == 0
    found = json.loads(call("fd-info m.json --json").out)
    assert found["kind"] == "report of fd-metrics"
    assert found["faces"] == 12 and found["means"]["e_rec"] > 0
    (tmp_path / "other.json").write_text('{"a": 1}')
    wrong = call("fd-info other.json")
    assert (wrong.code, wrong.kind) == (3, "wrong-kind")
    (tmp_path / "broken.json").write_text('{"a": ')
    assert call("fd-info broken.json").code == 3
