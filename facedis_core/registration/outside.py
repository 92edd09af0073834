"""Which points of a scan can be seen from outside: eyeballs, teeth and inner walls cannot."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

DIRECTIONS: Final = 32
PIXEL: Final = 2.5  # of the depth maps, times the spacing of the points
BEHIND_MM: Final = 1.5  # a point so far behind the first surface is still of it
STEEPEST: Final = 0.5  # least cosine of a normal and a direction that says something
SEEN: Final = 0.12  # of the directions that say something; gaps between points show a few
MOST_CELLS: Final = 1 << 21


def seen_from_outside(
    points: Points, normals: Points, surface: Points, spacing: float
) -> NDArray[np.bool_]:
    """Whether each of some points (n, 3) can be seen from far away, past a surface.

    Depth maps of the surface from directions all around: a point is seen where it is no deeper than
    the first point in its pixel, but for what the slope of the surface explains.

    Args:
        points: (n, 3) mm.
        normals: (n, 3) of unit length; their signs do not matter.
        surface: (m, 3) mm, evenly spread points of all that hides others.
        spacing: about the distance of neighbours in `surface`, mm.
    """
    seen = np.zeros(len(points))
    said = np.zeros(len(points))
    if not len(points):
        return seen > 0
    for direction in _directions():
        side = np.eye(3)[np.argmin(np.abs(direction))]
        across = np.cross(direction, side)
        across /= np.linalg.norm(across)
        frame = np.stack([across, np.cross(direction, across), direction], axis=1)
        facing = np.abs(normals @ direction)
        own, other = points @ frame, surface @ frame
        low, high = own[:, :2].min(axis=0), own[:, :2].max(axis=0)
        area = float(np.prod(high - low + spacing))
        pixel = max(PIXEL * spacing, np.sqrt(area / MOST_CELLS), BEHIND_MM)
        width, height = (int(n) for n in (high - low) // pixel + 1)
        cell = _cells(own, low, pixel, width)
        inside = (other[:, :2] >= low) & (other[:, :2] < low + pixel * np.array([width, height]))
        other = other[inside.all(axis=1)]
        first = np.full(width * height, -np.inf)
        np.maximum.at(first, _cells(other, low, pixel, width), other[:, 2])
        slope = np.sqrt(1 - np.minimum(facing, 1) ** 2) / np.maximum(facing, STEEPEST)
        tells = facing > STEEPEST
        said += tells
        seen += tells & (first[cell] - own[:, 2] < BEHIND_MM + 0.7 * pixel * slope)
    found: NDArray[np.bool_] = seen >= SEEN * np.maximum(said, 1)
    return found


def _cells(points: Points, low: Points, pixel: float, width: int) -> NDArray[np.intp]:
    column, row = ((points[:, :2] - low) / pixel).astype(np.intp).T
    return row * width + column


def _directions() -> Points:
    """Evenly spread unit vectors: a Fibonacci lattice."""
    k = np.arange(DIRECTIONS)
    z = 1 - (2 * k + 1) / DIRECTIONS
    angle = k * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
