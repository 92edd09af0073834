"""Lines of text on pictures, shortened or wrapped to the space they have.

Importing this module raises UsageError where Pillow is not installed.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple
from unicodedata import combining, normalize

import numpy as np

from facedis_core.errors import missing_extra
from facedis_core.render.background import RGB
from facedis_core.render.shading import Picture

try:
    from PIL import Image, ImageDraw, ImageFont
except ModuleNotFoundError:
    raise missing_extra("drawing pictures", "view") from None

# System fonts for characters that Pillow's own font lacks, in order of preference.
_SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "LiberationSans-Regular.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "PingFang.ttc", "msyh.ttc", "arial.ttf"),
)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class TextLine(NamedTuple):
    """A line of text centred at (column, row), shortened to `room` pixels; sizes in pixels."""

    text: str
    centre: tuple[int, int]
    room: int
    size: int
    color: RGB

    def moved(self, columns: int, rows: int) -> "TextLine":
        """The text at another position."""
        return self._replace(centre=(self.centre[0] + columns, self.centre[1] + rows))


def default_text_size(height: int) -> int:
    """Text size of captions below pictures of that height, in pixels."""
    return max(height // 18, 11)


def draw_text(canvas: Picture, texts: Sequence[TextLine]) -> Picture:
    """The picture with the texts drawn on it."""
    if not texts:
        return canvas
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for text in texts:
        words, font = _shaped(text.text, text.size)
        line = _shortened(words, font, text.room)
        draw.text(text.centre, line, fill=text.color, font=font, anchor="mm")
    return np.asarray(image)


def wrap_caption(caption: str, size: int, room: int) -> list[str]:
    """The lines of a caption; a long one is split at a `_`, `/`, `-` or space near its middle."""
    return [part for line in caption.split("\n") for part in _split(line, size, room)]


def text_width(text: str, size: int) -> int:
    """Width of a line of text in pixels."""
    words, font = _shaped(text, size)
    return int(np.ceil(font.getlength(words)))


def _split(line: str, size: int, room: int) -> list[str]:
    breaks = [place.end() for place in re.finditer(r"[_/ -]+(?=.)", line)]
    if text_width(line, size) <= room or not breaks:
        return [line]
    place = min(breaks, key=lambda place: abs(2 * place - len(line)))
    return [line[:place], line[place:]]


def _shortened(text: str, font: Font, room: int) -> str:
    """The text with an ellipsis in the middle where it is too long: both ends identify a face."""
    if len(text) < 2 or font.getlength(text) <= room:
        return text

    def kept(length: int) -> str:
        return text[: (length + 1) // 2] + "…" + text[len(text) - length // 2 :]

    def width(length: int) -> int:
        return int(np.ceil(font.getlength(kept(length))))

    return kept(max(bisect_right(range(1, len(text)), room, key=width), 1))


@lru_cache(maxsize=4096)
def _shaped(text: str, size: int) -> tuple[str, Font]:
    """The text in characters that the chosen font has, and the font.

    Characters that no font has lose their accents, or become a replacement character.
    """
    text = normalize("NFC", text)
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    name = next((name for name in ("", *_fonts()) if not any(_lacks(s, name) for s in text)), "")
    return "".join(_drawable(char, name) for char in text), _font(name, size)


def _drawable(char: str, font: str) -> str:
    bare = "".join(part for part in normalize("NFKD", char) if not combining(part))
    lacking = _lacks(char, font) and bare and not any(_lacks(part, font) for part in bare)
    return bare if lacking else char


@lru_cache(maxsize=4096)
def _lacks(char: str, font: str) -> bool:
    """Whether a font lacks the character."""
    return _drawn(char, font) == _drawn("\uffff", font)


def _drawn(char: str, font: str) -> tuple[tuple[int, int], bytes]:
    mask = _font(font, 20).getmask(char)
    return mask.size, bytes(mask)


@lru_cache(maxsize=1)
def _fonts() -> tuple[str, ...]:
    """Names of those system fonts that are installed."""
    found = []
    for name in _SYSTEM_FONTS:
        with suppress(OSError):
            ImageFont.truetype(name)
            found.append(name)
    return tuple(found)


@lru_cache(maxsize=64)
def _font(name: str, size: int) -> Font:
    """A font; without a name Pillow's own, which is the same on every machine."""
    return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
