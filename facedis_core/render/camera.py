"""One orthographic camera for all pictures of a sheet.

x is to the right, y up, and the viewer is on +z. Faces are turned about a vertical axis through the
middle of all of them, so that they stay inside the camera's window in every view it was fitted to.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, UsageError

MARGIN: Final = 0.06  # share of the larger side of the faces' bounding box

# Degrees by which a face is turned; below zero the nose points to the left of the picture.
VIEWS: Final = {"left": -90.0, "half-left": -45.0, "front": 0.0, "half-right": 45.0, "right": 90.0}
FRONT: Final = VIEWS["front"]
MAX_VIEWS: Final = 24


def parse_views(text: str) -> list[float]:
    """Degrees of views such as `left,front,30`; UsageError for anything else."""
    views = []
    for word in text.split(","):
        try:
            view = VIEWS[word.strip()] if word.strip() in VIEWS else float(word)
        except ValueError:
            view = math.nan
        if not abs(view) <= 360:
            raise UsageError(
                f"view {word!r}, expected {', '.join(VIEWS)}, or degrees from -360 to 360 (below 0 "
                "the nose points to the left), separated by commas",
                ErrorCode.OPTION_VALUE,
            )
        views.append(view)
    if len(views) > MAX_VIEWS:
        raise UsageError(
            f"{len(views)} views, expected at most {MAX_VIEWS}", ErrorCode.OPTION_VALUE
        )
    return views


@dataclass(frozen=True)
class Camera:
    """A window of `width` x `height` pixels on the x-y plane; lengths in units of the mesh.

    Attributes:
        left, top: the window's upper left corner.
        pixel: the side of a pixel.
        axis: x and z of the vertical axis about which faces are turned.
    """

    left: float
    top: float
    pixel: float
    width: int
    height: int
    axis: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def framing(
        cls, faces: Iterable[NDArray[Any]], height: int, views: Sequence[float] = (FRONT,)
    ) -> "Camera":
        """The camera that frames all of the faces, each (V, 3), in every view at one scale.

        `height` is in pixels; at least one face is needed.
        """
        faces = list(faces)
        low, high = _bounding_box(faces)
        axis = (float(low[0] + high[0]) / 2, float(low[2] + high[2]) / 2)
        low, high = _bounding_box(
            rotate_about_vertical(face, view, axis) for face in faces for view in views
        )
        low, high = low[:2], high[:2]
        margin = MARGIN * max(float((high - low).max()), 1e-9)
        size = high - low + 2 * margin
        pixel = float(size[1] / height)
        # a picture is at most twice as wide as high, or as high as wide
        pixel = max(pixel, float(size[0] / (2 * height)))
        width = max(int(np.ceil(size[0] / pixel)), height // 2)
        centre = (low + high) / 2
        left, top = centre[0] - width * pixel / 2, centre[1] + height * pixel / 2
        return cls(float(left), float(top), pixel, width, height, axis)

    def bands(self, height: int) -> Iterator["Camera"]:
        """Cameras of strips of the window, top to bottom, at most `height` pixels high each."""
        for above in range(0, self.height, height):
            high = min(height, self.height - above)
            yield replace(self, top=self.top - above * self.pixel, height=high)

    def project(self, vertices: NDArray[Any], samples: int = 1) -> NDArray[np.float64]:
        """Columns, rows and heights towards the viewer (V, 3), in units of 1 / `samples` pixel."""
        x, y, z = np.asarray(vertices, np.float64).T
        scale = samples / self.pixel
        return np.stack([(x - self.left) * scale, (self.top - y) * scale, z * scale], axis=1)


def rotate_about_vertical(
    vertices: NDArray[Any], view: float, axis: tuple[float, float]
) -> NDArray[np.float64]:
    """Vertices (V, 3) turned by `view` degrees about the vertical through (x, z) = `axis`."""
    result = np.array(vertices, np.float64)
    if view:
        cosine, sine = math.cos(math.radians(view)), math.sin(math.radians(view))
        x, z = result[:, 0] - axis[0], result[:, 2] - axis[1]
        result[:, 0] = axis[0] + cosine * x + sine * z
        result[:, 2] = axis[1] + cosine * z - sine * x
    return result


def _bounding_box(faces: Iterable[NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest corner (3,) of all faces together."""
    corners = np.array([(face.min(0), face.max(0)) for face in faces], np.float64)
    return corners[:, 0].min(0), corners[:, 1].max(0)
