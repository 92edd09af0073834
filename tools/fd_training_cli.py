"""What the two commands that train share: their options, Ctrl-C and the live table."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, Final, Literal

import typer

import fd_cli

FaceSet = Annotated[str, typer.Argument(metavar="SET", help="Face set (from fd-prep).")]
Output = Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="The file to write.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        show_default=False,
        help="coma, bu3dfe, facescape, ict or a .toml file.  [default: the set's, else ict]",
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


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C (or SIGTERM, SIGHUP) asks to stop; a second one stops at once."""
    from facedis_core.interrupts import stopping_signals_to

    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        fd_cli.say("stopping after this step; once more stops at once and loses what is not saved")

    with stopping_signals_to(ask):
        yield lambda: asked


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

    def _draw(self, caption: str, *, refresh: bool = False) -> None:
        if self._live is not None:
            self._live.update(_table(self._records[-_ROWS:], caption), refresh=refresh)


@contextmanager
def epoch_table() -> Iterator[EpochTable]:
    """A table that is drawn while a terminal is watching, else one that only listens."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield EpochTable()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield EpochTable(live)


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
