"""Whole pieces of work on threads of their own, instead of every operation on all threads.

The operations of the training layers take a fraction of a millisecond each. Shared out one by
one, threads wait for each other after every one of them, and where another program has one of the
cores they wait for long. A piece of work takes them one after the other on one thread.
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


def spread(
    work: Callable[[T], R], items: Iterable[T], device: torch.device | str = "cpu"
) -> Iterator[R]:
    """map(work, items) on as many threads as torch uses here; results in the order of the items.

    Work for a GPU stays on this thread. Whether gradients are recorded is a thread's own affair,
    so `work` says whether it wants them.
    """
    threads = torch.get_num_threads()
    if threads == 1 or torch.device(device).type != "cpu":  # no threads within threads either
        return map(work, items)
    return _pool(threads, os.getpid()).map(work, items)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads for this process: those of another do not live on in its fork."""
    pool = ThreadPoolExecutor(threads, f"facedis-{process}", _alone)
    barrier = Barrier(threads)
    list(pool.map(lambda _: barrier.wait(60), range(threads)))  # until all of them have started
    torch.set_num_threads(threads)  # what a thread says counts for those that start after it
    return pool


def _alone() -> None:
    """Let the thread that calls share its operations with no other."""
    torch.get_num_threads()  # torch sets the number of a new thread when it first looks at it
    torch.set_num_threads(1)
