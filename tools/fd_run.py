"""fd-run: a pipe of commands in one process."""

import fd_cli

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from typing import IO, Annotated, Any, Final, NamedTuple

import typer

import fd_edge
from facedis_core.errors import CheckFailed, UsageError

# What may stand in a pipe: the function of tools/fd_<name>.py that does the work. A training has
# other threads and signals, and a process of its own; fd-view never ends.
COMMANDS: Final = {
    "prep": "prep",
    "info": "info",
    "encode": "encode",
    "transfer": "transfer",
    "interp": "interpolate",
    "decode": "decode",
    "recognize": "recognize",
    "metrics": "metrics",
    "render": "render",
    "report": "report",
}

_LONGEST_FILE: Final = 1 << 24
_OF_THE_SHELL: Final = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>"}


class Stage(NamedTuple):
    """One command of a pipe, and its arguments."""

    command: str
    arguments: list[str]


def run(
    pipes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PIPE", show_default=False, help="Commands without fd-, with ! between them."
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", "-f", metavar="FILE", show_default=False, help="Also run the pipes in a file."
        ),
    ] = None,
) -> None:
    """Run pipes of commands in one process, which starts once: the same bytes as in a shell.

    \b
      fd-run 'encode a.ply ! transfer alice.npy - ! decode' > out.ply

    Words are quoted as in a shell; there are no variables, redirections and patterns but those
    of the commands themselves. The commands run one after another, so that a pipe without end
    needs a shell. In a file each line is a pipe, which goes on where a line ends with ! or a
    backslash, or the next begins with !; a line that begins with # is a comment. What fails ends
    everything with its own message and exit code.
    """  # noqa: D301 - the backslash is what keeps the example on its line
    lines = list(pipes or ())
    if file is not None:
        lines += _lines(file)
    if not lines:
        raise UsageError("no pipe is given; expected one such as 'encode a.ply ! decode', or -f")
    failed = False
    # all are understood before the first begins
    for stages in [_stages(line) for line in lines]:
        failed |= _run_pipe(stages)
    if failed:
        raise typer.Exit(1)


def _lines(file: str) -> list[str]:
    """The pipes in a file, each on one line."""
    from facedis_core.errors import InputError
    from facedis_core.streams import read_all, shown

    try:
        text = read_all(file, _LONGEST_FILE, "pipes").decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(file)} is no text ({error.reason}); expected pipes") from None
    lines: list[str] = []
    goes_on = False
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        joined = line.removesuffix("\\")
        if lines and (goes_on or line.startswith("!")):
            lines[-1] += f" {joined}"
        else:
            lines.append(joined)
        goes_on = line.endswith(("!", "\\"))
    if not lines:
        raise InputError(
            f"{shown(file)} holds no pipe; expected lines such as encode a.ply ! decode"
        )
    return lines


def _stages(line: str) -> list[Stage]:
    """The commands of a pipe; UsageError where it is none."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"the pipe {line!r} cannot be read: {error}") from None
    stages: list[list[str]] = [[]]
    for word in words:
        if word == "!":
            stages.append([])
        else:
            stages[-1].append(word)
    return [_stage(words, line) for words in stages]


def _stage(words: Sequence[str], line: str) -> Stage:
    if not words:
        raise UsageError(f"the pipe {line!r} has no command on one side of a !; give one")
    for word in words:
        if word in _OF_THE_SHELL:
            raise UsageError(
                f"the pipe {line!r} has {word!r}, which is the shell's; write ! between commands "
                "and -o FILE for an output"
            )
    name = words[0].removeprefix("fd-")
    if name not in COMMANDS:
        raise UsageError(f"the pipe {line!r} has {words[0]!r}; expected {', '.join(COMMANDS)}")
    return Stage(name, list(words[1:]))


def _run_pipe(stages: Sequence[Stage]) -> bool:
    """Run the commands one after another; returns whether a check failed or items were skipped."""
    failed = False
    with ExitStack() as files:
        previous: IO[bytes] | None = None
        for place, stage in enumerate(stages):
            following: IO[bytes] | None = None
            if place < len(stages) - 1:
                following = files.enter_context(tempfile.TemporaryFile())
            with _standard(0, previous), _standard(1, following):
                try:
                    fd_edge.invoke(_function(stage.command), stage.arguments)
                except typer.Exit as ended:  # --help and --version
                    failed |= ended.exit_code != 0
                except CheckFailed as error:  # in a shell, too, those behind it go on
                    fd_edge.complain(str(error))
                    failed = True
            previous = following
    return failed


def _function(command: str) -> Callable[..., Any]:
    return getattr(import_module(f"fd_{command}"), COMMANDS[command])


@contextmanager
def _standard(number: int, file: IO[bytes] | None) -> Iterator[None]:
    """Let standard input (0) or output (1) be a file for a while, by number and by name."""
    if file is None:
        yield
        return
    name, mode = ("stdin", "r") if number == 0 else ("stdout", "w")
    before = getattr(sys, name)
    if before is not None and number:
        before.flush()
    saved: int | None = None
    with suppress(OSError):  # it may be closed
        saved = os.dup(number)
    file.seek(0)
    os.dup2(file.fileno(), number)
    stream = open(number, mode, closefd=False)  # noqa: SIM115 - closed below
    setattr(sys, name, stream)
    try:
        yield
        if number:
            stream.flush()
    finally:
        with suppress(OSError):
            stream.close()
        setattr(sys, name, before)
        if saved is None:
            os.close(number)
        else:
            os.dup2(saved, number)
            os.close(saved)


def main() -> None:
    """Entry point of fd-run."""
    fd_cli.run(run)


if __name__ == "__main__":
    main()
