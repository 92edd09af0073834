"""Simplification of all meshes of a data set to one subset of their vertices.

Quadric edge collapse (Garland and Heckbert 1997) moves vertices, and replaying its collapses on
other meshes is not linear in their vertices. So only its clusters are used: of the vertices that
collapse into one, one original vertex is kept, and the simplified triangles connect the kept ones.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError, missing_extra
from facedis_core.geometry.fold_repair import FoldRepair
from facedis_core.geometry.surface import triangle_normals, unit_vectors, vertex_normals

# Cosine between a triangle's normal and the surface's from which the search for representatives
# counts it as safe; above 0, so that the map has no folds on other people's faces either.
SAFE_COSINE: Final = 0.2
# The same of a repair, which can reach more: with 0.2 some of its triangles folded in other
# people's expressions. The search keeps 0.2, since another value changes existing maps.
REPAIRED_COSINE: Final = 0.5
# Speeds of the collapse; with one of them there is often no fold.
AGGRESSIVENESS: Final = (7, 5, 3)
# Largest accepted ratio of triangles to the target; a slow collapse may stop early.
TOLERANCE: Final = 1.02
SWEEPS: Final = 20
# Share of folded triangles beyond which local changes cannot repair a mesh.
MOST_FOLDED: Final = 0.05
# A collapse far down pinches the surface; one to 2, 4, ... times the target may not.
DOUBLINGS: Final = 4


class CollapsedMesh(NamedTuple):
    """A collapse laid over the original vertices.

    Attributes:
        triangles: (F, 3) indices of original vertices.
        cluster: (V,) cluster of each original vertex.
    """

    triangles: NDArray[np.integer[Any]]
    cluster: NDArray[np.integer[Any]]


class VertexMap(NamedTuple):
    """A simplified mesh on a subset of the vertices.

    Attributes:
        vertex_index: (V,) kept vertices of the original mesh, ascending.
        triangles: (F, 3) indices of kept vertices.
    """

    vertex_index: NDArray[np.int32]
    triangles: NDArray[np.int32]


def vertex_map(
    vertices: NDArray[Any], triangles: NDArray[np.integer[Any]], target_faces: int
) -> VertexMap:
    """Choose the vertices and triangles of a simplified mesh.

    No vertex is kept twice or without a triangle; no triangle is folded or degenerate against the
    surface, even where some of `triangles` are. Folds of the collapse and slivers, which may fold
    on other faces, are repaired. The result depends on the version of fast_simplification: a data
    set whose map must not change ships the map.

    Args:
        vertices: (V, 3) reference face, e.g. the mean neutral.
        triangles: (F, 3).
        target_faces: approximate number of triangles.

    Raises:
        UsageError: fast_simplification is not installed.
        InputError: there is no such map: the number of triangles is out of range or too small for
            the holes of the mesh, or the mesh is no surface.
    """
    if not 4 <= target_faces < len(triangles):
        raise InputError(
            f"cannot simplify {len(triangles)} triangles to {target_faces}; "
            f"ask for a number from 4 to {len(triangles) - 1}, or leave out --simplify",
            ErrorCode.NOT_SIMPLIFIED,
        )
    used, compact = np.unique(triangles, return_inverse=True)
    points = np.ascontiguousarray(vertices[used], np.float32)
    faces = compact.reshape(-1, 3).astype(np.int32)
    most = TOLERANCE * target_faces

    def repair_of(mesh: CollapsedMesh) -> FoldRepair:
        return FoldRepair(points, faces, mesh.triangles, mesh.cluster, REPAIRED_COSINE)

    def map_of(kept_triangles: NDArray[np.integer[Any]]) -> VertexMap:
        kept, compact = np.unique(kept_triangles, return_inverse=True)
        return VertexMap(used[kept].astype(np.int32), compact.reshape(-1, 3).astype(np.int32))

    collapsed = []
    for aggressiveness in AGGRESSIVENESS:
        mesh = collapse(points, faces, target_faces, aggressiveness)
        if len(mesh.triangles) <= most and repair_of(mesh).folds.folded == 0:
            return map_of(mesh.triangles)
        collapsed.append(mesh)
    for mesh in _repairable(points, faces, target_faces, collapsed):
        repair = repair_of(mesh)
        repair.unfold()
        if len(repair) > most:
            repair.simplify_to(target_faces)
            repair.unfold()
        if len(repair) <= most and repair.folds.folded == 0:
            return map_of(repair.triangles)
    raise InputError(
        f"no choice of vertices simplifies this mesh to {target_faces} triangles without turning "
        "some over; ask for another number of faces, or leave out --simplify",
        ErrorCode.NOT_SIMPLIFIED,
    )


def _repairable(
    points: NDArray[np.float32],
    faces: NDArray[np.int32],
    target_faces: int,
    collapsed: list[CollapsedMesh],
) -> Iterator[CollapsedMesh]:
    """Meshes that a repair may unfold, the most promising first.

    First those given, then collapses to more triangles, which pinch the surface less, last the
    mesh itself.
    """
    normals = vertex_normals(points, faces)
    crowded, most = _crowded_edges(faces), TOLERANCE * target_faces

    def promising(meshes: list[CollapsedMesh]) -> list[CollapsedMesh]:
        ranked = []
        for k, mesh in enumerate(meshes):
            # NaN is not above 0 and counts as folded
            folded = int((~(_surface_cosines(points, normals, mesh.triangles) > 0)).sum())
            if folded > MOST_FOLDED * len(mesh.triangles):
                continue
            if _crowded_edges(mesh.triangles) <= crowded:
                ranked.append((max(len(mesh.triangles), most), folded, k))
        ranked.sort()
        # simplifying by repair takes long, and fails for all meshes alike: try one
        enough = max(1, sum(count <= most for count, _, _ in ranked))
        return [meshes[k] for _, _, k in ranked[:enough]]

    yield from promising(collapsed)
    whole = promising([CollapsedMesh(faces, np.arange(len(points)))])
    if not whole:
        return
    for doubling in range(1, DOUBLINGS + 1):
        count = target_faces << doubling
        if count >= len(faces):
            yield from whole
            return
        yield from promising([collapse(points, faces, count, speed) for speed in AGGRESSIVENESS])


def _crowded_edges(triangles: NDArray[np.integer[Any]]) -> int:
    """Number of edges with more than two triangles, plus those passed twice in one direction."""
    start, end = (
        np.concatenate([triangles[:, k] for k in order]) for order in ((0, 1, 2), (1, 2, 0))
    )
    many = np.int64(triangles.max()) + 1
    directed = np.unique(start * many + end, return_counts=True)[1]
    low, high = np.minimum(start, end), np.maximum(start, end)
    undirected = np.unique(low * many + high, return_counts=True)[1]
    return int((directed > 1).sum() + (undirected > 2).sum())


def collapse(
    points: NDArray[np.float32], faces: NDArray[np.int32], target_faces: int, aggressiveness: int
) -> CollapsedMesh:
    """Quadric edge collapse at one speed, its triangles laid over original vertices."""
    try:
        import fast_simplification
    except ImportError:
        raise missing_extra("simplifying meshes", "prep") from None
    _, _, collapses = fast_simplification.simplify(
        points, faces, target_count=target_faces, agg=aggressiveness, return_collapses=True
    )
    # positions (C, 3), triangles (F, 3) on them, cluster (V,) of each vertex
    moved, simplified, cluster = fast_simplification.replay_simplification(points, faces, collapses)
    kept = _representatives(points, faces, simplified, cluster, moved)
    return CollapsedMesh(kept[simplified], cluster)


def _surface_cosines(
    points: NDArray[Any], normals: NDArray[Any], triangles: NDArray[np.integer[Any]]
) -> NDArray[Any]:
    """Cosine (F,) between the normal of each triangle and the surface's mean one at its corners.

    It is 0 for a degenerate triangle.
    """
    own = unit_vectors(triangle_normals(points, triangles))
    return (own * unit_vectors(normals[triangles].sum(1))).sum(1)


def _representatives(
    points: NDArray[np.float32],
    faces: NDArray[np.int32],
    simplified: NDArray[np.int32],
    cluster: NDArray[np.int32],
    moved: NDArray[np.float32],
) -> NDArray[np.int64]:
    """One original vertex for each cluster (C,): the one nearest to the collapsed position.

    Clusters at unsafe triangles try their other members in turn and keep the safest.
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
        triangles = by_corner[corner_starts[c] : corner_starts[c + 1]] // 3
        cosines = _surface_cosines(points, normals, kept[simplified[triangles]])
        return float(np.maximum(SAFE_COSINE - cosines, 0).sum())

    for _ in range(SWEEPS):
        cosines = _surface_cosines(points, normals, kept[simplified])
        unsafe = np.unique(simplified[cosines < SAFE_COSINE])
        before = kept[unsafe].copy()
        for c in unsafe:
            # members are sorted by distance, and min keeps the first of equals
            kept[c] = min(by_cluster[starts[c] : starts[c + 1]].copy(), key=partial(cost, c))
        if (kept[unsafe] == before).all():
            break
    return kept
