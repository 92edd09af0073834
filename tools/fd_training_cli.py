"""Options, interruption and progress of fd-train and fd-pretrain-disc."""

import fd_cli

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

# Set before torch is imported. Threads that wait must not keep a core busy: on a machine with
# other work that made a training several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# No log lines of the profiler about itself.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

if TYPE_CHECKING:
    import torch

    from facedis_core.train.plan import Plan
    from facedis_core.train.profiling import PartOfStep
    from facedis_core.train.run import TrainingRun
    from facedis_core.train.trainer import Trainer

FaceSet = Annotated[str, typer.Argument(metavar="SET", help="Face set from fd-prep.")]
Output = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="OUT", help="Output file (.safetensors); - is standard output."
    ),
]
Recipe = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="Training recipe: linear, bilinear, pointnet, pointnet-linear, coma, bu3dfe, "
        "facescape, flame-like, conv-mesh-ae, kacem, di-mesh-encoder, jiang, or a "
        ".toml file.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        show_default=False,
        help="Override a key of the recipe, such as batch=8; repeatable.",
    ),
]
Neutrals = Annotated[
    bool,
    typer.Option(
        "--neutrals/--no-neutrals",
        help="Use the subjects' neutral faces as ground truth of the identity faces, or train "
        "without neutrals.",
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        min=1,
        show_default=False,
        help="Length in epochs (overrides the recipe); the schedule is stretched alike.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        min=1,
        show_default=False,
        help="Length in optimiser steps (overrides the recipe); the schedule is stretched alike.",
    ),
]
Points = Annotated[
    int | None,
    typer.Option(
        "--points",
        min=1,
        metavar="K",
        show_default=False,
        help="Subsample the input of encoder and discriminator to K vertices (farthest-point "
        "sampling): faster, slightly less exact.  [default: as the recipe, all vertices]",
    ),
]
Data = Annotated[
    Literal["auto", "resident", "half", "streamed"],
    typer.Option(
        "--data",
        help="Training-data storage: resident on the device, half (resident as float16 offsets to "
        "the mean face), or streamed from disk or a URL; auto = resident on a GPU if it fits, else "
        "streamed.",
    ),
]
CheckpointMinutes = Annotated[
    float, typer.Option(min=0, metavar="MINUTES", help="Minutes between checkpoints.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Resume from the last checkpoint of the same command.")
]
TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        show_default=False,
        help="Also write the log as TensorBoard scalars.",
    ),
]
Profile = Annotated[
    bool,
    typer.Option(
        "--profile", help="Print time and memory of the parts of a step: means of steps 3 to 7."
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option("--device", help="Device to train on; auto = a GPU if there is one."),
]

# Columns of the progress table: heading, and path of the value in a log record.
_COLUMNS: Final = (
    ("epoch", ("epoch",)),
    ("step", ("step",)),
    ("loss", ("loss",)),
    ("accuracy", ("accuracy",)),
    ("unseen people", ("unseen_accuracy",)),
    ("total loss", ("total",)),
    ("reconstruction", ("reconstruction",)),
    ("D real accuracy", ("real_accuracy",)),
    ("D fake accuracy", ("fake_accuracy",)),
    ("gradient clipped", ("gradient_clipped",)),
    ("log-variance clamped", ("log_variance_clamped",)),
    ("E_rec mm", ("test", "e_rec", "mean")),
    ("E_dis mm", ("test", "e_dis", "mean")),
    ("AVD_neu mm", ("test", "avd_neu", "mean")),
    ("rank-1", ("test", "rank1_cosine_accuracy")),
)
_ROWS: Final = 16

# Steps and seconds before the time to the end is told, and seconds between two lines after that.
_FIRST_STEPS: Final = 5
_FIRST_SECONDS: Final = 2.0
_DRAW_SECONDS: Final = 0.25


def recipe_changes(
    given: list[str] | None,
    *,
    epochs: int | None,
    steps: int | None,
    points: int | None,
    prefix: str = "",
) -> list[str]:
    """The values of `--set`, then the options that have a key of their own in the recipe.

    Args:
        given: values of `--set`.
        epochs: value of `--epochs`.
        steps: value of `--steps`.
        points: value of `--points`.
        prefix: of the recipe's keys for the first two.
    """
    from facedis_core.errors import ErrorCode, UsageError

    if epochs is not None and steps is not None:
        raise UsageError(
            "--epochs and --steps are both given, expected one of them", ErrorCode.OPTION_CONFLICT
        )
    options = {f"{prefix}epochs": epochs, f"{prefix}steps": steps, "points": points}
    return [*(given or []), *(f"{k}={v}" for k, v in options.items() if v is not None)]


def train(
    plan: "Plan",
    output: str,
    *,
    device: str,
    resume: bool,
    tensorboard: Path | None,
    profile: bool,
    force: bool,
) -> "TrainingRun | None":
    """Prepare and run a training; returns the finished run in the main process, else None."""
    from facedis_core.nn.distributed import is_main_process, process_group
    from facedis_core.train.run import Callbacks, RunFiles, was_finished, was_started
    from facedis_core.train.setup import choose_device

    files, chosen = RunFiles.beside(output), choose_device(device)
    with process_group(chosen):
        if was_finished(chosen):
            _say("training had finished when a process died; nothing left to do")
            return None
        restarted = was_started(chosen)
        if is_main_process():
            files.check(force=force or resume or restarted)
            if isinstance(plan.face_set, str) and output != "-":
                fd_cli.check_different({"SET": plan.face_set, "--output": output})
        run, warnings = plan.prepare(files, chosen)
        if run.start(resume=resume, restarted=restarted):
            _say(f"resuming after step {run.trainer.steps_done:,} of {run.trainer.steps:,}")
        for warning in warnings if is_main_process() else ():
            fd_cli.warn(warning)
        with (
            stop_on_interrupt() as should_stop,
            tensorboard_writer(tensorboard, run.trainer.epoch.number) as write_scalars,
            progress(run.trainer) as shown,
            profiler(profile, chosen, shown) as step_done,
        ):

            def on_step() -> None:
                step_done()
                shown.show_step()

            run.train(Callbacks(should_stop, [shown.add_record, write_scalars], on_step))
        return run if is_main_process() else None


def training_size(trainer: "Trainer") -> str:
    """Faces, people, estimate of neutrals, and steps of a training, as a line of text."""
    faces, batch = trainer.pairs.faces, min(trainer.batch, trainer.pairs.faces)
    people = f"{faces:,} training faces of {trainer.pairs.subjects:,} people"
    if trainer.pseudo_neutral != "none":
        people += f", neutrals estimated as {trainer.pseudo_neutral}s"
    if not trainer.steps:
        return f"{people}: fitted in closed form"
    an_epoch = trainer.steps_per_epoch
    return (
        f"{people}, {batch} a step: {an_epoch:,} step{'' if an_epoch == 1 else 's'} an epoch, "
        f"{trainer.steps:,} steps ({trainer.steps / an_epoch:,.5g} epochs) in all"
    )


def _say(message: str) -> None:
    """Print a line to standard error, in the main process."""
    from facedis_core.nn.distributed import is_main_process

    if is_main_process():
        fd_cli.say(message)


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """A function that is true after Ctrl-C, SIGTERM or SIGHUP; a second Ctrl-C stops at once.

    Not so under torchrun: it passes on a Ctrl-C that its processes have received themselves, and
    kills processes that do not end.
    """
    from facedis_core.io.signals import stop_signals_to
    from facedis_core.nn.distributed import world_size

    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        alone = world_size() == 1
        if stopping and alone:
            raise KeyboardInterrupt
        if not stopping:
            again = "; press Ctrl-C again to stop at once without saving" if alone else ""
            _say(f"stopping after this step{again}")
        stopping = True

    with stop_signals_to(stop):
        yield lambda: stopping


class TrainingProgress:
    """Progress of a training and its time left; only a profile is shown.

    Args:
        trainer: the training.
    """

    def __init__(self, trainer: "Trainer") -> None:
        self._trainer = trainer
        self._first, self._start = trainer.steps_done, time.monotonic()

    def add_record(self, record: dict[str, Any]) -> None:
        """Show a record of the log."""

    def show_step(self) -> None:
        """Show the number of steps done."""

    def _seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def _step(self) -> str:
        """Steps done, steps in all, and once it can be estimated the time left."""
        trainer = self._trainer
        text = f"step {trainer.steps_done:,} of {trainer.steps:,}"
        done, seconds = trainer.steps_done - self._first, self._seconds()
        if done < _FIRST_STEPS or seconds < _FIRST_SECONDS:
            return text
        left = fd_cli.duration(seconds / done * (trainer.steps - trainer.steps_done))
        return f"{text}, about {left} left"

    def show_profile(self, parts: "list[PartOfStep]") -> None:
        """Print time and memory of the parts of a step."""
        from rich.table import Table

        gpu = any(part.gpu_milliseconds for part in parts)
        table = Table("part of a step", title="mean of the steps 3 to 7")
        for heading in ("ms", *["GPU ms"] * gpu, "MB kept"):
            table.add_column(heading, justify="right")
        for part in parts:
            times = (part.milliseconds, *[part.gpu_milliseconds] * gpu)
            table.add_row(part.name, *(f"{time:.1f}" for time in times), f"{part.kept_mb:.1f}")
        self._console().print(table)

    def _console(self) -> Any:
        from rich.console import Console

        return Console(stderr=True)


class ProgressTable(TrainingProgress):
    """A live table of the last records, with the current step below it.

    Args:
        trainer: the training.
        live: a rich.live.Live.
    """

    def __init__(self, trainer: "Trainer", live: Any) -> None:
        super().__init__(trainer)
        self._live = live
        self._records: list[dict[str, Any]] = []
        self._drawn = 0.0

    def add_record(self, record: dict[str, Any]) -> None:
        """Add a record of the log to the table."""
        self._records.append(record)
        self._draw("", refresh=True)

    def show_step(self) -> None:
        """Show the current step; drawn a few times a second."""
        if (seconds := self._seconds()) - self._drawn > _DRAW_SECONDS:
            self._drawn = seconds
            self._draw(self._step())

    def _console(self) -> Any:
        return self._live.console

    def _draw(self, caption: str, *, refresh: bool = False) -> None:
        from rich.table import Table

        records = self._records[-_ROWS:]
        columns = {
            heading: cells
            for heading, path in _COLUMNS
            if any(cells := [_cell(record, path) for record in records])
        }
        table = Table(*columns, caption=caption or None)
        for row in zip(*columns.values(), strict=True):
            table.add_row(*row)
        self._live.update(table, refresh=refresh)


class ProgressLines(TrainingProgress):
    """A line after the first steps, then one every few minutes, for stderr that is no terminal.

    Args:
        trainer: the training.
    """

    def __init__(self, trainer: "Trainer") -> None:
        super().__init__(trainer)
        self._next = _FIRST_SECONDS
        self._last: dict[str, Any] = {}

    def add_record(self, record: dict[str, Any]) -> None:
        """Keep the values of the record for the next line."""
        self._last |= record

    def show_step(self) -> None:
        """Print a line where one is due."""
        seconds, trainer = self._seconds(), self._trainer
        if seconds < self._next or trainer.steps_done - self._first < _FIRST_STEPS:
            return
        shortest, longest = fd_cli.LINE_SECONDS
        self._next = seconds + min(max(shortest, seconds / 4), longest)
        values = [
            f"{heading.removesuffix(' mm')} {cell}{' mm' * heading.endswith(' mm')}"
            for heading, path in _COLUMNS
            if heading not in ("epoch", "step") and (cell := _cell(self._last, path))
        ]
        fd_cli.say(", ".join([self._step(), *values]))


def _cell(record: dict[str, Any], path: tuple[str, ...]) -> str:
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4g}"


@contextmanager
def progress(trainer: "Trainer") -> Iterator[TrainingProgress]:
    """Size of the training, then a table on a terminal, else a line now and then.

    Only the main process shows anything.
    """
    from facedis_core.nn.distributed import is_main_process

    if not is_main_process():
        yield TrainingProgress(trainer)
        return
    fd_cli.say(training_size(trainer))
    if not sys.stderr.isatty():
        yield ProgressLines(trainer)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield ProgressTable(trainer, live)


@contextmanager
def tensorboard_writer(
    folder: Path | None, first_epoch: int
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes a log record as scalars; without a folder it does nothing."""
    from facedis_core.nn.distributed import is_main_process

    if folder is None or not is_main_process():
        yield lambda record: None
        return
    from facedis_core.train.tensorboard import TensorBoardWriter

    with closing(TensorBoardWriter(folder, first_epoch)) as writer:
        yield writer.add


@contextmanager
def profiler(
    asked: bool, device: "torch.device", shown: TrainingProgress
) -> Iterator[Callable[[], None]]:
    """A function to call after every step; without --profile it does nothing."""
    from facedis_core.nn.distributed import is_main_process

    if not asked or not is_main_process():
        yield lambda: None
        return
    from facedis_core.train.profiling import step_profiler

    reported = False

    def report(parts: "list[PartOfStep]") -> None:
        nonlocal reported
        reported = True
        shown.show_profile(parts)

    with step_profiler(device, report) as step_done:
        yield step_done
    if not reported:
        fd_cli.warn("the run ended before its 3rd step, so there is no profile")
