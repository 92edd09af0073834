"""Distances of points to the surface of a triangle mesh."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

_FIRST: Final = 24  # nearest triangles that are looked at for every point
_AT_ONCE: Final = 1 << 20  # pairs of a point and a triangle


def surface_distances(
    points: NDArray[Any], vertices: NDArray[Any], triangles: NDArray[np.integer[Any]]
) -> Points:
    """Distance (N,) of points (N, 3) to the nearest point of a surface of at least a triangle.

    The triangles whose centres are nearest are looked at, and more of them as long as another one
    could be nearer. Needs SciPy.

    Args:
        points: (N, 3) mm.
        vertices: (V, 3) mm.
        triangles: (F, 3).
    """
    from scipy.spatial import cKDTree

    corners = _even(np.asarray(vertices, np.float64)[triangles])
    radius = _radius(corners)
    tree, given = cKDTree(corners.mean(axis=1)), np.asarray(points, np.float64)
    _, nearest = tree.query(given)
    found = triangle_distances(given, corners[nearest])
    left, count = np.arange(len(points)), _FIRST
    while len(left):
        count = min(count, len(corners))
        step = max(1, _AT_ONCE // count)
        unsure = []
        for chosen in (left[k : k + step] for k in range(0, len(left), step)):
            away, index = tree.query(given[chosen], np.arange(1, count + 1))
            row, column = np.nonzero(away - radius[index] < found[chosen, None])
            exact = triangle_distances(given[chosen[row]], corners[index[row, column]])
            np.minimum.at(found, chosen[row], exact)
            unsure.append(chosen[away[:, -1] - radius.max() < found[chosen]])
        left = np.concatenate(unsure) if count < len(corners) else left[:0]
        count *= 4
    return found


def _even(corners: Points) -> Points:
    """Triangles (F, 3, 3), of which large ones are cut into four until they are of usual size."""
    most, usual = 4 * len(corners), 1.5 * float(np.median(_radius(corners)))
    while len(corners) < most and (large := _radius(corners) > usual).any():
        a, b, c = np.moveaxis(corners[large], 1, 0)
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        parts = [np.stack(p, axis=1) for p in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        corners = np.concatenate([corners[~large], *parts])
    return corners


def _radius(corners: Points) -> Points:
    radius: Points = np.linalg.norm(corners - corners.mean(axis=1, keepdims=True), axis=2).max(1)
    return radius


def triangle_distances(points: Points, corners: Points) -> Points:
    """Distance of points (..., 3) to triangles (..., 3, 3), which may broadcast.

    The distance to the plane where the foot of the perpendicular lies inside of the triangle, else
    to the nearest of its sides.
    """
    following = np.roll(corners, -1, axis=-2)
    side = following - corners
    normal = np.cross(side[..., 0, :], side[..., 1, :])
    length = np.linalg.norm(normal, axis=-1)
    offset = points[..., None, :] - corners  # (..., 3, 3), from each corner
    inside = (np.cross(side, offset) * normal[..., None, :]).sum(-1).min(-1) >= 0
    height = np.abs((offset[..., 0, :] * normal).sum(-1)) / np.maximum(length, 1e-300)
    squares = np.maximum((side**2).sum(-1), 1e-300)
    share = np.clip((offset * side).sum(-1) / squares, 0, 1)
    to_sides = np.linalg.norm(offset - share[..., None] * side, axis=-1).min(-1)
    distances: Points = np.where(inside & (length > 0), height, to_sides)
    return distances


def nearest_on_triangles(points: NDArray[Any], corners: NDArray[Any]) -> NDArray[np.float64]:
    """Barycentric coordinates (n, 3) of the nearest points to (n, 3) of triangles (n, 3, 3).

    The foot of the perpendicular where it lies inside, else the nearest point of the sides.
    """
    following = np.roll(corners, -1, axis=1)
    side = following - corners
    offset = points[:, None] - corners
    squares = np.maximum((side**2).sum(axis=2), 1e-300)
    share = np.clip((offset * side).sum(axis=2) / squares, 0, 1)  # along each side
    away = np.linalg.norm(offset - share[..., None] * side, axis=2)
    best, row = away.argmin(axis=1), np.arange(len(points))
    weights = np.zeros((len(points), 3))
    weights[row, best] = 1 - share[row, best]
    weights[row, (best + 1) % 3] = share[row, best]
    normal = np.cross(side[:, 0], side[:, 1])
    # the coordinate of a corner is the area of the triangle opposite to it
    part = (np.cross(side, offset) * normal[:, None]).sum(axis=2)
    whole = part.sum(axis=1)  # of a needle 0, also where rounding leaves it a normal
    inside = (part.min(axis=1) >= 0) & (whole > 0)
    weights[inside] = np.roll(part[inside], -1, axis=1) / whole[inside, None]
    return weights
