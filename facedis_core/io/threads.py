"""Threads that wait for storage: a time limit for one call, and many calls ahead of their results.

Imported only where a URL is given. All threads are daemons: one that a storage does not answer is
left behind, and neither an interrupt nor the end of the process waits for it.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Thread:
    """A thread that does one call after the other, in the order in which they are put."""

    def __init__(self, calls: SimpleQueue[Any] | None = None) -> None:
        self.calls: SimpleQueue[Any] = calls or SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while (task := self.calls.get()) is not None:
            future, call = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    future.set_exception(error)
            del task, future, call  # until the next one comes


# The one that was used last comes first: backends keep a connection per thread.
_idle: list[_Thread] = []


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """The result of a call in another thread; an interrupt ends the waiting at once.

    Raises:
        TimeoutError: it takes longer.
    """
    try:
        thread = _idle.pop()
    except IndexError:
        thread = _Thread()
    future: Future[Result] = Future()
    thread.calls.put((future, call))
    try:
        return future.result(seconds)
    finally:
        if future.done():
            _idle.append(thread)
        else:
            thread.calls.put(None)


def in_threads(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    last_seconds: float = 0.0,
) -> Generator[Result, None, None]:
    """Yield work(item) for each item in order, with up to `threads` of them ahead.

    An error is raised in its place. What has not begun when the generator is closed is dropped;
    what has is waited for up to `last_seconds`.
    """
    calls: SimpleQueue[Any] = SimpleQueue()
    ahead: deque[Future[Result]] = deque()
    started = 0
    try:
        for item in items:
            if started < threads:
                _Thread(calls)
                started += 1
            future: Future[Result] = Future()
            calls.put((future, lambda item=item: work(item)))
            ahead.append(future)
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()
        for _ in range(started):
            calls.put(None)
        with suppress(KeyboardInterrupt):
            wait([future for future in ahead if not future.cancelled()], last_seconds)
