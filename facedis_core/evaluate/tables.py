"""Tables of numbers as aligned text, CSV, Markdown or LaTeX."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from facedis_core.io.text import on_one_line

Value = str | int | float | None
TableFormat = Literal["table", "csv", "markdown", "latex"]

_SUFFIXES: Final[Mapping[str, TableFormat]] = {
    ".csv": "csv",
    ".md": "markdown",
    ".tex": "latex",
    ".txt": "table",
}
_MARKDOWN: Final = re.compile(r"[|\\`*_<]")
_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
} | {character: f"\\{character}" for character in "&%$#_{}"}


@dataclass(frozen=True)
class Table:
    """Rows of values under named columns.

    Attributes:
        columns: their names.
        rows: values; None or NaN = none.
        note: a line on the table, shown where the format has room for it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""

    def render(self, how: TableFormat) -> str:
        """The table in a format, with a line break at the end."""
        return _RENDERERS[how](self)

    def texts(self) -> list[list[str]]:
        """The values as text, lengths to four decimals; `–` where there is none."""
        return [[on_one_line(_text(value)) or "–" for value in row] for row in self.rows]

    def numeric(self) -> list[bool]:
        """Whether each column holds numbers."""
        columns = list(zip(*self.rows, strict=True)) or [() for _ in self.columns]
        return [not any(isinstance(value, str) for value in column) for column in columns]


def format_of(path: str) -> TableFormat:
    """The format that the suffix of a file names; CSV for all others."""
    return _SUFFIXES.get(Path(path).suffix.lower(), "csv")


def _text(value: Value) -> str:
    if value is None or value != value:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2g}"


def _aligned(table: Table) -> str:
    cells = [list(table.columns), *table.texts()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = table.numeric()
    for row, above in reversed([*zip(cells[1:], cells, strict=False)]):
        if row[0] == above[0]:
            row[0] = ""  # the same as above
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, *([table.note] if table.note else []), ""])


def _csv(table: Table) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow(
            "" if v is None or v != v else f"{v:.6g}" if isinstance(v, float) else v for v in row
        )
    return text.getvalue()


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        escaped = " | ".join(_MARKDOWN.sub(r"\\\g<0>", cell) for cell in cells)
        return f"| {escaped} |"

    rule = f"| {' | '.join('---:' if right else '---' for right in table.numeric())} |"
    lines = [line(table.columns), rule, *map(line, table.texts())]
    return "\n".join([*lines, *(["", table.note] if table.note else []), ""])


def _latex(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        escaped = ("".join(_LATEX.get(c, c) for c in cell).replace("–", "--") for cell in cells)
        return " & ".join(escaped) + r" \\"

    columns = "".join("r" if right else "l" for right in table.numeric())
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", line(table.columns), r"\hline"]
    lines += [*map(line, table.texts()), r"\hline", r"\end{tabular}"]
    return "\n".join([*([f"% {table.note}"] if table.note else []), *lines, ""])


_RENDERERS: Final[Mapping[TableFormat, Callable[[Table], str]]] = dict(
    zip(get_args(TableFormat), (_aligned, _csv, _markdown, _latex), strict=True)
)
