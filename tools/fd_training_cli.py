"""What the two commands that train share: their options, Ctrl-C and the live table."""

import signal
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

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C (or SIGTERM, SIGHUP) asks to stop; a second one stops at once."""
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        fd_cli.say("stopping after this step; once more stops at once and loses what is not saved")

    heard = [s for s in _STOPPING if signal.getsignal(s) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, ask) for signum in heard}
    try:
        yield lambda: asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def epoch_table() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function to call with each epoch's record; a terminal sees the last ones as a table."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda record: None
        return
    from rich.console import Console
    from rich.live import Live

    records: list[dict[str, Any]] = []
    with Live(console=Console(stderr=True), auto_refresh=False) as live:

        def show(record: dict[str, Any]) -> None:
            records.append(record)
            live.update(_table(records[-_ROWS:]), refresh=True)

        yield show


def _table(records: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    columns = {
        heading: cells
        for heading, path in _COLUMNS
        if any(cells := [_cell(record, path) for record in records])
    }
    table = Table(*columns)
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
