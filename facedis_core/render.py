"""Pictures of faces: a small z-buffer renderer on NumPy.

The view is orthographic and frontal: x to the right, y up, the viewer on +z. A picture is made in
two steps: `visible_surface` says which point of which triangle each pixel sees, `shade` gives those
points a colour. Anything else that is known at vertices is brought to pixels by the first alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.geometry import triangle_normals, unit_vectors, vertex_normals
from facedis_core.mesh import Mesh

Picture = NDArray[np.uint8]

SUPERSAMPLING = 2
MARGIN = 0.06  # of the larger side of what is looked at
BLOCK = 1 << 20  # candidate pixels tested at once, which bounds the memory of any mesh


class Light(NamedTuple):
    """A distant light: the direction towards it, and its colour in linear RGB."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]


KEY = Light((-0.60, 0.70, 0.65), (1.05, 1.00, 0.94))
FILL = Light((0.90, -0.05, 0.45), (0.21, 0.22, 0.26))
SKY = (0.17, 0.18, 0.20)  # ambient light on what faces up
GROUND = (0.07, 0.06, 0.06)  # ambient light on what faces down
SKIN = (0.66, 0.60, 0.55)
GLOSS, GLOSS_EXPONENT = 0.07, 20.0
BACKGROUND = (0.93, 0.93, 0.93)


@dataclass(frozen=True)
class Camera:
    """A window of `width` x `height` pixels on the x-y plane; lengths in units of the mesh."""

    left: float
    top: float
    pixel: float  # the side of a pixel
    width: int
    height: int

    @classmethod
    def frontal(cls, faces: Iterable[NDArray[Any]], height: int) -> "Camera":
        """See every one of `faces`, each (V, 3), whole, in one picture format and at one scale."""
        boxes = np.array([(face[:, :2].min(0), face[:, :2].max(0)) for face in faces], np.float64)
        low, high = boxes[:, 0].min(0), boxes[:, 1].max(0)
        margin = MARGIN * max(float((high - low).max()), 1e-9)
        size = high - low + 2 * margin
        pixel = float(size[1] / height)
        # A picture far wider or taller than a face is still a picture of at most 2:1.
        pixel = max(pixel, float(size[0] / (2 * height)))
        width = max(int(np.ceil(size[0] / pixel)), height // 2)
        centre = (low + high) / 2
        left, top = centre[0] - width * pixel / 2, centre[1] + height * pixel / 2
        return cls(float(left), float(top), pixel, width, height)

    def project(self, vertices: NDArray[Any], samples: int = 1) -> NDArray[np.float64]:
        """Columns, rows and heights towards the viewer (V, 3), in samples of a pixel."""
        x, y, z = np.asarray(vertices, np.float64).T
        scale = samples / self.pixel
        return np.stack([(x - self.left) * scale, (self.top - y) * scale, z * scale], axis=1)


class Surface(NamedTuple):
    """What P pixels see: their flat index, the triangle, and where on it (barycentric, (P, 3))."""

    pixel: NDArray[np.int64]
    triangle: NDArray[np.int64]
    weights: NDArray[np.float64]

    def interpolate(
        self, values: NDArray[Any], triangles: NDArray[np.integer[Any]]
    ) -> NDArray[Any]:
        """Values of vertices (V, C) at the points seen (P, C)."""
        corners = values[triangles[self.triangle]]
        return np.einsum("pk,pkc->pc", self.weights, corners)


def visible_surface(
    points: NDArray[np.float64], triangles: NDArray[np.integer[Any]], width: int, height: int
) -> Surface:
    """The nearest triangle at each pixel's centre; `points` (V, 3) as `Camera.project` gives them.

    Every pixel of every triangle's bounding box is a candidate; those inside compete by depth.
    """
    planes, drawable = _barycentric_planes(points[triangles])
    corners = points[triangles][..., :2]
    # Pixel i has its centre at i + 0.5.
    first = np.maximum(np.ceil(corners.min(1) - 0.5), 0).astype(np.int64)
    last = np.minimum(np.floor(corners.max(1) - 0.5), (width - 1, height - 1)).astype(np.int64)
    columns, rows = np.maximum(last - first + 1, 0).T
    ends = np.cumsum(np.where(drawable, columns * rows, 0))
    nearest = np.full(width * height, -np.inf)
    owner = np.full(width * height, -1, np.int64)
    for start in range(0, ends[-1], BLOCK):
        candidate = np.arange(start, min(start + BLOCK, ends[-1]))
        triangle = np.searchsorted(ends, candidate, side="right")
        offset = candidate - (ends - columns * rows)[triangle]
        row, column = np.divmod(offset, columns[triangle])
        column += first[triangle, 0]
        row += first[triangle, 1]
        weights = _weights(planes, triangle, column, row)
        # Slightly generous, so that rounding leaves no gap between neighbours.
        inside = (weights >= -1e-9).all(1)
        triangle, pixel = triangle[inside], (row * width + column)[inside]
        depth = (weights[inside] * points[triangles[triangle], 2]).sum(1)
        np.maximum.at(nearest, pixel, depth)
        wins = depth == nearest[pixel]
        owner[pixel[wins]] = triangle[wins]
    pixel = np.flatnonzero(owner >= 0)
    row, column = np.divmod(pixel, width)
    return Surface(pixel, owner[pixel], _weights(planes, owner[pixel], column, row))


def _barycentric_planes(
    corners: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Coefficients (F, 3, 3) of weight k = a x + b y + c, and which triangles have an area (F,)."""
    x, y = corners[..., 0], corners[..., 1]
    next_x, next_y = np.roll(x, -1, 1), np.roll(y, -1, 1)
    after_x, after_y = np.roll(x, -2, 1), np.roll(y, -2, 1)
    a, b = next_y - after_y, after_x - next_x
    c = next_x * after_y - after_x * next_y
    doubled_area = c.sum(1)
    drawable = np.abs(doubled_area) > 1e-9
    planes = np.stack([a, b, c], axis=2) / np.where(drawable, doubled_area, 1)[:, None, None]
    return planes, drawable


def _weights(
    planes: NDArray[np.float64],
    triangle: NDArray[np.int64],
    column: NDArray[np.int64],
    row: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Barycentric weights (P, 3) of pixel centres."""
    plane = planes[triangle]
    x, y = (column + 0.5)[:, None], (row + 0.5)[:, None]
    return plane[..., 0] * x + plane[..., 1] * y + plane[..., 2]


def shade(normals: NDArray[Any], albedo: NDArray[Any]) -> NDArray[Any]:
    """Linear RGB (P, 3) of points with unit normals (P, 3) and an own colour, (3,) or (P, 3).

    Two lights, sky and ground, and a little gloss after Blinn 1977, "Models of light reflection for
    computer synthesized pictures".
    """
    up = (normals[:, 1:2] + 1) / 2
    light = np.asarray(GROUND) + up * np.subtract(SKY, GROUND)
    gloss = np.zeros_like(light)
    for source in (KEY, FILL):
        towards = unit_vectors(np.asarray(source.direction))
        halfway = unit_vectors(towards + np.array([0.0, 0.0, 1.0]))
        light = light + np.maximum(normals @ towards, 0)[:, None] * source.colour
        sheen = np.maximum(normals @ halfway, 0)[:, None] ** GLOSS_EXPONENT
        gloss += GLOSS * sheen * source.colour
    return albedo * light + gloss


def render(mesh: Mesh, camera: Camera) -> Picture:
    """A picture (height, width, 3), uint8 sRGB, of a mesh.

    Triangles are seen from both sides, so neither the winding nor an open rim leaves holes.

    Raises:
        InputError: the mesh has no triangles.
    """
    vertices, triangles = mesh.vertices.astype(np.float64), mesh.triangles
    if not len(triangles):
        raise InputError(f"{mesh.name or 'mesh'} has no triangles; a picture needs a surface")
    width, height = camera.width * SUPERSAMPLING, camera.height * SUPERSAMPLING
    points = camera.project(vertices, SUPERSAMPLING)
    surface = visible_surface(points, triangles, width, height)
    normals = surface.interpolate(
        vertex_normals(np.asarray(vertices, np.float64), triangles), triangles
    )
    away = triangle_normals(vertices, triangles)[surface.triangle, 2] < 0
    normals = unit_vectors(np.where(away[:, None], -normals, normals))
    picture = np.tile(np.asarray(BACKGROUND, np.float64), (height * width, 1))
    picture[surface.pixel] = shade(normals, np.array(SKIN))
    blocks = picture.reshape(camera.height, SUPERSAMPLING, camera.width, SUPERSAMPLING, 3)
    return to_srgb(blocks.mean((1, 3)))


def to_srgb(linear: NDArray[Any]) -> Picture:
    """IEC 61966-2-1: light is added and averaged as linear values and stored as the eye sees it."""
    linear = np.clip(linear, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (curved * 255 + 0.5).astype(np.uint8)
