"""What a data set holds, counted slowly; --dry-run in a shell beside what a run reports."""

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path

import ict_twin
import numpy as np
import pytest
import trees
from conftest import face, save_mesh

from facedis_core.data.face_set import SPLITS, Labels
from facedis_core.datasets.contents import PreparationReport, count_faces, listing_lines
from facedis_core.datasets.source import ListingReport

HEADER = ["what", "name", "faces", *SPLITS]


def random_labels(seed: int, faces: int = 200) -> Labels:
    random = np.random.default_rng(seed)
    return Labels(
        names=[f"face{k}" for k in range(faces)],
        subjects=[f"person {k}" for k in range(9)],
        expressions=["neutral", "smile", "nobody shows this", "frown"],
        subject=random.integers(0, 9, faces).astype(np.int32),
        expression=random.choice([0, 1, 3], faces).astype(np.int32),
        level=np.zeros(faces, np.float32),
        split=random.integers(0, 3, faces).astype(np.uint8),
    )


def slow_counts(labels: Labels, rows: list[int]) -> dict[tuple[str, str], Counter[str]]:
    """Face by face: how many there are in each split, of all and of each class."""
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    split_names = {code: name for name, code in SPLITS.items()}
    for row in rows:
        expression = labels.expressions[labels.expression[row]]
        subject = labels.subjects[labels.subject[row]]
        for key in (("all", ""), ("expression", expression), ("subject", subject)):
            found[key][split_names[int(labels.split[row])]] += 1
    return found


@pytest.mark.parametrize("seed", range(1, 5))
def test_counts_against_a_slow_twin(seed):
    labels = random_labels(seed)
    rows = np.sort(np.random.default_rng(seed).choice(200, 20 * seed, replace=False))
    for made, expected in (
        (list(count_faces(labels, rows)), slow_counts(labels, rows.tolist())),
        (list(count_faces(labels)), slow_counts(labels, list(range(200)))),
    ):
        assert {(what, name): splits for what, name, _, splits in made} == {
            key: {name: counts[name] for name in SPLITS} for key, counts in expected.items()
        }
        assert [count for _, _, count, _ in made] == [sum(c.splits.values()) for c in made]
        kinds = [what for what, _, _, _ in made]
        assert kinds == sorted(kinds)


def test_a_report_names_everything():
    labels = random_labels(1, faces=6)
    report = PreparationReport(
        "folder",
        "random subjects",
        list(count_faces(labels)),
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


def of(rows: list[dict[str, str]], what: str) -> dict[str, list[int]]:
    return {
        row["name"]: [int(row[column]) for column in HEADER[2:]]
        for row in rows
        if row["what"] == what
    }


def counts_in(report: Path) -> list[dict[str, str]]:
    made = json.loads(report.read_text())["counts"]
    return [
        {column: str(row[column] if column != "name" else row["name"] or "-") for column in HEADER}
        for row in made
    ]


@pytest.mark.parametrize(
    "source",
    ["facescape", "folder", "ict"],
)
def test_a_dry_run_counts_what_a_run_reports(call, tmp_path, source):
    root, options = tmp_path / "data", "--jobs 1 --protocol subjects:0.5 --seed 1"
    if source == "facescape":
        trees.facescape(root, expressions=("neutral", "anger"), missing=[(2, "anger")])
        options += " --validation 0.4 --simplify 0"
    elif source == "ict":
        ict_twin.write_folder(root)
        options += " --subjects 4 --like set.safetensors --validation 0.4"
        folder(call, tmp_path)
    else:
        for k in range(12):
            save_mesh(root / f"p{k % 4}_{'neutral' if k < 4 else k // 4}.ply", face(k))
        (tmp_path / "not.txt").write_text("p1_2\n")
        options += " --pattern '{subject}_{expression}.ply' --exclude not.txt"
    counted = call(f"fd-prep {source} data {options} --dry-run")
    assert counted.code == 0, counted.err
    done = call(f"fd-prep {source} data {options} -o made.safetensors")
    assert done.code == 0, done.err
    assert table(counted.out) == counts_in(tmp_path / "made.report.json")


def folder(call, tmp_path: Path) -> None:
    """A set `set.safetensors` whose map made-up people of ICT-FaceKit can follow."""
    vertices, triangles = ict_twin.raw_neutral()
    for person in "ab":
        (tmp_path / "raw").mkdir(exist_ok=True)
        ict_twin.write(tmp_path / "raw" / f"{person}_neutral.obj", vertices, triangles)
    made = call(
        "fd-prep folder raw --pattern '{subject}_{expression}.obj' --units cm -o set.safetensors "
        "--protocol subjects:0.5 --jobs 1"
    )
    assert made.code == 0, made.err


def test_a_dry_run_of_coma_counts_before_anything_is_dropped(call, tmp_path):
    subject = trees.COMA_SUBJECTS[0]
    outlier = (subject, "bareteeth", 7)
    trees.coma(
        tmp_path / "data",
        subjects=[subject],
        expressions=("bareteeth", "mouth_up"),
        frames=16,
        outliers=[outlier],
    )
    counted = call("fd-prep coma data --dry-run")
    done = call("fd-prep coma data -o made.safetensors --jobs 1")
    assert (counted.code, done.code) == (0, 0), done.err
    report = json.loads((tmp_path / "made.report.json").read_text())
    named = trees.coma_name(*outlier).removesuffix(".ply")
    assert report["left_out"]["outliers"] == [named]
    assert "faces dropped as outliers (1): " + named in done.err
    before = of(table(counted.out), "expression")
    after = of(counts_in(tmp_path / "made.report.json"), "expression")
    assert before["bareteeth"][0] == 16 and after["bareteeth"][0] == 15
    sides = [after[name] for name in ("mouth_up_left", "mouth_up_right")]
    assert np.sum(sides, axis=0).tolist() == before["mouth_up"]
    assert report["faces"] == 31


def test_a_dry_run_needs_no_output_and_a_run_does(call, shell, tmp_path):
    trees.touch(tmp_path / "data", ["a_neutral.ply", "b_neutral.ply"])
    command = "fd-prep folder data --pattern '{subject}_{expression}.ply'"
    without = call(command)
    assert without.code == 2 and "-o SET" in without.line and "--dry-run" in without.line
    assert call(f"{command} --dry-run -o set.safetensors").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    first = shell(f"{command} --dry-run | head -n 1")
    assert first.out.decode().split("\t")[0] == "what" and "Traceback" not in first.err


def test_names_stay_in_their_column(call, tmp_path):
    trees.touch(tmp_path / "data", ["a.ply", "b.ply"])
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = [["file", "subject", "expression"], ["a.ply", "Ann\tLee", "neutral"]]
        csv.writer(file).writerows([*rows, ["b.ply", "Bob\nOh", "neutral"]])
    done = call("fd-prep folder data --labels labels.csv --dry-run")
    assert done.code == 0, done.err
    assert set(of(table(done.out), "subject")) == {"'Ann\\tLee'", "'Bob\\nOh'"}


def test_excluded_faces_are_not_counted(call, tmp_path):
    trees.touch(tmp_path / "data", trees.facewarehouse_names()[-13 * 47 :])
    (tmp_path / "not.txt").write_text("Tester_138\nTester_150/Blendshape/shape_3\n")
    done = call("fd-prep facewarehouse data --exclude not.txt --dry-run")
    assert of(table(done.out), "all") == {"-": [563, 94, 469, 0]}
