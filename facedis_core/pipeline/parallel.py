"""A parallel map over blocks with worker processes: results in order, in constant memory.

The workers are processes of this machine, or of a cluster (`pipeline.cluster`).
"""

import gc
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TypeVar

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.paths import exists
from facedis_core.io.signals import install_signal_handlers

Block = TypeVar("Block")
Result = TypeVar("Result")

# Blocks per worker that are sent in advance, so that no worker waits.
BLOCKS_AHEAD: Final = 3
# How long workers have to finish their blocks when the results are no longer wanted.
LAST_SECONDS: Final = 5.0
# A limit for a mistyped --jobs: each worker imports all modules again.
MAX_WORKERS: Final = max(16, 2 * (os.cpu_count() or 1))

_SIGNALS: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


# Number of worker processes, 0 = one per core, 1 = none; or the address of a Dask scheduler.
Workers = int | str


def block_names(block: Any) -> Iterable[str]:
    """Names of what a block holds: an item, a sequence of items, or what has `names`."""
    items = getattr(block, "names", None) or (block if isinstance(block, list) else [block])
    return [getattr(item, "source", str(item)) for item in items]


def in_order(
    work: Callable[[Block], Result],
    blocks: Iterable[Block],
    jobs: Workers,
    names: Callable[[Block], Iterable[str]] = block_names,
) -> Generator[Result, None, None]:
    """Yield work(block) for each block in order; closing the generator ends the workers in seconds.

    Args:
        work: picklable, like blocks and results; sent once to each worker.
        blocks: read in this thread, at most BLOCKS_AHEAD per worker before their results.
        jobs: number of worker processes, up to MAX_WORKERS, or a scheduler as of `cluster`.
        names: what to call a block that workers of a cluster die of.

    Raises:
        InputError: a worker process was killed, nearly always for lack of memory; errors of
            `in_order_on_cluster`.
    """
    if isinstance(jobs, str):
        from facedis_core.pipeline.cluster import in_order_on_cluster

        yield from in_order_on_cluster(work, blocks, jobs, names)
        return
    blocks = iter(blocks)
    workers = min(jobs or os.cpu_count() or 1, MAX_WORKERS)
    first = list(islice(blocks, min(workers, 2)))
    if len(first) <= 1:  # a single block needs no worker
        yield from map(work, chain(first, blocks))
        return
    # Imported late: this takes longer than encoding a face.
    import pickle
    import tempfile
    from concurrent.futures import Future, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context, resource_tracker

    install_signal_handlers()
    # The work is sent in a file: writing megabytes to the pipe of a killed worker would block.
    # With /proc the file needs no name, and vanishes even if this process is killed.
    nameless = exists(f"/proc/{os.getpid()}/fd")
    with tempfile.TemporaryFile() if nameless else tempfile.NamedTemporaryFile() as stored:
        pickle.dump(work, stored)
        stored.flush()
        name = f"/proc/{os.getpid()}/fd/{stored.fileno()}" if nameless else stored.name
        # A signal between the creation of a semaphore and its registration would leak it.
        resource_tracker.ensure_running()  # first, since it unblocks signals
        with _blocked_signals():
            # not fork: it copies locks that another thread, such as a progress bar's, may hold
            pool = ProcessPoolExecutor(workers, get_context("spawn"), _load_work, (name,))
        # All workers start with the first block: Python 3.11 closes the pipe of a worker that
        # starts while a dead one is found.
        pool._safe_to_dynamically_spawn_children = False  # type: ignore[attr-defined]
        sent: deque[Future[Result]] = deque()
        try:
            for block in chain(first, blocks):
                with _blocked_signals():  # workers inherit this until they are initialised
                    sent.append(pool.submit(_do_work, block))
                if len(sent) >= workers * BLOCKS_AHEAD:
                    yield sent.popleft().result()
            while sent:
                yield sent.popleft().result()
        except BrokenProcessPool:
            _kill_workers()
            raise InputError(
                "a worker process was killed, most likely for lack of memory; use fewer --jobs",
                ErrorCode.MEMORY,
            ) from None
        finally:
            running = [future for future in sent if not future.cancel()]
            for future in sent:
                if future.cancelled():  # Python 3.11 fails at one when its worker is killed
                    future.set_exception = _ignored  # type: ignore[assignment,method-assign]
            not_done = set(running)
            try:
                not_done = wait(running, LAST_SECONDS).not_done
            finally:  # also where a second signal ends the waiting
                if not_done:
                    _kill_workers()  # they may wait for a storage that does not answer
                pool.shutdown(cancel_futures=True)


@contextmanager
def _blocked_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignored(error: BaseException | None) -> None:
    """Set no exception."""


def _kill_workers() -> None:
    """Kill workers that a pool does not end: just starting in a broken one, or waiting."""
    from multiprocessing import active_children

    while workers := active_children():
        for worker in workers:
            worker.kill()
        time.sleep(0.01)


# The work of this worker process, loaded once: it may be many times larger than a block.
_work: Callable[[Any], Any]


def _load_work(stored: str) -> None:
    """Initialise a worker process."""
    import pickle

    global _work
    with Path(stored).open("rb") as stream:
        _work = pickle.load(stream)  # written by the parent process
    gc.freeze()  # the collector need not visit what stays
    # Ctrl-C reaches every process of a terminal; the parent ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=exit_with_parent, daemon=True).start()


def exit_with_parent() -> None:
    """End this worker when its parent process ends, even if that was killed."""
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do_work(block: Any) -> Any:
    return _work(block)
