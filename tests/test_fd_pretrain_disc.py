"""fd-pretrain-disc in a real shell."""

import json
from pathlib import Path

import pytest
import synthetic
from trainers import interrupted

from facedis_core.train.checkpoint import load_discriminator

QUICK = "--set discriminator_batch_norm=true --set pretrain_learning_rate=1e-3"


@pytest.fixture
def face_set(tmp_path: Path) -> Path:
    faces = synthetic.face_set(subjects=20, expressions=6, test=6)
    return synthetic.write_face_set(tmp_path / "set.safetensors", faces)


def test_it_learns_reports_and_logs(call, face_set: Path, tmp_path: Path) -> None:
    done = call(f"fd-pretrain-disc set.safetensors -o d.safetensors {QUICK} --epochs 8")
    assert done.code == 0, done.err
    assert "accuracy on pairs of unseen people" in done.err
    stored = load_discriminator(tmp_path / "d.safetensors")
    assert stored.network.config.batch_norm
    records = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == list(range(1, 9))
    assert records[-1]["loss"] < records[0]["loss"]
    assert stored.metrics["unseen_accuracy"] == records[-1]["unseen_accuracy"]
    entry = stored.history[-1]
    assert entry.command == "fd-pretrain-disc"
    assert entry.options["set"] == [*QUICK.split()[1::2], "pretrain_epochs=8"]


def test_near_chance_is_a_warning(call, face_set: Path) -> None:
    done = call(
        "fd-pretrain-disc set.safetensors -o d.safetensors --epochs 1"
        " --set pretrain_learning_rate=0"
    )
    assert done.code == 0
    assert "near chance" in done.err


@pytest.mark.slow
def test_same_seed_same_bytes(call, face_set: Path, tmp_path: Path) -> None:
    for name in "ab":
        line = f"fd-pretrain-disc set.safetensors -o {name}.safetensors {QUICK} --epochs 1"
        assert call(line).code == 0
    a, b = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "ab")
    assert a == b


@pytest.mark.parametrize(
    ("line", "code", "kind", "named"),
    [
        ("nosuch.safetensors -o d.safetensors", 3, "file-missing", "nosuch.safetensors"),
        ("set.safetensors", 2, "arguments", "--output"),
        (
            "set.safetensors -o d.safetensors --recipe linear",
            *(2, "option-conflict", "`discriminator` is 0; choose a recipe with one"),
        ),
        ("set.safetensors -o set.safetensors", 2, "output-exists", "set.safetensors"),
        ("set.safetensors -o ./set.safetensors --force", 2, "same-file", "SET and --output"),
        ("set.safetensors -o no/such/d.safetensors", 4, "output-unwritable", "no/such"),
    ],
)
def test_bad_requests(call, face_set: Path, line: str, code: int, kind: str, named: str) -> None:
    before = face_set.read_bytes()
    done = call(f"fd-pretrain-disc {line} --epochs 1")
    assert (done.code, done.kind) == (code, kind), done.err
    assert named in done.line
    assert face_set.read_bytes() == before
    assert [p.name for p in face_set.parent.iterdir()] == ["set.safetensors"]


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_same(
    shell, commands: Path, face_set: Path, tmp_path: Path
) -> None:
    synthetic.write_face_set(face_set, synthetic.face_set())
    options = f"set.safetensors {QUICK} --epochs 50"
    line = f"{options} -o d.safetensors"
    assert "--resume" in interrupted(commands / "fd-pretrain-disc", line, tmp_path)
    assert (tmp_path / "d.state.safetensors").exists()
    load_discriminator(tmp_path / "d.safetensors")  # what has been learnt so far
    resumed = shell(f"fd-pretrain-disc {options} -o d.safetensors --resume")
    assert resumed.code == 0 and "resuming after step" in resumed.err, resumed.err
    assert shell(f"fd-pretrain-disc {options} -o whole.safetensors").code == 0
    for suffix in ("safetensors", "jsonl"):
        ours, theirs = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("d", "whole"))
        assert ours == theirs
    assert not (tmp_path / "d.state.safetensors").exists()


def test_one_person_has_nobody_to_be_told_from(call, tmp_path: Path) -> None:
    synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set(subjects=1, test=0))
    done = call("fd-pretrain-disc set.safetensors -o d.safetensors")
    assert (done.code, done.kind) == (3, "too-few-faces")
