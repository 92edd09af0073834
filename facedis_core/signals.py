"""What becomes of the signals that ask a process to stop."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], None]

_handlers: dict[int, Handler] = {}


def defer_signal_handlers(handlers: Mapping[int, Handler]) -> None:
    """Let these signals end the process as they would any other, until `install_signal_handlers`.

    While modules are imported an exception out of a handler may be lost or taken for a failure,
    and there is nothing to clean up. A signal that the process ignores is left so.
    """
    for signum, handler in handlers.items():
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, signal.SIG_DFL)
            _handlers[signum] = handler


def install_signal_handlers() -> None:
    """From here on there is something to clean up: signals go to the handlers given before."""
    if threading.current_thread() is threading.main_thread():
        for signum, handler in _handlers.items():
            if signal.getsignal(signum) == signal.SIG_DFL:
                signal.signal(signum, handler)


@contextmanager
def stop_signals_to(handler: Handler) -> Iterator[None]:
    """Within, Ctrl-C, SIGTERM and SIGHUP go to `handler`, unless the process ignores them."""
    heard = [s for s in _STOPPING if signal.getsignal(s) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, handler) for signum in heard}
    try:
        yield
    finally:
        for signum, handled in before.items():
            signal.signal(signum, handled)


@contextmanager
def delay_stop_signals() -> Iterator[None]:
    """Within, those wait until the block has ended; for a block that is short."""
    if threading.current_thread() is not threading.main_thread():
        yield  # they do not come here
        return
    waiting: list[int] = []
    try:
        with stop_signals_to(lambda signum, frame: waiting.append(signum)):
            yield
    finally:
        if waiting:
            signal.raise_signal(waiting[0])
