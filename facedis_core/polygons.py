"""What every mesh codec hands over: vertices and polygons of the file, and their triangles."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.numerals import spans


class Polygons(NamedTuple):
    """A decoded file: polygon f has the next `counts[f]` of `corners`, counted from 0."""

    vertices: NDArray[np.float32]  # (V, 3), in the file's unit
    corners: NDArray[Any] = np.zeros(0, np.int64)  # (sum of counts,), of any integer type
    counts: NDArray[np.int64] = np.zeros(0, np.int64)  # (polygons,)
    name: str = ""
    unit_mm: float | None = None


def triangulate(polygons: Polygons) -> NDArray[np.int32]:
    """Triangles (F, 3): polygon (a, b, c, d, ...) gives (a, b, c), (a, c, d), ... in file order.

    Raises InputError where there are no vertices, one is not finite, a polygon has fewer than three
    corners or a corner is no vertex.
    """
    vertices, corners, counts = polygons[:3]
    if len(vertices) == 0:
        raise InputError("has no vertices; expected a mesh")
    finite = np.isfinite(vertices)
    if not finite.all():
        row = int(np.argmin(finite.all(axis=1)))
        raise InputError(f"vertex {row} is not finite: {vertices[row].tolist()}; repair the file")
    if counts.size and counts.min() < 3:
        row = int(np.argmax(counts < 3))
        raise InputError(f"polygon {row} has {counts[row]} corners; expected at least 3")
    if corners.size and (corners.min() < 0 or corners.max() >= len(vertices)):
        wrong = corners[(corners < 0) | (corners >= len(vertices))][0]
        raise InputError(
            f"a polygon refers to vertex {wrong} (counted from 0); the file has {len(vertices)}"
        )
    if (counts == 3).all():
        return corners.reshape(-1, 3).astype(np.int32)
    triangles_each = counts - 2
    apex = np.repeat(np.cumsum(counts) - counts, triangles_each)
    step = spans(np.zeros_like(triangles_each), triangles_each)
    fan = np.stack((apex, apex + step + 1, apex + step + 2), axis=1)
    return corners[fan].astype(np.int32)
