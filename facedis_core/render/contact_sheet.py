"""Contact sheets: pictures of one size in rows and columns, with captions.

Importing this module raises UsageError where Pillow is not installed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from facedis_core.errors import ErrorCode, UsageError
from facedis_core.render.background import LIGHT_GRAY, Background
from facedis_core.render.color_bar import ColorBar, draw_color_bar
from facedis_core.render.shading import Picture
from facedis_core.render.text import (
    TextLine,
    default_text_size,
    draw_text,
    text_width,
    wrap_caption,
)

COLUMNS = 6  # pictures in a row where nothing else decides


def sheet_columns(
    count: int,
    columns: int | None,
    row_labels: Sequence[str],
    column_labels: Sequence[str] = (),
    most: int = COLUMNS,
) -> int:
    """Number of columns: as given, else as the labels need, else up to `most`.

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
            f"{len(row_labels)} row labels; change --columns or --row-labels",
            ErrorCode.OPTION_VALUE,
        )
    if column_labels and len(column_labels) != columns:
        raise UsageError(
            f"{count} pictures stand in {columns} columns, but there are {len(column_labels)} "
            "column labels; change --columns or --column-labels",
            ErrorCode.OPTION_VALUE,
        )
    return columns


@dataclass(frozen=True)
class ContactSheet:
    """Layout of a contact sheet.

    Attributes:
        columns: pictures in a row.
        captions: one per picture, below it, or none. A row that would repeat the captions of the
            row above has none, nor has a row of empty captions without `caption_lines`.
        row_labels: one per row from the top, at the left, or none.
        column_labels: one per column, above the first row, or none.
        bar: the color bar below the sheet, if any.
        text_size: size of captions in pixels; None = by the size of the pictures.
        caption_lines: least number of lines reserved for captions.
    """

    columns: int
    captions: Sequence[str] = ()
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()
    background: Background = LIGHT_GRAY
    bar: ColorBar | None = None
    text_size: int | None = None
    caption_lines: int = 0

    def compose(self, pictures: Sequence[Picture]) -> Picture:
        """Lay out pictures, all (H, W, C), row by row on one sheet, uint8 sRGB."""
        height, width = pictures[0].shape[:2]
        size = self.text_size or default_text_size(height)
        background, label_color = self.background, self.background.text_colors[0]
        gutter = max((text_width(label, size + 2) for label in self.row_labels), default=0)
        gutter = min(gutter, 2 * max(width, height))  # longer labels are shortened
        gutter += 2 * size if gutter else 0
        sheet_width = gutter + width * self.columns
        strips: list[Picture] = []
        texts: list[TextLine] = []
        above: Sequence[str] | None = None
        top = 0
        if self.column_labels:
            texts, top = self._captions(self.column_labels, width, size, 1)
            texts = [text.moved(gutter, 0)._replace(color=label_color) for text in texts]
            strips.append(background.blank(top, sheet_width))
        for row, start in enumerate(range(0, len(pictures), self.columns)):
            strip = background.blank(height, sheet_width)
            for column, picture in enumerate(pictures[start : start + self.columns]):
                strip[:, gutter + column * width :][:, :width] = picture
            strips.append(strip)
            if row < len(self.row_labels):
                centre = (gutter // 2, top + height // 2)
                texts.append(TextLine(self.row_labels[row], centre, gutter, size + 2, label_color))
            top += height
            names = self.captions[start : start + self.columns]
            if names and (self.caption_lines or any(names)) and names != above:
                below, high = self._captions(names, width, size, self.caption_lines)
                texts += [text.moved(gutter, top) for text in below]
                strips.append(background.blank(high, sheet_width))
                top += high
            above = names
        sheet = draw_text(np.concatenate(strips), texts)
        if self.bar is None:
            return sheet
        strip, texts = draw_color_bar(self.bar, sheet_width, size, background)
        return np.concatenate([sheet, draw_text(strip, texts)])

    def _captions(
        self, names: Sequence[str], width: int, size: int, lines: int
    ) -> tuple[list[TextLine], int]:
        """Texts below a row of pictures of that width, from its lower left corner, and a height."""
        room, rise, color = width - size, size * 5 // 4, self.background.text_colors[1]
        wrapped = [wrap_caption(name, size, room) for name in names]
        texts = [
            TextLine(part, (column * width + width // 2, size + number * rise), room, size, color)
            for column, parts in enumerate(wrapped)
            for number, part in enumerate(parts)
        ]
        return texts, size + rise * max(lines, *map(len, wrapped))


def count_caption_lines(captions: Sequence[str], height: int, width: int) -> int:
    """Lines that the longest caption takes below a picture of that size."""
    size = default_text_size(height)
    return max((len(wrap_caption(caption, size, width - size)) for caption in captions), default=0)
