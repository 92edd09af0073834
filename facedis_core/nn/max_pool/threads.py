"""A parallel map on threads: each item on one thread, instead of every operation on all threads.

The operations of the training layers take a fraction of a millisecond each. If torch divides each
of them among its threads, these wait for each other after every operation, and wait long where
another program uses one of the cores.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def thread_map(
    work: Callable[[T], R], items: Iterable[T], device: torch.device | str = "cpu"
) -> Iterator[R]:
    """map(work, items) on as many threads as torch uses here; results in the order of the items.

    Work for a GPU stays on this thread. Gradient mode is a setting of each thread, so `work` sets
    its own.
    """
    threads = torch.get_num_threads()
    if threads == 1 or torch.device(device).type != "cpu":  # also within a thread of the pool
        return map(work, items)
    return _pool(threads, os.getpid()).map(work, items)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """The threads of this process; a fork does not inherit those of its parent."""
    pool = ThreadPoolExecutor(threads, f"facedis-{process}", _single_threaded)
    barrier = Barrier(threads)
    list(pool.map(lambda _: barrier.wait(60), range(threads)))  # waits until all have started
    torch.set_num_threads(threads)  # the last call of any thread counts for new threads
    return pool


def _single_threaded() -> None:
    """Run the operations of the calling thread on that thread alone."""
    torch.get_num_threads()  # initialises the number of the new thread, which is then set
    torch.set_num_threads(1)
