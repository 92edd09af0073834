"""Face sets as meshes: what is written, and back."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from synthetic import face_set, write_face_set

from facedis_core.data.face_set import load_face_set
from facedis_core.mesh.mesh import read_mesh


@pytest.fixture
def original(tmp_path):
    """10 people x 4 expressions, with splits and neutrals."""
    return load_face_set(write_face_set(tmp_path / "set.safetensors", face_set()))


def test_there_and_back(call, original, tmp_path):
    done = call("fd-prep --export set.safetensors out")
    assert (done.code, done.line) == (0, f"{len(original.labels.names)} faces written to out")
    again = "fd-prep folder out/faces --labels out/labels.csv -o again.safetensors"
    assert call(again).code == 0
    found = load_face_set(tmp_path / "again.safetensors")
    old, new = original.labels, found.labels
    order = [new.names.index(name) for name in old.names]
    np.testing.assert_array_equal(found.vertices[order], original.vertices)
    np.testing.assert_array_equal(found.triangles, original.triangles)
    for key in ("level", "split"):
        np.testing.assert_array_equal(getattr(new, key)[order], getattr(old, key))
    for key, classes in (("subject", "subjects"), ("expression", "expressions")):
        before, after = (
            [getattr(labels, classes)[k] for k in getattr(labels, key)] for labels in (old, new)
        )
        assert [after[row] for row in order] == before


def test_neutrals_and_labels(call, original, tmp_path):
    assert call("fd-prep --export set.safetensors out").code == 0
    for person, subject in enumerate(original.labels.subjects):
        path = tmp_path / "out" / "neutrals" / f"{subject}.ply"
        assert path.exists() == np.isfinite(original.neutrals[person]).all()
        if path.exists():
            np.testing.assert_array_equal(read_mesh(path).vertices, original.neutrals[person])
    with (tmp_path / "out" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(original.labels.names)


def test_a_region(call, tmp_path):
    region = np.arange(36) % 5 < 2
    write_face_set(tmp_path / "set.safetensors", replace(face_set(), region=region))
    assert call("fd-prep --export set.safetensors out").code == 0
    again = "fd-prep folder out/faces --labels out/labels.csv --region out/region.txt -o again"
    assert call(f"{again}.safetensors").code == 0
    np.testing.assert_array_equal(load_face_set(tmp_path / "again.safetensors").region, region)


def test_metrics_read_what_was_written(call, original):
    assert call("fd-prep --export set.safetensors out").code == 0
    line = "fd-metrics --truth out/faces --predicted out/faces --labels out/labels.csv --json"
    found = call(line)
    assert found.code == 0, found.err
    assert json.loads(found.out)["model"]["e_rec"]["mean"] == 0


def test_names_that_are_no_text_leave_nothing(call, tmp_path):
    faces = face_set()
    names = ["\udce9l\udce8ve", *faces.labels.subjects[1:]]
    labels = replace(faces.labels, subjects=names)
    write_face_set(tmp_path / "set.safetensors", replace(faces, labels=labels))
    refused = call("fd-prep --export set.safetensors out")
    assert (refused.code, refused.kind) == (3, "name-invalid"), refused.err
    assert not (tmp_path / "out").exists()


def test_existing_files_are_safe(call, original, tmp_path):
    (tmp_path / "out" / "faces").mkdir(parents=True)
    name = original.labels.names[7]
    mine = tmp_path / "out" / "faces" / f"{name}.ply"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(b"mine")
    refused = call("fd-prep --export set.safetensors out")
    assert (refused.code, refused.kind) == (2, "output-exists")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [mine]
    assert mine.read_bytes() == b"mine"
    assert call("fd-prep --export set.safetensors out --force").code == 0
    assert mine.read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("line", "code", "kind"),
    [
        ("--export set.safetensors out -o x.safetensors", 2, "option-conflict"),
        ("--export set.safetensors out --protocol paper", 2, "option-conflict"),
        ("--export nosuch.safetensors out", 3, "file-missing"),
        ("--export model.safetensors out", 3, "wrong-kind"),
    ],
)
def test_what_is_refused(call, original, model_file, tmp_path, line, code, kind):
    (tmp_path / "model.safetensors").write_bytes(model_file.read_bytes())
    refused = call(f"fd-prep {line}")
    assert (refused.code, refused.kind) == (code, kind), refused.err
    assert not (tmp_path / "out").exists()
