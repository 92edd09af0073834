"""Words on pictures: lines of text that keep to the room they have.

Importing this module raises MissingExtra where Pillow is not installed.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple
from unicodedata import combining, normalize

import numpy as np

from facedis_core.background import RGB
from facedis_core.errors import MissingExtra
from facedis_core.shading import Picture

try:
    from PIL import Image, ImageDraw, ImageFont
except ModuleNotFoundError:
    raise MissingExtra("drawing pictures", "view") from None

# Fonts of systems for letters that Pillow's own lacks, most of them first.
_KNOWN = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "LiberationSans-Regular.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "PingFang.ttc", "msyh.ttc", "arial.ttf"),
)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class TextLine(NamedTuple):
    """A line of text centred at (column, row), shortened to `room` pixels."""

    text: str
    centre: tuple[int, int]
    room: int
    size: int
    color: RGB

    def moved(self, columns: int, rows: int) -> "TextLine":
        """The same text elsewhere."""
        return self._replace(centre=(self.centre[0] + columns, self.centre[1] + rows))


def default_text_size(height: int) -> int:
    """Of captions of pictures of that height."""
    return max(height // 18, 11)


def draw_text(canvas: Picture, texts: Sequence[TextLine]) -> Picture:
    """The picture with the texts on it."""
    if not texts:
        return canvas
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for text in texts:
        words, font = _set(text.text, text.size)
        line = _shortened(words, font, text.room)
        draw.text(text.centre, line, fill=text.color, font=font, anchor="mm")
    return np.asarray(image)


def wrap_caption(caption: str, size: int, room: int) -> list[str]:
    """The lines of a caption; one that is too long is parted where it has a joint."""
    return [part for line in caption.split("\n") for part in _parted(line, size, room)]


def text_width(text: str, size: int) -> int:
    """Pixels that a line takes."""
    words, font = _set(text, size)
    return int(np.ceil(font.getlength(words)))


def _parted(line: str, size: int, room: int) -> list[str]:
    joints = [joint.end() for joint in re.finditer(r"[_/ -]+(?=.)", line)]
    if text_width(line, size) <= room or not joints:
        return [line]
    joint = min(joints, key=lambda joint: abs(2 * joint - len(line)))
    return [line[:joint], line[joint:]]


def _shortened(text: str, font: Font, room: int) -> str:
    """The text without its middle where it is too long: both ends of a name tell faces apart."""
    if len(text) < 2 or font.getlength(text) <= room:
        return text

    def kept(length: int) -> str:
        return text[: (length + 1) // 2] + "…" + text[len(text) - length // 2 :]

    def width(length: int) -> int:
        return int(np.ceil(font.getlength(kept(length))))

    return kept(max(bisect_right(range(1, len(text)), room, key=width), 1))


@lru_cache(maxsize=4096)
def _set(text: str, size: int) -> tuple[str, Font]:
    """The text as it can be drawn, and the font that draws most of it.

    Letters that no font has lose their accents, or are a replacement character.
    """
    text = normalize("NFC", text)
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    name = next((name for name in ("", *_fonts()) if not any(_lacks(s, name) for s in text)), "")
    return "".join(_drawable(sign, name) for sign in text), _font(name, size)


def _drawable(sign: str, font: str) -> str:
    bare = "".join(part for part in normalize("NFKD", sign) if not combining(part))
    lacking = _lacks(sign, font) and bare and not any(_lacks(part, font) for part in bare)
    return bare if lacking else sign


@lru_cache(maxsize=4096)
def _lacks(sign: str, font: str) -> bool:
    """Whether a font draws the sign as it draws what is no character."""
    return _drawn(sign, font) == _drawn("\uffff", font)


def _drawn(sign: str, font: str) -> tuple[tuple[int, int], bytes]:
    mask = _font(font, 20).getmask(sign)
    return mask.size, bytes(mask)


@lru_cache(maxsize=1)
def _fonts() -> tuple[str, ...]:
    """Those of the known fonts that this machine has; asked for where a text needs one."""
    found = []
    for name in _KNOWN:
        with suppress(OSError):
            ImageFont.truetype(name)
            found.append(name)
    return tuple(found)


@lru_cache(maxsize=64)
def _font(name: str, size: int) -> Font:
    """Pillow's own font, which is alike everywhere, where there is no name."""
    return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
