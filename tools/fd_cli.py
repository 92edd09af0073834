"""What all commands share: common options, words to stderr, progress.

A command is `def main() -> None: fd_cli.run(function)`; the parameters of `function` are its
options and its docstring is its help page. Nothing here imports NumPy, torch or (unless a terminal
watches) rich.
"""

import fd_start  # noqa: F401 - before anything else

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from facedis_core.errors import CheckFailed, UsageError
from facedis_core.interrupts import hear_interrupts
from fd_edge import complain, run

if TYPE_CHECKING:
    from facedis_core.failures import Failure

__all__ = ["run"]

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
ForceEncode = Annotated[
    bool, typer.Option("--force-encode", help="Also encode what looks like no face.")
]
Failures = Annotated[
    str | None,
    typer.Option(
        "--failures",
        metavar="FILE",
        show_default=False,
        help="With --keep-going: list what was skipped, and why, as JSON lines.",
    ),
]
FaceJobs = Annotated[
    int, typer.Option("--jobs", "-j", min=0, help="Processes at once; 0 = one a core.")
]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        "--files-from",
        metavar="FILE|-",
        show_default=False,
        help="Also take the inputs listed here, one a line or as find -print0.",
    ),
]
Stream = Annotated[
    bool,
    typer.Option("--stream", help="Write rows as they come, for input that is long or never ends."),
]
NoHistory = Annotated[bool, typer.Option("--no-history", help="Leave out how the output was made.")]
Split = Annotated[
    Literal["all", "train", "test", "validation"],
    typer.Option("--split", help="Which faces of a face set."),
]


def say(message: str) -> None:
    """A line to the person at the terminal; standard output is for data."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """A line about something the user should look at; the command goes on."""
    complain(f"warning: {message}")


def check_different(targets: Mapping[str, str | None]) -> None:
    """Raise UsageError where two outputs, by the names of their options, are one file."""
    owners: dict[str, str] = {}
    for name, target in targets.items():
        other = name if target is None else owners.setdefault(os.path.realpath(target), name)
        if other != name:
            raise UsageError(f"{other} and {name} are both {target}; give two names")


def check_read_once(*sources: str | None) -> None:
    """Raise UsageError where more than one input is standard input."""
    if sources.count("-") > 1:
        raise UsageError("standard input (-) is named twice; give a file for one of them")


def check_stream(stream: bool, jobs: int) -> None:
    """Several processes work on rows ahead of those that are asked for; a stream has none."""
    if stream and jobs != 1:
        raise UsageError("--stream answers row by row, in one process; leave out --jobs")


class Skipping:
    """What --keep-going leaves out: named at once, listed and counted at the end."""

    def __init__(self, keep_going: bool, manifest: str | None, output: str, force: bool) -> None:
        """`manifest`, if any, is refused at once where it could not be written at the end."""
        from facedis_core.streams import check_output

        if manifest is not None and not keep_going:
            raise UsageError("--failures lists what --keep-going skips; give both")
        if manifest is not None:
            check_output(manifest, force, binary=False)
            check_different({"--output": output, "--failures": manifest})
        self.failures: list[Failure] = []
        self._manifest, self._force = manifest, force

    def add(self, failures: Sequence["Failure"]) -> None:
        """Note what has just been left out."""
        self.failures += failures
        for failure in failures:
            warn(f"skipped: {failure.error}")

    def finish(self, done: int) -> None:
        """Write the manifest; raise CheckFailed if anything was left out."""
        if self._manifest is not None:
            from facedis_core.failures import write_failures

            write_failures(self._manifest, self.failures, force=self._force)
        if self.failures:
            count = len(self.failures)
            raise CheckFailed(f"{count} of {count + done} faces were skipped")


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
    # a terminal that cannot move its cursor would be left with what has passed
    if not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield lambda steps: None
        return
    hear_interrupts()  # the cursor is hidden until the end
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
