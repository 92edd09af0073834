"""Worker processes that share the work on many faces, and end when their parent ends."""

import gc
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

from facedis_core.errors import InputError
from facedis_core.paths import exists
from facedis_core.signals import install_signal_handlers

# Processes are imported where they are started: that takes longer than encoding a face.
if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

Block = TypeVar("Block")
Done = TypeVar("Done")

# Blocks that may wait for a worker or for us, per worker: enough that none is idle.
AHEAD: Final = 3
# Processes of which each loads all that the first one has: a slip of the finger may not ask for
# a hundred thousand.
MOST: Final = max(16, 2 * (os.cpu_count() or 1))


def in_order(work: Callable[[Block], Done], blocks: Iterable[Block], jobs: int) -> Iterator[Done]:
    """What becomes of the blocks, in their order, worked on by `jobs` processes.

    Args:
        work: can be pickled, as can blocks and results; sent to each process once.
        blocks: asked for one by one, a few ahead of what has been handed out.
        jobs: 1 = none beside this process, 0 = one a core; more than `MOST` are that many.

    Raises:
        InputError: a worker was killed, which nearly always is for lack of memory.
    """
    blocks = iter(blocks)
    workers = min(jobs or os.cpu_count() or 1, MOST)
    first = list(islice(blocks, min(workers, 2)))  # a single block needs no process
    if len(first) <= 1:
        yield from map(work, chain(first, blocks))
        return
    import pickle
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    # The work goes by a file: a pipe to a worker that is killed as it begins is full for ever.
    install_signal_handlers()
    with _without_name() as (stored, name):
        pickle.dump(work, stored)
        stored.flush()
        # Not fork: it copies locks that another thread, a progress bar's say, may hold.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (name,))
        # All workers at once, before the pool's thread that watches them begins. While they came
        # one by one, a killed one made Python 3.11 close what the next one was about to be given.
        pool._safe_to_dynamically_spawn_children = False  # type: ignore[attr-defined]
        try:
            yield from _in_order(pool, chain(first, blocks), workers * AHEAD)
        except BrokenProcessPool:
            _end_all_workers()
            raise InputError(
                "a worker process was killed, most likely for lack of memory; use fewer --jobs"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _without_name() -> Iterator[tuple[IO[bytes], str]]:
    """A temporary file and where other processes find it; nothing is left of it if we are killed.

    Where the system shows no open files of a process it has a name all the same.
    """
    import tempfile

    with tempfile.TemporaryFile() as file:
        path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        if exists(path):
            yield file, path
            return
    with tempfile.NamedTemporaryFile() as named:
        yield named, named.name


def _end_all_workers() -> None:
    """The pool's own signal is lost on a worker that is just beginning; then it would wait."""
    from multiprocessing import active_children

    while workers := active_children():
        for worker in workers:
            worker.kill()
        time.sleep(0.01)


def _in_order(pool: "ProcessPoolExecutor", blocks: Iterable[Any], ahead: int) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque()
    for block in blocks:
        with _deaf_to_signals():  # the first one starts the workers, who inherit it
            waiting.append(pool.submit(_work_on, block))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_STOPPING: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@contextmanager
def _deaf_to_signals() -> Iterator[None]:
    """A worker that is half started when we leave would say so in a page of traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# What a worker process does, sent once: it may be many times larger than a block.
_work: Callable[[Any], Any]


def _start_worker(stored: str) -> None:
    import pickle

    global _work
    with Path(stored).open("rb") as stream:
        _work = pickle.load(stream)  # our own, written a moment ago
    gc.freeze()  # what is here stays; to look through it again and again takes time
    # Ctrl-C reaches the whole group of processes; the one that started us will end us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent, even where it was killed and could tell nobody."""
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work_on(block: Any) -> Any:
    return _work(block)
