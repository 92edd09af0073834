"""Coarser and coarser meshes for networks that pool: edges, kept vertices, and the way back.

As in CoMA (Ranjan et al. 2018): each mesh is a quadric edge collapse of the one before it to a
quarter of its triangles. Down, a vertex is kept or left out; up, a vertex is at the nearest point
of the coarser mesh, in barycentric coordinates.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.simplification import collapse
from facedis_core.geometry.surface import unique_edges
from facedis_core.geometry.surface_distance import nearest_on_triangles, triangle_distances

FACTOR: Final = 4
LEAST_TRIANGLES: Final = 4  # of the coarsest mesh
_AGGRESSIVENESS: Final = 7
_NEAREST: Final = 32  # triangles, by their centres, that are looked at for every vertex


class MeshLevel(NamedTuple):
    """A mesh of a hierarchy and its relation to the next, coarser one of W vertices.

    Attributes:
        edges: int32 (E, 2) of its V vertices, each once.
        kept: int32 (W,) its vertices that are those of the coarser mesh.
        corners: int32 (V, 3) the triangle of the coarser mesh that is nearest to each vertex.
        weights: float32 (V, 3) barycentric coordinates of the nearest point in it.
    """

    edges: NDArray[np.int32]
    kept: NDArray[np.int32]
    corners: NDArray[np.int32]
    weights: NDArray[np.float32]


def mesh_hierarchy(
    vertices: NDArray[Any], triangles: NDArray[np.integer[Any]], levels: int
) -> list[MeshLevel]:
    """The meshes of a hierarchy but the coarsest, the finest first. Needs SciPy.

    Args:
        vertices: (V, 3), the mean face.
        triangles: (F, 3).
        levels: number of collapses; fewer where a mesh has less than 16 triangles.

    Raises:
        InputError: the mesh has too few triangles for one.
        UsageError: fast_simplification is not installed.
    """
    found: list[MeshLevel] = []
    points = np.array(vertices, np.float32)
    faces = np.array(triangles, np.int32)
    while len(found) < levels and len(faces) >= FACTOR * LEAST_TRIANGLES:
        mesh = collapse(points, faces, len(faces) // FACTOR, _AGGRESSIVENESS)
        kept, compact = np.unique(mesh.triangles, return_inverse=True)
        coarse = compact.reshape(-1, 3).astype(np.int32)
        corners, weights = nearest_points(points, points[kept], coarse)
        found.append(MeshLevel(unique_edges(faces), kept.astype(np.int32), corners, weights))
        points, faces = points[kept], coarse
    if not found:
        raise InputError(
            f"the mesh has {len(faces)} triangles, a hierarchy needs "
            f"{FACTOR * LEAST_TRIANGLES} or more; use a network without one",
            ErrorCode.TOO_FEW_FACES,
        )
    return found


def nearest_points(
    points: NDArray[Any], vertices: NDArray[Any], triangles: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The nearest triangle (N, 3) of points (N, 3), and barycentric coordinates (N, 3) in it.

    Of the triangles whose centres are nearest. Needs SciPy.
    """
    from scipy.spatial import cKDTree

    given = np.asarray(points, np.float64)
    corners = np.asarray(vertices, np.float64)[triangles]
    count = min(_NEAREST, len(triangles))
    _, near = cKDTree(corners.mean(axis=1)).query(given, np.arange(1, count + 1))
    distances = triangle_distances(given[:, None], corners[near])
    nearest = near[np.arange(len(given)), distances.argmin(axis=1)]
    weights = nearest_on_triangles(given, corners[nearest])
    return triangles[nearest].astype(np.int32), weights.astype(np.float32)
