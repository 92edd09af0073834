"""Shaded pictures of meshes: lit skin, or vertex values in the colors of a scale."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.surface import triangle_normals, unit_vectors, vertex_normals
from facedis_core.mesh.mesh import Mesh
from facedis_core.render.camera import FRONT, Camera, rotate_about_vertical
from facedis_core.render.color_scale import ColorScale
from facedis_core.render.materials import SKIN, LinearRGB, find_materials
from facedis_core.render.openings import line_openings
from facedis_core.render.rasterizer import VisibleSurface, rasterize
from facedis_core.render.surface_texture import SurfaceTexture

Picture = NDArray[np.uint8]

SUPERSAMPLING = 2
MAX_SAMPLES = 1 << 21  # rendered at once, at some 200 bytes each


class Light(NamedTuple):
    """A distant light: direction towards it, and color in linear RGB."""

    direction: tuple[float, float, float]
    color: LinearRGB


KEY = Light((-0.62, 0.58, 0.65), (0.98, 0.93, 0.87))
FILL = Light((0.85, 0.0, 0.50), (0.19, 0.21, 0.25))
RIM = Light((0.80, 0.35, -0.50), (0.42, 0.43, 0.46))
SKY = (0.16, 0.17, 0.19)  # ambient light from above
GROUND = (0.09, 0.075, 0.07)  # ambient light from below
# How far the key light reaches around the skin: it scatters below the surface, red the farthest.
WRAP = (0.32, 0.17, 0.12)
GLOSS = 0.06
INSIDE = (0.15, 0.16, 0.195)  # back faces, which are lit from the viewer alone
LINING = (0.065, 0.048, 0.045)  # behind openings
LINING_OF_VALUES = (0.16, 0.16, 0.16)  # gray, which no scale has
SHADOW = 0.55  # factor of an inside's or a scale's color where the surface is seen edge-on
BACKGROUND: LinearRGB = (0.93, 0.93, 0.93)


def shade_skin(normals: NDArray[Any], albedo: NDArray[Any]) -> NDArray[Any]:
    """Linear RGB (P, 3) of points with unit normals (P, 3) and an albedo, (3,) or (P, 3).

    Key, fill and rim light, ambient light, and specular reflection after Blinn 1977, "Models of
    light reflection for computer synthesized pictures". The key light wraps around the shape, in
    each color by its own amount, as in Green 2004, "Real-time approximations to subsurface
    scattering" (GPU Gems, chapter 16).
    """
    kind = normals.dtype
    colors = np.empty(normals.shape, kind)
    key, fill, rim = (
        normals @ unit_vectors(np.asarray(light.direction)).astype(kind)
        for light in (KEY, FILL, RIM)
    )
    np.maximum(fill, 0, out=fill)
    np.maximum(rim, 0, out=rim)
    up = (normals[:, 1] + 1) / 2
    halfway = unit_vectors(unit_vectors(np.asarray(KEY.direction)) + np.array([0.0, 0.0, 1.0]))
    # repeated squares are much faster than a power of 20
    fourth = np.square(np.square(np.maximum(normals @ halfway.astype(kind), 0)))
    sheen = np.square(np.square(fourth)) * fourth
    for k in range(3):
        light = np.maximum((key + WRAP[k]) / (1 + WRAP[k]), 0) * KEY.color[k]
        light += fill * FILL.color[k]
        light += rim * RIM.color[k]
        light += GROUND[k]
        light += up * (SKY[k] - GROUND[k])
        light *= albedo[..., k]
        light += sheen * (GLOSS * KEY.color[k])
        colors[:, k] = light
    return colors


def shade_matte(normals: NDArray[Any], albedo: NDArray[Any]) -> NDArray[Any]:
    """Linear RGB (P, 3) of points with unit normals (P, 3) and the colors (P, 3) of a scale.

    Points that face the viewer keep their color exactly. Others are darkened, to show the shape,
    but only towards the outline: at 45 degrees by 4 %, since dark is also a value of the scale.
    """
    aside = 1 - np.clip(normals[:, 2:], 0, 1)
    return albedo * (1 - (1 - SHADOW) * aside**2)


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
    lined: bool = True,
    texture: SurfaceTexture | None = None,
) -> Picture:
    """Picture (height, width, 3), uint8 sRGB, of a mesh turned by `view` degrees.

    Triangles are visible from both sides, so open edges leave no holes; their insides are darker
    and cooler. Openings such as the mouth of a mask are lined, see `line_openings`.

    Args:
        mesh: vertices in units of the camera.
        camera: window of the picture.
        view: degrees; below zero the nose points to the left.
        coloring: vertex values to show instead of skin.
        background: linear RGB; None = transparent, and the picture is (height, width, 4).
        lined: line openings; not for scans, whose holes are many.
        texture: of the triangles; None = the colors of the materials that are known.

    Raises:
        InputError: the mesh has no triangles.
    """
    if not len(mesh.triangles):
        raise InputError(
            f"{mesh.name or 'mesh'} has no triangles; a picture needs a surface",
            ErrorCode.NO_TRIANGLES,
        )
    materials = find_materials(mesh.triangles)
    skin = mesh.triangles if materials is None else materials.triangles
    vertices = rotate_about_vertical(mesh.vertices, view, camera.axis)
    normals = vertex_normals(vertices, skin).astype(np.float32)
    across = triangle_normals(vertices, skin)
    turned = across[:, 2] < 0
    inside = turned
    # the volume between the surface and a point far behind it tells how triangles are wound
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    behind = (low + high) / 2 - np.array([0, 0, (high - low).max()])
    behind = rotate_about_vertical(behind[None], view, camera.axis)
    if ((vertices[skin[:, 0]] - behind) * across).sum() < 0:
        inside = ~turned
    centres, lining = line_openings(vertices, skin if lined else skin[:0])
    points = np.concatenate([vertices, centres])
    triangles = np.concatenate([skin, lining])

    def piece(camera: Camera) -> Picture:
        width, height = camera.width * SUPERSAMPLING, camera.height * SUPERSAMPLING
        surface = rasterize(camera.project(points, SUPERSAMPLING), triangles, width, height)
        light = np.empty((len(surface.pixel), 3), np.float32)
        lined = surface.triangle >= len(skin)
        light[lined] = LINING if coloring is None else LINING_OF_VALUES
        bare = np.flatnonzero(~lined) if lined.any() else slice(None)
        seen = VisibleSurface(
            surface.pixel[bare], surface.triangle[bare], surface.weights[:, bare].astype(np.float32)
        )
        towards = seen.interpolate(normals, skin)
        away = turned[seen.triangle]
        np.negative(towards, out=towards, where=away[:, None])
        towards = unit_vectors(towards)
        if coloring is not None:
            values = seen.interpolate(coloring.values[:, None], skin)[:, 0]
            light[bare] = shade_matte(towards, coloring.scale.colors(values))
        else:
            albedo = np.array(SKIN, np.float32)
            if texture is not None:
                row = seen.triangle if materials is None else materials.rows[seen.triangle]
                albedo = texture.albedo(row, seen.weights)
            elif materials is not None:
                albedo = seen.interpolate(materials.colors, skin)
            lit = shade_skin(towards, albedo)
            within = np.flatnonzero(inside[seen.triangle])
            lit[within] = shade_matte(towards[within], np.array(INSIDE, np.float32))
            light[bare] = lit
        return _downsample(surface.pixel, light, camera, background)

    band = max(MAX_SAMPLES // (camera.width * SUPERSAMPLING**2), 1)
    return np.concatenate([piece(part) for part in camera.bands(band)])


def _downsample(
    seen: NDArray[np.int64], colors: NDArray[Any], camera: Camera, background: LinearRGB | None
) -> Picture:
    """The mean of the samples of each pixel; colors (P, 3) are those of the flat indices `seen`."""
    height, width = camera.height, camera.width
    samples = np.zeros((height * width * SUPERSAMPLING**2, 4), np.float32)
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
