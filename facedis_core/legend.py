"""The bar that says which colour of a scale means how many millimetres."""

from typing import Final

import numpy as np

from facedis_core.colours import Scale
from facedis_core.lettering import Text, width_of
from facedis_core.paper import Paper
from facedis_core.render import Picture, to_srgb

WIDEST: Final = 30  # times the size of its letters
_PARTS: Final = (4, 3, 5, 2)  # into which a bar may be divided; the roundest numbers win


def colour_bar(
    scale: Scale, title: str, width: int, size: int, paper: Paper, *, beyond: bool = False
) -> tuple[Picture, list[Text]]:
    """A strip of that width with the bar in its middle, and what is written on it.

    Args:
        scale: the values from end to end.
        width: of the strip in pixels; the bar is shorter.
        paper: what lies below.
        title: what the colours say, with the unit.
        size: of the letters, in pixels.
        beyond: some values are above the scale, which the last number then says.
    """
    length = max(min(width - 4 * size, WIDEST * size), 4)
    left, thick = (width - length) // 2, max(size * 3 // 4, 6)
    strip = paper.blank(size * 5, width)
    top = size * 7 // 4
    values = scale.low + (np.arange(length) + 0.5) / length * (scale.high - scale.low)
    strip[top : top + thick, left : left + length, :3] = to_srgb(scale.colours(values))
    if paper.colour is None:
        strip[top : top + thick, left : left + length, 3] = 255
    label, faint = paper.inks
    tick = faint if paper.colour is not None else (*faint, 255)
    texts = [Text(title, (width // 2, size * 3 // 4), width - size, size, label)]
    marks = _marks(scale)
    if len(marks) * width_of("0.000", size) > length:
        marks = [marks[0], marks[-1]]
    for mark in marks:
        place = left + round((mark - scale.low) / (scale.high - scale.low) * (length - 1))
        strip[top + thick : top + thick + 3, max(place - 1, left) : place + 1] = tick
        sign = ">" if beyond and mark == marks[-1] else ""
        words = f"{sign}{mark:.4g}"
        texts.append(Text(words, (place, top + thick + size), 6 * size, size, faint))
    return strip, texts


def _marks(scale: Scale) -> list[float]:
    """Equally spaced values from the lowest to the highest, as short as can be when written."""

    def signs(parts: int) -> int:
        return sum(len(f"{mark:.4g}") for mark in np.linspace(scale.low, scale.high, parts + 1)[1:])

    parts = min(_PARTS, key=lambda parts: signs(parts) / parts)
    return [float(mark) for mark in np.linspace(scale.low, scale.high, parts + 1)]
