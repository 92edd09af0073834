"""Pictures of faces: what each pixel sees, with skin and lights, or in the colors of a scale."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.camera import FRONT, Camera, turned
from facedis_core.color_scale import ColorScale
from facedis_core.errors import InputError
from facedis_core.geometry import triangle_normals, unit_vectors, vertex_normals
from facedis_core.mesh import Mesh
from facedis_core.rasterizer import rasterize

Picture = NDArray[np.uint8]
LinearRGB = tuple[float, float, float]  # linear RGB, from 0 to 1

SUPERSAMPLING = 2
MAX_SAMPLES = 1 << 21  # drawn at once: what a sample holds is some 200 bytes


class Light(NamedTuple):
    """A distant light: the direction towards it, and its color in linear RGB."""

    direction: tuple[float, float, float]
    color: tuple[float, float, float]


KEY = Light((-0.60, 0.70, 0.65), (1.05, 1.00, 0.94))
FILL = Light((0.90, -0.05, 0.45), (0.21, 0.22, 0.26))
SKY = (0.17, 0.18, 0.20)  # ambient light on what faces up
GROUND = (0.07, 0.06, 0.06)  # ambient light on what faces down
SKIN = (0.66, 0.60, 0.55)
GLOSS = 0.07
SHADOW = 0.55  # what is left of a scale's color where a surface is seen from its side
BACKGROUND: LinearRGB = (0.93, 0.93, 0.93)


def shade_skin(normals: NDArray[Any], albedo: NDArray[Any]) -> NDArray[Any]:
    """Linear RGB (P, 3) of points with unit normals (P, 3) and an own color, (3,) or (P, 3).

    Two lights, sky and ground, and a little gloss after Blinn 1977, "Models of light reflection for
    computer synthesized pictures".
    """
    up = (normals[:, 1:2] + 1) / 2
    light = np.asarray(GROUND) + up * np.subtract(SKY, GROUND)
    gloss = np.zeros_like(light)
    for source in (KEY, FILL):
        towards = unit_vectors(np.asarray(source.direction))
        halfway = unit_vectors(towards + np.array([0.0, 0.0, 1.0]))
        light = light + np.maximum(normals @ towards, 0)[:, None] * source.color
        # Squares make the exponent 20 many times faster than a power does.
        fourth = np.square(np.square(np.maximum(normals @ halfway, 0)))
        sheen = np.square(np.square(fourth)) * fourth
        gloss += GLOSS * sheen[:, None] * source.color
    return albedo * light + gloss


def shade_matte(normals: NDArray[Any], albedo: NDArray[Any]) -> NDArray[Any]:
    """Linear RGB (P, 3) of points whose color (P, 3) is to be read off a scale.

    What faces the viewer has exactly its color; what turns away is somewhat darker, so that the
    shape is still seen.
    """
    facing = np.clip(normals[:, 2:], 0, 1)
    return albedo * (SHADOW + (1 - SHADOW) * facing)


class VertexColoring(NamedTuple):
    """What a surface shows in place of skin: values (V,) in the colors of a scale."""

    values: NDArray[Any]
    scale: ColorScale


def render_mesh(
    mesh: Mesh,
    camera: Camera,
    view: float = FRONT,
    *,
    coloring: VertexColoring | None = None,
    background: LinearRGB | None = BACKGROUND,
) -> Picture:
    """A picture (height, width, 3), uint8 sRGB, of a mesh turned by `view` degrees.

    Triangles are seen from both sides, so neither the winding nor an open rim leaves holes.

    Args:
        mesh: vertices in units of the camera.
        camera: where it is seen from.
        view: below zero the nose points to the left.
        coloring: values that are shown in place of its skin.
        background: linear RGB; None = transparent, and the picture is (height, width, 4).

    Raises:
        InputError: the mesh has no triangles.
    """
    triangles = mesh.triangles
    if not len(triangles):
        raise InputError(f"{mesh.name or 'mesh'} has no triangles; a picture needs a surface")
    vertices = turned(mesh.vertices, view, camera.axis)
    normals = vertex_normals(vertices, triangles)
    away = triangle_normals(vertices, triangles)[:, 2] < 0

    def piece(camera: Camera) -> Picture:
        width, height = camera.width * SUPERSAMPLING, camera.height * SUPERSAMPLING
        points = camera.project(vertices, SUPERSAMPLING)
        surface = rasterize(points, triangles, width, height)
        seen = surface.interpolate(normals, triangles)
        np.negative(seen, out=seen, where=away[surface.triangle, None])
        seen = unit_vectors(seen)
        if coloring is None:
            colors = shade_skin(seen, np.array(SKIN))
        else:
            values = surface.interpolate(coloring.values[:, None], triangles)[:, 0]
            colors = shade_matte(seen, coloring.scale.colors(values))
        return _downsample(surface.pixel, colors, camera, background)

    band = max(MAX_SAMPLES // (camera.width * SUPERSAMPLING**2), 1)
    return np.concatenate([piece(part) for part in camera.bands(band)])


def _downsample(
    seen: NDArray[np.int64], colors: NDArray[Any], camera: Camera, background: LinearRGB | None
) -> Picture:
    """Samples of a pixel averaged; colors (P, 3) belong to the samples `seen`, by flat index."""
    height, width = camera.height, camera.width
    samples = np.zeros((height * width * SUPERSAMPLING**2, 4))
    samples[seen, :3] = colors
    samples[seen, 3] = 1
    # Sums of rows, then of columns: along inner axes they take many times longer.
    rows = samples.reshape(height, SUPERSAMPLING, -1).sum(1).reshape(-1, SUPERSAMPLING, 4)
    mean = sum(rows[:, k] for k in range(SUPERSAMPLING)) / SUPERSAMPLING**2
    mean = mean.reshape(height, width, 4)
    light, cover = mean[..., :3], mean[..., 3:]
    if background is not None:
        return to_srgb(light + (1 - cover) * np.asarray(background))
    opaque = to_srgb(light / np.where(cover > 0, cover, 1))
    return np.concatenate([opaque, (cover * 255 + 0.5).astype(np.uint8)], axis=2)


def to_srgb(linear: NDArray[Any]) -> Picture:
    """IEC 61966-2-1: light is added and averaged as linear values and stored as the eye sees it."""
    linear = np.clip(linear, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (curved * 255 + 0.5).astype(np.uint8)
