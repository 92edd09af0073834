"""Background of pictures, opaque or transparent, and text colors that are legible on it.

Importing this module raises UsageError where Pillow is not installed.
"""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from facedis_core.errors import ErrorCode, UsageError, missing_extra
from facedis_core.render.materials import LinearRGB
from facedis_core.render.shading import BACKGROUND, Picture, to_srgb

try:
    from PIL import ImageColor
except ModuleNotFoundError:
    raise missing_extra("drawing pictures", "view") from None

RGB = tuple[int, int, int]

# Colors of labels, and of captions, which are fainter; the first legible pair is used.
_TEXT_COLORS: tuple[tuple[RGB, RGB], ...] = (
    ((40, 40, 44), (96, 96, 100)),
    ((240, 240, 242), (184, 184, 188)),
    ((0, 0, 0), (0, 0, 0)),
    ((255, 255, 255), (255, 255, 255)),
)
_ON_TRANSPARENT: tuple[RGB, RGB] = ((112, 112, 116), (128, 128, 132))
_LUMA = (0.2126, 0.7152, 0.0722)
_LEGIBLE = 4.0  # contrast ratio of WCAG 2


@dataclass(frozen=True)
class Background:
    """A color in sRGB, from 0 to 255; None = transparent."""

    color: RGB | None

    @classmethod
    def parse(cls, text: str) -> "Background":
        """`transparent`, a name such as `white`, `#f7f7f7`, or `rgb(247, 247, 247)`.

        Raises:
            UsageError: anything else.
        """
        if text == "transparent":
            return cls(None)
        color: tuple[int, ...] = ()
        with suppress(ValueError):
            color = ImageColor.getrgb(text)
        # Pillow accepts values above 255, and an alpha channel
        if len(color) != 3 or not all(0 <= part <= 255 for part in color):
            raise UsageError(
                f"background {text!r}, expected transparent, a name such as white, or #rrggbb",
                ErrorCode.OPTION_VALUE,
            )
        red, green, blue = color
        return cls((red, green, blue))

    @property
    def linear(self) -> LinearRGB | None:
        """The color in linear RGB; None = transparent."""
        if self.color is None:
            return None
        value = np.array(self.color) / 255
        light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
        return (float(light[0]), float(light[1]), float(light[2]))

    @property
    def text_colors(self) -> tuple[RGB, RGB]:
        """Colors of labels and of captions."""
        if self.color is None:
            return _ON_TRANSPARENT
        first = next((pair for pair in _TEXT_COLORS if self._contrast(pair[1]) >= _LEGIBLE), None)
        return first or max(_TEXT_COLORS, key=lambda pair: self._contrast(pair[1]))

    def _contrast(self, color: RGB) -> float:
        """Contrast ratio of WCAG 2, from 1 to 21."""
        light, other = (
            float(np.dot(_LUMA, background.linear or 0)) for background in (self, Background(color))
        )
        return (max(light, other) + 0.05) / (min(light, other) + 0.05)

    def blank(self, height: int, width: int) -> Picture:
        """An empty picture (height, width, 3), or 4 channels where it is transparent."""
        # antialiased text blends with the color below, even a transparent one: use the text's own
        pixel = (*_ON_TRANSPARENT[1], 0) if self.color is None else self.color
        return np.tile(np.array(pixel, np.uint8), (height, width, 1))


def _light_gray() -> Background:
    red, green, blue = to_srgb(np.array(BACKGROUND)).tolist()
    return Background((red, green, blue))


LIGHT_GRAY = _light_gray()
