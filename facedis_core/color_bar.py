"""The bar that says which color of a scale means how many millimetres."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.background import Background
from facedis_core.color_scale import ColorScale
from facedis_core.shading import Picture, to_srgb
from facedis_core.text_drawing import TextLine, text_width

# What the colors say; the first that there is room for.
TITLES: Final = ("distance to the true vertex, mm", "distance to truth, mm", "distance, mm", "mm")
MAX_WIDTH: Final = 30  # times the size of its letters
_PARTS: Final = (4, 3, 5, 2)  # into which a bar may be divided; the roundest numbers win


@dataclass(frozen=True)
class ColorBar:
    """What a bar says.

    Attributes:
        scale: the values from end to end.
        below, beyond: some values are outside of it, which the numbers at its ends then say.
    """

    scale: ColorScale
    below: bool = False
    beyond: bool = False

    @classmethod
    def of(cls, scale: ColorScale, values: Iterable[NDArray[Any]]) -> "ColorBar":
        """The bar of a scale for these values, each (V,)."""
        ends = [(float(of_face.min()), float(of_face.max())) for of_face in values]
        below = any(low < scale.low for low, _ in ends)
        return cls(scale, below, any(high > scale.high for _, high in ends))


def draw_color_bar(
    bar: ColorBar, width: int, size: int, background: Background
) -> tuple[Picture, list[TextLine]]:
    """A strip of that width with the bar in its middle, and what is written on it.

    Args:
        bar: what it says.
        width: of the strip in pixels; the bar is shorter.
        size: of the letters, in pixels.
        background: what lies below.
    """
    scale = bar.scale
    length = max(min(width - 4 * size, MAX_WIDTH * size), 4)
    left, thick = (width - length) // 2, max(size * 3 // 4, 6)
    strip = background.blank(size * 5, width)
    top = size * 7 // 4
    label, faint = background.text_colors
    line = faint if background.color is not None else (*faint, 255)
    strip[top - 1 : top + thick + 1, left - 1 : left + length + 1] = line  # a pale end has an edge
    values = scale.low + (np.arange(length) + 0.5) / length * (scale.high - scale.low)
    strip[top : top + thick, left : left + length, :3] = to_srgb(scale.colors(values))
    room = width - size
    title = next((words for words in TITLES if text_width(words, size) <= room), TITLES[-1])
    texts = [TextLine(title, (width // 2, size * 3 // 4), room, size, label)]
    for value, words in _marks(bar, length, size):
        place = left + round((value - scale.low) / (scale.high - scale.low) * (length - 1))
        strip[top + thick : top + thick + 4, max(place - 1, left) : place + 1] = line
        texts.append(TextLine(words, (place, top + thick + size), 6 * size, size, faint))
    return strip, texts


def _marks(bar: ColorBar, length: int, size: int) -> list[tuple[float, str]]:
    """Equally spaced values and how they are written: as short, and as many, as there is room for.

    Those of both ends always, though they may touch.
    """
    low, high = bar.scale.low, bar.scale.high
    marks = {
        parts: [(float(mark), f"{mark:.4g}") for mark in np.linspace(low, high, parts + 1)]
        for parts in (*_PARTS, 1)
    }

    def fits(parts: int) -> bool:
        widest = max(text_width(words, size) for _, words in marks[parts])
        return (widest + size) * parts <= length

    def signs(parts: int) -> float:
        return sum(len(words) for _, words in marks[parts][1:]) / parts

    found = marks[min(filter(fits, _PARTS), key=signs, default=1)]
    (_, first), (_, last) = found[0], found[-1]
    found[0] = (low, f"<{first}" if bar.below else first)
    found[-1] = (high, f">{last}" if bar.beyond else last)
    return found
