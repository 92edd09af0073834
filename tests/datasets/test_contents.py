"""Contents of a data set, counted slowly; what --dry-run counts beside what a run reports."""

import csv
import json

import ict_twin
import numpy as np
import pytest
import trees
from prepared import write_scans

from facedis_core.data.face_set import SPLITS, Labels
from facedis_core.datasets.contents import PreparationReport, count_faces, listing_lines
from facedis_core.datasets.source import ListingReport

HEADER = ["what", "name", "faces", *SPLITS]


def random_labels(faces: int) -> Labels:
    random = np.random.default_rng(0)
    return Labels(
        names=[f"face{k}" for k in range(faces)],
        subjects=[f"person {k}" for k in range(9)],
        expressions=["neutral", "smile", "nobody shows this", "frown"],
        subject=random.integers(0, 9, faces).astype(np.int32),
        expression=random.choice([0, 1, 3], faces).astype(np.int32),
        level=np.zeros(faces, np.float32),
        split=random.integers(0, 3, faces).astype(np.uint8),
    )


def slow_counts(labels: Labels, rows: list[int]) -> list[tuple[str, str, int, dict[str, int]]]:
    """Face by face."""
    found: dict[tuple[str, str], dict[str, int]] = {("all", ""): dict.fromkeys(SPLITS, 0)}
    for what, names in (("expression", labels.expressions), ("subject", labels.subjects)):
        for name in names:
            found[what, name] = dict.fromkeys(SPLITS, 0)
    called = {code: name for name, code in SPLITS.items()}
    for row in rows:
        split = called[int(labels.split[row])]
        found["all", ""][split] += 1
        found["expression", labels.expressions[labels.expression[row]]][split] += 1
        found["subject", labels.subjects[labels.subject[row]]][split] += 1
    return [
        (*key, sum(splits.values()), splits)
        for key, splits in found.items()
        if key == ("all", "") or any(splits.values())
    ]


@pytest.mark.parametrize("count", [0, 20, 200])
def test_counts_against_a_slow_twin(count):
    labels = random_labels(200)
    rows = np.sort(np.random.default_rng(1).choice(200, count, replace=False))
    given = rows if count < 200 else None  # all of them
    assert [tuple(c) for c in count_faces(labels, given)] == slow_counts(labels, rows.tolist())


def test_a_report_names_everything():
    report = PreparationReport(
        "folder",
        "random subjects",
        list(count_faces(random_labels(6))),
        failed={f"f{k}": f"f{k}.ply is broken" for k in range(5)},
        missing=["gone.ply"],
        outliers=["o1"],
        fault=True,
    )
    assert report.faces == 6
    lines = list(report.lines())
    assert [line.partition("(")[2].partition(")")[0] for line in lines] == ["5", "1", "1"]
    assert "f0, f1, f2, ..." in lines[0] and "gone.ply" in lines[1] and "o1" in lines[2]
    made = report.as_dict()
    assert list(made["left_out"]["failed"]) == [f"f{k}" for k in range(5)]
    assert made["counts"][0]["faces"] == sum(made["counts"][0][split] for split in SPLITS) == 6
    assert list(listing_lines(ListingReport())) == []


def table(out: bytes) -> list[dict[str, str]]:
    rows = [line.split("\t") for line in out.decode().splitlines()]
    assert rows[0] == HEADER and {len(row) for row in rows} == {len(HEADER)}
    return [dict(zip(HEADER, row, strict=True)) for row in rows[1:]]


def reported(tmp_path) -> list[dict[str, str]]:
    counts = json.loads((tmp_path / "made.report.json").read_text())["counts"]
    return [{column: str(row[column]) or "-" for column in HEADER} for row in counts]


@pytest.mark.parametrize("drop", ["", " --drop-neutrals"], ids=["kept", "dropped"])
@pytest.mark.parametrize("source", ["folder", "ict"])
def test_a_dry_run_counts_what_a_run_reports(call, tmp_path, source, drop):
    options = f"--jobs 1 --protocol subjects:0.5 --seed 1 --validation 0.4{drop}"
    if source == "ict":
        ict_twin.write_like(tmp_path)
        (tmp_path / "FaceXModel").rename(tmp_path / "data")
        options += " --subjects 4 --like like.safetensors"
    else:
        write_scans(tmp_path / "data")
        (tmp_path / "not.txt").write_text("p1_smile\n")
        options += " --pattern '{subject}_{expression}.ply' --exclude not.txt"
    counted = call(f"fd-prep {source} data {options} --dry-run")
    assert counted.code == 0, counted.err
    done = call(f"fd-prep {source} data {options} -o made.safetensors")
    assert done.code == 0, done.err
    assert table(counted.out) == reported(tmp_path)


PUBLISHED = {
    "bu3dfe": [
        trees.bu3dfe_name(subject, *scan)
        for subject in ("F0001", "F0011", "M0001")
        for scan in [("NE", 0), *(("HA", level) for level in (1, 2, 3, 4))]
    ],
    "facescape": [
        trees.facescape_name(number, expression)
        for number in (1, 2, 122)
        for expression in trees.FACESCAPE_EXPRESSIONS
    ],
    "facewarehouse": [
        trees.facewarehouse_name(tester, shape) for tester in (1, 2, 141) for shape in range(47)
    ],
}


@pytest.mark.parametrize("source", PUBLISHED)
def test_a_dry_run_does_not_count_dropped_neutrals(call, tmp_path, source):
    """Those of two people for training; the one for test keeps its own."""
    trees.touch(tmp_path / "data", PUBLISHED[source])
    kept, dropped = (
        table(call(f"fd-prep {source} data --protocol identity-fold:1/3 --dry-run{drop}").out)
        for drop in ("", " --drop-neutrals")
    )
    neutral = next(row for row in dropped if row["what"] == "expression")
    assert (neutral["faces"], neutral["train"], neutral["test"]) == ("1", "0", "1")
    lost = {"all": 0, "expression": 0, "subject": 0}
    for before, after in zip(kept, dropped, strict=True):
        assert before["name"] == after["name"] and before["test"] == after["test"]
        lost[before["what"]] += int(before["train"]) - int(after["train"])
    assert lost == {"all": 2, "expression": 2, "subject": 2}


def test_neutrals_of_coma_are_known_by_meshes_alone(call, tmp_path):
    options = {"subjects": trees.COMA_SUBJECTS[:1], "expressions": ("bareteeth",), "frames": 16}
    trees.coma(tmp_path / "data", **options)
    counted = call("fd-prep coma data --drop-neutrals --dry-run")
    assert "coma are known by their meshes alone" in counted.err
    done = call("fd-prep coma data --drop-neutrals -o made.safetensors --jobs 1")
    assert "made.safetensors without 2 neutral faces: 1 people (4 train, 10 test)" in done.err
    lost = [trees.coma_name(*trees.COMA_SUBJECTS[:1], "bareteeth", frame) for frame in (15, 16)]
    left_out = json.loads((tmp_path / "made.report.json").read_text())["left_out"]
    assert left_out["neutrals"] == [name.removesuffix(".ply") for name in lost]
    assert table(counted.out)[0]["train"] == "6" and reported(tmp_path)[0]["train"] == "4"


def test_a_dry_run_of_coma_counts_before_anything_is_dropped(call, tmp_path):
    outlier = (trees.COMA_SUBJECTS[0], "bareteeth", 7)
    expressions = ("bareteeth", "mouth_up")
    trees.coma(
        tmp_path / "data",
        subjects=outlier[:1],
        expressions=expressions,
        frames=16,
        outliers=[outlier],
    )
    counted = call("fd-prep coma data --dry-run")
    done = call("fd-prep coma data -o made.safetensors --jobs 1")
    assert (counted.code, done.code) == (0, 0), done.err
    named = trees.coma_name(*outlier).removesuffix(".ply")
    assert f"outliers (1): {named}" in done.err
    before, after = (
        {row["name"]: int(row["faces"]) for row in rows if row["what"] == "expression"}
        for rows in (table(counted.out), reported(tmp_path))
    )
    assert before == {"bareteeth": 16, "mouth_up": 16}
    assert after["bareteeth"] == 15 and after["mouth_up_left"] + after["mouth_up_right"] == 16


def test_names_stay_in_their_column(call, tmp_path):
    trees.touch(tmp_path / "data", ["a.ply", "b.ply"])
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = [["file", "subject", "expression"], ["a.ply", "Ann\tLee", "neutral"]]
        csv.writer(file).writerows([*rows, ["b.ply", "Bob\nOh", "neutral"]])
    done = call("fd-prep folder data --labels labels.csv --dry-run")
    assert done.code == 0, done.err
    shown = {row["name"] for row in table(done.out) if row["what"] == "subject"}
    assert shown == {"'Ann\\tLee'", "'Bob\\nOh'"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "labels.csv"]
