"""Work on many blocks shared by worker processes: results in order, few blocks ahead."""

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

# Blocks per worker that are sent before their results are taken: enough that none waits.
BLOCKS_AHEAD: Final = 3
# Each worker loads all modules again: a mistyped --jobs must not start a hundred thousand.
MAX_WORKERS: Final = max(16, 2 * (os.cpu_count() or 1))

_SIGNALS: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def in_order(
    work: Callable[[Block], Result], blocks: Iterable[Block], jobs: int
) -> Generator[Result, None, None]:
    """The results of `work` on each block, in the order of the blocks; closed, it ends the workers.

    Args:
        work: picklable, as are blocks and results; sent once to each process.
        blocks: read lazily, in this thread, `BLOCKS_AHEAD` a worker before the results are taken.
        jobs: number of processes; 1 = this one alone, 0 = one a core, at most `MAX_WORKERS`.

    Raises:
        InputError: a worker process was killed; nearly always for lack of memory.
    """
    blocks = iter(blocks)
    workers = min(jobs or os.cpu_count() or 1, MAX_WORKERS)
    first = list(islice(blocks, min(workers, 2)))
    if len(first) <= 1:  # a single block needs no process
        yield from map(work, chain(first, blocks))
        return
    # Imported here: processes take longer to import than a face to encode.
    import pickle
    import tempfile
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context, resource_tracker

    install_signal_handlers()
    # The work goes by a file: writing megabytes to the pipe of a worker that was killed blocks.
    # Where the system shows open files it has no other name, and goes even if we are killed.
    nameless = exists(f"/proc/{os.getpid()}/fd")
    with tempfile.TemporaryFile() if nameless else tempfile.NamedTemporaryFile() as stored:
        pickle.dump(work, stored)
        stored.flush()
        name = f"/proc/{os.getpid()}/fd/{stored.fileno()}" if nameless else stored.name
        # A semaphore is left behind where a signal comes before it is listed for removal.
        resource_tracker.ensure_running()  # before, since it unblocks signals
        with _blocked_signals():
            # Not fork: it copies locks that another thread, such as a progress bar's, may hold.
            pool = ProcessPoolExecutor(workers, get_context("spawn"), _load_work, (name,))
        # All workers start with the first block: Python 3.11 closes the pipe of one that starts
        # while another is found dead.
        pool._safe_to_dynamically_spawn_children = False  # type: ignore[attr-defined]
        sent: deque[Future[Result]] = deque()
        try:
            for block in chain(first, blocks):
                with _blocked_signals():  # inherited by the workers, until they can be ended
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
            pool.shutdown(cancel_futures=True)


@contextmanager
def _blocked_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_workers() -> None:
    """End those that are only starting, which do not yet see the signal of a broken pool."""
    from multiprocessing import active_children

    while workers := active_children():
        for worker in workers:
            worker.kill()
        time.sleep(0.01)


# In a worker process: what it does, loaded once, since it may be many times larger than a block.
_work: Callable[[Any], Any]


def _load_work(stored: str) -> None:
    """Initialise a worker process."""
    import pickle

    global _work
    with Path(stored).open("rb") as stream:
        _work = pickle.load(stream)  # written by our parent
    gc.freeze()  # all this stays; the collector need not visit it
    # Ctrl-C reaches every process of a terminal; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End this worker when its parent ends, even if that was killed."""
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do_work(block: Any) -> Any:
    return _work(block)
