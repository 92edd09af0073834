"""Trainings that several processes share, started by torchrun as a user would."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import shared_evaluation
import shared_steps
import synthetic
from conftest import Run

from facedis_core.nn import distributed

TESTS = Path(__file__).parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
TWO_NODES = TESTS.parent / "docs" / "scripts" / "two_nodes.sh"
TWO = " ".join([*TORCHRUN, "--nproc-per-node", "2"])
SMALL = "--set identity=4 --set expression=3 --set batch=6 --set half_decoders=false"


@pytest.fixture
def free_port(tmp_path: Path) -> int:
    """A port for two torchruns; `torchrun` in the folder of the test is that of this Python."""
    program = tmp_path / "torchrun"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n')
    program.chmod(0o755)
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def face_set(tmp_path: Path) -> Path:
    return synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set())


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def compare(ours: dict, theirs: dict, tolerance: float) -> None:
    """All numbers of two records."""
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        if isinstance(value, dict):
            compare(value, theirs[key], tolerance)
        else:
            assert value == pytest.approx(theirs[key], rel=tolerance, abs=tolerance), key


@pytest.mark.slow
def test_every_term_of_every_step_in_double_precision(
    shell: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Moments, batch norm, dropout, noise, pairs, neutrals of few: all of the whole batch."""
    two = shell(f"{TWO} {TESTS}/shared_steps.py")
    assert two.code == 0, two.err
    shared_steps.main()
    steps = json.loads(capsys.readouterr().out)
    assert len(steps) == 4 and "neutral_expression" in steps[0]
    for ours, theirs in zip(json.loads(two.out), steps, strict=True):
        compare(ours, theirs, 1e-9)


@pytest.mark.slow
def test_an_evaluation_is_shared_and_has_the_same_bits(
    shell: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    two = shell(f"{TWO} {TESTS}/shared_evaluation.py")
    assert two.code == 0, two.err
    shared_evaluation.main()
    alone, together = json.loads(capsys.readouterr().out), json.loads(two.out)
    assert {"e_rec", "e_exp", "rank1_vertex_accuracy", "expression_from_identity_accuracy"} <= set(
        alone["metrics"]["test"]
    )
    assert 0 < alone["accuracy"] < 1
    (everything,), shares = alone.pop("predicted"), together.pop("predicted")
    assert together == alone
    assert sum(shares) == everything and min(shares) > 0.4 * everything


def compare_logs(folder: Path, one: str, two: str) -> None:
    for ours, theirs in zip(*(records(folder / f"{k}.jsonl") for k in (one, two)), strict=True):
        compare(ours, theirs, 1e-5)


@pytest.mark.slow
def test_two_nodes_have_the_losses_of_one_process(
    call: Run, shell: Run, face_set: Path, tmp_path: Path, free_port: int
) -> None:
    options = f"set.safetensors --epochs 2 {SMALL}"
    assert call(f"fd-train {options} -o one.safetensors").code == 0
    done = shell(
        f"bash {TWO_NODES} fd_train {options} -o two.safetensors",
        env={"PORT": str(free_port), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.code == 0, done.err
    assert done.err.count("model ") == 1
    compare_logs(tmp_path, "one", "two")
    assert not (tmp_path / "two.state.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv-mesh-ae", "kacem", "di-mesh-encoder", "jiang"])
def test_networks_with_losses_of_their_own_are_shared_too(
    call: Run, shell: Run, tmp_path: Path, name: str
) -> None:
    """Noise, interpolated people and pairs of latents are those of the whole batch."""
    synthetic.write_face_set(tmp_path / "set.safetensors", synthetic.face_set(size=8))
    sizes = "--set identity=4" + " --set expression=3" * (name in ("di-mesh-encoder", "jiang"))
    options = f"set.safetensors --recipe {name} --neutrals --epochs 4 {sizes} --set batch=6"
    assert call(f"fd-train {options} -o one.safetensors").code == 0
    done = shell(f"{TWO} -m fd_train {options} -o two.safetensors")
    assert done.code == 0, done.err
    compare_logs(tmp_path, "one", "two")


@pytest.mark.slow
def test_pre_training_is_shared_too(call: Run, shell: Run, face_set: Path, tmp_path: Path) -> None:
    options = "set.safetensors --epochs 2 --set pretrain_batch=6"
    assert call(f"fd-pretrain-disc {options} -o one.safetensors").code == 0
    done = shell(f"{TWO} -m fd_pretrain_disc {options} -o two.safetensors")
    assert done.code == 0, done.err
    assert done.err.count("accuracy on pairs of unseen people") == 1  # one process speaks
    compare_logs(tmp_path, "one", "two")


@pytest.mark.slow
def test_a_restart_replaces_nothing_that_the_first_start_refused(
    shell: Run, face_set: Path, tmp_path: Path
) -> None:
    (tmp_path / "m.safetensors").write_text("precious")
    options = f"set.safetensors -o m.safetensors --epochs 1 {SMALL}"
    done = shell(f"{TWO} --max-restarts 1 -m fd_train {options}")
    assert done.code != 0
    assert done.err.count("m.safetensors exists") == 2
    assert (tmp_path / "m.safetensors").read_text() == "precious"


LATE = """
import os, signal, sys
import fd_train
from facedis_core.nn.distributed import rank
from facedis_core.train.run import TrainingRun

train = TrainingRun.train

def and_die(run, callbacks):
    if rank() and not os.path.exists("died"):
        open("died", "w").close()
        train(run, callbacks)
        os.kill(os.getpid(), signal.SIGKILL)
    train(run, callbacks)

TrainingRun.train = and_die
fd_train.main()
"""


@pytest.mark.slow
def test_a_death_after_the_end_trains_nothing_again(
    shell: Run, face_set: Path, tmp_path: Path
) -> None:
    (tmp_path / "late.py").write_text(LATE)
    (tmp_path / "m.state.safetensors").write_text("of another run")
    options = f"set.safetensors -o m.safetensors --epochs 1 {SMALL} --force"
    done = shell(f"{TWO} --max-restarts 1 late.py {options}")
    assert done.code == 0, done.err
    assert (tmp_path / "died").exists()
    assert "nothing left to do" in done.err or done.err.count("model ") == 1
    assert len(records(tmp_path / "m.jsonl")) == 1
    assert not (tmp_path / "m.state.safetensors").exists()


ENDS = """
import atexit, os, pathlib
import fd_train

@atexit.register
def after_the_training():
    threads = pathlib.Path("/proc/self/task").glob("*/comm")
    names = [each.read_text() for each in threads]
    pathlib.Path(f"threads-{os.environ['RANK']}").write_text("".join(names))

fd_train.main()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads have names in Linux")
@pytest.mark.parametrize("rate", ["1e-3", "1e30"], ids=["whole", "diverged"])
def test_no_thread_of_the_processes_outlives_the_training(
    shell: Run, face_set: Path, tmp_path: Path, rate: str
) -> None:
    """One that freed tensors while Python ended aborted a finished process, about once in 30."""
    (tmp_path / "ends.py").write_text(ENDS)
    options = f"set.safetensors -o m.safetensors --epochs 1 --set learning_rate={rate} {SMALL}"
    done = shell(f"{TWO} ends.py {options}")
    diverged = rate == "1e30"
    assert ("diverged" in done.err) == bool(done.code) == diverged, done.err
    left = [path.read_text() for path in tmp_path.glob("threads-*")]
    # torchrun may kill the other process of one that has failed
    assert len(left) == 2 or (diverged and left)
    assert all("python" in names and "gloo" not in names for names in left)


@pytest.mark.slow
def test_processes_with_other_faces_are_told_apart(
    shell: Run, face_set: Path, tmp_path: Path
) -> None:
    synthetic.write_face_set(tmp_path / "other.safetensors", synthetic.face_set(subjects=9))
    faces = "$([ $RANK = 1 ] && echo other || echo set).safetensors"
    train = f"{sys.executable} -m fd_train {faces} -o m.safetensors --epochs 1 {SMALL}"
    done = shell(f"{TWO} --no-python bash -c '{train}'")
    assert done.code != 0
    assert "process 2 has set id" in done.err and "the same files" in done.err


def test_a_process_ends_with_its_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would go on, and write, beside the one that takes its place."""
    parents, codes, ended = iter([7, 7, 1]), [], threading.Event()
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(distributed, "_PARENT_SECONDS", 0.001)
    distributed._end_with(7, ended)
    assert (next(parents, None), codes) == (None, [1])
    ended.set()
    monkeypatch.setattr(os, "getppid", lambda: 7)
    distributed._end_with(7, ended)  # the training is over
    assert codes == [1]


@pytest.mark.slow
def test_a_dead_worker_and_a_stopped_run(shell: Run, face_set: Path, tmp_path: Path) -> None:
    """Killed, started again by torchrun, stopped by Ctrl-C, resumed: the bytes of a whole run."""
    options = f"-m fd_train set.safetensors --epochs 12 --checkpoint-minutes 0 {SMALL}"
    whole = shell(f"{TWO} {options} -o whole.safetensors")
    assert whole.code == 0, whole.err
    assert whole.err.splitlines()[-1].startswith("model ") and whole.err.count("model ") == 1
    command = [*TORCHRUN, "--nproc-per-node=2", "--max-restarts=1", *options.split()]
    run = subprocess.Popen(
        [*command, "-o", "broken.safetensors"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    state = tmp_path / "broken.state.safetensors"
    wait_for(state.exists, run)
    workers = children(run.pid)
    os.kill(workers[-1], signal.SIGKILL)
    wait_for(lambda: children(run.pid) and not set(children(run.pid)) & set(workers), run)
    saved = state.stat().st_mtime_ns
    wait_for(lambda: not state.exists() or state.stat().st_mtime_ns != saved, run)
    os.killpg(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert "resuming after step" in err
    assert "stopped after step" in err and "bug in facedis" not in err
    assert state.exists(), "the run ended before it was stopped"
    done = shell(f"{TWO} {options} -o broken.safetensors --resume")
    assert done.code == 0, done.err
    for suffix in ("safetensors", "jsonl"):
        ours, theirs = ((tmp_path / f"{k}.{suffix}").read_bytes() for k in ("broken", "whole"))
        assert ours == theirs


def wait_for(condition, run: subprocess.Popen) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return sorted(map(int, listed.stdout.split()))
