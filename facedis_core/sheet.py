"""Contact sheets: pictures of one size in rows and columns, with captions, as PNG.

Importing this module raises MissingExtra where Pillow is not installed.
"""

import re
from collections.abc import Sequence
from math import ceil
from typing import BinaryIO, NamedTuple

import numpy as np

from facedis_core.errors import MissingExtra, UsageError
from facedis_core.render import BACKGROUND, Picture, to_srgb

try:
    from PIL import Image, ImageDraw, ImageFont
except ModuleNotFoundError:
    raise MissingExtra("drawing pictures", "view") from None

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

CAPTION_INK = (96, 96, 100)
LABEL_INK = (40, 40, 44)
COLUMNS = 6


class _Text(NamedTuple):
    """A line of text centred at (column, row), shortened to `room` pixels."""

    text: str
    centre: tuple[int, int]
    room: int
    size: int
    ink: tuple[int, int, int]

    def moved(self, columns: int, rows: int) -> "_Text":
        """The same text elsewhere."""
        return self._replace(centre=(self.centre[0] + columns, self.centre[1] + rows))


def sheet_columns(count: int, columns: int | None, row_labels: Sequence[str]) -> int:
    """How many pictures stand in a row: as asked, else as the row labels need, else up to six.

    Raises:
        UsageError: there are not as many row labels as rows.
    """
    if columns is None:
        columns = ceil(count / len(row_labels)) if row_labels else min(count, COLUMNS)
    rows = ceil(count / columns)
    if row_labels and len(row_labels) != rows:
        raise UsageError(
            f"{count} pictures, {columns} in a row, make {rows} rows, but there are "
            f"{len(row_labels)} row labels; change --columns or --row-labels"
        )
    return columns


def contact_sheet(
    pictures: Sequence[Picture],
    columns: int,
    *,
    captions: Sequence[str] = (),
    row_labels: Sequence[str] = (),
) -> Picture:
    """Pictures, each (H, W, 3), row by row on one sheet, uint8 sRGB as they are.

    Captions, one a picture, stand below; a row that would repeat the captions of the row above has
    none. Row labels, one a row from the top, stand to the left.
    """
    height, width = pictures[0].shape[:2]
    size = max(height // 18, 11)
    gutter = max((_width(label, size + 2) for label in row_labels), default=0)
    gutter += 2 * size if gutter else 0
    strips, texts, above, top = [], [], None, 0
    for row, start in enumerate(range(0, len(pictures), columns)):
        strip = _blank(height, gutter + width * columns)
        for column, picture in enumerate(pictures[start : start + columns]):
            strip[:, gutter + column * width :][:, :width] = picture
        strips.append(strip)
        if row < len(row_labels):
            centre = (gutter // 2, top + height // 2)
            texts.append(_Text(row_labels[row], centre, gutter, size + 2, LABEL_INK))
        top += height
        names = captions[start : start + columns]
        if names and names != above:
            below, depth = _captions(names, width, size)
            texts += [text.moved(gutter, top) for text in below]
            strips.append(_blank(depth, strip.shape[1]))
            top += depth
        above = names
    sheet = np.concatenate(strips)
    return _write(sheet, texts) if texts else sheet


def _captions(names: Sequence[str], width: int, size: int) -> tuple[list[_Text], int]:
    """A strip of names below pictures of that width, from its upper left corner, and its height."""
    room, rise = width - size, size * 5 // 4
    lines = [_lines(name, size, room) for name in names]
    texts = [
        _Text(part, (column * width + width // 2, size + number * rise), room, size, CAPTION_INK)
        for column, parts in enumerate(lines)
        for number, part in enumerate(parts)
    ]
    return texts, size + rise * max(map(len, lines))


def write_png(stream: BinaryIO, picture: Picture) -> None:
    """Encode a picture (H, W, 3); the same picture gives the same bytes."""
    Image.fromarray(picture).save(stream, "PNG")


def _blank(height: int, width: int) -> Picture:
    return np.tile(to_srgb(np.array(BACKGROUND)), (height, width, 1))


def _write(canvas: Picture, texts: Sequence[_Text]) -> Picture:
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for text in texts:
        font = _font(text.size)
        line = _shortened(text.text, font, text.room)
        draw.text(text.centre, line, fill=text.ink, font=font, anchor="mm")
    return np.asarray(image)


def _shortened(text: str, font: Font, room: int) -> str:
    """The text without its middle where it is too long: both ends of a name tell faces apart."""
    text = _printable(text)
    kept = text
    for length in range(len(text) - 1, 0, -1):
        if font.getlength(kept) <= room:
            break
        kept = text[: (length + 1) // 2] + "…" + text[len(text) - length // 2 :]
    return kept


def _lines(name: str, size: int, room: int) -> list[str]:
    """A name in one line, or in two, parted where it has a joint, if it is too long."""
    joints = [joint.end() for joint in re.finditer(r"[_/ -]+(?=.)", name)]
    if _width(name, size) <= room or not joints:
        return [name]
    joint = min(joints, key=lambda joint: abs(2 * joint - len(name)))
    return [name[:joint], name[joint:]]


def _width(text: str, size: int) -> int:
    return int(np.ceil(_font(size).getlength(_printable(text))))


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
