"""Shaded pictures of meshes: lit skin, or vertex values in the colors of a scale."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.surface import triangle_normals, unit_vectors, vertex_normals
from facedis_core.mesh.mesh import Mesh
from facedis_core.render.camera import FRONT, Camera, rotate_about_vertical
from facedis_core.render.color_scale import ColorScale
from facedis_core.render.rasterizer import rasterize

Picture = NDArray[np.uint8]
LinearRGB = tuple[float, float, float]  # linear RGB, from 0 to 1

SUPERSAMPLING = 2
MAX_SAMPLES = 1 << 21  # rendered at once, at some 200 bytes each


class Light(NamedTuple):
    """A distant light: direction towards it, and color in linear RGB."""

    direction: tuple[float, float, float]
    color: tuple[float, float, float]


KEY = Light((-0.60, 0.70, 0.65), (1.05, 1.00, 0.94))
FILL = Light((0.90, -0.05, 0.45), (0.21, 0.22, 0.26))
SKY = (0.17, 0.18, 0.20)  # ambient light from above
GROUND = (0.07, 0.06, 0.06)  # ambient light from below
SKIN = (0.66, 0.60, 0.55)
GLOSS = 0.07
SHADOW = 0.55  # factor of a scale's color where the surface is seen edge-on
BACKGROUND: LinearRGB = (0.93, 0.93, 0.93)


def shade_skin(normals: NDArray[Any], albedo: NDArray[Any]) -> NDArray[Any]:
    """Linear RGB (P, 3) of points with unit normals (P, 3) and an albedo, (3,) or (P, 3).

    Two directional lights, ambient light, and specular reflection after Blinn 1977, "Models of
    light reflection for computer synthesized pictures".
    """
    up = (normals[:, 1:2] + 1) / 2
    light = np.asarray(GROUND) + up * np.subtract(SKY, GROUND)
    gloss = np.zeros_like(light)
    for source in (KEY, FILL):
        towards = unit_vectors(np.asarray(source.direction))
        halfway = unit_vectors(towards + np.array([0.0, 0.0, 1.0]))
        light = light + np.maximum(normals @ towards, 0)[:, None] * source.color
        # repeated squares are much faster than a power of 20
        fourth = np.square(np.square(np.maximum(normals @ halfway, 0)))
        sheen = np.square(np.square(fourth)) * fourth
        gloss += GLOSS * sheen[:, None] * source.color
    return albedo * light + gloss


def shade_matte(normals: NDArray[Any], albedo: NDArray[Any]) -> NDArray[Any]:
    """Linear RGB (P, 3) of points with unit normals (P, 3) and the colors (P, 3) of a scale.

    Points that face the viewer keep their color exactly; others are darkened, to show the shape.
    """
    facing = np.clip(normals[:, 2:], 0, 1)
    return albedo * (SHADOW + (1 - SHADOW) * facing)


class VertexColoring(NamedTuple):
    """Vertex values (V,) and the scale that gives their colors."""

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
    """Picture (height, width, 3), uint8 sRGB, of a mesh turned by `view` degrees.

    Triangles are visible from both sides, so neither their winding nor open edges leave holes.

    Args:
        mesh: vertices in units of the camera.
        camera: window of the picture.
        view: degrees; below zero the nose points to the left.
        coloring: vertex values to show instead of skin.
        background: linear RGB; None = transparent, and the picture is (height, width, 4).

    Raises:
        InputError: the mesh has no triangles.
    """
    triangles = mesh.triangles
    if not len(triangles):
        raise InputError(
            f"{mesh.name or 'mesh'} has no triangles; a picture needs a surface",
            ErrorCode.NO_TRIANGLES,
        )
    vertices = rotate_about_vertical(mesh.vertices, view, camera.axis)
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
    """The mean of the samples of each pixel; colors (P, 3) are those of the flat indices `seen`."""
    height, width = camera.height, camera.width
    samples = np.zeros((height * width * SUPERSAMPLING**2, 4))
    samples[seen, :3] = colors
    samples[seen, 3] = 1
    # rows first, then columns: sums along inner axes are many times slower
    rows = samples.reshape(height, SUPERSAMPLING, -1).sum(1).reshape(-1, SUPERSAMPLING, 4)
    mean = sum(rows[:, k] for k in range(SUPERSAMPLING)) / SUPERSAMPLING**2
    mean = mean.reshape(height, width, 4)
    light, cover = mean[..., :3], mean[..., 3:]
    if background is not None:
        return to_srgb(light + (1 - cover) * np.asarray(background))
    opaque = to_srgb(light / np.where(cover > 0, cover, 1))
    return np.concatenate([opaque, (cover * 255 + 0.5).astype(np.uint8)], axis=2)


def to_srgb(linear: NDArray[Any]) -> Picture:
    """Linear RGB (..., 3) from 0 to 1 as uint8 sRGB (IEC 61966-2-1)."""
    linear = np.clip(linear, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (curved * 255 + 0.5).astype(np.uint8)
