"""docs/scripts/study.py: its tables from known reports, and a complete small study."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import random_model

from facedis_core.model.model_file import write_model
from facedis_core.train.recipe import load_recipe

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "docs" / "scripts" / "study.py"
sys.path.insert(0, str(SCRIPT.parent))

import study  # noqa: E402 - its folder had to be on the path
import study_tables  # noqa: E402 - likewise

LABELLED, PRESENT = study.KINDS["linear"][:2]


def summary(mean: float) -> dict[str, float]:
    return {"mean": mean, "std": 0.1, "median": mean, "n": 3}


def report(e_rec: float, labelled: float) -> dict:
    """A report of fd-metrics with the labelled and the present model of seed 0 or 1."""
    interval = {"low": e_rec - 0.01, "high": e_rec + 0.01}
    baselines = {
        "pca": {"condition": "present", "components": 128, "e_rec": summary(0.5)},
        "ridge_neutral_2x": {"condition": "labelled", "components": 256, "e_rec": summary(9.0)},
        "flame_like": {"condition": "labelled", "components": 128, "e_rec": summary(0.25)},
    }
    seed = 0 if e_rec < 2 else 1
    names = [f"{cell.key}-{seed}" for cell in (LABELLED, PRESENT)]
    probes = {"rank1_cosine_accuracy": 0.5, "identity_from_expression_accuracy": 0.125}
    models = {
        names[0]: {"e_rec": summary(labelled), **probes},
        names[1]: {"e_rec": summary(e_rec)},
    }
    strongest = {names[0]: {"e_rec": {"baseline": "pca", "mean": 0.5, "ratio": labelled / 0.5}}}
    return {
        "models": models,
        "intervals": {"models": {name: {"e_rec": interval} for name in names}},
        "baselines": baselines if seed == 0 else {},
        "strongest_baselines": {"models": strongest},
    }


@pytest.fixture
def made(tmp_path: Path) -> study.Study:
    """A study of two seeds of two cells, whose numbers are known."""
    for name, content in {
        "0_on_plain": report(1.0, 0.75),
        "1_on_plain": report(2.0, 1.75),
        "0_on_moved": report(1.5, 1.25),
    }.items():
        (tmp_path / f"{LABELLED.group}-{name}.json").write_text(json.dumps(content))
    return study.Study(Path("FaceXModel"), tmp_path, 200, range(2))


def rows(lines: list[str], heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    start = next(i for i, line in enumerate(lines) if line.strip() == f"## {heading}") + 1
    found = []
    for line in lines[start:]:
        if line.startswith("\n## "):
            break
        if line.startswith("|"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found[2:]


def test_models_have_intervals_and_the_baselines_of_their_condition(made: study.Study) -> None:
    found = rows(list(study_tables.tables(made)), "Test people, with the first seed")
    numbers = [
        ["0.750 (0.990 to 1.010)", "", "", "0.500", "0.125", ""],
        ["0.250", *[""] * 5],
    ]
    assert found[0] == ["**labelled**", *[""] * 7]
    assert found[1] == ["`linear`", "64 + 64", *numbers[0]]
    assert found[2] == ["FLAME's linear model", "128", *numbers[1]]
    assert [row[0] for row in found[3:]] == ["**present**", "`linear`", "PCA, not split"]


def test_ratios_ranges_and_variations(made: study.Study) -> None:
    lines = list(study_tables.tables(made))
    named = rows(lines, "Ratios to the strongest baselines of the condition")
    assert [row[:4] for row in named] == [
        ["labelled", "`linear`", "64 + 64", "1.50 (PCA, not split)"]
    ]
    ranges = rows(lines, "Ranges over seeds")
    assert [row[3:5] for row in ranges] == [["2", "0.750 to 1.750"], ["2", "1.000 to 2.000"]]
    varied = rows(lines, "Test people shown otherwise")
    assert [row[3:6] for row in varied if row[0] == "labelled"] == [
        ["as in training", "0.750 (0.990 to 1.010)", "1.50"],
        ["moved (2 degrees, 1 mm)", "1.250 (1.490 to 1.510)", "2.50"],
    ]
    assert not any("quarter" in line for line in lines)  # a table without a row


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
    cell = study.KINDS["pointnet"][0]
    log = [{"epoch": e, "test": {"e_rec": {"mean": v}}} for e, v in curve.items()]
    text = "".join(f"{json.dumps(line)}\n" for line in [{"epoch": 1}, *log])
    made.path(f"{cell.key}-0.jsonl").write_text(text)
    made.path(f"{cell.key}-0.safetensors.made").write_text("90 and more\nfd-train\n")
    (row,) = rows(list(study_tables.tables(made)), "Length of the trainings")
    assert row[2:4] == ["1.5+", told]
    assert row[4].startswith(f"{curve[min(curve)]:.3f} ({min(curve)})")


def test_a_system_has_its_size_and_its_times(made: study.Study) -> None:
    assert not any("All systems" in line for line in study_tables.tables(made))
    model = made.path(f"{LABELLED.key}-0.safetensors")
    write_model(model, random_model(identity=5, expression=3, components=8))
    made.path(f"{model.name}.made").write_text("90\nfd-train\n")
    (row,) = rows(list(study_tables.tables(made)), "All systems")
    linear = 5 * (8 + 1) + 3 * (8 + 1) + 8 * (5 + 1) + 8 * (3 + 1)  # heads and decoders
    assert row[:4] == ["labelled", "`linear`", "64 + 64", "0.750 (0.990 to 1.010)"]
    assert [row[6], row[7], row[9]] == [f"{linear}", "1.5", "closed form"]
    assert 0 < float(row[8]) < 1000
    again = rows(list(study_tables.tables(made)), "All systems")
    assert again == [row]  # the time is measured once


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
    with made.path("other.npy.making").open("w") as another_process:
        fcntl.flock(another_process, fcntl.LOCK_EX)
        assert not made.make("other.npy", *bob, wait=False)
    assert not made.path("other.npy").exists()
    assert made.make("other.npy", *bob, wait=False) and made.path("other.npy").exists()
    assert not list(made.out.glob("*.making"))


SAVES_SLOWLY = """
import signal, sys, time
from pathlib import Path
def save(*_):
    time.sleep(0.4)
    target.write_text("saved")
    sys.exit(130)
target = Path(sys.argv[-2])
signal.signal(signal.SIGINT, save)
target.with_name("running").touch()
time.sleep(60)
"""


def test_after_ctrl_c_a_command_saves_its_state(tmp_path: Path) -> None:
    (tmp_path / "fd_saves.py").write_text(SAVES_SLOWLY)
    target = tmp_path / "model"
    code = "import sys, pathlib, resumable as r\n"
    code += "r.interruptible(lambda: r.make(pathlib.Path(sys.argv[1]), 'fd-saves'))"
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(target)],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{SCRIPT.parent}"},
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "running").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    _, err = run.communicate(timeout=30)
    assert (run.returncode, err) == (130, "interrupted; the same command resumes\n")
    assert target.read_text() == "saved" and not target.with_name("model.made").exists()


@pytest.mark.parametrize("cell", [cell for kind in study.KINDS.values() for cell in kind])
def test_every_cell_is_a_recipe(cell: study.Cell) -> None:
    changes = [change.removeprefix("--set=") for change in cell.changes]
    recipe = load_recipe(cell.recipe, neutrals=cell.condition == "labelled", changes=changes)
    assert bool(recipe.discriminator) >= cell.discriminator
    plain = replace(
        load_recipe(cell.recipe, neutrals=cell.condition == "labelled"),
        identity=recipe.identity,
        expression=recipe.expression,
    )
    assert (recipe == plain) == (not cell.changed and not cell.to_neutral)


def test_a_cell_tells_the_latents_that_its_network_has() -> None:
    cells = study.KINDS["compared"]
    found = {(cell.title, cell.condition): cell.latents for cell in cells}
    assert found["`conv-mesh-ae`", "present"] == "0 + 8"
    assert found["`conv-mesh-ae`", "labelled"] == "8 + 0"
    assert found["`conv-mesh-ae`, to estimates", "absent"] == "8 + 0"
    assert found["`kacem`", "present"] == "64 + 0"
    assert found["`jiang`, deformation", "labelled"] == "50 + 25"
    closed = {cell.recipe for kind in study.KINDS.values() for cell in kind if cell.is_closed_form}
    assert closed == {"linear", "bilinear", "flame-like"}


def test_cells_have_names_of_their_own() -> None:
    keys = [cell.key for kind in study.KINDS.values() for cell in kind]
    assert len(set(keys)) == len(keys)


@pytest.mark.slow
def test_all_of_it_on_a_handful_of_people_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = os.environ.get("FACEDIS_ICT")
    if not root:
        pytest.skip("FACEDIS_ICT does not name the folder FaceXModel")
    linear = study.KINDS["linear"]
    # labelled, absent, bilinear, labelled with few people
    kept = (linear[0], linear[2], linear[3], linear[-6])
    assert [cell.few for cell in kept] == [False, False, False, True]
    monkeypatch.setitem(study.KINDS, "linear", kept)
    monkeypatch.setitem(study.KINDS, "pointnet", study.KINDS["pointnet"][1:2])
    monkeypatch.setitem(study.KINDS, "changed", study.KINDS["changed"][2:3])
    monkeypatch.setitem(study.KINDS, "compared", study.KINDS["compared"][4:5])
    variations = ("moved",)  # the others are made and measured as this
    monkeypatch.setattr(study, "VARIATIONS", variations)
    out = tmp_path / "out"
    line = [str(SCRIPT), root, "-o", str(out), "--subjects", "8", "--seeds", "1", "--points", "32"]
    line += ["--epochs", "1", "--pretrain-epochs", "1", "--simplify", "1000"]
    monkeypatch.setattr(sys, "argv", line)
    study.main()
    lines = (out / "tables.md").read_text().splitlines()
    assert sum(line.startswith("| `linear` | 64 + 64 |") for line in lines) == 3
    assert sum(line.startswith("| `bilinear` | 64 + 64 |") for line in lines) == 1
    assert sum(line.startswith("| `pointnet`, discriminator | 64 + 64 |") for line in lines) == 1
    changed = "`pointnet`, discriminator, no laplacian"
    assert any(line.startswith(f"| {changed} | 64 + 64 |") for line in lines)
    systems = lines[lines.index("## All systems") :]
    assert sum("`conv-mesh-ae` | 8 + 0" in line for line in systems) == 1
    (row,) = (line for line in lines if line.startswith("| `conv-mesh-ae` | 8 + 0 |"))
    assert row.split("|")[3].strip() == "" and "to" in row.split("|")[5]  # AVD_neu, no E_rec
    for name in variations:
        assert any(study_tables.VARIATIONS[name] in line for line in lines)
    (out / "tables.md").unlink()
    assert "$ fd-train" in capfd.readouterr().out
    study.main()
    assert "$ fd-" not in capfd.readouterr().out  # nothing was left to do
    assert (out / "tables.md").read_text().splitlines() == lines
