"""Worker processes that read faces, and end when the one that started them ends."""

import os
import pickle
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Final

from facedis_core.errors import InputError
from facedis_core.sources import Block, Reader

# Blocks that may wait for a worker or for us, per worker: enough that none is idle.
AHEAD: Final = 3


def read_blocks(reader: Reader, blocks: Sequence[Sequence[int]], jobs: int) -> Iterator[Block]:
    """The blocks in order, read by `jobs` processes; 1 = none beside this one, 0 = one a core.

    Raises InputError where a worker was killed, which nearly always is for lack of memory.
    """
    workers = min(jobs or os.cpu_count() or 1, len(blocks))
    if workers <= 1:
        yield from map(reader.read, blocks)
        return
    # The reader goes by a file: a pipe to a worker that is killed as it begins is full for ever.
    with tempfile.NamedTemporaryFile() as stored:
        pickle.dump(reader, stored)
        stored.flush()
        # Not fork: it copies locks that another thread, a progress bar's say, may hold.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (stored.name,))
        try:
            yield from _in_order(pool, blocks, workers * AHEAD)
        except BrokenProcessPool:
            _end_all_workers()
            raise InputError(
                "a worker process was killed, most likely for lack of memory; use fewer --jobs"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _end_all_workers() -> None:
    """The pool's own signal is lost on a worker that is just beginning; then it would wait."""
    while workers := active_children():
        for worker in workers:
            worker.kill()
        time.sleep(0.01)


def _in_order(
    pool: ProcessPoolExecutor, blocks: Iterable[Sequence[int]], ahead: int
) -> Iterator[Block]:
    waiting: deque[Future[Block]] = deque()
    for rows in blocks:
        with _deaf_to_interrupts():  # the first ones start the workers, who inherit it
            waiting.append(pool.submit(_read, rows))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# The reader of a worker process, sent once: it may be many times larger than what it makes.
_reader: Reader


def _start_worker(stored: str) -> None:
    global _reader
    with Path(stored).open("rb") as stream:
        _reader = pickle.load(stream)  # our own, written a moment ago
    # Ctrl-C reaches the whole group of processes; the one that started us will end us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent, even where it was killed and could tell nobody."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read(rows: Sequence[int]) -> Block:
    return _reader.read(rows)
