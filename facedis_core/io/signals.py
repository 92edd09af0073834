"""Handlers of the signals that stop a process: SIGINT, SIGTERM, SIGHUP."""

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
    """Set the default action for these signals until `install_signal_handlers`.

    An exception raised by a handler during an import may be lost or mistaken for an import error,
    and before the work begins there is nothing to clean up. Signals that the process ignores stay
    ignored.
    """
    for signum, handler in handlers.items():
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, signal.SIG_DFL)
            _handlers[signum] = handler


def install_signal_handlers() -> None:
    """Install the deferred handlers, before something is made that needs cleaning up."""
    if threading.current_thread() is threading.main_thread():
        for signum, handler in _handlers.items():
            if signal.getsignal(signum) == signal.SIG_DFL:
                signal.signal(signum, handler)


@contextmanager
def stop_signals_to(handler: Handler) -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP by `handler` in this block, unless they are ignored."""
    handled = [s for s in _STOPPING if signal.getsignal(s) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, handler) for signum in handled}
    try:
        yield
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)
