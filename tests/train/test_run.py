"""Runs that end at any step, and what is logged of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import synthetic
import torch
from raising import raises

from facedis_core.errors import Stopped
from facedis_core.model.model_file import load_model
from facedis_core.train.plan import TrainingPlan
from facedis_core.train.run import Callbacks, RunFiles, TrainingRun

SMALL = (
    *("identity=6", "expression=5", "batch=14"),
    *("schedule=cosine", "warmup=50", "learning_rate=2e-3"),
)
# 40 epochs of two steps, of which two share a record.
LONG = "steps=80"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a face set, and the files of a LONG run, `whole`."""
    folder = tmp_path_factory.mktemp("runs")
    synthetic.write_face_set(folder / "set.safetensors", synthetic.face_set())
    train(folder, "whole", LONG, evaluate_every=20)
    return folder


def prepared(folder: Path, name: str, *changes: str, **options: Any) -> TrainingRun:
    """A run of the linear recipe."""
    plan = TrainingPlan(
        face_set=str(folder / "set.safetensors"),
        recipe="linear",
        changes=[*SMALL, *changes],
        **options,
    )
    files = RunFiles.beside(str(folder / f"{name}.safetensors"))
    return plan.prepare(files, torch.device("cpu")).run


def train(folder: Path, name: str, *changes: str, **options: Any) -> list[dict[str, Any]]:
    """The log of a run."""
    run = prepared(folder, name, *changes, **options)
    run.start(resume=False)
    run.train(Callbacks())
    return log_of(folder, name)


def log_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_steps_may_end_within_an_epoch(folder: Path) -> None:
    records = train(folder, "m", "steps=5")
    assert [(record["epoch"], record["step"]) for record in records] == [(1, 2), (2, 4), (3, 5)]
    rates = [record["learning_rate"] / 2e-3 for record in records]
    assert rates == pytest.approx([1, 0.75, 0.25])
    assert all("test" in record for record in records)


def test_short_epochs_are_logged_together(folder: Path) -> None:
    records = log_of(folder, "whole")
    assert [record["epoch"] for record in records] == list(range(2, 41, 2))
    assert [record["epoch"] for record in records if "test" in record] == [20, 40]


@pytest.mark.parametrize("stop", [3, 6])
def test_a_run_resumed_in_the_warmup_reaches_the_bytes_of_an_unbroken_one(
    folder: Path, stop: int
) -> None:
    """Stopped within an epoch, and at the end of one that has no record of its own."""
    broken = prepared(folder, "broken", LONG, evaluate_every=20)
    broken.start(resume=False)
    with raises("stopped", f"step {stop} of 80"):
        broken.train(Callbacks(should_stop=lambda: broken.trainer.steps_done == stop))
    resume_and_compare(folder)


def test_a_run_killed_before_a_record_reaches_the_bytes_of_an_unbroken_one(folder: Path) -> None:
    """The last checkpoint is that of step 4, before the record of two epochs was made."""
    broken = prepared(folder, "broken", LONG, evaluate_every=20, checkpoint_minutes=0)
    broken.start(resume=False)

    def kill() -> None:
        if broken.trainer.steps_done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.train(Callbacks(on_step=kill))
    resume_and_compare(folder)


def test_components_and_averages_are_resumed_as_well(folder: Path) -> None:
    changes = (
        *("steps=6", "network=pointnet", "weight_average=30", "decoder_components=7"),
        *("encoder_offsets=true", "output_learning_rate=5", "swap=0", "partner_latent=0"),
    )
    train(folder, "average", *changes)
    expected = load_model(str(folder / "average.safetensors"))
    broken = prepared(folder, "broken", *changes)
    broken.start(resume=False)
    with raises("stopped", "step 3 of 6"):
        broken.train(Callbacks(should_stop=lambda: broken.trainer.steps_done == 3))
    run = prepared(folder, "broken", *changes)
    assert run.start(resume=True)
    run.train(Callbacks())
    assert load_model(str(folder / "broken.safetensors")).id == expected.id
    # trained on from the stored decoders, whose coefficients are found again
    more = prepared(folder, "more", *changes, init=str(folder / "average.safetensors"))
    found = more.trainer.result.model_tensors()["identity_decoder.output.weight"]
    stored = expected.weights["identity_decoder.output.weight"]
    assert found.numpy(force=True) == pytest.approx(stored, abs=2e-3 * float(abs(stored).max()))


def resume_and_compare(folder: Path) -> None:
    run = prepared(folder, "broken", LONG, evaluate_every=20)
    assert run.start(resume=True)
    run.train(Callbacks())
    for suffix in ("safetensors", "jsonl"):
        whole = (folder / f"whole.{suffix}").read_bytes()
        assert (folder / f"broken.{suffix}").read_bytes() == whole


def test_a_resumed_run_may_be_longer(folder: Path) -> None:
    run = prepared(folder, "m", "steps=3")
    run.start(resume=False)
    with pytest.raises(Stopped):
        run.train(Callbacks(should_stop=lambda: True))
    longer = prepared(folder, "m", "steps=5")
    assert longer.start(resume=True)
    longer.train(Callbacks())
    assert [record["step"] for record in log_of(folder, "m")] == [2, 4, 5]


def test_a_checkpoint_that_is_kept_twice_leaves_no_third_name(tmp_path: Path) -> None:
    """As after a full disk: a link that takes the name of its own file stays beside it."""
    files = RunFiles.beside(str(tmp_path / "m.safetensors"))
    assert files.checkpoint is not None and files.previous is not None
    files.checkpoint.write_bytes(b"last")
    run = object.__new__(TrainingRun)
    run.files = files
    for _ in range(2):
        run._keep_previous()
    assert {*tmp_path.iterdir()} == {files.checkpoint, files.previous}
