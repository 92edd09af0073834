"""Options that several commands share, messages on stderr, progress bars.

A command is `def main() -> None: fd_cli.run(function)`; the parameters of `function` are its
options and its docstring is its help page. Nothing here imports NumPy or torch, and rich only where
standard error is a terminal.
"""

import fd_start  # noqa: F401 - before anything else

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from facedis_core.errors import CheckFailed, ErrorCode, UsageError
from facedis_core.io.signals import install_signal_handlers
from fd_edge import complain, run

if TYPE_CHECKING:
    from facedis_core.pipeline.failures import Failure

__all__ = ["run"]

# Seconds until the first line of progress where standard error is no terminal, and between two
# lines at most.
LINE_SECONDS: Final = (60.0, 600.0)

Output = Annotated[
    str, typer.Option("--output", "-o", metavar="OUT", help="Output file; - is standard output.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing output files.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        show_default=False,
        help="Model file or bundled name.  [default: $FACEDIS_MODEL, else ict-linear]",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        show_default=False,
        help="Model file or bundled name; repeat to compare models.  "
        "[default: $FACEDIS_MODEL, else ict-linear]",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of all random numbers.")]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        "-j",
        min=0,
        show_default=False,
        help="Number of worker processes.  [default: one per core]",
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(
        "--device",
        help="Device: cpu, cuda (a GPU; needs PyTorch, and every vertex agrees to 0.001 mm), or "
        "auto = a GPU, if there is one, for 10,000 faces of 5,000 vertices or more.",
    ),
]
KeepGoing = Annotated[
    bool,
    typer.Option("--keep-going", help="Skip and name unusable inputs; exit 1 if there were any."),
]
Align = Annotated[
    Literal["auto", "none", "rigid", "similarity"],
    typer.Option(
        "--align",
        help="Alignment to the model's mean face; auto = as the training data was aligned.",
    ),
]
Units = Annotated[
    Literal["auto", "mm", "cm", "dm", "m", "inch"],
    typer.Option(
        "--units",
        help="Unit of meshes that do not declare one; auto = that of the data set, else the one in "
        "which they have the size of a face.",
    ),
]
TrustOrder = Annotated[
    bool,
    typer.Option(
        "--trust-order", help="Accept a different triangulation; the vertex order must match."
    ),
]
MapOption = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="MAP",
        show_default=False,
        help="Map of fd-map (.safetensors) for meshes in the topology of its rig.",
    ),
]
ForceEncode = Annotated[
    bool,
    typer.Option(
        "--force-encode",
        help="Encode meshes more than 3x farther from the mean face than any training face.",
    ),
]
Failures = Annotated[
    str | None,
    typer.Option(
        "--failures",
        metavar="FILE",
        show_default=False,
        help="With --keep-going: write a JSON line with the reason for each skipped input.",
    ),
]
FaceJobs = Annotated[
    int, typer.Option("--jobs", "-j", min=0, help="Number of worker processes; 0 = one per core.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        show_default=False,
        help="Divide the work among the workers of a Dask cluster: tcp://HOST:8786, or the file of "
        "dask scheduler --scheduler-file; in place of --jobs.",
    ),
]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        "--files-from",
        metavar="FILE|-",
        show_default=False,
        help="Read more input paths from a file, one per line or NUL-separated (find -print0).",
    ),
]
Root = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="DIR",
        show_default=False,
        help="Name meshes by their paths below this folder.  [default: stem of a file, path below "
        "its folder for a file of a folder]",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        show_default=False,
        help="Do the I-th of N equal parts of the work alone, in the order of sorted names; the "
        "parts need not know of each other.",
    ),
]
Merge = Annotated[
    list[str] | None,
    typer.Option(
        "--merge",
        metavar="DIR|FILE",
        show_default=False,
        help="Join what all parts of --shard have made, as one run would have made it: a folder, a "
        "quoted pattern, or a file; repeatable.",
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream", help="Write each row at once, in constant memory; for long or endless input."
    ),
]
NoHistory = Annotated[
    bool, typer.Option("--no-history", help="Do not store the commands that made the output.")
]
Split = Annotated[
    Literal["all", "train", "test", "validation"],
    typer.Option("--split", help="Split of a face set."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
AlignPredictions = Annotated[
    bool,
    typer.Option(
        "--align",
        help="Align predictions rigidly to the truth first, as the paper does for BU-3DFE.",
    ),
]
ColorRange = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LOW,HIGH",
        show_default=False,
        help="Range of the color scale in mm.  [default: 0 to the 99th percentile, rounded up]",
    ),
]


def say(message: str) -> None:
    """Print a line to standard error; standard output is for data."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Print a warning to standard error."""
    complain(f"warning: {message}")


def check_different(targets: Mapping[str, str | None]) -> None:
    """Raise UsageError where two options, one of them an output, name the same file."""
    owners: dict[str, str] = {}
    for name, target in targets.items():
        other = name if target is None else owners.setdefault(os.path.realpath(target), name)
        if other != name:
            raise UsageError(
                f"{other} and {name} are both {target}; give two different files",
                ErrorCode.SAME_FILE,
            )


def check_read_once(*sources: str | None) -> None:
    """Raise UsageError where standard input is named more than once."""
    if sources.count("-") > 1:
        raise UsageError(
            "standard input (-) is named twice; give a file for one of them", ErrorCode.SAME_FILE
        )


def check_idle(
    command: Callable[..., object],
    given: Mapping[str, object],
    reason: str,
    *,
    only: Collection[str] | None = None,
    but: Collection[str] = (),
) -> None:
    """Raise UsageError for an option that is given and would change nothing.

    Args:
        command: its function.
        given: values of its parameters.
        reason: why they would change nothing, for the message.
        only: parameters that would change nothing; None = all.
        but: parameters that have an effect.
    """
    from inspect import signature

    for name, parameter in signature(command).parameters.items():
        idle = name not in but and (only is None or name in only)
        if idle and given[name] not in (parameter.default, []):
            declared = str(parameter.annotation.__metadata__[0].default)  # --detail/--no-detail
            names = declared if declared.startswith("--") else f"--{name.replace('_', '-')}"
            shown = name if name == "inputs" else names.split("/")[-1 if not given[name] else 0]
            raise UsageError(f"{reason}; leave out {shown}", ErrorCode.OPTION_CONFLICT)


def workers(scheduler: str | None, jobs: int, usual: int = 1) -> int | str:
    """The scheduler or the number of worker processes, as of `in_order`.

    Raises:
        UsageError: both are given, or an empty scheduler.
    """
    if scheduler is None:
        return jobs
    if not scheduler:
        raise UsageError(
            "--scheduler is empty; expected tcp://HOST:8786 or a scheduler file",
            ErrorCode.OPTION_VALUE,
        )
    if jobs != usual:
        raise UsageError(
            "--scheduler divides the work among the workers of a cluster; leave out --jobs",
            ErrorCode.OPTION_CONFLICT,
        )
    return scheduler


def check_stream(stream: bool, jobs: int | str, shard: str | None) -> None:
    """Raise UsageError for --stream with workers or --shard: both read ahead of the output."""
    if stream and shard is not None:
        raise UsageError(
            "--shard divides what is all known beforehand; leave out --stream",
            ErrorCode.OPTION_CONFLICT,
        )
    if stream and jobs != 1:
        raise UsageError(
            "--stream writes row by row in one process; leave out --jobs and --scheduler",
            ErrorCode.OPTION_CONFLICT,
        )


class Skipping:
    """Inputs skipped by --keep-going: warned of at once, listed and counted at the end."""

    def __init__(self, keep_going: bool, manifest: str | None, output: str, force: bool) -> None:
        """Checks at once that `manifest` can be written at the end."""
        from facedis_core.io.paths import check_suffix
        from facedis_core.io.streams import check_output

        if manifest is not None and not keep_going:
            raise UsageError(
                "--failures lists what --keep-going skips; give both", ErrorCode.OPTION_MISSING
            )
        if manifest is not None:
            check_suffix(manifest, "JSON lines", ".jsonl", ".json")
            check_output(manifest, force, binary=False)
            check_different({"--output": output, "--failures": manifest})
        self.failures: list[Failure] = []
        self._manifest, self._force = manifest, force

    def add(self, failures: Sequence["Failure"]) -> None:
        """Warn of inputs that were just skipped."""
        self.failures += failures
        for failure in failures:
            warn(f"skipped: {failure.error}")

    def finish(self, done: int) -> None:
        """Write the manifest; raise CheckFailed if any input was skipped."""
        if self._manifest is not None:
            from facedis_core.pipeline.failures import write_failures

            write_failures(self._manifest, self.failures, force=self._force)
        if self.failures:
            count = len(self.failures)
            raise CheckFailed(
                f"{count} of {count + done} faces were skipped", ErrorCode.ITEMS_SKIPPED
            )


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances a progress bar; without a terminal it prints lines."""
    # a terminal that cannot move its cursor would keep a line for every update
    if not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield _progress_lines(description, total)
        return
    install_signal_handlers()  # the cursor is hidden until the end
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


def _progress_lines(description: str, total: int | None) -> Callable[[int], None]:
    """A function that counts steps and prints a line after a minute, then ever more rarely."""
    started, done, wait = time.monotonic(), 0, LINE_SECONDS[0]
    due = started + wait

    def advance(steps: int) -> None:
        nonlocal done, due, wait
        done += steps
        if (now := time.monotonic()) < due:
            return
        rate = done / (now - started)
        of, left = "", ""
        if total is not None:
            of, left = f" of {total:,}", f", about {duration((total - done) / rate)} left"
        say(f"{description}: {done:,}{of}, {rate:.3g}/s{left}")
        wait = min(2 * wait, LINE_SECONDS[1])
        due = now + wait

    return advance


def duration(seconds: float) -> str:
    """Seconds as text, such as 40 s, 12 min or 3 h 5 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
