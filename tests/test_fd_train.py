"""fd-train: files, log, interruption, bad input."""

import fd_cli

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic
from conftest import contents
from trainers import interrupted

import fd_training_cli
from facedis_core.data.face_set import load_face_set
from facedis_core.model.config import LinearConfig
from facedis_core.model.model_file import load_model
from facedis_core.train.checkpoint import load_discriminator
from facedis_core.train.recipe import Recipe

LINEAR = "--recipe linear --set identity=6 --set expression=5"
LINEAR_STEPS = f"{LINEAR} --set batch=7"  # with a length
# Every PointNet layer has its real width; the faces are few and small.
SMALL = (
    "--recipe pointnet --set identity=4 --set expression=3 --set batch=7 --set half_decoders=false"
)


@pytest.fixture
def face_set(tmp_path: Path) -> Path:
    return synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set())


def log_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_train_writes_a_model_that_encodes_and_a_log(call, face_set: Path, tmp_path: Path) -> None:
    done = call(f"fd-train set.safetensors -o m.safetensors {SMALL} --epochs 2")
    assert done.code == 0, done.err
    assert done.out == b""
    assert "untrained" in done.err  # the discriminator, and what to do about it
    size = "28 training faces of 7 people, 7 a step: 4 steps an epoch, 8 steps (2 epochs) in all"
    assert size in done.err.splitlines()
    model = load_model(tmp_path / "m.safetensors")
    assert (model.config.identity, model.config.expression) == (4, 3)
    assert model.history[-1].command == "fd-train"
    assert model.history[-1].options["recipe"] == "pointnet"
    records = log_of(tmp_path / "m.jsonl")
    assert [r["epoch"] for r in records] == [1, 2]
    for record in records:
        assert {"total", "reconstruction", "kl_identity", "real_accuracy"} <= set(record)
        assert record["test"]["e_rec"]["n"] == 12
        assert {"e_dis", "avd_neu", "between_subject"} <= set(record["test"])
    assert model.metrics["test"] == records[-1]["test"]
    assert not (tmp_path / "m.state.safetensors").exists()
    measured = call("fd-metrics set.safetensors -m m.safetensors --json")
    found = json.loads(measured.out)["model"]
    assert found["e_rec"]["mean"] == pytest.approx(model.metrics["test"]["e_rec"]["mean"], abs=1e-4)


def test_a_length_in_steps(call, face_set: Path, tmp_path: Path) -> None:
    done = call(f"fd-train set.safetensors -o m.safetensors {LINEAR_STEPS} --steps 6")
    assert done.code == 0, done.err
    assert "4 steps an epoch, 6 steps (1.5 epochs) in all" in done.err
    assert "7 training people are few" not in done.err  # for 6 identity latents
    assert [r["step"] for r in log_of(tmp_path / "m.jsonl")] == [4, 6]
    assert load_model(tmp_path / "m.safetensors").metrics["steps"] == 6


def test_what_a_set_is_too_small_for(call, face_set: Path) -> None:
    line = "fd-train set.safetensors -o m.safetensors --recipe linear --steps 1"
    done = call(f"{line} --set batch=64")
    assert "7 training people are few for 64 identity latents" in done.err
    assert "28 training faces, fewer than a batch of 64" in done.err
    done = call("fd-train set.safetensors -o fit.safetensors --recipe linear")
    assert done.code == 0 and "fewer than a batch" not in done.err  # without steps no batches


def test_people_without_a_neutral_are_counted(call, tmp_path: Path) -> None:
    faces = synthetic.face_set()
    train = np.unique(faces.labels.subject[faces.rows("train")])
    faces.neutrals[train[:2]] = np.nan
    synthetic.write_face_set(tmp_path / "set.safetensors", faces)
    message = "2 of 7 training people have no neutral"
    assert message in call(f"fd-train set.safetensors -o a.safetensors {LINEAR} --neutrals").err
    assert message not in call(f"fd-train set.safetensors -o b.safetensors {LINEAR}").err


def test_two_faces_a_person_are_few_to_estimate_a_neutral(call, tmp_path: Path) -> None:
    for expressions in (2, 3):
        faces = synthetic.face_set(expressions=expressions)
        synthetic.write_face_set(tmp_path / f"set{expressions}.safetensors", faces)
    message = "no training person has 3 faces"
    assert message in call(f"fd-train set2.safetensors -o a.safetensors {LINEAR}").err
    assert (
        message not in call(f"fd-train set2.safetensors -o b.safetensors {LINEAR} --neutrals").err
    )
    assert message not in call(f"fd-train set3.safetensors -o c.safetensors {LINEAR}").err


@pytest.mark.parametrize(
    ("options", "kind"),
    [("", "medoid"), ("--set pseudo_neutral=centre", "centre"), ("--neutrals", "none")],
)
def test_estimate_of_neutrals_is_told_and_stored(call, face_set, tmp_path, options, kind) -> None:
    done = call(f"fd-train set.safetensors -o m.safetensors {LINEAR} {options}")
    told = "" if kind == "none" else f", neutrals estimated as {kind}s"
    line = f"28 training faces of 7 people{told}: fitted in closed form"
    assert line in done.err.splitlines()
    assert load_model(tmp_path / "m.safetensors").recipe["pseudo_neutral"] == kind


class Clock:
    """In place of `time`: seconds that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def test_lines_now_and_then_where_stderr_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, trainer = Clock(), SimpleNamespace(steps=4000, steps_done=1000)
    monkeypatch.setattr(fd_training_cli, "time", clock)
    lines = fd_training_cli.ProgressLines(trainer)
    for _ in range(3000):
        trainer.steps_done += 1
        clock.seconds += 1.0
        lines.show_step()
        if trainer.steps_done == 1030:
            lines.add_record({"epoch": 3, "step": 1030, "test": {"e_rec": {"mean": 1.25}}})
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "step 1,005 of 4,000, about 50 min left"
    assert shown[1] == "step 1,065 of 4,000, about 49 min left, E_rec 1.25 mm"
    assert 5 < len(shown) < 20


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (5339, "89 min"), (5700, "1 h 35 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert fd_cli.duration(seconds) == text


def test_help_lists_the_keys_of_set(call) -> None:
    words = set(re.findall(r"\w+", call("fd-train --help").out.decode()))
    assert {field.name for field in fields(Recipe)} <= words


@pytest.mark.slow
def test_same_seed_same_bytes_another_seed_others(call, face_set: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        line = f"fd-train set.safetensors -o {name}.safetensors {SMALL} --epochs 1 --seed {seed}"
        assert call(line).code == 0
    a, b, c = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_pipe_gets_the_same_bytes_as_a_file(call, face_set: Path, tmp_path: Path) -> None:
    line = f"fd-train set.safetensors {SMALL} --epochs 1 --discriminator none -o"
    piped = call(f"{line} -")
    assert piped.code == 0, piped.err
    assert call(f"{line} m.safetensors").code == 0
    assert piped.out == (tmp_path / "m.safetensors").read_bytes()


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_reaches_the_bytes_of_an_unbroken_run(
    call, face_set: Path, commands: Path, tmp_path: Path
) -> None:
    options = f"{SMALL} --epochs 12"
    assert call(f"fd-train set.safetensors -o whole.safetensors {options}").code == 0
    line = f"set.safetensors -o broken.safetensors {options}"
    assert "--resume" in interrupted(commands / "fd-train", line, tmp_path)
    assert load_model(tmp_path / "broken.safetensors")
    assert (tmp_path / "broken.state.safetensors").exists()
    resume_and_compare(call, tmp_path, options)
    assert not (tmp_path / "broken.state.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "disk"),
    [
        (f"{LINEAR_STEPS} --epochs 40 --evaluate-every 40", False),
        (f"{SMALL} --epochs 5 --evaluate-every 5", True),
    ],
    ids=["linear", "pointnet"],
)
def test_a_killed_run_goes_on_to_the_bytes_of_an_unbroken_one(
    call, shell, face_set: Path, commands: Path, tmp_path: Path, options: str, disk: bool
) -> None:
    """Killed after a few checkpoints, in the middle of an epoch or not."""
    assert call(f"fd-train set.safetensors -o whole.safetensors {options}").code == 0
    line = f"set.safetensors -o broken.safetensors {options} --checkpoint-minutes 0"
    run = subprocess.Popen([str(commands / "fd-train"), *line.split()], cwd=tmp_path)
    state = tmp_path / "broken.state.safetensors"
    seen: set[int] = set()
    while len(seen) < 4 and run.poll() is None:
        if state.exists():
            seen.add(state.stat().st_mtime_ns)
        time.sleep(0.001)
    run.kill()
    run.wait()
    assert state.exists(), "the run ended before it was killed"
    if disk:
        check_a_full_disk_keeps_the_state(shell, state, f"fd-train {line} --resume")
    resume_and_compare(call, tmp_path, options)
    assert not state.exists()


@pytest.mark.slow
def test_a_damaged_state_is_refused_and_the_one_before_it_is_kept(
    call, face_set: Path, commands: Path, tmp_path: Path
) -> None:
    options = f"{LINEAR_STEPS} --epochs 40 --evaluate-every 40"
    assert call(f"fd-train set.safetensors -o whole.safetensors {options}").code == 0
    line = f"set.safetensors -o broken.safetensors {options} --checkpoint-minutes 0"
    (tmp_path / "broken.safetensors").touch(0o600)
    interrupted(commands / "fd-train", f"{line} --force", tmp_path)
    state, previous = (
        tmp_path / f"broken.{name}.safetensors" for name in ("state", "state.previous")
    )
    for path in tmp_path.glob("broken.*"):
        assert path.stat().st_mode & 0o777 == 0o600, path  # as the model that was replaced
    with state.open("r+b") as stream:
        stream.seek(-4096, os.SEEK_END)
        stream.write(bytes(4096))
    before = contents(tmp_path)
    done = call(f"fd-train {line} --resume")
    assert (done.code, done.kind) == (3, "damaged"), done.err
    assert f"rename {previous.name} to {state.name}" in done.line
    assert contents(tmp_path) == before
    previous.replace(state)
    resume_and_compare(call, tmp_path, options)
    assert not state.exists() and not previous.exists()


def check_a_full_disk_keeps_the_state(shell, state: Path, command: str) -> None:
    """Where the model still fits, but not the state, which is many times larger."""
    before, files = state.read_bytes(), {path.name for path in state.parent.iterdir()}
    done = shell(f"ulimit -f {len(before) // 2 // 1024}; {command}")
    assert done.code == 4, done.err
    assert "broken.state.safetensors" in done.err.splitlines()[-1]
    assert "too large" in done.err.splitlines()[-1]
    assert state.read_bytes() == before
    assert {path.name for path in state.parent.iterdir()} == files | {"broken.jsonl"}


def resume_and_compare(call, folder: Path, options: str) -> None:
    """`broken` becomes the same as `whole`."""
    done = call(f"fd-train set.safetensors -o broken.safetensors {options} --resume")
    assert done.code == 0, done.err
    for suffix in ("safetensors", "jsonl"):
        whole = (folder / f"whole.{suffix}").read_bytes()
        assert (folder / f"broken.{suffix}").read_bytes() == whole


def test_pretrained_discriminator_and_init(call, face_set: Path, tmp_path: Path) -> None:
    for line in (
        "fd-pretrain-disc set.safetensors -o d.safetensors",
        "fd-train set.safetensors -o a.safetensors --discriminator d.safetensors",
        "fd-train set.safetensors -o b.safetensors --discriminator none --init a.safetensors",
    ):
        done = call(f"{line} {SMALL} --epochs 1")
        assert done.code == 0, done.err
        assert "untrained" not in done.err
    first, second = (load_model(tmp_path / f"{name}.safetensors") for name in "ab")
    assert [step.command for step in first.history] == ["fd-pretrain-disc", "fd-train"]
    assert second.history[-1].inputs["init"] == first.id
    assert second.history[-1].inputs["discriminator"] == "none"
    assert np.array_equal(first.mean_face, second.mean_face)


@pytest.mark.slow
def test_profile_and_scalars(call, face_set: Path, tmp_path: Path) -> None:
    done = call(
        f"fd-train set.safetensors -o m.safetensors {SMALL} --epochs 2 --profile --tensorboard tb"
    )
    assert done.code == 0, done.err
    for part in ("wait for faces", "backward", "MB kept"):
        assert part in done.err
    found = scalars_in(tmp_path / "tb")
    records = log_of(tmp_path / "m.jsonl")
    for name, key in (("train/total", "total"), ("train/real_accuracy", "real_accuracy")):
        expected = {record["epoch"]: pytest.approx(record[key], rel=1e-6) for record in records}
        assert found[name] == expected
    errors = {r["epoch"]: pytest.approx(r["test"]["e_rec"]["mean"], rel=1e-6) for r in records}
    assert found["test/e_rec/mean"] == errors
    short = call(
        f"fd-train set.safetensors -o n.safetensors {SMALL} --set batch=28 --epochs 2 --profile"
    )
    assert short.code == 0
    assert "no profile" in short.err


def scalars_in(folder: Path) -> dict[str, dict[int, float]]:
    """Name -> epoch -> value of TensorBoard's records: length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    (path,) = folder.iterdir()
    data = path.read_bytes()
    while data:
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        data = data[16 + size :]
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_without_the_extra_tensorboard_is_refused(
    call, face_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    done = call(
        f"fd-train set.safetensors -o m.safetensors {SMALL} --discriminator none --tensorboard tb"
    )
    assert (done.code, done.kind) == (2, "extra-missing")
    assert "-m pip install 'tensorboardX>=2.6.2'" in done.line
    assert not (tmp_path / "m.safetensors").exists()


def test_a_linear_network_trains_goes_on_and_encodes(call, face_set: Path, tmp_path: Path) -> None:
    for words in ("-o a.safetensors", "-o b.safetensors", "-o c.safetensors --init a.safetensors"):
        done = call(f"fd-train set.safetensors {LINEAR_STEPS} --epochs 4 {words}")
        assert done.code == 0, done.err
        assert "discriminator" not in done.err
    a, b = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "ab")
    assert a == b
    assert call("fd-info --verify a.safetensors c.safetensors").code == 0
    latents = call("fd-encode set.safetensors -m c.safetensors").out
    assert call("fd-decode -m c.safetensors --npy -o v.npy", stdin=latents).code == 0
    first, second = (load_model(tmp_path / f"{name}.safetensors") for name in "ac")
    assert first.config == second.config
    assert isinstance(first.config, LinearConfig)
    # of 400; the training faces span less than 28, and heads move in six ways
    assert first.config.components < 28 + 6
    assert first.weights["basis"].dtype == np.float16
    assert np.array_equal(first.weights["basis"], second.weights["basis"])
    errors = [line["test"]["e_rec"]["mean"] for line in log_of(tmp_path / "c.jsonl")]
    assert errors[-1] < log_of(tmp_path / "a.jsonl")[0]["test"]["e_rec"]["mean"]
    faces = load_face_set(face_set).vertices
    assert np.linalg.norm(np.load(tmp_path / "v.npy") - faces, axis=-1).mean() < 2  # mm of 7
    losses = set(log_of(tmp_path / "a.jsonl")[0])
    assert {"swap", "neutral"} <= losses  # the neutrals are estimates
    assert "expression_norm" not in losses


def test_a_linear_network_and_pointnets_know_each_other_apart(
    call, face_set: Path, tmp_path: Path
) -> None:
    done = call(f"fd-train set.safetensors {LINEAR_STEPS} --epochs 1 -o a.safetensors")
    assert done.code == 0, done.err
    sizes = "--recipe pointnet --set identity=6 --set expression=5"
    refused = call(f"fd-train set.safetensors {sizes} --init a.safetensors -o b.safetensors")
    assert (refused.code, refused.kind) == (3, "recipe-mismatch")
    assert "a.safetensors" in refused.line
    fewer = call(
        f"fd-train set.safetensors {LINEAR} --set components=3 --set expression=4 "
        "--init a.safetensors -o b.safetensors"
    )
    assert (fewer.code, fewer.kind) == (3, "recipe-mismatch")
    assert "expression 5 against 4, components" in fewer.line
    both = call(
        f"fd-train set.safetensors {LINEAR_STEPS} --set discriminator=0.1 --epochs 1 "
        "-o c.safetensors"
    )
    assert both.code == 0, both.err
    assert "untrained" in both.err
    assert "fake_accuracy" in log_of(tmp_path / "c.jsonl")[0]


def test_points_is_a_key_of_the_recipe(call, face_set: Path, tmp_path: Path) -> None:
    train = f"fd-train set.safetensors {SMALL} --epochs 1 --discriminator none --no-history"
    for line in (
        f"{train} --points 20 -o a.safetensors",
        f"{train} --set points=20 -o b.safetensors",
        "fd-pretrain-disc set.safetensors --points 20 --epochs 1 -o d.safetensors",
    ):
        done = call(line)
        assert done.code == 0, done.err
    a, b = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "ab")
    assert a == b
    model = load_model(tmp_path / "a.safetensors")
    assert model.config.points == len(set(model.weights["encoder.points"])) == 20
    assert load_discriminator(tmp_path / "d.safetensors").network.config.points == 20


def test_where_the_faces_are_does_not_matter_but_how_exact_they_are(
    call, face_set: Path, tmp_path: Path
) -> None:
    train = f"fd-train set.safetensors {SMALL} --epochs 1 --neutrals"
    for where in ("resident", "streamed", "half"):
        assert call(f"{train} --data {where} -o {where}.safetensors").code == 0
    models = {path.stem: path for path in tmp_path.glob("*.safetensors")}
    assert models["resident"].read_bytes() == models["streamed"].read_bytes()
    exact, rounded = (load_model(models[name]) for name in ("resident", "half"))
    assert exact.id != rounded.id
    assert "data" not in exact.history[-1].options
    assert rounded.history[-1].options["data"] == "half"
    errors = [model.metrics["test"]["e_rec"]["mean"] for model in (exact, rounded)]
    assert errors[1] == pytest.approx(errors[0], rel=1e-2)


@pytest.mark.parametrize(
    ("options", "code", "kind", "named"),
    [
        ("--set learning_rat=1", 2, "option-value", "did you mean 'learning_rate'"),
        ("--set epochs=soon", 2, "option-value", "'soon'"),
        ("--steps 5", 2, "option-conflict", "--epochs and --steps"),
        ("--precision bf16", 2, "option-conflict", "--precision is of the max-pool"),
        ("--recipe nosuch", 2, "option-value", "bilinear, bu3dfe, coma, conv-mesh-ae"),
        (
            "--recipe pointnet --discriminator nosuch.safetensors",
            3,
            "file-missing",
            "nosuch.safetensors",
        ),
        ("--recipe pointnet --discriminator set.safetensors", 3, "wrong-kind", "set.safetensors"),
        ("--init set.safetensors", 3, "wrong-kind", "set.safetensors"),
        (
            *("--recipe pointnet --set discriminator=0 --discriminator d.safetensors", 2),
            *("option-conflict", "d.safetensors"),
        ),
        (
            *("--recipe linear --discriminator d.safetensors", 2),
            *("option-conflict", "--set discriminator"),
        ),
        ("--recipe linear --set network=resnet", 2, "option-value", "'resnet'"),
        ("--resume", 2, "checkpoint-missing", "m.state.safetensors"),
        ("--device cuda", 2, "device", "--device cpu"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(
    call, face_set: Path, tmp_path: Path, options: str, code: int, kind: str, named: str
) -> None:
    done = call(f"fd-train set.safetensors -o m.safetensors --epochs 1 {options}")
    assert (done.code, done.kind) == (code, kind), done.err
    assert named in done.line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set.safetensors"]


def test_a_discriminator_built_otherwise_is_refused(call, face_set: Path) -> None:
    made = call(
        "fd-pretrain-disc set.safetensors -o d.safetensors --epochs 1"
        " --set discriminator_batch_norm=true"
    )
    assert made.code == 0, made.err
    done = call(
        "fd-train set.safetensors --recipe pointnet -o m.safetensors --discriminator d.safetensors"
    )
    assert (done.code, done.kind) == (3, "recipe-mismatch")
    assert "batch_norm=True" in done.line and "batch_norm=False" in done.line


def test_a_discriminator_of_other_coordinates_is_refused(call, face_set: Path) -> None:
    made = call("fd-pretrain-disc set.safetensors -o d.safetensors --epochs 1 --set scale=573")
    assert made.code == 0, made.err
    done = call(
        "fd-train set.safetensors --recipe pointnet -o m.safetensors --discriminator d.safetensors"
    )
    assert (done.code, done.kind) == (3, "recipe-mismatch")
    assert "573 mm a unit" in done.line


@pytest.mark.slow
def test_resume_is_of_the_same_run(call, commands: Path, face_set: Path, tmp_path: Path) -> None:
    """Another recipe, or no discriminator any more, is another run."""
    line = f"set.safetensors -o m.safetensors {SMALL} --epochs 300"
    interrupted(commands / "fd-train", line, tmp_path)
    before = (tmp_path / "m.state.safetensors").read_bytes()
    for change, words in (
        ("--discriminator none", "discriminator id 'untrained'"),
        ("--set identity=5", "identity 4, this one has 5"),
        ("--seed 7", "seed 0, this one has 7"),
    ):
        done = call(f"fd-train {line} --resume {change}")
        assert (done.code, done.kind) == (3, "resume-mismatch"), done.err
        assert words in done.line
    assert (tmp_path / "m.state.safetensors").read_bytes() == before


def test_outputs_that_exist_are_safe(call, face_set: Path, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("precious\n")
    done = call("fd-train set.safetensors -o m.safetensors --epochs 1")
    assert (done.code, done.kind) == (2, "output-exists")
    assert "m.jsonl" in done.line
    assert (tmp_path / "m.jsonl").read_text() == "precious\n"


def test_a_set_without_neutrals_trains_without_them_only(call, tmp_path: Path) -> None:
    synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set(neutrals=False))
    refused = call(f"fd-train set.safetensors -o m.safetensors {SMALL} --epochs 1 --neutrals")
    assert (refused.code, refused.kind) == (3, "neutral-missing")
    assert "--no-neutrals" in refused.line
    assert call(f"fd-train set.safetensors -o m.safetensors {SMALL} --epochs 1").code == 0
    assert "avd_neu" not in log_of(tmp_path / "m.jsonl")[0]["test"]


def test_without_torch_the_extra_is_named(shell, face_set: Path, without_torch) -> None:
    done = shell("fd-train set.safetensors -o m.safetensors", env=without_torch)
    assert done.code == 2
    assert "-m pip install 'fast-simplification>=0.1.9' 'scipy>=1.11' 'torch>=2.4'" in done.line
