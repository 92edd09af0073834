"""Raw scans made ready: unit by size, surface samples, flying points off, oriented normals."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from facedis_core.geometry.surface import triangle_normals, unit_vectors
from facedis_core.mesh.mesh import Mesh
from facedis_core.registration.outside import seen_from_outside
from facedis_core.registration.pairing import Surface

Points = NDArray[np.float64]

COARSE_MM: Final = 4.0  # voxels of the points that the pose is found with
FINE_MM: Final = 1.2  # distance of the points that the face is fitted to
SAMPLED_MM: Final = 2.5  # of the points that the coarse ones are means of
MOST_POINTS: Final = 60000
BLOCK: Final = 1 << 19  # vertices or triangles that are looked at together
LEAST_MESHED: Final = 0.05  # part of the points that is in triangles of a mesh
LEAST_HIDDEN: Final = 0.03  # part of the points; nostrils and lids alone are left as they are
REACH_MM: Final = 2000.0  # along each axis from the middle; points beyond are left out
FEWEST_POINTS: Final = 50  # of the coarse scan in which a face is looked for
NEIGHBOURS: Final = 10  # of each normal
SEARCH_FACTOR: Final = 8.0  # flying points have their neighbours so many times farther than others


class RawScan:
    """Samples of a raw scan in millimetres.

    A mesh of which hardly any point is in a triangle is a cloud. What cannot be seen from outside,
    such as eyeballs, teeth and inner walls, is left out: a face has no counterpart of it.

    Attributes:
        unit_mm: millimetres per unit of the scan.
        centre: (3,) mm, what has been subtracted.
        coarse: the whole scan, a point a voxel.
        hides_some: whether something of it cannot be seen; None = to be found out.
    """

    def __init__(
        self, mesh: Mesh, unit_mm: float, seed: int = 0, hides_some: bool | None = None
    ) -> None:
        self.unit_mm = unit_mm
        self._random = np.random.default_rng(seed)
        self._are_turned = self._are_inside_out = False
        some = mesh.vertices[:: 1 + len(mesh.vertices) // BLOCK]
        self.centre = np.median(some.astype(np.float64), axis=0) * unit_mm
        # about the middle single precision is enough, in half the memory
        self._vertices = np.empty((len(mesh.vertices), 3), np.float32)
        inside = np.empty(len(mesh.vertices), np.bool_)
        for block in _blocks(len(inside)):
            offset = mesh.vertices[block].astype(np.float64) * unit_mm - self.centre
            inside[block] = np.abs(offset).max(axis=1) < REACH_MM
            self._vertices[block] = offset
        self._triangles = mesh.triangles
        if not inside.all():
            self._triangles = self._triangles[inside[self._triangles].all(axis=1)]
        used = np.zeros(len(inside), np.bool_)
        used[self._triangles] = True
        hints = None
        if used.sum() > LEAST_MESHED * inside.sum():
            areas = (self._areas(block) for block in _blocks(len(self._triangles)))
            self._area = np.concatenate([*areas])
            points, hints = self._sampled(np.arange(len(self._triangles)), SAMPLED_MM)
        else:
            self._triangles = self._triangles[:0]
            self._vertices = self._vertices[inside]
            points = self._thinned(without_flying_points(self._vertices.astype(np.float64)))
        self._surface = points
        self.hides_some = hides_some
        self.coarse = self._coarse(points, hints)

    def near(self, points: Points, reach: float, spacing: float = FINE_MM) -> Surface:
        """The scan within `reach` mm of some points (n, 3), sampled about `spacing` mm apart."""
        tree = cKDTree(points)
        hints = None
        if len(self._triangles):
            low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
            parts = []
            for block in _blocks(len(self._triangles)):
                corners = [self._vertices[column] for column in self._triangles[block].T]
                lowest, highest = np.minimum.reduce(corners), np.maximum.reduce(corners)
                boxed = np.flatnonzero(((highest >= low) & (lowest <= high)).all(axis=1))
                middle = (lowest[boxed] + highest[boxed]) / 2
                size = np.linalg.norm(highest[boxed] - lowest[boxed], axis=1) / 2
                distance, _ = tree.query(middle, distance_upper_bound=reach + size.max(initial=0))
                parts.append(block.start + boxed[distance < reach + size])
            samples, hints = self._sampled(np.concatenate(parts), spacing)
        else:
            samples = self._vertices.astype(np.float64)
        distance, _ = tree.query(samples, distance_upper_bound=reach)
        inside = np.flatnonzero(np.isfinite(distance))
        if len(inside) > MOST_POINTS:
            inside = np.sort(self._random.choice(inside, MOST_POINTS, replace=False))
        if self.hides_some:
            inside = inside[
                self._are_seen(samples[inside], None if hints is None else hints[inside])
            ]
        samples = samples[inside]
        if len(samples) <= NEIGHBOURS:
            return Surface(samples, np.zeros_like(samples), cKDTree(samples), FINE_MM)
        found = cKDTree(samples)
        distance, index = found.query(samples, NEIGHBOURS)
        normals, _ = plane_normals(samples[index])
        if hints is None or self._are_turned:
            _, nearest = self.coarse.tree.query(samples)
            towards = self.coarse.normals[nearest]
        else:
            towards = hints[inside][index].sum(axis=1)
        normals *= np.where((normals * towards).sum(axis=1) < 0, -1.0, 1.0)[:, None]
        return Surface(samples, normals, found, float(np.median(distance[:, 1])))

    def _sampled(self, chosen: NDArray[np.intp], spacing: float) -> tuple[Points, Points]:
        """Points on triangles, about `spacing` mm apart, and the normals of their triangles."""
        area = self._area[chosen]
        total = float(area.sum())
        count = int(min(total / spacing**2, MOST_POINTS))
        if not count:
            return np.empty((0, 3)), np.empty((0, 3))
        # evenly by area: sample k lies where the running area passes k + 1/2
        steps = (np.arange(count) + 0.5) * (total / count)
        owner = np.minimum(np.searchsorted(np.cumsum(area), steps), len(area) - 1)
        u, v = np.sort(self._random.random((2, count)), axis=0)
        corners = self._vertices[self._triangles[chosen[owner]]].astype(np.float64)
        weights = np.stack([u, v - u, 1 - v], axis=1)
        points = (weights[:, :, None] * corners).sum(axis=1)
        normals = unit_vectors(
            np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        )
        return points, -normals if self._are_inside_out else normals

    def _areas(self, block: slice) -> Points:
        normals = triangle_normals(self._vertices, self._triangles[block])
        return np.linalg.norm(normals, axis=1).astype(np.float64) / 2

    def _are_seen(self, points: Points, hints: Points | None) -> NDArray[np.bool_]:
        """Whether points are seen from outside; without hints of normals, by neighbours."""
        if hints is None:
            middles = voxel_means(points, COARSE_MM)
            if len(middles) < NEIGHBOURS:
                return np.ones(len(points), np.bool_)
            near = cKDTree(middles)
            _, index = near.query(middles, NEIGHBOURS)
            hints = plane_normals(middles[index])[0][near.query(points)[1]]
        _, index = cKDTree(self._surface).query(self._surface[::20], 5)
        gap = np.linalg.norm(self._surface[index[:, 4]] - self._surface[::20], axis=1)
        return seen_from_outside(points, hints, self._surface, float(np.median(gap)))

    def _thinned(self, points: Points) -> Points:
        if len(points) <= MOST_POINTS:
            return points
        return points[np.sort(self._random.choice(len(points), MOST_POINTS, replace=False))]

    def _coarse(self, points: Points, hints: Points | None) -> Surface:
        if len(points) > FEWEST_POINTS:
            if self.hides_some is None:  # a part of the points tells
                few = slice(None, None, 5)
                seen = self._are_seen(points[few], None if hints is None else hints[few])
                self.hides_some = bool(seen.mean() < 1 - LEAST_HIDDEN)
            if self.hides_some:
                seen = self._are_seen(points, hints)
                points, hints = points[seen], None if hints is None else hints[seen]
        voxels = voxel_means(points, COARSE_MM)
        tree = cKDTree(voxels)
        if len(voxels) < FEWEST_POINTS:
            return Surface(voxels, np.zeros_like(voxels), tree, COARSE_MM)
        _, index = tree.query(voxels, 14)
        normals, _ = plane_normals(voxels[index])
        consistent = False
        if hints is not None:
            _, nearest = cKDTree(points).query(voxels, 12)
            total = hints[nearest].sum(axis=1)
            # triangles of a soup may be turned at random
            consistent = float(np.median(np.linalg.norm(total, axis=1))) > 12 * 0.6
            normals *= np.where((normals * total).sum(axis=1) < 0, -1.0, 1.0)[:, None]
        if not consistent:
            self._are_turned = True
            normals = consistent_normals(voxels, normals, tree)
        elif ((voxels - voxels.mean(axis=0)) * normals).sum() < 0:  # the inside is out
            normals = -normals
            self._are_inside_out = True
        return Surface(voxels, normals, tree, COARSE_MM)


def _blocks(count: int) -> list[slice]:
    return [slice(k, min(k + BLOCK, count)) for k in range(0, max(count, 1), BLOCK)]


def voxel_means(points: Points, size: float) -> Points:
    """The mean point of each voxel that has any."""
    if not len(points):
        return points
    cell = np.floor((points - points.min(axis=0)) / size).astype(np.int64)
    shape = cell.max(axis=0) + 1
    key = (cell[:, 0] * shape[1] + cell[:, 1]) * shape[2] + cell[:, 2]
    _, owner, count = np.unique(key, return_inverse=True, return_counts=True)
    total = [np.bincount(owner, points[:, k]) for k in range(3)]
    means: Points = np.stack(total, axis=1) / count[:, None]
    return means


def plane_normals(neighbours: NDArray[Any]) -> tuple[Points, Points]:
    """Unsigned normals (N, 3) of the planes through neighbours (N, k, 3), and their means."""
    middle = neighbours.mean(axis=1)
    offset = neighbours - middle[:, None]
    _, vectors = np.linalg.eigh(np.swapaxes(offset, 1, 2) @ offset)
    return vectors[:, :, 0], middle


def without_flying_points(points: Points) -> Points:
    """The points whose neighbours are not many times farther than usual."""
    if len(points) < 20:
        return points
    distance, _ = cKDTree(points).query(points, 9)
    farthest = distance[:, 8]
    return points[farthest <= SEARCH_FACTOR * np.median(farthest)]


def consistent_normals(points: Points, normals: Points, tree: cKDTree, count: int = 12) -> Points:
    """Normals with signs carried along a minimum spanning tree, away from the middle.

    Hoppe et al. 1992, "Surface reconstruction from unorganized points".
    """
    distance, index = tree.query(points, min(count, len(points)))
    row = np.repeat(np.arange(len(points)), index.shape[1] - 1)
    column = index[:, 1:].ravel()
    parallel = np.abs((normals[row] * normals[column]).sum(axis=1))
    nearness = distance[:, 1:].ravel() / max(float(np.median(distance[:, 1])), 1e-9)
    weight = 1.0001 - parallel + 0.02 * nearness
    graph = coo_matrix((weight, (row, column)), shape=(len(points),) * 2).tocsr()
    spanning = minimum_spanning_tree(graph)
    parts, label = connected_components(spanning, directed=False)
    signed = normals.copy()
    for part in range(parts):
        members = np.flatnonzero(label == part)
        order, before = breadth_first_order(spanning, members[0], directed=False)
        for vertex in order[1:]:
            if signed[vertex] @ signed[before[vertex]] < 0:
                signed[vertex] = -signed[vertex]
        outward = ((points[members] - points[members].mean(axis=0)) * signed[members]).sum()
        if outward < 0:
            signed[members] = -signed[members]
    return signed
