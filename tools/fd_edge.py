"""The edge of a process: arguments in, one line and an exit code out, whatever happens between.

Nothing here imports NumPy, torch or rich.
"""

import errno
import inspect
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, NoReturn

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

# What a shell asks with, see fd-info --completion; typer's own way has a variable a command.
COMPLETION: Final = "_FACEDIS_COMPLETE"

_DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class _Terminated(BaseException):
    """A signal asks us to end; an exception, so that temporary files are removed on the way."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


_name = "facedis"  # of the command that is running


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
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) == signal.SIG_DFL:  # nohup ignores SIGHUP; leave it so
            signal.signal(signum, _terminate)
    try:
        if COMPLETION in os.environ:
            _complete(function)
        invoke(function, sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:
        _exit_for(error)
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


def command_name(function: Callable[..., Any]) -> str:
    """`fd-encode` of the function that does its work."""
    return Path(inspect.getfile(function)).stem.replace("_", "-")


def invoke(function: Callable[..., Any], arguments: Sequence[str]) -> None:
    """Run a command with these arguments, and speak in its name; what goes wrong is raised."""
    global _name
    _name = command_name(function)
    command = click_command(function)
    # not command.main(): it answers interrupts and broken pipes before we could
    with command.make_context(_name, list(arguments)) as context:
        command.invoke(context)


def click_command(
    function: Callable[..., Any],
    suggestions: Mapping[str, Callable[[str], list[str]]] | None = None,
) -> Any:
    """The command as the library below typer has it, with all its options.

    `suggestions` complete the values that the help page calls by these names.
    """
    name = command_name(function)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(
        name, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
    )(_with_version(function, name, suggestions or {}))
    command = typer.main.get_command(app)
    for parameter in command.get_params(typer.Context(command, **command.context_settings)):
        if hasattr(parameter, "get_runtime_param"):  # not every typer has it
            checked = parameter.get_runtime_param
            parameter.get_runtime_param = partial(_Unchecked, checked)
    return command


class _Unchecked:
    """Hands on text and defaults as they are.

    typer has every value checked by pydantic, whose import alone takes a command as long as
    NumPy's; with this only those who give a number or a choice pay for it.
    """

    def __init__(self, checked: Callable[[], Any]) -> None:
        self._checked = checked

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        source = ctx.get_parameter_source(param.name)
        if source.name == "DEFAULT" or param.type_descriptor.annotation in (str, list[str]):
            return list(value) if isinstance(value, tuple) else value
        return self._checked().coerce(value, param=param, ctx=ctx)


def _complete(function: Callable[..., Any]) -> NoReturn:
    """Answer a shell that asks how its line may go on."""
    from typer.completion import completion_init, shell_complete

    from facedis_core.completion import SUGGESTIONS

    completion_init()
    command = click_command(function, SUGGESTIONS)
    sys.exit(shell_complete(command, {}, _name, COMPLETION, os.environ[COMPLETION]))


def _with_version(
    function: Callable[..., Any],
    name: str,
    suggestions: Mapping[str, Callable[[str], list[str]]],
) -> Callable[..., None]:
    """The same command with the option `--version`, and with suggestions for values."""

    def show(context: typer.Context, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            _print_version(name)
            raise typer.Exit

    def command(version: bool = False, **options: Any) -> None:
        function(**options)

    option = typer.Option(
        "--version", callback=show, is_eager=True, help="Show the version and the models there are."
    )
    signature = inspect.signature(function, eval_str=True)
    for parameter in signature.parameters.values():
        for info in getattr(parameter.annotation, "__metadata__", ()):
            if info.metavar in suggestions:
                info.autocompletion = suggestions[info.metavar]
    version = inspect.Parameter(
        "version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )
    parameters = [p.replace(kind=version.kind) for p in signature.parameters.values()]
    parameters.append(version)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = function.__doc__
    return command


def _print_version(name: str) -> None:
    """The version, then a line a model: its name, its id or what is wrong with it."""
    from facedis_core.bundle import list_models

    print(f"{name} {__version__}")
    models = list_models()
    width = max((len(model.name) for model in models), default=0)
    for model in models:
        default = f"  ({model.default})" if model.default else ""
        print(f"  {model.name:<{width}}  {model.id}{default}")


def _exit_for(error: BaseException) -> NoReturn:
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
        complain("interrupted")
        _die_of(signal.SIGINT)
    if isinstance(error, ReaderLeft | BrokenPipeError):
        _die_of(signal.SIGPIPE)
    error = _translated(error)
    for kind in type(error).__mro__:
        if kind in _EXIT_CODES:
            complain(str(error) or "stopped")
            _leave(_EXIT_CODES[kind])
    traceback.print_exception(error)
    complain("this is a bug in facedis; please report it with the lines above")
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


def complain(message: str) -> None:
    """One line, whatever a file name in the message may contain."""
    line = re.sub(r"\s+", " ", message).strip()
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    with suppress(OSError, ValueError):
        print(f"{_name}: {line}", file=sys.stderr, flush=True)
