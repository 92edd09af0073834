"""docs/scripts/study.py: its tables from known reports, and a complete small study."""

import json
import os
import sys
from pathlib import Path

import pytest

from facedis_core.train.recipe import load_recipe

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "docs" / "scripts" / "study.py"
sys.path.insert(0, str(SCRIPT.parent))

import study  # noqa: E402 - its folder had to be on the path
import study_tables  # noqa: E402 - likewise


def summary(mean: float) -> dict[str, float]:
    return {"mean": mean, "std": 0.1, "median": mean, "n": 3}


@pytest.fixture
def made(tmp_path: Path) -> study.Study:
    """A study of two seeds of one cell, whose numbers are known."""
    baselines = {key: {"e_rec": summary(9.0)} for key in study_tables.BASELINES}
    files = {
        "baselines_on_whole.json": {"model": {}, "baselines": baselines},
        "linear-none-0_on_whole.json": {
            "model": {"e_rec": summary(1.0), "expression_chance": 0.05}
        },
        "linear-none-1_on_whole.json": {"model": {"e_rec": summary(2.0)}},
        "linear-none-quarter-0_on_quarter.json": {"model": {"e_rec": summary(7.0)}},
        "linear-none-0_recognized.json": {"model": {"auc_cosine": 0.75}},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    for seed, seconds in ((0, "60"), (1, "120 and more")):
        (tmp_path / f"linear-none-{seed}.safetensors.made").write_text(f"{seconds}\nfd-train\n")
        log = [{"epoch": e, "test": {"e_rec": {"mean": 2 - e / 20}}} for e in range(1, 21)]
        text = "".join(f"{json.dumps(line)}\n" for line in log)
        (tmp_path / f"linear-none-{seed}.jsonl").write_text(text)
    return study.Study(Path("FaceXModel"), tmp_path, 200, range(1), None, None, None, "cpu")


def test_a_row_has_the_mean_of_all_seeds_and_what_is_not_there_is_empty(made: study.Study) -> None:
    lines = list(study_tables.tables(made))
    (row,) = (line for line in lines if line.startswith("| linear | 1.5"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["linear", "1.500 ± 0.707", ""]
    assert cells[-3:] == ["2", "1.5+", "-9.1%, not converged"]
    assert any("0.750" in line and "0.050" in line for line in lines)
    assert sum("9.000" in line for line in lines) == len(study_tables.BASELINES)
    (curve,) = (line for line in lines if "1.950 (1), 1.900 (2)" in line)
    assert curve.startswith("| linear | ")
    assert not any("7.000" in line for line in lines)  # no baselines were measured beside it
    widths = {line.count("|") for line in lines if line.startswith("| linear")}
    assert len(widths) == 3  # of the three tables it is in


@pytest.mark.parametrize(
    ("curve", "told"),
    [
        ({18: 1.0, 20: 0.995}, "-0.5%"),
        ({10: 1.0, 20: 0.96}, "-0.8%"),  # a fifth of what changed in half of it
        ({20: 1.0}, "?"),
        ({2: 1.0, 4: 1.1, 20: 1.32}, "+2.5%, not converged"),
    ],
)
def test_convergence_is_told_from_the_log(
    made: study.Study, curve: dict[int, float], told: str
) -> None:
    log = [{"epoch": e, "test": {"e_rec": {"mean": v}}} for e, v in curve.items()]
    text = "".join(f"{json.dumps(line)}\n" for line in [{"epoch": 1}, *log])
    made.path("linear-none-0.jsonl").write_text(text)
    assert study_tables.last_change(made, study.KINDS["linear"][0]) == told


def test_options_for_fewer_epochs(made: study.Study) -> None:
    cells = study.KINDS["pointnet"][0], study.KINDS["linear"][0]
    short = study.Study(Path(), Path(), 200, range(1), 1024, 16, 6, "cpu")
    words = [" ".join(short._length(cell)) for cell in cells]
    assert words == ["--epochs 16 --evaluate-every 1", "--epochs 6 --evaluate-every 1"]
    assert made._length(cells[0]) == ["--evaluate-every", "10"]


def test_what_was_made_otherwise_is_not_mixed_with_what_is_asked_for(made: study.Study) -> None:
    examples = ROOT / "weights" / "examples"
    alice, bob = (
        ("fd-encode", str(examples / f"{name}_neutral.ply"), "-m", "ict-pointnet")
        for name in ("alice", "bob")
    )
    made.make("face.npy", *alice)
    written = made.path("face.npy").stat()
    made.make("face.npy", *alice)
    assert made.path("face.npy").stat().st_mtime_ns == written.st_mtime_ns
    with pytest.raises(SystemExit, match=r"was made by\n.*alice.*\nnot by\n.*bob"):
        made.make("face.npy", *bob)


@pytest.mark.parametrize("cell", [cell for kind in study.KINDS.values() for cell in kind])
def test_every_cell_is_a_recipe(cell: study.Cell) -> None:
    load_recipe(cell.recipe, neutrals=cell.neutrals, changes=cell.changes)


@pytest.mark.slow
def test_all_of_it_on_a_handful_of_people_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = os.environ.get("FACEDIS_ICT")
    if not root:
        pytest.skip("FACEDIS_ICT does not name the folder FaceXModel")
    linear = study.with_quarters(study.WHOLE_LINEAR[1:2])
    pointnet = study.WHOLE_POINTNET[1:2]
    cells = [*linear, *pointnet]
    assert [cell.quarter for cell in cells] == [False, True, False]
    assert [cell.discriminator for cell in cells] == [False, False, True]
    monkeypatch.setitem(study.KINDS, "linear", linear)
    monkeypatch.setitem(study.KINDS, "pointnet", pointnet)
    out = tmp_path / "out"
    line = [str(SCRIPT), root, "-o", str(out), "--subjects", "8", "--seeds", "1", "--points", "32"]
    line += ["--epochs", "1", "--linear-epochs", "2", "--pretrain-epochs", "1"]
    monkeypatch.setattr(sys, "argv", line)
    study.main()
    tables = (out / "tables.md").read_text()
    assert all(f"| {cell.title} | " in tables for cell in cells)
    for heading in study_tables.VARIATION_HEADINGS.values():
        assert f"## {heading}" in tables
    assert (out / "linear-neutrals-0_recognized.json").exists()
    (out / "tables.md").unlink()
    assert "$ fd-train" in capfd.readouterr().out
    study.main()
    assert "$ fd-" not in capfd.readouterr().out  # nothing was left to do
    assert (out / "tables.md").read_text() == tables
