"""The workers of a Dask cluster: the bytes of one process, whatever of it dies."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import contents, face, save_mesh
from raising import raises

from facedis_core.data.latents import Latents, write_latents
from facedis_core.errors import InputError
from facedis_core.pipeline.inputs import InputItem
from facedis_core.pipeline.parallel import block_names, in_order

distributed = pytest.importorskip("distributed")


def test_names_of_blocks():
    item = InputItem("a.ply", list)
    rows = Latents(["x", "y"], ["", ""], np.zeros((2, 1)), np.zeros((2, 1)))
    assert block_names(item) == ["a.ply"]
    assert block_names([item, item]) == ["a.ply", "a.ply"]
    assert block_names(rows) == ["x", "y"]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two workers, in threads of this process."""
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address=":0",
        ) as cluster,
    ):
        yield cluster.scheduler_address


class TestBytes:
    """Those of one process, whatever is done."""

    @pytest.fixture
    def many(self, tmp_path):
        for seed in range(70):
            save_mesh(
                tmp_path / "many" / f"p{seed // 2:02d}_{('neutral', 'smile')[seed % 2]}.ply",
                face(seed),
            )
        return tmp_path / "many"

    def test_of_latents(self, call, many, scheduler, tmp_path):
        (many / "p16_smile.ply").write_bytes(b"ply\n")
        line = "fd-encode many --keep-going --failures {0}.jsonl -o {0}.npy"
        here = call(line.format("one"))
        there = call(f"{line.format('all')} --scheduler {scheduler}")
        assert (there.code, there.err) == (here.code, here.err) and here.code == 1
        for suffix in ("npy", "jsonl"):
            one, merged = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "all"))
            assert one == merged
        # without --keep-going the same file ends the command
        here, there = (call(f"fd-encode many {o}") for o in ("", f"--scheduler {scheduler}"))
        assert (there.code, there.line) == (here.code, here.line) and here.code == 3

    def test_of_meshes(self, call, model, scheduler, tmp_path):
        names = [f"{k}/face{k % 7}" for k in range(40)]
        rng = np.random.default_rng(0)
        identity, expression = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
        write_latents(tmp_path / "z.npy", Latents(names, [model.id] * 40, identity, expression))
        assert call("fd-decode z.npy -o one/").code == 0
        assert call(f"fd-decode z.npy -o all/ --scheduler {scheduler}").code == 0
        assert contents(tmp_path / "all") == contents(tmp_path / "one")
        stream = call(f"fd-decode z.npy --scheduler {scheduler}")
        assert stream.out == call("fd-decode z.npy").out

    def test_of_a_face_set(self, call, many, scheduler, tmp_path):
        line = "fd-prep folder many --pattern '{subject}_{expression}' --align rigid -o"
        here = call(f"{line} one.safetensors -j 1")
        there = call(f"{line} all.safetensors --scheduler {scheduler}")
        assert (here.code, there.code) == (0, 0), here.err + there.err
        one, merged = (tmp_path / f"{name}.safetensors" for name in ("one", "all"))
        assert one.read_bytes() == merged.read_bytes()


def test_a_part_on_a_cluster(call, faces, scheduler, tmp_path):
    assert call(f"fd-encode faces --shard 2/2 --scheduler {scheduler} -o 2.npy").code == 0
    assert call("fd-encode faces --shard 1/2 -o 1.npy").code == 0
    assert call("fd-encode --merge '[12].npy' -o all.npy").code == 0
    assert call("fd-encode faces -o one.npy").code == 0
    assert (tmp_path / "all.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()


def test_a_slow_consumer_has_few_blocks_sent_ahead(scheduler):
    read = []

    def blocks():
        for number in range(10_000):
            read.append(number)
            yield [number]

    results = in_order(abs_of, blocks(), scheduler)
    assert [next(results) for _ in range(3)] == [[0], [1], [2]]
    time.sleep(0.2)
    assert len(read) < 1000
    results.close()


def test_the_first_tasks_tell_the_size_of_the_next_ones(scheduler, monkeypatch):
    monkeypatch.setattr("facedis_core.pipeline.cluster.TASKS_AHEAD", 50)  # as of many workers
    from facedis_core.pipeline.cluster import _Map

    submit, sizes = _Map._submit, []

    def counted(self, blocks, again=False):
        sizes.append(len(blocks))
        return submit(self, blocks, again)

    monkeypatch.setattr(_Map, "_submit", counted)
    results = in_order(abs_of, ([number] for number in range(1000)), scheduler)
    assert list(results) == [[number] for number in range(1000)]
    assert sizes[:16] == [1] * 16 and min(sizes[16:-1]) > 16


def test_what_is_done_comes_in_one_message(scheduler, monkeypatch):
    gather, fetched = distributed.Client.gather, []

    def counted(client, futures, **options):
        fetched.append(len(futures))
        return gather(client, futures, **options)

    monkeypatch.setattr(distributed.Client, "gather", counted)
    results = in_order(abs_of, ([number] for number in range(100)), scheduler)
    first = next(results)
    time.sleep(0.2)
    assert [first, *results] == [[number] for number in range(100)]
    assert fetched and max(fetched) > 1
    # not if they are large
    fetched.clear()
    monkeypatch.setattr("facedis_core.pipeline.cluster.MOST_BYTES", 1)
    results = in_order(abs_of, ([number] for number in range(30)), scheduler)
    first = next(results)
    time.sleep(0.1)
    assert [first, *results] == [[number] for number in range(30)]
    assert not fetched


def abs_of(block):
    """Work that any process of this test can load."""
    return [abs(number) for number in block]


def test_what_is_no_cluster(call, faces, monkeypatch):
    monkeypatch.setattr("facedis_core.pipeline.cluster.CONNECT_SECONDS", 0.2)
    for words, code, kind in (
        ("--scheduler tcp://127.0.0.1:1", 3, "cluster"),
        ("--scheduler absent.json", 3, "cluster"),
        ("--scheduler nonsense://x:1", 3, "cluster"),
        ("--scheduler tcp://127.0.0.1", 3, "cluster"),
        ("--scheduler ''", 2, "option-value"),
        ("--scheduler tcp://127.0.0.1:1 --jobs 2", 2, "option-conflict"),
        ("--scheduler tcp://127.0.0.1:1 --stream", 2, "option-conflict"),
    ):
        result = call(f"fd-encode faces -o out.npy {words}")
        assert (result.code, result.kind) == (code, kind), words
        assert result.line
    with socket.create_server(("127.0.0.1", 0)) as silent:  # listens and never answers
        port = silent.getsockname()[1]
        result = call(f"fd-encode faces -o out.npy --scheduler tcp://127.0.0.1:{port}")
        assert (result.code, result.kind) == (3, "cluster") and "not answer" in result.line


def test_a_scheduler_that_is_lost_while_the_work_is_sent(call, faces, scheduler, monkeypatch):
    def lose(client, *args, **kwargs):
        monkeypatch.setattr(client, "scheduler", None)  # as Dask does
        return client.sync(client.scheduler.register_worker_plugin)

    monkeypatch.setattr(distributed.Client, "register_plugin", lose)
    result = call(f"fd-encode faces -o out.npy --scheduler {scheduler}")
    assert (result.code, result.kind) == (3, "cluster") and "is lost" in result.line


def test_all_workers_have_gone(scheduler, monkeypatch):
    monkeypatch.setattr("facedis_core.pipeline.cluster._count_workers", lambda client: 0)
    monkeypatch.setattr("facedis_core.pipeline.cluster.ASK_EVERY_SECONDS", 0.1)
    monkeypatch.setattr("facedis_core.pipeline.cluster.NO_WORKER_SECONDS", 0)
    with raises("cluster", "has no workers after 0 s; start some"):
        list(in_order(time.sleep, [0.5], scheduler))


WORK = """
import os, signal, time

class Slow:
    def __call__(self, block):
        time.sleep(0.02)
        return [number * 2 for number in block]

class Deadly:
    def __init__(self, number):
        self.number = number

    def __call__(self, block):
        if self.number in block:
            os.kill(os.getpid(), signal.SIGKILL)
        return block
"""


class Cluster:
    """A scheduler and two workers, each a process under its keeper, which starts it again."""

    def __init__(self, folder: Path) -> None:
        (folder / "work_of_tests.py").write_text(WORK)
        self._folder = folder
        # fewer deaths than usual until a task is given up: each takes a second to recover from
        once = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
        self._env = {**os.environ, "PYTHONPATH": str(folder), **once}
        self.file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--scheduler-file", str(self.file))
        while not self.file.exists():
            time.sleep(0.05)
        self.workers = [
            self._start("worker", "--scheduler-file", str(self.file), "--nthreads", "1")
            for _ in range(2)
        ]

    def _start(self, kind: str, *words: str) -> subprocess.Popen:
        line = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words, "--no-dashboard"]
        line += ["--host", "127.0.0.1"]
        log = (self._folder / f"{kind}.log").open("ab")
        with log:
            return subprocess.Popen(line, env=self._env, stdout=log, stderr=log, cwd=self._folder)

    def worker_processes(self) -> list[int]:
        """Process ids of the workers that run now."""
        import psutil

        found = []
        for keeper in self.workers:
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(keeper.pid).children()
                found += [c.pid for c in children if "spawn_main" in " ".join(c.cmdline())]
        return found

    def close(self) -> None:
        for process in [*self.workers, self.scheduler]:
            process.kill()  # a keeper's worker ends with it
            process.wait()


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.mark.slow
def test_what_dies(tmp_path, monkeypatch):
    """Workers at random moments, workers of one block, the scheduler, which may also freeze."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("facedis_core.pipeline.cluster.CONNECT_SECONDS", 3)
    with running(tmp_path) as cluster:
        work = __import__("work_of_tests")
        blocks = [[number] for number in range(120)]
        results = in_order(work.Slow(), blocks, str(cluster.file))
        made, chance = [next(results)], random.Random(0)
        for result in results:
            made.append(result)
            if len(made) % 40 == 0 and (alive := cluster.worker_processes()):
                os.kill(chance.choice(alive), signal.SIGKILL)
        assert made == [[2 * number] for number in range(120)]

        before = []
        with raises("memory", "died again and again of 70, most"):
            for result in in_order(work.Deadly(70), blocks[:80], str(cluster.file)):
                before.append(result)
        assert before == blocks[: len(before)] and len(before) <= 70

        monkeypatch.setattr("facedis_core.pipeline.cluster.ANSWER_SECONDS", 1)
        monkeypatch.setattr("facedis_core.pipeline.cluster.ASK_EVERY_SECONDS", 0.5)
        results = in_order(work.Slow(), blocks, str(cluster.file))
        next(results)
        cluster.scheduler.send_signal(signal.SIGSTOP)  # its connections stay
        with raises("cluster", "connection to the scheduler .* is lost"):
            list(results)
        cluster.scheduler.send_signal(signal.SIGCONT)

        results = in_order(work.Slow(), blocks, str(cluster.file))
        next(results)
        cluster.scheduler.kill()
        with pytest.raises(InputError) as error:
            list(results)
        assert error.value.code == "cluster"


def test_without_dask_the_extra_is_named(shell, faces, without_torch):
    result = shell("fd-encode faces -o out.npy --scheduler tcp://x:1", env=without_torch)
    assert result.code == 2
    assert "'cluster' extra" in result.line and "pip install" in result.line
