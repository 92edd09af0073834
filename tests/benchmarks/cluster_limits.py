"""What a scheduler and a command bear: many simulated workers, whose work is to sleep.

    python tests/benchmarks/cluster_limits.py --workers 1000 --faces 10_000_000
    python tests/benchmarks/cluster_limits.py --workers 1000 --faces 20_000 --block 1 --seconds 10

Scheduler, client, messages, blocks and results are those of a command (fd-encode: 16 faces a block
and the latents of ict-linear; --block 1 as fd-register); only workers are many in few processes
and sleep --seconds a face. Times are of the processor, since the simulated workers share it.
"""

import argparse
import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import numpy as np
import psutil
from distributed import Client, Worker

from facedis_core.data.latents import Latents
from facedis_core.pipeline import cluster
from facedis_core.pipeline.file_meshes import read_file_meshes
from facedis_core.pipeline.inputs import InputItem
from facedis_core.pipeline.parallel import in_order

# What each worker does beside its tasks: a hundred times a second, or for all of its process, such
# as to count the open files of a thousand workers a thousand times.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1h",
    "distributed.admin.system-monitor.interval": "1h",
    "distributed.admin.system-monitor.gil.enabled": False,
}
LATENTS = 92, 44  # sizes in ict-linear


@dataclass(frozen=True)
class Sleep:
    """The work: sleeps for each face of a block, and gives latents."""

    seconds: float

    def __call__(self, block: list[InputItem]) -> Latents:
        time.sleep(self.seconds * len(block))
        identity, expression = (np.zeros((len(block), size), np.float32) for size in LATENTS)
        names = [str(item.name) for item in block]
        return Latents(names, ["0123456789ab"] * len(block), identity, expression)


def blocks(faces: int, size: int) -> Iterator[list[InputItem]]:
    """Faces as a command lists them."""
    for start in range(0, faces, size):
        names = [f"person{k // 20:07d}/smile{k % 20:02d}" for k in range(start, start + size)]
        paths = [f"/data/scans/{name}.ply" for name in names]
        items = zip(paths, names, strict=True)
        yield [InputItem(path, partial(read_file_meshes, path, name), name) for path, name in items]


async def keep_workers(address: str, count: int, scratch: Path) -> None:
    """Many workers in this process, until their scheduler ends."""
    dask.config.set(QUIET)
    logging.disable(logging.CRITICAL)
    cluster._running = nullcontext()  # type: ignore[assignment] # each worker is meant to be one
    workers: list[Any] = []
    for number in range(count):
        worker = Worker(
            address,
            nthreads=1,
            memory_limit=0,
            dashboard=False,
            heartbeat_interval="30s",  # until the scheduler tells a worker how often
            # else each worker looks through the folders of all others
            local_directory=str(scratch / f"{os.getpid()}-{number}"),
        )
        workers.append(await worker)
        for name, callback in worker.periodic_callbacks.items():
            if name not in ("heartbeat", "keep-alive"):  # which the scheduler hears
                callback.stop()
    await asyncio.gather(*(worker.finished() for worker in workers))


class Counting(cluster._Map):
    """Counts tasks, and the bytes that pass through the scheduler."""

    sent = received = tasks = 0

    def _submit(self, blocks: list[bytes], again: bool = False) -> Any:
        Counting.tasks += 1
        Counting.sent += sum(map(len, blocks))
        return super()._submit(blocks, again)

    def _adapt(self, done: Any) -> None:
        Counting.received += sum(map(len, done.results))
        super()._adapt(done)


def seconds_of(process: psutil.Process) -> float:
    """Processor time."""
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(address: str, scheduler: psutil.Process, given: argparse.Namespace) -> None:
    """Run it and print what it took."""
    cluster._Map = Counting  # type: ignore[misc]  # to count what it fetches
    here = psutil.Process()
    before, started = (seconds_of(scheduler), seconds_of(here)), time.monotonic()
    done, shown = 0, started
    for latents in in_order(Sleep(given.seconds), blocks(given.faces, given.block), address):
        done += len(latents)
        if time.monotonic() - started > 60 * given.minutes:
            break
        if time.monotonic() - shown > 20:
            shown = time.monotonic()
            print(
                f"  {done:,} faces, {Counting.tasks:,} tasks, {shown - started:.0f} s", flush=True
            )
    wall, tasks = time.monotonic() - started, Counting.tasks
    of_scheduler, of_client = seconds_of(scheduler) - before[0], seconds_of(here) - before[1]
    ideal = done * given.seconds / given.workers
    print(
        f"{done:,} faces in {tasks:,} tasks of {done / tasks:,.0f}: {wall:.0f} s, of {ideal:.0f} s "
        f"of work for each worker; {tasks / wall:.0f} tasks a second\n"
        f"scheduler {of_scheduler:.1f} s = {1000 * of_scheduler / tasks:.1f} ms a task, "
        f"{scheduler.memory_info().rss >> 20} MB; client {of_client:.1f} s = "
        f"{1000 * of_client / tasks:.1f} ms a task = {1e6 * of_client / done:.1f} us a face, "
        f"{here.memory_info().rss >> 20} MB\n"
        f"through the scheduler {Counting.sent / done:.0f} bytes a face to workers, "
        f"{Counting.received / done:.0f} back, "
        f"{(Counting.sent + Counting.received) / 1e9:.2f} GB in all"
    )


def main() -> None:
    """Start a scheduler and the processes of the workers, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2, help="that the workers are in")
    parser.add_argument("--faces", type=int, default=10_000_000)
    parser.add_argument("--block", type=int, default=16, help="faces in a block")
    parser.add_argument("--seconds", type=float, default=0.003, help="of work a face")
    parser.add_argument("--minutes", type=float, default=60, help="after which it ends")
    parser.add_argument("--keep", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.keep:
        address, count, scratch = given.keep
        asyncio.run(keep_workers(address, int(count), Path(scratch)))
        return
    with TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder, "scheduler.json")

        def start(*words: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context(Path(folder, "log").open("ab"))
            process = subprocess.Popen([sys.executable, *words], stdout=log, stderr=log)
            stack.callback(process.kill)
            return process

        words = ["-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--host", "127.0.0.1"]
        words += ["--port", "0"]
        scheduler = start(*words, "--scheduler-file", str(file))
        while not file.exists():
            time.sleep(0.1)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            address = client.scheduler.address
            started = time.monotonic()
            for _ in range(given.processes):
                count = str(given.workers // given.processes)
                start(__file__, "--keep", address, count, folder)
            # its own waiting asks for all that is known of all workers, ten times a second
            while len(client.nthreads()) < given.workers:
                time.sleep(2)
        joined = psutil.Process(scheduler.pid)
        print(
            f"{given.workers:,} workers there after {time.monotonic() - started:.0f} s; scheduler "
            f"{seconds_of(joined):.1f} s, {joined.memory_info().rss >> 20} MB",
            flush=True,
        )
        measure(address, joined, given)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
