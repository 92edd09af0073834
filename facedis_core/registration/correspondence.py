"""Correspondence of two surfaces of one face at rest: points that lie on both and move alike.

The nearest point alone is wrong where surfaces touch: of closed lips the upper one is as near to
the lower one as to itself. So points are compared with their normals, and only where both surfaces
are seen from outside: mouth bags, teeth, eyeballs and the inner sides of lips have no counterpart.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, diags_array
from scipy.spatial import cKDTree

from facedis_core.geometry.extension import ball_of
from facedis_core.geometry.sparse import factorised
from facedis_core.geometry.surface import (
    connected_parts,
    unique_edges,
    unit_vectors,
    vertex_normals,
)
from facedis_core.geometry.surface_distance import nearest_on_triangles
from facedis_core.registration.outside import seen_from_outside

Points = NDArray[np.float64]
Triangles = NDArray[np.integer[Any]]

SPACING_MM: Final = 3.0  # of points on triangles, coarser ones are divided
NORMAL_MM: Final = 8.0  # opposite normals are as far apart as points twice this distance
NEAR_MM: Final = 30.0  # parts of a surface farther from the other one are not looked at
LEAST_PART: Final = 0.05  # of the visible surface, in a part that is skin; lashes have less
FACING: Final = 0.6  # least cosine of the normals of corresponding points
FITTED_MM: Final = (8.0, 3.0)  # greatest distance of pairs, in the first and in the last round
STIFFNESS: Final = (30.0, 1.0)  # of the smooth displacement, beside pairs of weight 1
ROUNDS: Final = 8
INNER_MM: Final = 12.0  # greatest distance of corresponding points that are hidden
GAP_MM: Final = 1.5  # greatest distance of corresponding points in the end


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points on the triangles of a surface, one row each.

    Attributes:
        corners: (n, 3) vertices of the triangle.
        weights: (n, 3) barycentric coordinates.
    """

    corners: NDArray[np.integer[Any]]
    weights: Points

    def of(self, values: Points) -> Points:
        """Values (n, k) at these points from those (V, k) of the vertices."""
        return (self.weights[:, :, None] * values[self.corners]).sum(axis=1)

    def matrix(self, columns: int) -> Any:
        """The sparse matrix (n, columns) that `of` applies."""
        count = len(self.corners)
        entries = self.weights.ravel(), (np.repeat(np.arange(count), 3), self.corners.ravel())
        return coo_array(entries, shape=(count, columns)).tocsr()

    def take(self, rows: NDArray[Any]) -> "SurfacePoints":
        """Some of them."""
        return SurfacePoints(self.corners[rows], self.weights[rows])


@dataclass(frozen=True, eq=False)
class Skin:
    """The outer surface of a head: what is seen of its skin from outside.

    Attributes:
        vertices: (V, 3) mm.
        triangles: (F, 3), all.
        normals: (V, 3).
        seen: (V,) whether a vertex is of the outer surface.
        hidden: (V,) whether it is of the same parts but cannot be seen: inner sides of lips and
            lids, mouth bags, nostrils.
        points: on the outer surface, about SPACING_MM apart.
        inner: on the hidden surface.
    """

    vertices: Points
    triangles: Triangles
    normals: Points
    seen: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    points: SurfacePoints
    inner: SurfacePoints

    def moved(self, vertices: Points) -> "Skin":
        """The same skin with other vertices (V, 3)."""
        normals = vertex_normals(vertices, self.triangles)
        return replace(self, vertices=vertices, normals=normals)


def outer_skin(vertices: Points, triangles: Triangles, near: Points) -> Skin:
    """The outer skin of a head (V, 3) mm, as far as it lies near some points (n, 3) mm.

    Balls (eyes), parts of which little is seen (lashes, teeth) and what is hidden are no skin.
    """
    normals = vertex_normals(vertices, triangles)
    corners = vertices[triangles]
    middle = corners.mean(axis=1)
    size = np.linalg.norm(corners - middle[:, None], axis=2).max(axis=1)
    distance, _ = cKDTree(near).query(middle, distance_upper_bound=NEAR_MM + size.max())
    close = np.flatnonzero(distance < NEAR_MM + size)
    owner, points = points_on(vertices, triangles[close], SPACING_MM)
    owner = close[owner]
    place = points.of(vertices)
    flat = unit_vectors(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    seen = seen_from_outside(place, flat[owner], place, SPACING_MM)
    part = connected_parts(triangles, len(vertices))
    visible = np.bincount(part[triangles[owner, 0]], seen, part.max() + 1)
    is_skin = visible > LEAST_PART * visible.sum()
    for number in np.flatnonzero(is_skin):
        is_skin[number] = ball_of(vertices[part == number]) is None
    of_skin = is_skin[part[triangles[owner, 0]]]
    seen &= of_skin
    # a vertex is seen where most of what lies around it is
    around = np.zeros((2, len(vertices)))
    for corner in range(3):
        weight = points.weights[:, corner]
        for k, share in enumerate((weight, weight * seen)):
            around[k] += np.bincount(points.corners[:, corner], share, len(vertices))
    is_seen = around[1] > 0.5 * np.maximum(around[0], 1e-9)
    hidden = is_skin[part] & ~is_seen & (around[0] > 0)
    inner = points.take(of_skin & ~seen)
    return Skin(vertices, triangles, normals, is_seen, hidden, points.take(seen), inner)


def points_on(
    vertices: Points, triangles: Triangles, spacing: float
) -> tuple[NDArray[np.intp], SurfacePoints]:
    """Evenly spread points on triangles, at most about `spacing` mm apart: (n,) owners, points."""
    corners = vertices[triangles]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    parts = np.clip(np.ceil(longest / spacing), 1, 64).astype(int)
    owners, weights = [np.empty(0, np.intp)], [np.empty((0, 3))]
    for count in np.unique(parts).tolist():
        chosen = np.flatnonzero(parts == count)
        cell = _cells(count)
        owners.append(np.repeat(chosen, len(cell)))
        weights.append(np.tile(cell, (len(chosen), 1)))
    owner = np.concatenate(owners)
    return owner, SurfacePoints(triangles[owner], np.concatenate(weights))


def _cells(count: int) -> Points:
    """Barycentric coordinates of the middles of count^2 equal parts of a triangle."""
    rows = [
        (i + third, j + third)
        for third, spare in ((1 / 3, 1), (2 / 3, 2))
        for i in range(count)
        for j in range(count - i - spare + 1)
    ]
    first, second = np.array(rows).T / count
    return np.stack([first, second, 1 - first - second], axis=1)


@dataclass(frozen=True, eq=False)
class Counterparts:
    """The points of a skin that correspond to some vertices of another one.

    Attributes:
        points: (n,) of them.
        gap: (n, 3) mm, from each vertex to its counterpart.
        facing: (n,) cosine of the normals of both.
    """

    points: SurfacePoints
    gap: Points
    facing: Points

    def within(self, reach: float) -> NDArray[np.bool_]:
        """Whether both are no more than `reach` mm apart and on one side."""
        near: NDArray[np.bool_] = (self.gap**2).sum(axis=1) < reach**2
        return near & (self.facing > FACING)


class CounterpartSearch:
    """Finds counterparts on a skin: nearest in place and normal, then exactly on their triangle."""

    def __init__(self, skin: Skin, points: SurfacePoints) -> None:
        """Searches among some points of the skin."""
        self._skin, self._points = skin, points
        places, normals = points.of(skin.vertices), unit_vectors(points.of(skin.normals))
        self._tree = cKDTree(np.concatenate([places, NORMAL_MM * normals], axis=1))

    def __call__(self, vertices: Points, normals: Points) -> Counterparts:
        """The counterparts of points (n, 3) mm with normals (n, 3)."""
        skin = self._skin
        _, index = self._tree.query(np.concatenate([vertices, NORMAL_MM * normals], axis=1))
        corners = self._points.corners[index]
        found = SurfacePoints(corners, nearest_on_triangles(vertices, skin.vertices[corners]))
        facing = (unit_vectors(found.of(skin.normals)) * normals).sum(axis=1)
        return Counterparts(found, found.of(skin.vertices) - vertices, facing)


def inner_counterparts(skin: Skin, other: Skin) -> tuple[NDArray[np.bool_], Counterparts | None]:
    """Hidden vertices (V,) of a skin near hidden points of another one; counterparts of all.

    Mouth bags differ in shape, so these correspond roughly; upper and lower sides by normals.
    """
    if not len(other.inner.corners):
        return np.zeros(len(skin.vertices), np.bool_), None
    found = CounterpartSearch(other, other.inner)(skin.vertices, skin.normals)
    return skin.hidden & found.within(INNER_MM), found


def conformed(face: Skin, other: Skin) -> Points:
    """Vertices (V, 3) mm of a face drawn onto the other skin by a smooth displacement.

    In each round the displacement u minimises sum w |u - gap|^2 + stiffness sum |u_i - u_j|^2 over
    edges, ever less stiff: Amberg et al. 2007, "Optimal step nonrigid ICP algorithms for surface
    registration", with translations. What has no counterpart goes with its neighbours.
    """
    search = CounterpartSearch(other, other.points)
    i, j = unique_edges(face.triangles).T
    count, ones = len(face.vertices), np.ones(len(i))
    degree = np.bincount(i, ones, count) + np.bincount(j, ones, count)
    graph = coo_array((ones, (i, j)), shape=(count, count))
    smooth = (diags_array(degree) - graph - graph.T).tocsc()
    vertices = face.vertices
    for step in np.linspace(0, 1, ROUNDS):
        reach, stiffness = (a * (b / a) ** step for a, b in (FITTED_MM, STIFFNESS))
        current = face.moved(vertices)
        found = search(vertices, current.normals)
        weight = (found.within(reach) & face.seen).astype(np.float64)
        system = (stiffness * smooth + diags_array(weight + 1e-3)).tocsc()
        vertices = vertices + factorised(system).solve(weight[:, None] * found.gap)
    return vertices
