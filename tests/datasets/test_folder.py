"""A folder of registered meshes: labels and splits by a pattern or by a CSV file."""

import csv

import numpy as np
import pytest
from prepared import write_scans
from raising import raises

from facedis_core.datasets import folder
from facedis_core.datasets.folder import match_files, open_folder
from facedis_core.datasets.source import open_source

PATTERN = "{subject}_{expression}.ply"


@pytest.fixture
def root(tmp_path):
    return write_scans(tmp_path / "scans")


def write_csv(path, rows, columns=("file", "subject", "expression")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_labels_by_pattern(root):
    (root / "notes.txt").write_text("scanned in May")
    source = open_folder(root, pattern=PATTERN)
    labels = source.labels
    assert list(labels.subjects) == [f"p{s}" for s in range(6)]
    assert list(labels.expressions) == ["neutral", "mouth_stretch", "smile"]
    assert len(labels.names) == 18 and labels.names[0] == "p0_mouth_stretch"
    shown = [labels.expressions[e] for e in labels.expression]
    assert all(n.endswith(s) for n, s in zip(labels.names, shown, strict=True))
    assert (labels.level == (labels.expression > 0)).all()
    assert np.bincount(labels.split).tolist() == [12, 6]
    assert source.notes == [] and source.findings.unknown == ["notes.txt"]
    assert source.is_neutral.sum() == 6


def test_labels_by_csv(root, tmp_path):
    rows = [
        ["p0_smile.ply", "ann", "smile", "0.5", "train"],
        ["p1_neutral.ply", "bob", "rest", "0", "test"],
        ["./p2_neutral.ply", "cy", "rest", "", "validation"],
    ]
    columns = ("file", "subject", "expression", "level", "split")
    table = write_csv(tmp_path / "labels.csv", rows, columns)
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())  # as spreadsheets do
    source = open_folder(root, labels=table, neutral="rest")
    labels = source.labels
    assert labels.names == ["p0_smile", "p1_neutral", "p2_neutral"]
    assert labels.level.tolist() == [0.5, 0, 0]
    assert labels.split.tolist() == [0, 1, 2]
    assert source.is_neutral.tolist() == [False, True, True]
    assert source.protocol == "as labelled" and len(source.inputs["labels"]) == 12
    with raises("option-conflict", "--protocol"):
        open_folder(root, labels=table, neutral="rest", protocol="subjects:0.2")


@pytest.mark.parametrize(
    ("more_columns", "rows", "code", "place"),
    [
        (",mood", "", "csv-columns", "mood"),
        ("", "", "empty", "no rows"),
        ("", "p0_smile.ply,ann", "csv-syntax", "line 2"),
        ("", "p0_smile.ply,,smile", "csv-value", "line 2 .*'subject'"),
        (",level", "p0_smile.ply,a,b,2", "csv-value", "line 2 .*'2'"),
        (",level", "p0_smile.ply,a,b,x", "csv-value", "line 2 .*'x'"),
        (",split", "p0_smile.ply,a,b,dev", "csv-value", "line 2 .*'dev'"),
        ("", "no.ply,a,b", "label-missing", "no.ply"),
        ("", "p0_smile.ply,a,b\n./p0_smile.ply,a,c", "label-conflict", "p0_smile.ply"),
        ("", "x/../p0_smile.ply,a,b", "name-invalid", "line 2"),
        (",split", "p0_smile.ply,a,b,train\np1_smile.ply,a,b,test", "split-overlap", "'a'"),
    ],
)
def test_bad_csv(root, tmp_path, more_columns, rows, code, place):
    table = tmp_path / "labels.csv"
    table.write_text(f"file,subject,expression{more_columns}\n{rows}\n")
    with raises(code, place):
        open_folder(root, labels=table)


def test_many_missing_files_are_labels_of_another_folder(root, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_MOST_MISSING", 1)
    rows = [[f"{k}.ply", "ann", "smile"] for k in range(3)]
    table = write_csv(tmp_path / "labels.csv", [["p0_smile.ply", "ann", "smile"], *rows])
    with raises("label-missing", r" 3, such as 0\.ply"):
        open_folder(root, labels=table)


def test_bad_folders_and_options(root, tmp_path):
    (tmp_path / "empty").mkdir()
    with raises("empty"):
        open_folder(tmp_path / "empty", pattern=PATTERN)
    with raises("not-a-folder"):
        open_folder(tmp_path / "none", pattern=PATTERN)
    with raises("pattern-mismatch", r"p0_mouth_stretch\.ply"):
        open_folder(root, pattern="{subject}-{expression}.ply")
    with raises("option-missing", "--pattern"):
        open_folder(root)
    with raises("neutral-missing", "'calm'"):
        open_folder(root, pattern=PATTERN, neutral="calm")
    with raises("option-conflict", "--subjects; it is for ict"):
        open_source("folder", root, {"pattern": PATTERN, "subjects": 5, "seed": 0})
    with raises("option-value", "coma2.*coma, bu3dfe"):
        open_source("coma2", root, {})


def test_two_files_of_one_name(root):
    (root / "p0_smile.obj").touch()
    with raises("name-duplicate", r"p0_smile\.obj and p0_smile\.ply"):
        open_folder(root, pattern="{subject}_{expression}.*")


def test_level_in_a_name(tmp_path):
    (tmp_path / "a_b_3.ply").touch()
    with raises("csv-value", r"a_b_3\.ply"):
        match_files(tmp_path, "{subject}_{expression}_{level}.ply")


def test_a_file_name_with_a_control_character(tmp_path):
    (tmp_path / "an\nn_smile.ply").touch()
    with raises("name-invalid", "control character"):
        open_folder(tmp_path, pattern="{subject}_{expression}.ply")
