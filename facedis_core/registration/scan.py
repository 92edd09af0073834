"""Raw scans made ready: unit by size, surface samples, flying points off, oriented normals."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from facedis_core.geometry.surface import triangle_normals, unit_vectors
from facedis_core.mesh.mesh import Mesh

Points = NDArray[np.float64]

COARSE_MM: Final = 4.0  # voxels of the points that the pose is found with
FINE_MM: Final = 1.2  # distance of the points that the face is fitted to
MOST_POINTS: Final = 60000
REACH_MM: Final = 2000.0  # along each axis from the middle; points beyond are left out
FEWEST_POINTS: Final = 50  # of the coarse scan in which a face is looked for
NEIGHBOURS: Final = 16  # of each normal
SEARCH_FACTOR: Final = 8.0  # flying points have their neighbours so many times farther than others


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


class RawScan:
    """Samples of a raw scan in millimetres.

    Attributes:
        unit_mm: millimetres per unit of the scan.
        centre: (3,) mm, what has been subtracted.
        coarse: the whole scan, a point a voxel.
    """

    def __init__(self, mesh: Mesh, unit_mm: float, seed: int = 0) -> None:
        self.unit_mm = unit_mm
        self._random = np.random.default_rng(seed)
        self._are_turned = False
        vertices = mesh.vertices.astype(np.float64) * unit_mm
        self.centre = np.median(vertices, axis=0)
        self._vertices = vertices - self.centre
        inside = np.abs(self._vertices).max(axis=1) < REACH_MM
        self._triangles = mesh.triangles[inside[mesh.triangles].all(axis=1)]
        if len(mesh.triangles):
            self._corner_normals = triangle_normals(self._vertices, self._triangles)
            points, hints = self._sampled(np.arange(len(self._triangles)), 2.5)
        else:
            self._vertices = self._vertices[inside]
            points, hints = self._thinned(without_flying_points(self._vertices)), None
        self.coarse = self._coarse(points, hints)

    def near(self, points: Points, reach: float) -> Surface:
        """The scan within `reach` mm of some points (n, 3), densely sampled."""
        tree = cKDTree(points)
        if len(self._triangles):
            corners = self._vertices[self._triangles]
            size = np.linalg.norm(corners - corners.mean(axis=1, keepdims=True), axis=2).max(axis=1)
            distance, _ = tree.query(corners.mean(axis=1))
            samples, hints = self._sampled(np.flatnonzero(distance < reach + size), FINE_MM)
        else:
            samples, hints = self._vertices, None
        distance, _ = tree.query(samples, distance_upper_bound=reach)
        inside = np.flatnonzero(np.isfinite(distance))
        if len(inside) > MOST_POINTS:
            inside = np.sort(self._random.choice(inside, MOST_POINTS, replace=False))
        samples = samples[inside]
        if len(samples) <= NEIGHBOURS:
            return Surface(samples, np.zeros_like(samples), cKDTree(samples), FINE_MM)
        found = cKDTree(samples)
        distance, index = found.query(samples, NEIGHBOURS)
        normals, middle = plane_normals(samples[index])
        if hints is None or self._are_turned:
            _, nearest = self.coarse.tree.query(samples)
            towards = self.coarse.normals[nearest]
        else:
            towards = hints[inside][index].sum(axis=1)
        normals *= np.where((normals * towards).sum(axis=1) < 0, -1.0, 1.0)[:, None]
        # half way to the plane of the neighbours: less noise, and little of the curvature lost
        height = ((middle - samples) * normals).sum(axis=1)
        samples = samples + 0.5 * height[:, None] * normals
        return Surface(samples, normals, cKDTree(samples), float(np.median(distance[:, 1])))

    def _sampled(self, chosen: NDArray[np.intp], spacing: float) -> tuple[Points, Points]:
        """Points on triangles, about `spacing` mm apart, and the normals of their triangles."""
        normals = self._corner_normals[chosen]
        area = np.linalg.norm(normals, axis=1) / 2
        total = float(area.sum())
        count = int(min(total / spacing**2, MOST_POINTS))
        if not count:
            return np.empty((0, 3)), np.empty((0, 3))
        # evenly by area: sample k lies where the running area passes k + 1/2
        steps = (np.arange(count) + 0.5) * (total / count)
        owner = np.minimum(np.searchsorted(np.cumsum(area), steps), len(area) - 1)
        u, v = np.sort(self._random.random((2, count)), axis=0)
        a, b, c = (self._vertices[self._triangles[chosen[owner], k]] for k in range(3))
        points = u[:, None] * a + (v - u)[:, None] * b + (1 - v)[:, None] * c
        return points, unit_vectors(normals[owner])

    def _thinned(self, points: Points) -> Points:
        if len(points) <= MOST_POINTS:
            return points
        return points[np.sort(self._random.choice(len(points), MOST_POINTS, replace=False))]

    def _coarse(self, points: Points, hints: Points | None) -> Surface:
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
            self._corner_normals *= -1
        return Surface(voxels, normals, tree, COARSE_MM)


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
