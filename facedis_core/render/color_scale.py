"""Color scale of errors: a perceptually uniform colormap, and the range of values it spans.

The colormap is made in OKLab (Ottosson 2020, "A perceptual color space for image processing"), from
pale yellow through orange and red to dark violet. Lightness decreases throughout, so that it can be
read in grayscale and with red-green color blindness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, UsageError

STEPS: Final = 256
UNKNOWN: Final = (0.45, 0.46, 0.47)  # linear RGB where there is no value, as in face_viewer.js

# Lightness, chroma and hue (degrees) in OKLab, from the lowest value to the highest.
_CONTROL_COLORS: Final = (
    (0.96, 0.03, 108.0),
    (0.88, 0.12, 92.0),
    (0.76, 0.155, 64.0),
    (0.63, 0.19, 36.0),
    (0.48, 0.175, 12.0),
    (0.34, 0.13, 338.0),
    (0.22, 0.09, 305.0),
)

_MIN_RANGE: Final = 1e-9  # mm
# Upper ends of scales; also these times powers of ten.
ROUND_ENDS: Final = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)

# Ottosson's matrices, OKLab -> cube roots of cone responses, and these cubed -> linear sRGB.
_TO_CONES: Final = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
_TO_RGB: Final = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)


def oklab_to_linear(lab: NDArray[Any]) -> NDArray[np.float64]:
    """OKLab (..., 3) -> linear sRGB (..., 3), outside 0 to 1 where sRGB has no such color."""
    cones = (np.asarray(lab, np.float64) @ np.array(_TO_CONES).T) ** 3
    return cones @ np.array(_TO_RGB).T


def colormap_oklab() -> NDArray[np.float64]:
    """The colormap in OKLab (STEPS, 3), at equal distances."""
    lightness, chroma, hue = np.array(_CONTROL_COLORS).T
    hue = np.unwrap(hue, period=360)
    dense = np.linspace(0, len(hue) - 1, 4096)
    at = np.arange(len(hue))
    light, color = np.interp(dense, at, lightness), np.interp(dense, at, chroma)
    angle = np.radians(np.interp(dense, at, hue))
    lab = np.stack([light, color * np.cos(angle), color * np.sin(angle)], axis=1)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(lab, axis=0), axis=1))])
    even = np.linspace(0, length[-1], STEPS)
    return np.stack([np.interp(even, length, lab[:, k]) for k in range(3)], axis=1)


@lru_cache(maxsize=1)
def colormap() -> NDArray[np.float64]:
    """The colormap as linear sRGB (STEPS, 3), from the lowest value to the highest."""
    return np.clip(oklab_to_linear(colormap_oklab()), 0, 1)


@dataclass(frozen=True)
class ColorScale:
    """Range of values that the colormap spans; values outside have the colors of the ends."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> "ColorScale":
        """Read text such as `0,3`; UsageError for anything else."""
        try:
            low, high = (float(word) for word in text.split(","))
        except ValueError:
            low = high = float("nan")
        if not (high - low > _MIN_RANGE and np.isfinite(high - low)):
            raise UsageError(
                f"range {text!r}, expected a lower and a higher number in mm, such as 0,3",
                ErrorCode.OPTION_VALUE,
            )
        return cls(low, high)

    @classmethod
    def covering(cls, values: Sequence[NDArray[Any]]) -> "ColorScale":
        """From 0 to the next round number above the 99th percentile of all values, each (V,).

        From 0 to 1 where that percentile is 0.
        """
        most = float(np.percentile(np.concatenate(values), 99))
        if not most > 0:
            return cls(0.0, 1.0)
        power = 10.0 ** np.floor(np.log10(most))
        high = next(k * power for k in ROUND_ENDS if most <= k * power)
        return cls(0.0, float(f"{high:.1e}"))  # 0.3, not 0.30000000000000004

    def colors(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Linear RGB (P, 3) of values (P,); gray where a value is NaN."""
        place = (np.asarray(values, np.float64) - self.low) / (self.high - self.low)
        index = np.nan_to_num(np.clip(place * STEPS, 0, STEPS - 1)).astype(np.intp)
        return np.where(np.isnan(place)[:, None], UNKNOWN, colormap()[index])
