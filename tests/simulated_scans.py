"""Simulated raw scans with known truth: other triangulations, clouds, holes, hair, pose, units."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fast_simplification
import numpy as np
from numpy.typing import NDArray

from facedis_core.datasets.ict import load_ict_faces, load_ict_map, read_generic
from facedis_core.datasets.ict_synthesis import IctFaces, expression_table
from facedis_core.geometry.alignment import rotation_about
from facedis_core.geometry.surface import (
    triangle_normals,
    unique_edges,
    unit_vectors,
    vertex_normals,
)
from facedis_core.mesh.mesh import Mesh
from facedis_core.render.rasterizer import rasterize

SEEN = 24591  # vertices of the skin, sockets, gums, teeth and eyeballs of ICT-FaceKit
SKIN = 11248
KINDS = ("all_around", "single_view", "cloud")
ALL_AROUND = (-70, -35, 0, 35, 70)  # yaw of the sensors, degrees
PIXEL_MM = 1.0
GRAZING = 0.17  # cosine; sensors see no surface turned farther away


@dataclass(frozen=True, eq=False)
class ScannedPeople:
    """People of the open benchmark's generator, as sensors could see them.

    Attributes:
        faces: the generator.
        triangles: (F, 3) of the whole topology.
        narrow: vertices of the narrow face.
    """

    faces: IctFaces
    triangles: NDArray[Any]
    narrow: NDArray[Any]

    @classmethod
    def load(cls, root: Path) -> "ScannedPeople":
        """Of ICT-FaceKit's folder FaceXModel."""
        generic = read_generic(root)
        return cls(load_ict_faces(root, generic), generic.triangles, load_ict_map()[0])

    @property
    def expressions(self) -> list[str]:
        """Names of all expressions."""
        return list(expression_table().expressions)

    def seen(self, vertices: int = SEEN) -> NDArray[Any]:
        """The triangles of the first vertices."""
        return self.triangles[(self.triangles < vertices).all(axis=1)]

    def heads(
        self, seed: int, person: int, expressions: Sequence[str]
    ) -> Iterator[NDArray[np.float32]]:
        """A person's heads (26719, 3) mm, an expression each."""
        return self.faces.faces(seed, person, [self.expressions.index(x) for x in expressions])


@dataclass(frozen=True)
class SimulatedScan:
    """A scan: unit_mm * scan points = rotation @ points of the face's frame + translation.

    Attributes:
        mesh: without triangles where it is a point cloud.
        rotation: (3, 3).
        translation: (3,) mm.
        unit_mm: millimetres per unit of the mesh.
        kind: one of KINDS.
        yaw: of the sensor of a single view, degrees.
    """

    mesh: Mesh
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    unit_mm: float
    kind: str
    yaw: float

    def to_scan(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Points (n, 3) mm of the face's frame, in the scan's frame in mm."""
        return points @ self.rotation.T + self.translation


def simulate_scan(
    vertices: NDArray[Any],
    triangles: NDArray[np.integer[Any]],
    *,
    seed: int,
    kind: str,
    yaw: float | None = None,
    clutter: bool = True,
    density: tuple[int, int] = (20000, 60000),
) -> SimulatedScan:
    """A scan of a surface (V, 3) mm that looks along +z, its face near the origin.

    Args:
        vertices: (V, 3) mm.
        triangles: (F, 3), what a sensor could see.
        seed: of everything random.
        kind: one of KINDS.
        yaw: of the sensor of a single view; None = within 40 degrees.
        clutter: whether hair and shoulders may be there.
        density: least and greatest number of points before sensors and holes take some.
    """
    rng = np.random.default_rng(seed)
    surface = np.asarray(vertices, np.float64), np.asarray(triangles)
    if clutter and rng.random() < 0.6:  # hair
        radii = np.array([95.0, 75.0, 110.0]) * rng.uniform(0.9, 1.05)
        surface = _joined(
            surface, _blob(rng, np.array([0, 110 + rng.uniform(-10, 20), -20]), radii)
        )
    if clutter and rng.random() < 0.6:  # shoulders
        radii = np.array([210.0, 90.0, 90.0]) * rng.uniform(0.8, 1.1)
        surface = _joined(surface, _blob(rng, np.array([rng.uniform(-20, 20), -250, -60]), radii))
    count = int(rng.integers(*density))
    if kind == "cloud":
        points, normals = _sampled(surface, int(1.6 * count), rng)
        kept = np.empty((0, 3), np.int32)
    else:
        points, kept = _retriangulated(surface, 2 * count, rng)
        normals = vertex_normals(points, kept)
    chosen_yaw = rng.uniform(-40, 40) if yaw is None else yaw
    seen = np.zeros(len(points), np.bool_)
    for angle in (chosen_yaw,) if kind == "single_view" else ALL_AROUND:
        seen |= _visible(surface, points, normals, angle, rng.uniform(-8, 8))
    for _ in range(rng.integers(3, 8)):  # holes
        centre = vertices[rng.integers(len(vertices))]
        seen &= np.linalg.norm(points - centre, axis=1) > rng.uniform(3, 14)
    points = points + normals * rng.normal(0, rng.uniform(0.1, 0.5), len(points))[:, None]
    points += rng.normal(0, 0.05, points.shape)
    if kind == "cloud":
        points = points[seen]
        flying = rng.normal(0, 120, (int(0.005 * len(points)), 3)) + points.mean(axis=0)
        points = rng.permutation(np.concatenate([points, flying]))
    else:
        kept = kept[seen[kept].all(axis=1)]
        used = rng.permutation(np.unique(kept))
        renumbered = np.full(len(points), -1)
        renumbered[used] = np.arange(len(used))
        points, kept = points[used], renumbered[kept]
    rotation = rotation_about(
        unit_vectors(rng.standard_normal(3)), np.radians(rng.uniform(30, 180))
    )
    translation = rng.uniform(-300, 300, 3)
    unit_mm = float(rng.choice([1.0, 10.0, 1000.0]))
    raw = (points @ rotation.T + translation) / unit_mm
    return SimulatedScan(
        Mesh(raw, kept.astype(np.int32), f"scan{seed}"),
        rotation,
        translation,
        unit_mm,
        kind,
        chosen_yaw,
    )


Surface = tuple[NDArray[np.float64], NDArray[Any]]


def _joined(a: Surface, b: Surface) -> Surface:
    return np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1] + len(a[0])])


def _blob(rng: np.random.Generator, centre: NDArray[Any], radii: NDArray[Any]) -> Surface:
    """A bumpy ellipsoid."""
    rows, columns = 40, 80
    polar = np.linspace(0, np.pi, rows)[:, None]
    around = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    sphere = np.stack(
        [
            np.sin(polar) * np.cos(around),
            np.cos(polar) + 0 * around,
            np.sin(polar) * np.sin(around),
        ],
        axis=2,
    ).reshape(-1, 3)
    bumps = 1 + sum(
        rng.normal(0, 0.06) * np.sin(sphere @ rng.normal(0, 4, 3) + rng.uniform(0, 6))
        for _ in range(6)
    )
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1].ravel(), np.roll(index, -1, axis=1)[:-1].ravel()
    c, d = index[1:].ravel(), np.roll(index, -1, axis=1)[1:].ravel()
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
    return centre + sphere * bumps[:, None] * radii, triangles


def _sampled(
    surface: Surface, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Random points and their normals, evenly by area."""
    vertices, triangles = surface
    normals = triangle_normals(vertices, triangles)
    area = np.linalg.norm(normals, axis=1)
    chosen = rng.choice(len(triangles), count, p=area / area.sum())
    u, v = np.sort(rng.random((2, count)), axis=0)
    weights = np.stack([u, v - u, 1 - v], axis=1)
    return (weights[:, :, None] * vertices[triangles[chosen]]).sum(1), unit_vectors(normals[chosen])


def _retriangulated(
    surface: Surface, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """The surface with about `count` other triangles."""
    vertices, triangles = _subdivided(surface)
    jittered = (vertices + rng.normal(0, 0.02, vertices.shape)).astype(np.float32)
    if count >= len(triangles):
        return jittered.astype(np.float64), triangles
    points, kept = fast_simplification.simplify(
        jittered, triangles.astype(np.int32), target_reduction=1 - count / len(triangles)
    )
    return points.astype(np.float64), kept


def _subdivided(surface: Surface) -> Surface:
    """Each triangle as four."""
    vertices, triangles = surface
    edges = unique_edges(triangles)
    keys = edges[:, 0].astype(np.int64) * len(vertices) + edges[:, 1]
    sides = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]], axis=2).astype(np.int64)
    found = np.searchsorted(keys, sides[..., 0] * len(vertices) + sides[..., 1])
    ab, bc, ca = (found + len(vertices)).T
    a, b, c = triangles.T
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    middles = vertices[edges].mean(axis=1)
    return (
        np.concatenate([vertices, middles]),
        np.concatenate([np.stack(part, axis=1) for part in parts]),
    )


def _visible(
    surface: Surface, points: NDArray[Any], normals: NDArray[Any], yaw: float, pitch: float
) -> NDArray[np.bool_]:
    """Whether a far sensor in this direction sees each point."""
    turn = rotation_about(np.array([1.0, 0, 0]), np.radians(pitch)) @ rotation_about(
        np.array([0, 1.0, 0]), np.radians(-yaw)
    )
    vertices, triangles = surface
    projected, seen = vertices @ turn.T, points @ turn.T
    low = projected[:, :2].min(axis=0) - 2
    width, height = np.ceil((projected[:, :2].max(axis=0) + 2 - low) / PIXEL_MM).astype(int)
    scaled = np.column_stack([(projected[:, :2] - low) / PIXEL_MM, projected[:, 2]])
    found = rasterize(scaled, triangles, int(width), int(height))
    depth = np.full(int(width) * int(height), -np.inf)
    depth[found.pixel] = found.interpolate(projected[:, 2:], triangles)[:, 0]
    column, row = ((seen[:, :2] - low) / PIXEL_MM).astype(int).T
    behind = depth[row * int(width) + column] - seen[:, 2]
    turned = (normals @ turn.T)[:, 2]
    return (turned > GRAZING) & (behind < 1.0 + PIXEL_MM / np.maximum(turned, GRAZING))
