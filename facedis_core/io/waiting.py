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
from typing import Any, ClassVar, Final, TypeVar

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


class _Lease:
    """A thread that does the calls of one other, and of the next when that one has ended.

    So a connection, which backends keep per thread, is used by one at a time.
    """

    # of the class: at the end of the process it is there longer than the names of the module
    _idle: ClassVar[list[_Thread]] = []

    def __init__(self) -> None:
        try:
            self.thread: _Thread | None = self._idle.pop()
        except IndexError:
            self.thread = _Thread()

    def __del__(self) -> None:
        if self.thread is not None:
            self._idle.append(self.thread)


_own: Final = threading.local()


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """The result of a call in another thread; an interrupt ends the waiting at once.

    Raises:
        TimeoutError: it takes longer.
    """
    lease: _Lease | None = getattr(_own, "lease", None)
    if lease is None or lease.thread is None:
        lease = _own.lease = _Lease()
    thread = lease.thread
    assert thread is not None
    future: Future[Result] = Future()
    thread.calls.put((future, call))
    try:
        return future.result(seconds)
    finally:
        if not future.done():  # left behind
            thread.calls.put(None)
            lease.thread = None


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
