"""What the two commands that train share: their options, Ctrl-C and the live table."""

import fd_cli

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

# Before torch is imported: a thread that waits for others does not keep their core busy, which on
# a machine with other work made a training several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Log lines of the profiler about itself.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

if TYPE_CHECKING:
    import torch

    from facedis_core.plans import PreparedRun
    from facedis_core.profiling import PartOfStep
    from facedis_core.runs import RunFiles, TrainingRun

FaceSet = Annotated[str, typer.Argument(metavar="SET", help="Face set (from fd-prep).")]
Output = Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="The file to write.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        show_default=False,
        help="coma, bu3dfe, facescape, ict, registered or a .toml file.  "
        "[default: the set's, else ict]",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        show_default=False,
        help="Replace a value of the recipe; repeatable.",
    ),
]
Neutrals = Annotated[
    bool,
    typer.Option("--neutrals/--no-neutrals", help="Use the subjects' neutrals, or do without."),
]
Epochs = Annotated[
    int | None,
    typer.Option("--epochs", min=1, show_default=False, help="Passes instead of the recipe's."),
]
Points = Annotated[
    int | None,
    typer.Option(
        "--points",
        min=1,
        metavar="K",
        show_default=False,
        help="Let the networks see K well-spread vertices only, which is faster.",
    ),
]
CheckpointMinutes = Annotated[
    float,
    typer.Option(min=0, metavar="MINUTES", help="What a run that is killed loses at most."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")]
TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        show_default=False,
        help="Also log scalars for TensorBoard.",
    ),
]
Profile = Annotated[
    bool,
    typer.Option("--profile", help="Print the time and memory of each part of the steps 3 to 7."),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option("--device", help="Where to compute; auto takes a GPU if there is one."),
]

# Columns of the table, where a record has them: heading and path into the record.
_COLUMNS: Final = (
    ("epoch", ("epoch",)),
    ("loss", ("loss",)),
    ("accuracy", ("accuracy",)),
    ("unseen people", ("unseen_accuracy",)),
    ("total", ("total",)),
    ("reconstruction", ("reconstruction",)),
    ("real called real", ("real_accuracy",)),
    ("fake called fake", ("fake_accuracy",)),
    ("clipped", ("gradient_clipped",)),
    ("clamped", ("log_variance_clamped",)),
    ("E_rec mm", ("test", "e_rec", "mean")),
    ("E_dis mm", ("test", "e_dis", "mean")),
    ("AVD_neu mm", ("test", "avd_neu", "mean")),
    ("rank-1", ("test", "rank1_cosine_accuracy")),
)
_ROWS: Final = 16


def changes(given: list[str] | None, **options: int | None) -> list[str]:
    """What `--set` says, then the options that stand for a key of the recipe."""
    return [*(given or []), *(f"{k}={v}" for k, v in options.items() if v is not None)]


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C (or SIGTERM, SIGHUP) asks to stop; a second one stops at once.

    Not so under torchrun, which passes on the Ctrl-C that its processes have had themselves, and
    kills what has not ended after a while.
    """
    from facedis_core.signals import stop_signals_to
    from facedis_core.world import size

    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        alone = size() == 1
        if asked and alone:
            raise KeyboardInterrupt
        if not asked:
            again = "; once more stops at once and loses what is not saved" if alone else ""
            say(f"stopping after this step{again}")
        asked = True

    with stop_signals_to(ask):
        yield lambda: asked


def carry_out(
    prepare: "Callable[[RunFiles, torch.device], PreparedRun]",
    output: str,
    *,
    device: str,
    resume: bool,
    tensorboard: Path | None,
    profile: bool,
    force: bool,
) -> "TrainingRun | None":
    """Train in all processes that torchrun started; the run, in the one that speaks for them."""
    from facedis_core import world
    from facedis_core.build import choose_device
    from facedis_core.runs import BEGUN, DONE, Callbacks, RunFiles

    files, chosen = RunFiles.beside(output), choose_device(device)
    with world.joined(chosen):
        if world.marked(DONE, chosen):
            say("all was done when a process died, so there is nothing left to do")
            return None
        again = world.marked(BEGUN, chosen)
        if world.leads():
            files.check(force=force or resume or again)
        run, notes = prepare(files, chosen)
        if (resume or again) and run.resume(required=not again):
            epoch = run.learner.epoch
            say(f"going on in epoch {epoch.number + 1} after step {epoch.step}")
        else:
            run.start_anew()
        world.mark(BEGUN)
        for note in notes if world.leads() else ():
            fd_cli.warn(note)
        with (
            stop_on_interrupt() as should_stop,
            epoch_table() as table,
            scalars(tensorboard, run.learner.epoch.number) as log,
            profiler(profile, chosen, table) as step_done,
        ):

            def on_step(epoch: int, step: int, steps: int) -> None:
                step_done()
                table.step(epoch, step, steps)

            run.train(Callbacks(should_stop, [table.epoch, log], on_step))
        return run if world.leads() else None


def say(message: str) -> None:
    """A line to the person, once for all processes."""
    from facedis_core.world import leads

    if leads():
        fd_cli.say(message)


class EpochTable:
    """The last epochs as a table, and the step under way below it, for a terminal to see.

    Args:
        live: where to draw; None = nobody is watching.
    """

    def __init__(self, live: Any = None) -> None:
        self._live = live
        self._records: list[dict[str, Any]] = []

    def epoch(self, record: dict[str, Any]) -> None:
        """Add an epoch's record."""
        self._records.append(record)
        self._draw("", refresh=True)

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Tell where the epoch under way has come to; drawn a few times a second."""
        self._draw(f"epoch {epoch}: step {step} of {steps}")

    def profile(self, parts: "list[PartOfStep]") -> None:
        """Print the time and memory of the parts of a step."""
        from rich.console import Console
        from rich.table import Table

        gpu = any(part.gpu_milliseconds for part in parts)
        table = Table("part of a step", title="mean of the steps 3 to 7")
        for heading in ("ms", *["GPU ms"] * gpu, "MB kept"):
            table.add_column(heading, justify="right")
        for part in parts:
            times = (part.milliseconds, *[part.gpu_milliseconds] * gpu)
            table.add_row(part.name, *(f"{time:.1f}" for time in times), f"{part.kept_mb:.1f}")
        (self._live.console if self._live is not None else Console(stderr=True)).print(table)

    def _draw(self, caption: str, *, refresh: bool = False) -> None:
        if self._live is not None:
            self._live.update(_table(self._records[-_ROWS:], caption), refresh=refresh)


@contextmanager
def epoch_table() -> Iterator[EpochTable]:
    """A table that is drawn while a terminal is watching, else one that only listens."""
    from facedis_core.world import leads

    if not leads() or sys.stderr is None or not sys.stderr.isatty():
        yield EpochTable()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield EpochTable(live)


@contextmanager
def scalars(folder: Path | None, first_epoch: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that logs an epoch's record for TensorBoard; without a folder it does nothing."""
    from facedis_core.world import leads

    if folder is None or not leads():
        yield lambda record: None
        return
    from facedis_core.scalars import Scalars

    with closing(Scalars(folder, first_epoch)) as writer:
        yield writer.add


@contextmanager
def profiler(
    asked: bool, device: "torch.device", table: EpochTable
) -> Iterator[Callable[[], None]]:
    """A function to call after every step; it does nothing unless a profile was asked for."""
    from facedis_core.world import leads

    if not asked or not leads():
        yield lambda: None
        return
    from facedis_core.profiling import PartOfStep, step_profiler

    reported = False

    def report(parts: list[PartOfStep]) -> None:
        nonlocal reported
        reported = True
        table.profile(parts)

    with step_profiler(device, report) as step_done:
        yield step_done
    if not reported:
        fd_cli.warn("the run ended before its 3rd step, so there is no profile")


def _table(records: list[dict[str, Any]], caption: str) -> Any:
    from rich.table import Table

    columns = {
        heading: cells
        for heading, path in _COLUMNS
        if any(cells := [_cell(record, path) for record in records])
    }
    table = Table(*columns, caption=caption or None)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _cell(record: dict[str, Any], path: tuple[str, ...]) -> str:
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4g}"
