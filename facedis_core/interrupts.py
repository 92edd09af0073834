"""What becomes of the signals that ask a process to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], None]


@contextmanager
def stopping_signals_to(handler: Handler) -> Iterator[None]:
    """Within, Ctrl-C, SIGTERM and SIGHUP go to `handler`, unless the process ignores them."""
    heard = [s for s in _STOPPING if signal.getsignal(s) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, handler) for signum in heard}
    try:
        yield
    finally:
        for signum, handled in before.items():
            signal.signal(signum, handled)


@contextmanager
def delayed_interrupts() -> Iterator[None]:
    """Within, those wait until the block has ended; for a block that is short."""
    if threading.current_thread() is not threading.main_thread():
        yield  # they do not come here
        return
    waiting: list[int] = []
    try:
        with stopping_signals_to(lambda signum, frame: waiting.append(signum)):
            yield
    finally:
        if waiting:
            signal.raise_signal(waiting[0])
