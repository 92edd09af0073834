"""Moments in which a process does not want to be stopped."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def delayed_interrupts() -> Iterator[None]:
    """Within, Ctrl-C and its like wait until the block has ended; for a block that is short."""
    if threading.current_thread() is not threading.main_thread():
        yield  # they do not come here
        return
    waiting: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        waiting.append(signum)

    heard = [s for s in _STOPPING if callable(signal.getsignal(s))]
    before = {signum: signal.signal(signum, note) for signum in heard}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        if waiting:
            signal.raise_signal(waiting[0])
