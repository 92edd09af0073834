"""Arrays as text for pages; vertices in 16 bits a coordinate where there are many."""

from base64 import b64encode
from typing import Any, Final, NamedTuple

import numpy as np

_LEVELS: Final = (1 << 16) - 1


class Quantised(NamedTuple):
    """Vertices as `low` + `step` * `levels`.

    A coordinate is wrong by half a step at most: 0.002 mm where a face is 250 mm wide.

    Attributes:
        low, step: float64 (3,) mm.
        levels: uint16 (V, 3).
    """

    low: np.ndarray
    step: np.ndarray
    levels: np.ndarray

    @classmethod
    def of(cls, vertices: np.ndarray) -> "Quantised":
        """The levels of vertices (V, 3) mm, from end to end on each axis."""
        exact = np.asarray(vertices, np.float64)
        low = exact.min(axis=0)
        step = (exact.max(axis=0) - low) / _LEVELS
        steps = np.where(step > 0, step, 1.0)
        return cls(low, step, np.round((exact - low) / steps).astype(np.uint16))

    def vertices(self) -> np.ndarray:
        """What is left of the vertices, float64 (V, 3) mm."""
        return self.low + self.step * self.levels

    def packed(self) -> dict[str, Any]:
        """For JSON."""
        low, step = self.low.tolist(), self.step.tolist()
        return {"low": low, "step": step, "levels": base64_of(self.levels.astype("<u2"))}


def base64_of(array: np.ndarray) -> str:
    """The bytes of an array, row after row."""
    return b64encode(np.ascontiguousarray(array).tobytes()).decode()
