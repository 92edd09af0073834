"""Preparation of a folder with broken and missing files, and where the face set goes."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from conftest import face, save_mesh
from prepared import prepare, scan, write_scans
from raising import raises
from synthetic import grid_mesh

from facedis_core.data.face_set import TRAIN, load_face_set
from facedis_core.datasets import prepare as preparing
from facedis_core.datasets.prepare import PrepareOptions
from facedis_core.datasets.source import open_source
from facedis_core.mesh.ply import write as write_ply

PATTERN = "{subject}_{expression}.ply"
COMMAND = f"fd-prep folder data --pattern {PATTERN!r} --jobs 1 -o set.safetensors"


def other_triangles(path: Path) -> None:
    save_mesh(path, scan(0, 0), grid_mesh()[1][::-1])


def fewer_vertices(path: Path) -> None:
    triangles = grid_mesh()[1]
    save_mesh(path, scan(0, 0)[:-1], triangles[(triangles < 35).all(axis=1)])


def not_finite(path: Path) -> None:
    vertices = scan(0, 0)
    vertices[3, 1] = np.nan
    with path.open("wb") as stream:
        write_ply(stream, vertices, grid_mesh()[1], path.stem, True)


def unreadable(path: Path) -> None:
    """Reading fails, for root as well: the memory of a process begins with nothing."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


SPOILS = {
    "other triangles": other_triangles,
    "35 vertices, expected 36": fewer_vertices,
    "finite": not_finite,
    "": unreadable,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "PLY": lambda path: path.write_bytes(b"<html>404 Not Found</html>\n"),
}


@pytest.fixture
def data(tmp_path):
    return write_scans(tmp_path / "data")


def test_keep_going_makes_the_set_of_the_good_faces(call, data, tmp_path):
    """Every kind of fault at once, the first one in the mesh that would be the reference."""
    clean = write_scans(tmp_path / "clean")
    names = ["p0_neutral", *(f"p{k}_smile" for k in range(6))]
    broken = dict(zip(names, SPOILS, strict=True))
    for name, kind in broken.items():
        SPOILS[kind](data / f"{name}.ply")
    (data / "notes.txt").write_text("scanned in May")
    done = call(f"{COMMAND} --simplify 24 --keep-going")
    assert done.code == 1, done.err
    *warnings, last = done.err.splitlines()
    assert "set.report.json" in last and " 11 " in last
    assert any("could not be used (7): p0_neutral, " in line for line in warnings)
    left_out = json.loads((tmp_path / "set.report.json").read_text())["left_out"]
    assert list(left_out["failed"]) == sorted(names)
    for name, kind in broken.items():  # why, by file
        assert f"{name}.ply" in left_out["failed"][name] and kind in left_out["failed"][name]
    assert left_out["unknown_files"] == ["notes.txt"]
    truth = prepare(
        "folder", clean, tmp_path / "truth.safetensors", exclude=names, pattern=PATTERN, simplify=24
    )
    made = load_face_set(tmp_path / "set.safetensors")
    assert list(made.labels.names) == list(truth.set.labels.names)
    assert made.id == truth.set.id  # of all but the history


@pytest.mark.parametrize("name", ["p0_neutral", "p5_smile"], ids=["reference", "last"])
def test_by_default_one_bad_file_ends_the_command(call, data, tmp_path, name):
    other_triangles(data / f"{name}.ply")
    SPOILS["truncated"](data / f"{name}.ply")
    done = call(COMMAND)
    assert (done.code, done.kind) == (3, "truncated")
    assert f"{name}.ply" in done.line and "--keep-going" in done.line
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("keep_going", [False, True])
def test_every_file_is_broken(data, tmp_path, keep_going):
    for path in data.iterdir():
        SPOILS["truncated"](path)
    with raises("truncated", r"p0_neutral\.ply"):
        prepare("folder", data, tmp_path / "set", pattern=PATTERN, keep_going=keep_going)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_nobody_is_left_to_train_on(data, tmp_path):
    labels = open_source("folder", data, {"pattern": PATTERN}).source.labels
    for name, split in zip(labels.names, labels.split, strict=True):
        if not split:
            SPOILS["truncated"](data / f"{name}.ply")
    with raises("split-empty"):
        prepare("folder", data, tmp_path / "set", pattern=PATTERN, keep_going=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_a_listed_file_that_is_missing(call, tmp_path):
    rows = ["file,subject,expression"]
    for k in range(8):
        save_mesh(tmp_path / "data" / f"{k}.ply", face(k))
        rows.append(f"{k}.ply,p{k % 4},{'neutral' if k < 4 else 'smile'}")
    (tmp_path / "labels.csv").write_text("\n".join([*rows, "gone/8.ply,p0,frown", ""]))
    command = "fd-prep folder data --labels labels.csv --jobs 1 -o set.safetensors"
    done = call(command)
    assert (done.code, done.kind) == (3, "file-missing")
    assert "gone/8.ply" in done.line and "--keep-going" in done.line
    assert not (tmp_path / "set.safetensors").exists()
    done = call(f"{command} --keep-going")
    assert done.code == 1 and "missing files (1): gone/8.ply" in done.err
    report = json.loads((tmp_path / "set.report.json").read_text())
    assert report["left_out"]["missing"] == ["gone/8.ply"]
    made = load_face_set(tmp_path / "set.safetensors")
    assert len(made.labels.names) == 8 and made.history[0].options["keep_going"]


def test_a_set_or_report_that_exists(call, data, tmp_path):
    outputs = [tmp_path / name for name in ("set.safetensors", "set.report.json")]
    for output in outputs:
        output.write_text("mine")
        done = call(COMMAND)
        assert (done.code, done.kind) == (2, "output-exists")
        assert output.name in done.line
        output.unlink()
    for output in outputs:
        output.write_text("mine")
    last = data / "p5_smile.ply"
    content = last.read_bytes()
    SPOILS["truncated"](last)
    assert call(f"{COMMAND} --force").kind == "truncated"
    assert [output.read_text() for output in outputs] == ["mine", "mine"]  # only when all is done
    last.write_bytes(content)
    assert call(f"{COMMAND} --force").code == 0
    assert len(load_face_set(outputs[0]).labels.names) == 18
    assert json.loads(outputs[1].read_text())["left_out"]["failed"] == {}


def test_standard_output_gets_the_same_bytes_and_nothing_else(call, data, tmp_path):
    assert call(COMMAND).code == 0
    whole = (tmp_path / "set.safetensors").read_bytes()
    (tmp_path / "set.safetensors").unlink()
    (tmp_path / "set.report.json").unlink()
    piped = call(COMMAND.replace("set.safetensors", "-"))
    assert (piped.code, piped.out) == (0, whole)
    assert "faces written to standard output: " in piped.line
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_no_room_for_the_output(data, tmp_path, monkeypatch):
    target = tmp_path / "set.safetensors"
    size = (18 + 6) * 36 * 12
    usage = namedtuple("Usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(2 * size - 1))
    with raises("disk-full", r"set\.safetensors .*2.07e-05 GB"):
        prepare("folder", data, target, pattern=PATTERN)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(2 * size))

    def refuse(descriptor, size):
        raise OSError(27, "File too large")

    monkeypatch.setattr(preparing, "reserve_space", refuse)
    with raises("disk-full", "File too large"):
        prepare("folder", data, target, pattern=PATTERN)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_a_dry_run_has_no_output(data):
    plan = preparing.plan_face_set(
        PrepareOptions("folder", data, source_options={"pattern": PATTERN}, dry_run=True)
    )
    with raises("option-conflict"):
        preparing.prepare_face_set(plan)


class TestDropNeutrals:
    """Neutrals of the people for training are left out everywhere, those of others stay."""

    @pytest.fixture
    def both(self, data, tmp_path):
        options = {"pattern": PATTERN, "protocol": "subjects:0.3", "validation": 0.3}
        return [
            prepare("folder", data, tmp_path / f"{drop}.safetensors", drop_neutrals=drop, **options)
            for drop in (False, True)
        ]

    def test_faces_and_neutrals(self, both):
        whole, absent = (made.set for made in both)
        trained = {whole.labels.names[row] for row in whole.rows(TRAIN)}
        lost = {name for name in trained if name.endswith("_neutral")}
        assert lost and set(whole.labels.names) - set(absent.labels.names) == lost
        assert sorted(both[1].report.dropped_neutrals) == sorted(lost)
        assert not both[0].report.dropped_neutrals
        people = {absent.labels.subject[row] for row in absent.rows(TRAIN)}
        for number in range(len(absent.labels.subjects)):
            known = number not in people
            assert np.isfinite(absent.neutrals[number]).all() == known
            assert np.isfinite(absent.neutrals_eval[number]).all() == known
        assert people and len(people) < len(absent.labels.subjects)

    def test_it_is_told(self, both):
        whole, absent = (made.set.history[-1] for made in both)
        assert "drop_neutrals" not in whole.options and absent.options["drop_neutrals"] is True
