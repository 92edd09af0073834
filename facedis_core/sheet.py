"""Contact sheets: pictures of one size in rows and columns, with captions.

Importing this module raises MissingExtra where Pillow is not installed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from facedis_core.errors import UsageError
from facedis_core.legend import Bar, colour_bar
from facedis_core.lettering import Text, letter_size, lines, width_of, written
from facedis_core.paper import PLAIN, Paper
from facedis_core.render import Picture

COLUMNS = 6


def sheet_columns(
    count: int,
    columns: int | None,
    row_labels: Sequence[str],
    column_labels: Sequence[str] = (),
    most: int = COLUMNS,
) -> int:
    """How many pictures stand in a row: as asked, else as the labels need, else up to `most`.

    Raises:
        UsageError: there are not as many labels as rows or columns.
    """
    if columns is None and column_labels:
        columns = len(column_labels)
    if columns is None:
        columns = ceil(count / len(row_labels)) if row_labels else most
    columns = min(columns, count)
    rows = ceil(count / columns)
    if row_labels and len(row_labels) != rows:
        raise UsageError(
            f"{count} pictures, {columns} in a row, make {rows} rows, but there are "
            f"{len(row_labels)} row labels; change --columns or --row-labels"
        )
    if column_labels and len(column_labels) != columns:
        raise UsageError(
            f"{count} pictures stand in {columns} columns, but there are {len(column_labels)} "
            "column labels; change --columns or --column-labels"
        )
    return columns


def contact_sheet(
    pictures: Sequence[Picture],
    columns: int,
    *,
    captions: Sequence[str] = (),
    headings: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    paper: Paper = PLAIN,
    depth: int = 0,
    letters: int | None = None,
) -> Picture:
    """Pictures, each (H, W, C), row by row on one sheet, uint8 sRGB as they are.

    Captions, one a picture, stand below, with room for at least `depth` lines. A row that would
    repeat the captions of the row above has none, nor has one of empty captions without a `depth`.
    Headings, one a column, stand above the first row, and row labels, one a row from the top, to
    the left. `letters` is the size of captions in pixels.
    """
    height, width = pictures[0].shape[:2]
    size = letters or letter_size(height)
    gutter = max((width_of(label, size + 2) for label in row_labels), default=0)
    gutter = min(gutter, 2 * max(width, height))  # what is longer is shortened
    gutter += 2 * size if gutter else 0
    strips: list[Picture] = []
    texts: list[Text] = []
    above: Sequence[str] | None = None
    top = 0
    if headings:
        texts, top = _captions(headings, width, size, paper, 1)
        texts = [text.moved(gutter, 0)._replace(ink=paper.inks[0]) for text in texts]
        strips.append(paper.blank(top, gutter + width * columns))
    for row, start in enumerate(range(0, len(pictures), columns)):
        strip = paper.blank(height, gutter + width * columns)
        for column, picture in enumerate(pictures[start : start + columns]):
            strip[:, gutter + column * width :][:, :width] = picture
        strips.append(strip)
        if row < len(row_labels):
            centre = (gutter // 2, top + height // 2)
            texts.append(Text(row_labels[row], centre, gutter, size + 2, paper.inks[0]))
        top += height
        names = captions[start : start + columns]
        if names and (depth or any(names)) and names != above:
            below, high = _captions(names, width, size, paper, depth)
            texts += [text.moved(gutter, top) for text in below]
            strips.append(paper.blank(high, strip.shape[1]))
            top += high
        above = names
    return written(np.concatenate(strips), texts)


def _captions(
    names: Sequence[str], width: int, size: int, paper: Paper, depth: int
) -> tuple[list[Text], int]:
    """A strip of names below pictures of that width, from its upper left corner, and its height."""
    room, rise = width - size, size * 5 // 4
    parted = [lines(name, size, room) for name in names]
    texts = [
        Text(part, (column * width + width // 2, size + number * rise), room, size, paper.inks[1])
        for column, parts in enumerate(parted)
        for number, part in enumerate(parts)
    ]
    return texts, size + rise * max(depth, *map(len, parted))


def lines_of(captions: Sequence[str], height: int, width: int) -> int:
    """How many lines the longest of captions takes below a picture of that size."""
    size = letter_size(height)
    return max((len(lines(caption, size, width - size)) for caption in captions), default=0)


@dataclass(frozen=True)
class Sheet:
    """How pictures become a sheet.

    Attributes:
        captions: one a picture, or none.
        headings: one a column, or none.
        depth: lines that captions have room for at least.
        bar: what the pictures' colours say, which then stands below.
        letters: size of captions in pixels; None = what suits the pictures.
    """

    columns: int
    captions: Sequence[str] = ()
    row_labels: Sequence[str] = ()
    headings: Sequence[str] = ()
    paper: Paper = PLAIN
    bar: Bar | None = None
    letters: int | None = None
    depth: int = 0

    def of(self, pictures: Sequence[Picture]) -> Picture:
        """The sheet of these pictures, uint8 sRGB."""
        sheet = contact_sheet(
            pictures,
            self.columns,
            captions=self.captions,
            headings=self.headings,
            row_labels=self.row_labels,
            paper=self.paper,
            letters=self.letters,
            depth=self.depth,
        )
        if self.bar is None:
            return sheet
        size = self.letters or letter_size(len(pictures[0]))
        strip, texts = colour_bar(self.bar, sheet.shape[1], size, self.paper)
        return np.concatenate([sheet, written(strip, texts)])
