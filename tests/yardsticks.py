"""Other methods that register a face to a scan, for benchmarks: each begins with a posed face.

They are no dependencies: pip install meshmonk==0.3.0 trimesh rtree
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from facedis_core.geometry.surface import unit_vectors, vertex_normals
from facedis_core.geometry.surface_distance import surface_distances
from facedis_core.mesh.mesh import Mesh
from facedis_core.registration.registration import Registration
from facedis_core.registration.scan import plane_normals

Points = NDArray[np.float64]
Method = Callable[[Mesh, Mesh], Points]

CROP_MM = 30.0  # of the scan, about the face in its pose, is given to every method


def meshmonk(face: Mesh, scan: Mesh) -> Points:
    """The nonrigid registration of MeshMonk (White et al. 2019), with its defaults."""
    import meshmonk as package

    found = package.pyramid_register(
        floating_features=_features(face),
        target_features=_features(scan),
        floating_faces=face.triangles.astype(np.int32),
        # points need a triangle as well; their normals are among the features
        target_faces=(scan.triangles if len(scan.triangles) else np.arange(3)[None]).astype(
            np.int32
        ),
        floating_flags=np.ones(len(face.vertices), np.float32),
        target_flags=np.ones(len(scan.vertices), np.float32),
    )
    return np.asarray(found.aligned_features[:, :3], np.float64)


def _features(mesh: Mesh) -> NDArray[np.float32]:
    vertices = mesh.vertices.astype(np.float64)
    if len(mesh.triangles):
        normals = vertex_normals(vertices, mesh.triangles)
    else:
        _, index = cKDTree(vertices).query(vertices, 16)
        normals, _ = plane_normals(vertices[index])
        # what sensors in front of a face see is turned to them
        normals *= np.where(normals[:, 2] < 0, -1.0, 1.0)[:, None]
    return np.concatenate([vertices, unit_vectors(normals)], axis=1).astype(np.float32)


def nricp_amberg(face: Mesh, scan: Mesh) -> Points:
    """Nonrigid ICP of Amberg et al. 2007 by trimesh, its defaults."""
    from trimesh.registration import nricp_amberg as method

    return np.asarray(method(_trimesh(face), _trimesh(scan)), np.float64)


def nricp_sumner(face: Mesh, scan: Mesh) -> Points:
    """Nonrigid ICP by deformation transfer, Sumner and Popovic 2004, by trimesh, its defaults."""
    from trimesh.registration import nricp_sumner as method

    return np.asarray(method(_trimesh(face), _trimesh(scan)), np.float64)


def _trimesh(mesh: Mesh) -> Any:
    import trimesh

    return trimesh.Trimesh(mesh.vertices.astype(np.float64), mesh.triangles, process=False)


METHODS: dict[str, Method] = {
    "meshmonk": meshmonk,
    "nricp_amberg": nricp_amberg,
    "nricp_sumner": nricp_sumner,
}


def in_face_frame(points: NDArray[Any], found: Registration) -> Points:
    """Points of a scan, in the frame of the face of a registration, mm."""
    to_scan = found.to_scan
    return (points.astype(np.float64) - to_scan.translation) @ to_scan.rotation / to_scan.scale


def cropped(scan: Mesh, found: Registration, mean: Points) -> Mesh:
    """The scan near the posed mean face, in the frame of the face, mm."""
    points = in_face_frame(scan.vertices, found)
    away, _ = cKDTree(mean).query(points)
    near = away < CROP_MM
    kept = scan.triangles[near[scan.triangles].all(axis=1)] if len(scan.triangles) else None
    used = np.flatnonzero(near) if kept is None else np.unique(kept)
    renumbered = np.full(len(points), -1)
    renumbered[used] = np.arange(len(used))
    triangles = np.empty((0, 3)) if kept is None else renumbered[kept]
    return Mesh(points[used].astype(np.float32), triangles.astype(np.int32), scan.name, 1.0)


def to_surface(points: Points, mesh: Mesh) -> Points:
    """Distances of points to a scan, mm."""
    if len(mesh.triangles):
        return surface_distances(points, mesh.vertices, mesh.triangles)
    vertices = mesh.vertices.astype(np.float64)
    tree = cKDTree(vertices)
    _, around = tree.query(points, 8)
    normals, middle = plane_normals(vertices[around])
    return np.abs(((points - middle) * normals).sum(axis=1))


def carry(
    points: Points, source: NDArray[Any], target: NDArray[Any], triangles: NDArray[Any]
) -> Points:
    """Points on a face, at the same places of its triangles on another face of the topology."""
    corners = source[triangles].astype(np.float64)
    _, candidates = cKDTree(corners.mean(axis=1)).query(points, 24)
    best, weights = np.full(len(points), np.inf), np.zeros((len(points), 3))
    chosen = np.zeros(len(points), np.intp)
    for column in candidates.T:
        found = _barycentric(points, corners[column])
        away = np.linalg.norm((found[:, :, None] * corners[column]).sum(1) - points, axis=1)
        nearer = away < best
        best[nearer], weights[nearer], chosen[nearer] = away[nearer], found[nearer], column[nearer]
    return (weights[:, :, None] * target[triangles[chosen]].astype(np.float64)).sum(axis=1)


def _barycentric(points: Points, corners: Points) -> Points:
    """Weights (n, 3) of a point of each triangle near the point: the foot, moved inside."""
    a, b, c = np.moveaxis(corners, 1, 0)
    u, v, w = b - a, c - a, points - a
    uu, uv, vv = (u * u).sum(1), (u * v).sum(1), (v * v).sum(1)
    wu, wv = (w * u).sum(1), (w * v).sum(1)
    scale = np.maximum(uu * vv - uv**2, 1e-12)
    second, third = (vv * wu - uv * wv) / scale, (uu * wv - uv * wu) / scale
    weights = np.clip(np.stack([1 - second - third, second, third], axis=1), 0, None)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
