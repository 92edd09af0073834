"""Color bar: the colors of a scale with their values in mm."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.render.background import Background
from facedis_core.render.color_scale import ColorScale
from facedis_core.render.shading import Picture, to_srgb
from facedis_core.render.text import TextLine, text_width

# Titles of the bar, longest first; the first that fits is drawn.
TITLES: Final = ("distance to the true vertex, mm", "distance to truth, mm", "distance, mm", "mm")
MAX_WIDTH: Final = 30  # in text sizes
_INTERVALS: Final = (4, 3, 5, 2)  # numbers of intervals to try; the shortest labels win


@dataclass(frozen=True)
class ColorBar:
    """A color scale, and at which ends values exceed it.

    Attributes:
        scale: range of the bar.
        below, above: some values are outside; the bar's ends are then labelled < and >.
        titles: what the values are, the longest first; the first that there is room for is shown.
    """

    scale: ColorScale
    below: bool = False
    above: bool = False
    titles: tuple[str, ...] = TITLES

    @classmethod
    def of(cls, scale: ColorScale, values: Iterable[NDArray[Any]]) -> "ColorBar":
        """The bar of a scale for some values, each (V,)."""
        ends = [(float(of_face.min()), float(of_face.max())) for of_face in values]
        below = any(low < scale.low for low, _ in ends)
        return cls(scale, below, any(high > scale.high for _, high in ends))


def draw_color_bar(
    bar: ColorBar, width: int, size: int, background: Background
) -> tuple[Picture, list[TextLine]]:
    """A strip with the bar in its middle, and the texts to draw on it.

    Args:
        bar: scale and overflow.
        width: of the strip in pixels; the bar is shorter.
        size: of the text, in pixels.
        background: of the strip.
    """
    scale = bar.scale
    length = max(min(width - 4 * size, MAX_WIDTH * size), 4)
    left, thick = (width - length) // 2, max(size * 3 // 4, 6)
    strip = background.blank(size * 5, width)
    top = size * 7 // 4
    label, faint = background.text_colors
    line = faint if background.color is not None else (*faint, 255)
    strip[top - 1 : top + thick + 1, left - 1 : left + length + 1] = (
        line  # outline: an end may be pale
    )
    values = scale.low + (np.arange(length) + 0.5) / length * (scale.high - scale.low)
    strip[top : top + thick, left : left + length, :3] = to_srgb(scale.colors(values))
    room = width - size
    title = next((words for words in bar.titles if text_width(words, size) <= room), bar.titles[-1])
    texts = [TextLine(title, (width // 2, size * 3 // 4), room, size, label)]
    for value, words in _marks(bar, length, size):
        place = left + round((value - scale.low) / (scale.high - scale.low) * (length - 1))
        strip[top + thick : top + thick + 4, max(place - 1, left) : place + 1] = line
        texts.append(TextLine(words, (place, top + thick + size), 6 * size, size, faint))
    return strip, texts


def _marks(bar: ColorBar, length: int, size: int) -> list[tuple[float, str]]:
    """Equally spaced values and their labels: as many as fit, with the shortest numbers.

    Both ends always have a label, even if the two touch.
    """
    low, high = bar.scale.low, bar.scale.high
    marks = {
        parts: [(float(mark), f"{mark:.4g}") for mark in np.linspace(low, high, parts + 1)]
        for parts in (*_INTERVALS, 1)
    }

    def fits(parts: int) -> bool:
        widest = max(text_width(words, size) for _, words in marks[parts])
        return (widest + size) * parts <= length

    def label_length(parts: int) -> float:
        return sum(len(words) for _, words in marks[parts][1:]) / parts

    found = marks[min(filter(fits, _INTERVALS), key=label_length, default=1)]
    (_, first), (_, last) = found[0], found[-1]
    found[0] = (low, f"<{first}" if bar.below else first)
    found[-1] = (high, f">{last}" if bar.above else last)
    return found
