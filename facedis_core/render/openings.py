"""Openings of meshes, such as the mouth and the eyes of a mask, and the lining behind them.

A mask ends inside the lips, and even closed lips rarely touch: between them one would see through
it. The lining closes each opening from behind.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.geometry.rims import find_rims
from facedis_core.geometry.surface import unit_vectors

DEPTH: Final = 0.25  # of the lining's centre behind the rim, per square root of the opening's area


def line_openings(
    vertices: NDArray[Any], triangles: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Lining of the openings: new vertices (R, 3), one an opening, and triangles (L, 3).

    The longest boundary of each connected part is its outline, the others are openings. The new
    vertices are numbered from V. They lie behind their openings by the winding of the triangles.
    """
    edges, rim, part = find_rims(triangles, len(vertices))
    if not len(edges):
        return np.empty((0, 3)), np.empty((0, 3), np.int64)
    tail, head = (np.asarray(vertices[end], np.float64) for end in edges.T)

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([np.bincount(rim, column) for column in values.T], axis=1)

    length = np.sqrt(((head - tail) ** 2).sum(1))
    around = np.bincount(rim, length)
    longest = np.zeros(int(part.max()) + 1)
    np.maximum.at(longest, part, around)
    opening = around < longest[part]
    if not opening.any():
        return np.empty((0, 3)), np.empty((0, 3), np.int64)
    centre = total((tail + head) / 2 * length[:, None]) / np.where(around > 0, around, 1)[:, None]
    outwards = total(np.cross(head - centre[rim], tail - centre[rim])) / 2
    area = np.sqrt((outwards**2).sum(1, keepdims=True))
    centre -= DEPTH * np.sqrt(area) * unit_vectors(outwards)
    number = len(vertices) + np.cumsum(opening) - 1
    lined = opening[rim]
    lining = np.column_stack([edges[lined, 1], edges[lined, 0], number[rim[lined]]])
    return centre[opening], lining
