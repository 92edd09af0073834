"""Work shared by processes: order of results, errors, and no process left behind."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
from raising import raises

from facedis_core.datasets.source import FaceBlock
from facedis_core.errors import ErrorCode, InputError
from facedis_core.pipeline.parallel import BLOCKS_AHEAD, in_order

BLOCKS = [range(k, k + 3) for k in range(0, 30, 3)]


@dataclass(frozen=True)
class Telling:
    """A face of a row is that number; `measured` is who has read it, and how it takes Ctrl-C."""

    slow: bool = False

    def read(self, rows: Sequence[int]) -> FaceBlock:
        if self.slow:  # the first blocks take longest, so that the last are ready before them
            time.sleep(0.02 * max(0, 4 - rows[0] // 3))
        faces = np.repeat(np.array(rows, np.float32), 6).reshape(len(rows), 2, 3)
        ignoring = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        return FaceBlock(faces, measured=np.array([[os.getpid(), ignoring]] * len(rows), float))


@dataclass(frozen=True)
class Failing:
    """Raises what a reader does not mean to raise, from a row on."""

    from_row: int

    def read(self, rows: Sequence[int]) -> FaceBlock:
        if rows[0] >= self.from_row:
            raise InputError(f"row {rows[0]} is impossible", ErrorCode.EMPTY)
        return Telling().read(rows)


@dataclass(frozen=True)
class Killed:
    """As when the system ends a process that takes too much memory."""

    at_row: int

    def read(self, rows: Sequence[int]) -> FaceBlock:
        if rows[0] == self.at_row:
            os.kill(os.getpid(), signal.SIGKILL)
        return Telling().read(rows)


def rows_of(blocks: list[FaceBlock]) -> list[list[float]]:
    return [block.faces[:, 0, 0].tolist() for block in blocks]


def readers_of(blocks: list[FaceBlock]) -> set[int]:
    return {int(block.measured[0, 0]) for block in blocks if block.measured is not None}


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return holds


@pytest.mark.parametrize("jobs", [1, 2])
def test_blocks_come_in_order_whoever_is_done_first(jobs):
    made = list(in_order(Telling(slow=jobs > 1).read, BLOCKS, jobs))
    assert rows_of(made) == [list(rows) for rows in BLOCKS]
    readers = readers_of(made)
    if jobs == 1:
        assert readers == {os.getpid()}
    else:
        assert os.getpid() not in readers and 1 <= len(readers) <= jobs
        # Ctrl-C goes to all processes of a terminal; only the first of them answers it.
        assert all(block.measured[:, 1].all() for block in made)


@pytest.mark.parametrize("jobs", [0, 1, 5])
def test_one_block_needs_no_process(jobs):
    made = list(in_order(Telling().read, BLOCKS[:1], jobs))
    assert readers_of(made) == {os.getpid()}


def test_no_block_at_all():
    assert list(in_order(Telling().read, [], 4)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_exception_arrives_where_its_block_would(jobs):
    made = []
    with raises("empty", r"^row 12 is impossible$"):
        for block in in_order(Failing(12).read, BLOCKS, jobs):
            made.append(block)
    assert rows_of(made) == [list(rows) for rows in BLOCKS[:4]]


def test_a_worker_that_is_killed_is_too_little_memory():
    made = []
    with raises("memory", "--jobs"):
        for block in in_order(Killed(BLOCKS[-1][0]).read, BLOCKS, 2):
            made.append(block)
    expected = [list(rows) for rows in BLOCKS]
    assert rows_of(made) == expected[: len(made)] and len(made) < len(BLOCKS)
    assert not active_children()  # the other worker ends too


def test_a_slow_consumer_has_few_blocks_computed_ahead():
    read = []

    def noted():
        for block in BLOCKS * 20:
            read.append(block)
            yield block

    results = in_order(Telling().read, noted(), 2)
    for taken in range(1, 4):
        next(results)
        time.sleep(0.1)
        assert len(read) <= taken - 1 + 2 * BLOCKS_AHEAD
    results.close()
    assert len(read) <= 2 + 2 * BLOCKS_AHEAD


def test_nothing_is_left_when_the_rest_is_not_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    semaphores = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    results = in_order(Telling().read, BLOCKS, 2)
    readers = readers_of([next(results)])
    assert readers <= {process.pid for process in active_children()}
    results.close()
    assert not active_children()
    assert list(tmp_path.iterdir()) == []
    if semaphores:
        mine = {p for p in Path("/dev/shm").iterdir() if str(os.getpid()) in p.name}
        assert mine <= semaphores


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    """They are in the middle of a long block, or wait for one, and nobody tells them."""
    (tmp_path / "run.py").write_text(
        "import os, sys, time\n"
        "from facedis_core.datasets.source import FaceBlock\n"
        "from facedis_core.pipeline.parallel import in_order\n"
        "import numpy as np\n"
        "class Slow:\n"
        "    def read(self, rows):\n"
        "        os.write(1, b'%d\\n' % os.getpid())\n"  # in one piece
        "        time.sleep(100)\n"
        "if __name__ == '__main__':\n"
        "    for block in in_order(Slow().read, [[0], [1], [2]], 2):\n"
        "        pass\n"
    )
    parent = subprocess.Popen([sys.executable, "run.py"], stdout=subprocess.PIPE, cwd=tmp_path)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    assert parent.pid not in workers and all(map(is_alive, workers))
    parent.kill()
    parent.wait()
    assert wait_until(lambda: not any(map(is_alive, workers)))
    parent.stdout.close()


def test_all_workers_start_with_the_first_block():
    """Python 3.11 fails or hangs where one is killed while another is being started."""
    children: list[int] = []

    def counting():
        for block in BLOCKS:
            yield block
            children.append(len(active_children()))

    assert len(list(in_order(Telling().read, counting(), 3))) == len(BLOCKS)
    # Two blocks are read before there is a pool; the third is read after the first was sent.
    assert children[:2] == [0, 3]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("sound", [0, 2, 7])
def test_an_error_of_the_blocks_comes_after_the_results_before_it(jobs, sound):
    """Blocks are read in this thread, so what reading them raises is raised here, unchanged."""

    def broken():
        yield from BLOCKS[:sound]
        raise InputError("no more", ErrorCode.EMPTY)

    made = []
    with raises("empty", r"^no more$"):
        for block in in_order(Telling().read, broken(), jobs):
            made.append(block)
    assert rows_of(made) == [list(rows) for rows in BLOCKS[: len(made)]]
    assert len(made) == sound or jobs > 1  # what was sent ahead is dropped


def test_workers_that_wait_for_ever_are_ended(monkeypatch):
    """As for a storage that does not answer."""
    monkeypatch.setattr("facedis_core.pipeline.parallel.LAST_SECONDS", 0.1)
    failed = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    results = in_order(time.sleep, [0, *[600] * 6], 2)  # some have not begun
    next(results)
    results.close()
    assert not active_children()
    assert not failed


def test_a_second_signal_does_not_wait_for_workers(monkeypatch):
    """They would be waited for at the end of the process, however long their blocks take."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrent.futures, "wait", interrupted)
    results = in_order(time.sleep, [0, *[600] * 6], 2)
    next(results)
    with pytest.raises(KeyboardInterrupt):
        results.close()
    assert not active_children()
