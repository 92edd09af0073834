"""The process of a command: arguments in; errors become one line on stderr and an exit code.

Nothing here imports NumPy, torch or rich.
"""

import atexit
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, NoReturn

import typer

from facedis_core.errors import (
    CheckFailed,
    ErrorCode,
    FacedisError,
    InputError,
    OutputError,
    ReaderLeft,
    Stopped,
    UsageError,
    is_disk_full,
    missing_extra,
    output_error,
)
from facedis_core.io.memory import check_memory_limit, memory_error
from facedis_core.io.signals import defer_signal_handlers, install_signal_handlers
from fd_parse import COMPLETION, click_command, command_name

# Looked up from the most derived class of an error upwards.
_EXIT_CODES: Final[dict[type[BaseException], int]] = {
    CheckFailed: 1,
    UsageError: 2,
    InputError: 3,
    OutputError: 4,
    Stopped: 130,
}
_BUG: Final = 70

# Import name of an optional package -> the extra that installs it.
_EXTRAS: Final = {
    "torch": "train",
    "scipy": "train",
    "fast_simplification": "prep",
    "PIL": "view",
    "av": "video",
    "distributed": "cluster",
    "fsspec": "remote",
}


class _Terminated(BaseException):
    """A signal asks us to end; an exception, so that temporary files are removed on the way."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


_name = "facedis"  # of the command that is running


@dataclass(frozen=True)
class Ending:
    """Exit code and message of a command that has ended.

    Attributes:
        code: exit code.
        error: what went wrong, as one of our errors where it is one of a library or of the system.
        message: line about it on stderr; "" = none.
        signum: signal that the process ends by, for which a shell shows `code`; 0 = none.
    """

    code: int
    error: BaseException | None = None
    message: str = ""
    signum: int = 0


def run(function: Callable[..., Any], *, numpy_threads: bool = True) -> NoReturn:
    """Run a command with the arguments of the process, and exit.

    Args:
        function: its annotated parameters are the options, its docstring is the help page.
        numpy_threads: keep NumPy to one thread unless the user said otherwise; False for the
            commands that train.
    """
    if sys.stderr is None:
        # print() would take standard output instead, and an opened file the number of stderr.
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the process ends
    if numpy_threads:
        _limit_threads()
    _buffer_output()
    defer_signal_handlers(
        {
            signal.SIGINT: signal.default_int_handler,
            signal.SIGTERM: _terminate,
            signal.SIGHUP: _terminate,
        }
    )
    if not numpy_threads:  # a training saves its checkpoint when it is stopped
        install_signal_handlers()
    ending = perform(function, sys.argv[1:], training=not numpy_threads)
    if ending.signum:
        _die_of(ending.signum)
    _leave(ending.code)


def _limit_threads() -> None:
    """NumPy reads these when it is imported; many threads make small products many times slower.

    A user who sets OMP_NUM_THREADS means the libraries with a variable of their own as well.
    """
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")
    for library in ("OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", threads)
    os.environ.setdefault("VECLIB_MAXIMUM_THREADS", threads)


def _buffer_output() -> None:
    """Python's `-u` loses the rest where a pipe takes only a part of what is written."""
    raw = getattr(sys.stdout, "buffer", None)
    if isinstance(raw, io.RawIOBase):
        encoding, errors = sys.stdout.encoding, sys.stdout.errors
        sys.stdout.detach()  # type: ignore[union-attr]
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated(signum)


def perform(
    function: Callable[..., Any], arguments: Sequence[str], *, training: bool = False
) -> Ending:
    """Run a command with these arguments; an error becomes a line on stderr, nothing is raised.

    Where a shell asks for the completion of a line, it gets that instead.
    """
    global _name
    _name = command_name(function)
    code = 0
    try:
        try:
            if COMPLETION in os.environ:
                from fd_completion import complete

                code = complete(function)
            else:
                command = click_command(function)
                # not command.main(): it answers interrupts and broken pipes before we could
                with command.make_context(_name, list(arguments)) as context:
                    check_memory_limit(training=training)
                    command.invoke(context)
        except typer.Exit as ended:  # --help, --version
            code = ended.exit_code
        if sys.stdout is not None:
            sys.stdout.flush()
        return Ending(code)
    except BaseException as error:
        ending = ending_of(error)
    if ending.code == _BUG:
        traceback.print_exception(ending.error)
    if ending.message:
        complain(ending.message)
    return ending


def ending_of(error: BaseException) -> Ending:
    """Exit code and line for an error, by its kind."""
    traceback.clear_frames(error.__traceback__)  # generators in them end their worker processes
    if isinstance(error, _Terminated):
        return Ending(128 + error.signum, error, signum=error.signum)
    if isinstance(error, KeyboardInterrupt):
        return Ending(128 + signal.SIGINT, error, "interrupted", signal.SIGINT)
    if isinstance(error, ReaderLeft | BrokenPipeError):
        return Ending(128 + signal.SIGPIPE, error, signum=signal.SIGPIPE)
    error = _translated(error)
    for kind in type(error).__mro__:
        if kind in _EXIT_CODES:
            return Ending(_EXIT_CODES[kind], error, str(error) or "stopped")
    message = "this is a bug in facedis; please report it with the lines above"
    return Ending(_BUG, error, message)


def _translated(error: BaseException) -> BaseException:
    """Errors of libraries and of the system as ours, where they are no bug."""
    if hasattr(error, "format_message"):  # what typer finds wrong in the arguments
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        unknown = getattr(error, "option_name", None) or "\0"
        files = (word for word in sys.argv[1:] if word.startswith(unknown))
        file = next(filter(os.path.exists, files), None)
        hint = "try --help" if file is None else f"the file {file} is ./{file}"
        return UsageError(f"{message}; {hint}", ErrorCode.ARGUMENTS)
    if not isinstance(error, FacedisError) and (lacking := memory_error(error)):
        return lacking
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        package = error.name.partition(".")[0]
        if package in _EXTRAS:
            return missing_extra(f"this ({package})", _EXTRAS[package])
    if isinstance(error, OSError) and is_disk_full(error):
        return output_error(
            f"cannot write {error.filename or 'the output'}: {error.strerror}", error
        )
    if isinstance(error, OSError) and error.filename is not None:
        return InputError(
            f"cannot use {error.filename}: {error.strerror}", ErrorCode.FILE_UNREADABLE
        )
    return error


def _leave(code: int) -> NoReturn:
    """Exit without another try at an output that has already failed."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _die_of(signum: int) -> NoReturn:
    """End as the signal would have ended us, so that a shell sees the real reason."""
    if "multiprocessing" in sys.modules:
        atexit._run_exitfuncs()  # a signal skips them, and semaphores of workers would be left
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # only where the signal is blocked


def complain(message: str) -> None:
    """Print a message on one line; unprintable characters of file names are escaped."""
    line = re.sub(r"\s+", " ", message).strip()
    if "://" in line:
        from facedis_core.io.urls import without_secrets

        line = without_secrets(line)
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    with suppress(OSError, ValueError):
        print(f"{_name}: {line}", file=sys.stderr, flush=True)
