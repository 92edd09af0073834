"""One fixed choice of vertices that makes every mesh of a data set smaller in the same way.

Quadric edge collapse (Garland and Heckbert 1997) moves vertices, and replaying one sequence on
other meshes is not linear in them. So only its clusters are used: from each set of vertices that
collapsed into one, one original vertex stays, and the simplified triangles are laid over those.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError, missing_extra
from facedis_core.geometry.fold_repair import FoldRepair
from facedis_core.geometry.surface import triangle_normals, unit_vectors, vertex_normals

# A triangle counts as turned when its normal is further than this from the surface it lies on; the
# search asks for more than mere "not over 90 degrees", so that the map holds for other people's
# faces.
SAFE_COSINE = 0.2
# A repair asks for more where that can be had: with 0.2, some triangles that it left turned over in
# other people's expressions. The search above cannot, or sets made before would change.
REPAIRED_COSINE = 0.5
# One of these speeds of collapse often leaves triangles that can be laid without a fold.
AGGRESSIVENESS = (7, 5, 3)
# A slow collapse may stop early; this much too many triangles is no longer "about" the target.
TOLERANCE = 1.02
SWEEPS = 20
# Of a mesh that is folded this much, no few changes make a surface.
HOPELESS = 0.05
# Collapsing this often more triangles than wanted does not pinch a surface that need not be.
DOUBLINGS = 4


class Attempt(NamedTuple):
    """Triangles (F, 3) on the original vertices, and the cluster (V,) of each of these."""

    triangles: NDArray[np.integer[Any]]
    cluster: NDArray[np.integer[Any]]


class VertexMap(NamedTuple):
    """Kept vertices of the original mesh (V,), ascending, and the triangles (F, 3) on them."""

    vertex_index: NDArray[np.int32]
    triangles: NDArray[np.int32]


def vertex_map(
    vertices: NDArray[Any], triangles: NDArray[np.integer[Any]], target_faces: int
) -> VertexMap:
    """Choose the vertices that carry a mesh of about `target_faces` triangles.

    `vertices` (V, 3) and `triangles` (F, 3) are the reference face, e.g. the mean neutral. No
    vertex is kept twice or without a triangle, no triangle is turned over or degenerate against
    the surface given, even where some of `triangles` are. What a collapse does not lay well is
    repaired: slivers too, which other faces may turn over. The answer depends on the version of
    fast_simplification; a set that must not change ships its map as data.
    Raises UsageError without fast_simplification, InputError where no such map is found: for so
    few triangles that they cannot go around the holes of the mesh, or where it is no surface.
    """
    if not 4 <= target_faces < len(triangles):
        raise InputError(
            f"cannot simplify {len(triangles)} triangles to {target_faces}; "
            f"ask for a number from 4 to {len(triangles) - 1}, or leave out --simplify"
        )
    used, compact = np.unique(triangles, return_inverse=True)
    points = np.ascontiguousarray(vertices[used], np.float32)
    faces = compact.reshape(-1, 3).astype(np.int32)
    most = TOLERANCE * target_faces
    normals = vertex_normals(points, faces)
    attempts = []
    for aggressiveness in AGGRESSIVENESS:
        attempt = _attempt(points, faces, target_faces, aggressiveness)
        if len(attempt.triangles) <= most and _sheet(points, faces, attempt).badness.folded == 0:
            return _compact_map(used, attempt.triangles)
        attempts.append(attempt)
    for attempt in _to_be_repaired(points, faces, normals, target_faces, attempts):
        sheet = _sheet(points, faces, attempt)
        sheet.unfold()
        if len(sheet) > most:
            sheet.thin_out(target_faces)
            sheet.unfold()
        if len(sheet) <= most and sheet.badness.folded == 0:
            return _compact_map(used, sheet.triangles)
    raise InputError(
        f"no choice of vertices simplifies this mesh to {target_faces} triangles without turning "
        "some over; ask for another number of faces, or leave out --simplify"
    )


def _sheet(points: NDArray[Any], faces: NDArray[np.int32], attempt: Attempt) -> FoldRepair:
    return FoldRepair(points, faces, attempt.triangles, attempt.cluster, REPAIRED_COSINE)


def _attempt(
    points: NDArray[np.float32], faces: NDArray[np.int32], target_faces: int, aggressiveness: int
) -> Attempt:
    """What a collapse at one speed leads to."""
    moved, simplified, cluster = _collapse(points, faces, target_faces, aggressiveness)
    kept = _representatives(points, faces, simplified, cluster, moved)
    return Attempt(kept[simplified], cluster)


def _folded(points: NDArray[Any], normals: NDArray[Any], attempt: Attempt) -> int:
    # What is not a number is not above 0 either.
    return int((~(_surface_cosines(points, normals, attempt.triangles) > 0)).sum())


def _to_be_repaired(
    points: NDArray[np.float32],
    faces: NDArray[np.int32],
    normals: NDArray[Any],
    target_faces: int,
    attempts: list[Attempt],
) -> Iterator[Attempt]:
    """Attempts that are worth a repair, the most promising first.

    Collapses far down pinch a surface. So there are some to more triangles after those given, and
    last the mesh itself, which has nothing to repair but its own faults.
    """
    crowded, most = _crowded_edges(faces), TOLERANCE * target_faces

    def promising(attempts: list[Attempt]) -> list[Attempt]:
        good = [
            (max(len(attempt.triangles), most), folded, k)
            for k, attempt in enumerate(attempts)
            if (folded := _folded(points, normals, attempt)) <= HOPELESS * len(attempt.triangles)
            and _crowded_edges(attempt.triangles) <= crowded
        ]
        good.sort()
        # Thinning out takes long, and what stops it is the same for all.
        enough = max(1, sum(count <= most for count, _, _ in good))
        return [attempts[k] for _, _, k in good[:enough]]

    yield from promising(attempts)
    whole = promising([Attempt(faces, np.arange(len(points)))])
    if not whole:
        return
    for doubling in range(1, DOUBLINGS + 1):
        reach = target_faces << doubling
        if reach >= len(faces):
            yield from whole
            return
        again = [_attempt(points, faces, reach, speed) for speed in AGGRESSIVENESS]
        yield from promising(again)


def _crowded_edges(triangles: NDArray[np.integer[Any]]) -> int:
    """How many edges have more than two triangles, or two of the same sense."""
    start, end = (
        np.concatenate([triangles[:, k] for k in order]) for order in ((0, 1, 2), (1, 2, 0))
    )
    many = np.int64(triangles.max()) + 1
    directed = np.unique(start * many + end, return_counts=True)[1]
    low, high = np.minimum(start, end), np.maximum(start, end)
    undirected = np.unique(low * many + high, return_counts=True)[1]
    return int((directed > 1).sum() + (undirected > 2).sum())


def _collapse(
    points: NDArray[np.float32], faces: NDArray[np.int32], target_faces: int, aggressiveness: int
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Simplified positions (C, 3), triangles (F, 3), and the cluster (V,) of each vertex."""
    try:
        import fast_simplification
    except ImportError:
        raise missing_extra("simplifying meshes", "prep") from None
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


def _compact_map(used: NDArray[Any], triangles: NDArray[np.integer[Any]]) -> VertexMap:
    """The map that keeps the vertices which have triangles, in the order of the original mesh."""
    kept, compact = np.unique(triangles, return_inverse=True)
    return VertexMap(used[kept].astype(np.int32), compact.reshape(-1, 3).astype(np.int32))
