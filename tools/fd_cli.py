"""What all commands share: the error boundary, exit codes, common options and words to stderr.

A command is `def main() -> None: fd_cli.run(function)`; the parameters of `function` are its
options and its docstring is its help page. Nothing here imports NumPy, torch or (unless a terminal
watches) rich.
"""

import errno
import inspect
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar

import typer

from facedis_core import __version__
from facedis_core.errors import (
    CheckFailed,
    InputError,
    MissingExtra,
    OutputError,
    ReaderLeft,
    Stopped,
    UsageError,
)

Item = TypeVar("Item")

Output = Annotated[
    str, typer.Option("--output", "-o", metavar="OUT", help="Where to write; - is standard output.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        show_default=False,
        help="Model file or bundled name.  [default: $FACEDIS_MODEL, else ict]",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Fixes everything that is random.")]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs", "-j", min=0, show_default=False, help="Processes at once.  [default: one a core]"
    ),
]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", help="Name and skip bad items; exit 1 if there were any.")
]
Align = Annotated[
    Literal["auto", "none", "rigid", "similarity"],
    typer.Option("--align", help="Align to the mean face; auto = as the model's data was."),
]
Units = Annotated[
    Literal["auto", "raw", "mm"],
    typer.Option(
        "--units", help="What meshes are in that do not say; raw = the data set's own unit."
    ),
]
TrustOrder = Annotated[
    bool, typer.Option("--trust-order", help="Take other triangles if the vertex count is right.")
]
NoHistory = Annotated[bool, typer.Option("--no-history", help="Leave out how the output was made.")]
Split = Annotated[
    Literal["all", "train", "test", "validation"],
    typer.Option("--split", help="Which faces of a face set."),
]

# Looked up from the most derived class of an error upwards.
_EXIT_CODES: Final[dict[type[BaseException], int]] = {
    CheckFailed: 1,
    UsageError: 2,
    InputError: 3,
    OutputError: 4,
    MemoryError: 3,
    Stopped: 130,
}
_BUG: Final = 70

# Import name of an optional package -> the extra that installs it.
_EXTRAS: Final = {"torch": "train", "scipy": "train", "fast_simplification": "prep", "PIL": "view"}

_DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class _Terminated(BaseException):
    """A signal asks us to end; an exception, so that temporary files are removed on the way."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def run(function: Callable[..., Any], *, numpy_threads: bool = True) -> NoReturn:
    """Run a command with the arguments of the process, and exit.

    Args:
        function: its annotated parameters are the options, its docstring is the help page.
        numpy_threads: keep NumPy to one thread unless the user said otherwise; False for the
            commands that train.
    """
    name = Path(inspect.getfile(function)).stem.replace("_", "-")
    if sys.stderr is None:
        # print() would take standard output instead, and an opened file the number of stderr.
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the process ends
    if numpy_threads:
        _limit_threads()
    _buffer_output()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) == signal.SIG_DFL:  # nohup ignores SIGHUP; leave it so
            signal.signal(signum, _terminate)
    try:
        _invoke(function, name)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:
        _exit_for(error, name)
    sys.exit(0)


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


def _invoke(function: Callable[..., Any], name: str) -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(
        name, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
    )(_with_version(function, name))
    command = typer.main.get_command(app)
    # not command.main(): it answers interrupts and broken pipes before we could
    with command.make_context(name, sys.argv[1:]) as context:
        command.invoke(context)


def _with_version(function: Callable[..., Any], name: str) -> Callable[..., None]:
    """The same command with the option `--version`."""

    def show(wanted: bool) -> None:
        if wanted:
            print(f"{name} {__version__}")
            raise typer.Exit

    def command(version: bool = False, **options: Any) -> None:
        function(**options)

    option = typer.Option("--version", callback=show, is_eager=True, help="Show the version.")
    signature = inspect.signature(function, eval_str=True)
    version = inspect.Parameter(
        "version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )
    parameters = [p.replace(kind=version.kind) for p in signature.parameters.values()]
    parameters.append(version)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = function.__doc__
    return command


def _exit_for(error: BaseException, name: str) -> NoReturn:
    """Say what went wrong in one line and end with the exit code of its kind."""
    if isinstance(error, typer.Exit):
        sys.exit(error.exit_code)
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, _Terminated | KeyboardInterrupt):
        traceback.clear_frames(error.__traceback__)  # lets go of what workers shared with us
    if isinstance(error, _Terminated):
        _die_of(error.signum)
    if isinstance(error, KeyboardInterrupt):
        _complain(name, "interrupted")
        _die_of(signal.SIGINT)
    if isinstance(error, ReaderLeft | BrokenPipeError):
        _die_of(signal.SIGPIPE)
    error = _translated(error)
    for kind in type(error).__mro__:
        if kind in _EXIT_CODES:
            _complain(name, str(error) or "stopped")
            _leave(_EXIT_CODES[kind])
    traceback.print_exception(error)
    _complain(name, "this is a bug in facedis; please report it with the lines above")
    _leave(_BUG)


def _translated(error: BaseException) -> BaseException:
    """Errors of libraries and of the system as ours, where they are no bug."""
    if hasattr(error, "format_message"):  # what typer finds wrong in the arguments
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        return UsageError(f"{message}; try --help")
    if isinstance(error, MemoryError):
        return MemoryError(f"out of memory: {str(error) or 'no details'}; give it less at a time")
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        package = error.name.partition(".")[0]
        if package in _EXTRAS:
            return MissingExtra(f"this ({package})", _EXTRAS[package])
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return OutputError(f"cannot write {error.filename or 'the output'}: {error.strerror}")
    if isinstance(error, OSError) and error.filename is not None:
        return InputError(f"cannot use {error.filename}: {error.strerror}")
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
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # only where the signal is blocked


def _complain(name: str, message: str) -> None:
    """One line, whatever a file name in the message may contain."""
    line = re.sub(r"\s+", " ", message).strip()
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    with suppress(OSError, ValueError):
        print(f"{name}: {line}", file=sys.stderr, flush=True)


def say(message: str) -> None:
    """A line to the person at the terminal; standard output is for data."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """A line about something the user should look at; the command goes on."""
    _complain(f"{Path(sys.argv[0]).stem.replace('_', '-')}: warning", message)


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Hand the items through and show how many have passed, if a terminal is watching."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(description, total) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of steps just done; it shows them to a terminal only."""
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    from rich import progress as rich
    from rich.console import Console

    words = map(rich.TextColumn, ("{task.description}", "{task.fields[rate]}"))
    bars = (rich.BarColumn(), rich.MofNCompleteColumn(), rich.TimeRemainingColumn())
    with rich.Progress(*words, *bars, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(description, total=total, rate="")

        def advance(steps: int) -> None:
            shown.advance(task, steps)
            speed = shown.tasks[0].speed
            shown.update(task, rate=f"{speed:.3g}/s" if speed else "")

        yield advance
