"""Nearest points of a surface, and how far and on which side of it other points are."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Points = NDArray[np.float64]

SAME_SIDE: Final = 0.5  # least cosine of the normals of a pair


@dataclass(frozen=True, eq=False)
class Surface:
    """Points with outward normals and a search tree.

    Attributes:
        points: (N, 3) mm.
        normals: (N, 3), of unit length.
        tree: cKDTree of the points.
        spacing: median distance of neighbours, mm.
    """

    points: Points
    normals: Points
    tree: cKDTree
    spacing: float

    def roughness(self, index: NDArray[np.intp]) -> Points:
        """How far each of some points lies off the plane of its nearest neighbour, (n,) mm.

        As far as a surface without any error would: by the noise of the scan, and by what the
        surface bends from point to point. The errors of both points are in the distance of the
        two, hence the square root.
        """
        _, near = self.tree.query(self.points[index], 2)
        gap = self.points[near[:, 1]] - self.points[index]
        height: Points = np.abs(np.einsum("nk,nk->n", gap, self.normals[index])) / np.sqrt(2)
        return height


@dataclass(frozen=True, eq=False)
class Pairing:
    """Points and the nearest point of a surface to each.

    Attributes:
        index: (n,) of the nearest point.
        gap: (n, 3) mm, from each point to its nearest one.
        height: (n,) mm, part of the gap along the normal of the surface.
        aside: (n,) mm, the rest of the gap.
        facing: (n,) cosine of the normals of both.
    """

    index: NDArray[np.intp]
    gap: Points
    height: Points
    aside: Points
    facing: Points

    def near(self, reach: float, aside: float, facing: float = SAME_SIDE) -> NDArray[np.bool_]:
        """Whether each pair is on one side, within `reach` mm along the normal and `aside` mm."""
        good: NDArray[np.bool_] = (self.facing > facing) & (np.abs(self.height) < reach)
        good &= self.aside < aside
        return good


def pair(points: Points, normals: Points, surface: Surface) -> Pairing:
    """The nearest points of a surface to points (n, 3) mm with normals (n, 3)."""
    distance, index = surface.tree.query(points)
    gap = surface.points[index] - points
    nearest = surface.normals[index]
    height = np.einsum("nk,nk->n", gap, nearest)
    aside = np.sqrt(np.maximum(distance**2 - height**2, 0))
    return Pairing(index, gap, height, aside, np.einsum("nk,nk->n", normals, nearest))
