"""What pictures stand on: a colour or nothing, and the ink that can be read there.

Importing this module raises MissingExtra where Pillow is not installed.
"""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from facedis_core.errors import MissingExtra, UsageError
from facedis_core.render import BACKGROUND, Linear, Picture, to_srgb

try:
    from PIL import ImageColor
except ModuleNotFoundError:
    raise MissingExtra("drawing pictures", "view") from None

Ink = tuple[int, int, int]

# For labels, and for what stands back where it can be read well enough.
_INKS: tuple[tuple[Ink, Ink], ...] = (
    ((40, 40, 44), (96, 96, 100)),
    ((240, 240, 242), (184, 184, 188)),
    ((0, 0, 0), (0, 0, 0)),
    ((255, 255, 255), (255, 255, 255)),
)
_ON_ANY: tuple[Ink, Ink] = ((112, 112, 116), (128, 128, 132))
_LUMA = (0.2126, 0.7152, 0.0722)
_LEGIBLE = 4.0  # contrast after WCAG 2


@dataclass(frozen=True)
class Paper:
    """A colour in sRGB, from 0 to 255; None = transparent."""

    colour: Ink | None

    @classmethod
    def parse(cls, text: str) -> "Paper":
        """`transparent`, a name such as `white`, `#f7f7f7`, or `rgb(247, 247, 247)`.

        Raises:
            UsageError: anything else.
        """
        if text == "transparent":
            return cls(None)
        colour: tuple[int, ...] = ()
        with suppress(ValueError):
            colour = ImageColor.getrgb(text)
        # Pillow takes parts above 255, and a fourth one for what shines through
        if len(colour) != 3 or not all(0 <= part <= 255 for part in colour):
            raise UsageError(
                f"background {text!r}, expected transparent, a name such as white, or #rrggbb"
            )
        red, green, blue = colour
        return cls((red, green, blue))

    @property
    def linear(self) -> Linear | None:
        """The colour as light."""
        if self.colour is None:
            return None
        value = np.array(self.colour) / 255
        light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
        return (float(light[0]), float(light[1]), float(light[2]))

    @property
    def inks(self) -> tuple[Ink, Ink]:
        """For what labels, and for what stands back."""
        if self.colour is None:
            return _ON_ANY
        first = next((pair for pair in _INKS if self._contrast(pair[1]) >= _LEGIBLE), None)
        return first or max(_INKS, key=lambda pair: self._contrast(pair[1]))

    def _contrast(self, ink: Ink) -> float:
        """Of WCAG 2: from 1 to 21."""
        light, other = (float(np.dot(_LUMA, paper.linear or 0)) for paper in (self, Paper(ink)))
        return (max(light, other) + 0.05) / (min(light, other) + 0.05)

    def blank(self, height: int, width: int) -> Picture:
        """An empty piece (height, width, 3), or 4 where it is transparent."""
        # Letters are mixed with what lies below, seen or not: of their own colour it leaves no rim.
        pixel = (*_ON_ANY[1], 0) if self.colour is None else self.colour
        return np.tile(np.array(pixel, np.uint8), (height, width, 1))


def _plain() -> Paper:
    red, green, blue = to_srgb(np.array(BACKGROUND)).tolist()
    return Paper((red, green, blue))


PLAIN = _plain()
