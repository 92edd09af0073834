"""One fixed choice of vertices that makes every mesh of a data set smaller in the same way.

Quadric edge collapse (Garland and Heckbert 1997) moves vertices, and replaying one sequence on
other meshes is not linear in them. So only its clusters are used: from each set of vertices that
collapsed into one, one original vertex stays, and the simplified triangles are laid over those.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError, MissingExtra
from facedis_core.geometry import triangle_normals, unit_vectors, vertex_normals

# A triangle counts as turned when its normal is further than this from the surface it lies on; the
# search asks for more than mere "not over 90 degrees", so that the map holds for other people's
# faces.
SAFE_COSINE = 0.2
# One of these speeds of collapse nearly always leaves triangles that can be laid without a fold.
AGGRESSIVENESS = (7, 5, 3)
# A slow collapse may stop early; this much too many triangles is no longer "about" the target.
TOLERANCE = 1.02
SWEEPS = 20


class VertexMap(NamedTuple):
    """Kept vertices of the original mesh (V,), ascending, and the triangles (F, 3) on them."""

    vertex_index: NDArray[np.int32]
    triangles: NDArray[np.int32]


def vertex_map(
    vertices: NDArray[Any], triangles: NDArray[np.integer[Any]], target_faces: int
) -> VertexMap:
    """Choose the vertices that carry a mesh of about `target_faces` triangles.

    `vertices` (V, 3) and `triangles` (F, 3) are the reference face, e.g. the mean neutral. No
    vertex is kept twice, no triangle is turned over or degenerate against the surface given. The
    answer depends on the version of fast_simplification; a set that must not change ships its map
    as data.
    Raises MissingExtra without fast_simplification, InputError where no such map is found.
    """
    if not 4 <= target_faces < len(triangles):
        raise InputError(
            f"cannot simplify {len(triangles)} triangles to {target_faces}; "
            f"ask for a number from 4 to {len(triangles) - 1}, or leave out --simplify"
        )
    used, compact = np.unique(triangles, return_inverse=True)
    points = np.ascontiguousarray(vertices[used], np.float32)
    faces = compact.reshape(-1, 3).astype(np.int32)
    for aggressiveness in AGGRESSIVENESS:
        moved, simplified, cluster = _collapse(points, faces, target_faces, aggressiveness)
        if len(simplified) > TOLERANCE * target_faces:
            continue
        kept = _representatives(points, faces, simplified, cluster, moved)
        if _surface_cosines(points, vertex_normals(points, faces), kept[simplified]).min() > 0:
            return _sorted_map(used[kept], simplified)
    raise InputError(
        f"no choice of vertices simplifies this mesh to {target_faces} triangles without turning "
        "some over; ask for another number of faces, or leave out --simplify"
    )


def _collapse(
    points: NDArray[np.float32], faces: NDArray[np.int32], target_faces: int, aggressiveness: int
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Simplified positions (C, 3), triangles (F, 3), and the cluster (V,) of each vertex."""
    try:
        import fast_simplification
    except ImportError:
        raise MissingExtra("simplifying meshes", "prep") from None
    _, _, collapses = fast_simplification.simplify(
        points, faces, target_count=target_faces, agg=aggressiveness, return_collapses=True
    )
    return fast_simplification.replay_simplification(points, faces, collapses)


def _surface_cosines(
    points: NDArray[Any], normals: NDArray[Any], faces: NDArray[np.integer[Any]]
) -> NDArray[Any]:
    """Cosine (F,) between each triangle's normal and the mean of the surface's at its corners.

    It is 0 for a degenerate triangle.
    """
    laid = unit_vectors(triangle_normals(points, faces))
    return (laid * unit_vectors(normals[faces].sum(1))).sum(1)


def _representatives(
    points: NDArray[np.float32],
    faces: NDArray[np.int32],
    simplified: NDArray[np.int32],
    cluster: NDArray[np.int32],
    moved: NDArray[np.float32],
) -> NDArray[np.int64]:
    """One original vertex a cluster (C,): the nearest to where the cluster went, unless that folds.

    Clusters at turned triangles try their other members in turn and keep the one that turns least.
    """
    distance = np.linalg.norm(points - moved[cluster], axis=1)
    by_cluster = np.lexsort((distance, cluster))
    starts = np.searchsorted(cluster[by_cluster], np.arange(len(moved) + 1))
    kept = by_cluster[starts[:-1]]
    normals = vertex_normals(points, faces)
    by_corner = np.argsort(simplified.ravel(), kind="stable")
    corner_starts = np.searchsorted(simplified.ravel()[by_corner], np.arange(len(moved) + 1))

    def cost(c: int, member: int) -> float:
        kept[c] = member
        around = by_corner[corner_starts[c] : corner_starts[c + 1]] // 3
        cosines = _surface_cosines(points, normals, kept[simplified[around]])
        return float(np.maximum(SAFE_COSINE - cosines, 0).sum())

    for _ in range(SWEEPS):
        cosines = _surface_cosines(points, normals, kept[simplified])
        unsafe = np.unique(simplified[cosines < SAFE_COSINE])
        before = kept[unsafe].copy()
        for c in unsafe:
            # Members lie nearest first, and min keeps the first of equals.
            kept[c] = min(by_cluster[starts[c] : starts[c + 1]].copy(), key=partial(cost, c))
        if (kept[unsafe] == before).all():
            break
    return kept


def _sorted_map(kept: NDArray[Any], triangles: NDArray[np.int32]) -> VertexMap:
    """The map with its vertices in the order of the original mesh."""
    order = np.argsort(kept)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return VertexMap(kept[order].astype(np.int32), rank[triangles])
