"""A raw scan in the frame of the face found in it, ready to be drawn."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from facedis_core.geometry.alignment import RigidTransform
from facedis_core.geometry.surface import (
    fill_between,
    triangle_normals,
    unit_vectors,
    vertex_normals,
)
from facedis_core.geometry.surface_distance import surface_distances
from facedis_core.mesh.mesh import Mesh
from facedis_core.registration.scan import plane_normals, voxel_means
from facedis_core.render.page_surface import to_base64

Points = NDArray[np.float64]

AROUND_MM: Final = 60.0  # of the scan, about the vertices that it shows, is drawn
CELL_MM: Final = 1.0  # vertices in one such cube are drawn as one
MOST_VERTICES: Final = 50_000
NEIGHBOURS: Final = 12  # of the normal of a point
SPLAT_NEIGHBOUR: Final = 4  # little farther than to which a point is drawn
BEYOND_MM: Final = 10.0  # from the face nothing is compared


class ScanSurface(NamedTuple):
    """A scan as a mesh; a point is a small triangle.

    Attributes:
        vertices: (N, 3) mm, in the frame of the face.
        triangles: (F, 3).
        distances: (N,) mm to the face where its nearest vertex is compared, else NaN.
        face_distances: (V,) mm of the vertices of the face that are compared: those that the scan
            shows, and those between them; else NaN.
        colors: (N, 3) linear RGB; None = unknown.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    distances: NDArray[np.float32]
    face_distances: NDArray[np.float32]
    colors: NDArray[np.float32] | None = None

    def as_json(self) -> dict[str, Any]:
        """Arrays as base64; what `FaceViewer.surface` of face_viewer.js reads, and more."""
        return {
            "vertices": to_base64(self.vertices.astype("<f4")),
            "distances": to_base64(self.distances.astype("<f4")),
            "face_distances": to_base64(self.face_distances.astype("<f4")),
            "surface": {
                "triangles": to_base64(self.triangles.astype("<u4")),
                "lining": "",
                "index_bytes": 4,
                "colors": None,
            },
        }


def scan_surface(
    scan: Mesh,
    to_scan: RigidTransform,
    face: Mesh,
    distances: NDArray[np.floating[Any]],
    colors: NDArray[np.floating[Any]] | None = None,
) -> ScanSurface:
    """The scan about its face, in the frame of the face, thinned for drawing.

    Triangles are wound like those of the face where they lie near it.

    Args:
        scan: the scan.
        to_scan: takes the face to it.
        face: the face, mm.
        distances: (V,) mm, of the vertices of the face; NaN where the scan does not show them.
        colors: (R, 3) of the vertices of the scan; None = unknown.
    """
    rgb = np.zeros((len(scan.vertices), 0)) if colors is None else colors
    corners, vertices_of_face = face.triangles, face.vertices.astype(np.float64)
    observed = np.isfinite(distances)
    observed = observed if observed.any() else np.ones_like(observed)
    shown = vertices_of_face[observed]
    points = (scan.vertices - to_scan.translation) @ to_scan.rotation / to_scan.scale
    low, high = shown.min(axis=0) - AROUND_MM, shown.max(axis=0) + AROUND_MM
    inside = ((points > low) & (points < high)).all(axis=1)
    outwards = vertex_normals(vertices_of_face, corners)[observed]
    tree = cKDTree(shown)

    if len(scan.triangles):
        kept = scan.triangles[inside[scan.triangles].all(axis=1)]
        vertices, rgb, triangles = _clustered(points, rgb, kept)
        triangles = _wound_alike(vertices, triangles, tree, outwards)
    else:
        vertices, rgb, triangles = _splats(points[inside], rgb[inside], tree, outwards)
    # the prior has fewer vertices than a whole head
    face_distances = fill_between(distances, corners)
    is_compared = np.isfinite(face_distances)
    known = corners[is_compared[corners].any(axis=1)]
    to_face = np.full(len(vertices), np.nan)
    if len(known) and len(vertices):
        away, nearest = cKDTree(vertices_of_face).query(vertices)
        compared = is_compared[nearest] & (away < BEYOND_MM)
        to_face[compared] = surface_distances(vertices[compared], vertices_of_face, known)
    return ScanSurface(
        vertices.astype("<f4"),
        triangles.astype("<i4"),
        to_face.astype("<f4"),
        face_distances.astype("<f4"),
        None if colors is None else rgb.astype("<f4"),
    )


def _clustered(
    points: Points, colors: NDArray[Any], triangles: NDArray[Any]
) -> tuple[Points, Points, NDArray[np.intp]]:
    """A mesh whose vertices within a cube are one, their mean; triangles that vanish are left out.

    Corners of a triangle soup are welded by it.

    Returns:
        Vertices, their colors, and triangles.
    """
    used, corners = np.unique(triangles, return_inverse=True)
    points, corners, size = points[used], corners.reshape(-1, 3), CELL_MM
    while True:
        cell = np.floor(points / size).astype(np.int64)
        _, owner, count = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
        if len(count) <= MOST_VERTICES:
            break
        size *= 1.3
    owner = owner.ravel()
    values = np.concatenate([points, colors[used]], axis=1)
    total = [np.bincount(owner, column, len(count)) for column in values.T]
    mean = np.reshape(total, (values.shape[1], len(count))).T / np.maximum(count, 1)[:, None]
    merged = owner[corners]
    whole = (merged != np.roll(merged, 1, axis=1)).all(axis=1)
    return mean[:, :3], mean[:, 3:], merged[whole]


def _wound_alike(
    vertices: Points, triangles: NDArray[Any], tree: cKDTree, outwards: Points
) -> NDArray[Any]:
    """Triangles turned over where most of them, or each by itself, face into the head."""
    if not len(triangles):
        return triangles
    normals = triangle_normals(vertices, triangles)
    away, nearest = tree.query(vertices[triangles].mean(axis=1))
    backwards = (normals * outwards[nearest]).sum(axis=1) < 0
    share = backwards[away < BEYOND_MM].mean() if (away < BEYOND_MM).any() else 0.0
    if share > 0.8:
        backwards[:] = True
    elif share < 0.2:
        backwards[:] = False
    return np.where(backwards[:, None], triangles[:, ::-1], triangles)


def _splats(
    points: Points, colors: NDArray[Any], tree: cKDTree, outwards: Points
) -> tuple[Points, NDArray[Any], NDArray[Any]]:
    """A small triangle for every point, or for the mean point of every cube; as `_clustered`."""
    size = CELL_MM
    while len(found := voxel_means(points, size)) > MOST_VERTICES // 3:
        size *= 1.3
    if len(found) < NEIGHBOURS:
        return np.empty((0, 3)), colors[:0], np.empty((0, 3), np.intp)
    away, index = cKDTree(found).query(found, NEIGHBOURS)
    size = max(size, 1.3 * float(np.median(away[:, SPLAT_NEIGHBOUR])))
    normals, _ = plane_normals(found[index])
    _, nearest = tree.query(found)
    normals *= np.where((normals * outwards[nearest]).sum(axis=1) < 0, -1.0, 1.0)[:, None]
    aside = unit_vectors(np.cross(normals, np.eye(3)[np.abs(normals).argmin(axis=1)]))
    across = np.cross(normals, aside)
    angles = np.radians([0, 120, 240])
    corners = found[:, None] + size * (
        np.cos(angles)[:, None] * aside[:, None] + np.sin(angles)[:, None] * across[:, None]
    )
    of_nearest = (
        colors[cKDTree(points).query(found)[1]] if colors.shape[1] else colors[: len(found)]
    )
    triangles = np.arange(3 * len(found)).reshape(-1, 3)
    return corners.reshape(-1, 3), np.repeat(of_nearest, 3, axis=0), triangles
