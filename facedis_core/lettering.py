"""Words on pictures: lines of text that keep to the room they have.

Importing this module raises MissingExtra where Pillow is not installed.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from unicodedata import combining, normalize

import numpy as np

from facedis_core.errors import MissingExtra
from facedis_core.paper import Ink
from facedis_core.render import Picture

try:
    from PIL import Image, ImageDraw, ImageFont
except ModuleNotFoundError:
    raise MissingExtra("drawing pictures", "view") from None

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Text(NamedTuple):
    """A line of text centred at (column, row), shortened to `room` pixels."""

    text: str
    centre: tuple[int, int]
    room: int
    size: int
    ink: Ink

    def moved(self, columns: int, rows: int) -> "Text":
        """The same text elsewhere."""
        return self._replace(centre=(self.centre[0] + columns, self.centre[1] + rows))


def letter_size(height: int) -> int:
    """Of captions of pictures of that height."""
    return max(height // 18, 11)


def written(canvas: Picture, texts: Sequence[Text]) -> Picture:
    """The picture with the texts on it."""
    if not texts:
        return canvas
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for text in texts:
        font = _font(text.size)
        line = _shortened(text.text, font, text.room)
        draw.text(text.centre, line, fill=text.ink, font=font, anchor="mm")
    return np.asarray(image)


def lines(caption: str, size: int, room: int) -> list[str]:
    """The lines of a caption; one that is too long is parted where it has a joint."""
    return [part for line in caption.split("\n") for part in _parted(line, size, room)]


def width_of(text: str, size: int) -> int:
    """Pixels that a line takes."""
    return int(np.ceil(_font(size).getlength(_printable(text))))


def _parted(line: str, size: int, room: int) -> list[str]:
    joints = [joint.end() for joint in re.finditer(r"[_/ -]+(?=.)", line)]
    if width_of(line, size) <= room or not joints:
        return [line]
    joint = min(joints, key=lambda joint: abs(2 * joint - len(line)))
    return [line[:joint], line[joint:]]


def _shortened(text: str, font: Font, room: int) -> str:
    """The text without its middle where it is too long: both ends of a name tell faces apart."""
    text = _printable(text)
    if len(text) < 2 or font.getlength(text) <= room:
        return text

    def kept(length: int) -> str:
        return text[: (length + 1) // 2] + "…" + text[len(text) - length // 2 :]

    def width(length: int) -> int:
        return int(np.ceil(font.getlength(kept(length))))

    return kept(max(bisect_right(range(1, len(text)), room, key=width), 1))


def _printable(text: str) -> str:
    return "".join(map(_drawable, text))


@lru_cache(maxsize=4096)
def _drawable(sign: str) -> str:
    """The sign, or the letter without its accents where the font has only that."""
    if not sign.isprintable():
        return "\N{REPLACEMENT CHARACTER}"
    bare = "".join(part for part in normalize("NFKD", sign) if not combining(part))
    return bare if bare and _lacks(sign) and not any(map(_lacks, bare)) else sign


def _lacks(sign: str) -> bool:
    """Whether the font draws the sign as it draws what is no character."""
    return _drawn(sign) == _drawn("\uffff")


def _drawn(sign: str) -> tuple[tuple[int, int], bytes]:
    mask = _font(20).getmask(sign)
    return mask.size, bytes(mask)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
