"""Textures of meshes for the viewer of pages, as JSON: places of corners, images of materials."""

import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.text import first_line
from facedis_core.mesh.appearance import Appearance, SplitVertices, image_type
from facedis_core.render.materials import find_materials
from facedis_core.render.page_surface import to_base64

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

MOST_BYTES: Final = 1 << 20  # of an image that is embedded as it is
_JPEG_QUALITY: Final = 90


def page_texture(
    look: Appearance, rows: NDArray[np.integer[Any]] | None, triangles: NDArray[np.int32]
) -> dict[str, Any] | None:
    """What `FaceViewer.textured` of face_viewer.js reads; None without a texture and colors.

    Args:
        look: of a mesh of R vertices.
        rows: (V,) its vertices that are those of the surface; None = all, in order.
        triangles: (F, 3) of the surface.

    Returns:
        `triangles` (3 indices a triangle, by material; those from V on are `copies`), `copies` (the
        vertex that each is a copy of, for seams), `uv` (two numbers for each of the V vertices and
        the copies, v downwards), `groups` (number of triangles, linear RGB and image of each
        material; -1 = none) and `images` (media type and base64). Of a mesh without images `colors`
        alone (linear RGB from 0 to 255, a vertex).
    """
    if not look.is_textured:
        if look.colors is None:
            return None
        colors = look.colors if rows is None else look.colors[rows]
        return {"colors": to_base64(np.round(colors * 255).astype(np.uint8))}
    images = list(dict.fromkeys(one.texture for one in look.materials if one.texture))
    count = int(triangles.max()) + 1 if rows is None else len(rows)
    raw = max(int(look.triangles.max()) + 1, count)
    vertex = np.arange(raw) if rows is None else np.full(raw, -1)
    if rows is not None:
        vertex[rows] = np.arange(count)
    split = look.split(raw)
    of_surface = vertex[split.source]  # -1 = not of the surface
    shown = (of_surface[split.triangles] >= 0).all(axis=1)
    parts = find_materials(triangles)
    if parts is not None:  # eyes have transparent covers
        drawn = np.zeros(count, bool)
        drawn[parts.triangles] = True
        shown &= drawn[of_surface[split.triangles]].all(axis=1)
    corners, of_triangle = split.triangles[shown], look.material[shown]
    surface = triangles if parts is None else parts.triangles
    if len(corners) != len(surface):  # of a simplified mesh, whose triangles the file does not have
        raw_rows = np.arange(raw) if rows is None else np.asarray(rows)
        corners, of_triangle = _corners_of_others(look, split, raw_rows[surface])
    order = np.argsort(of_triangle, kind="stable")
    corners = corners[order]
    used = np.unique(corners[corners >= raw])
    place = np.concatenate([of_surface[:raw], np.zeros(len(split.source) - raw, np.intp)])
    place[used] = count + np.arange(len(used))
    uv = np.zeros((count + len(used), 2))
    told = np.unique(corners)
    told = told[split.texture[told] >= 0]
    uv[place[told]] = look.uv[split.texture[told]]
    uv[:, 1] = 1 - uv[:, 1]
    groups = []
    for number, material in enumerate(look.materials):
        image = images.index(material.texture) if material.texture else -1
        many = int((of_triangle == number).sum())
        groups.append({"count": many, "color": list(material.color[:3]), "image": image})
    return {
        "triangles": to_base64(place[corners].astype("<u4")),
        "copies": to_base64(of_surface[used].astype("<u4")),
        "uv": to_base64(uv.astype("<f4")),
        "groups": groups,
        "images": [
            {"type": image_type(content), "content": to_base64(np.frombuffer(content, "u1"))}
            for content in images
        ],
    }


def _corners_of_others(
    look: Appearance, split: SplitVertices, triangles: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Corners and materials of triangles (F, 3) of a mesh's vertices that are none of its own.

    At seams a vertex has several places in the texture; a triangle has those that lie nearest to
    each other.

    Returns:
        (F, 3) vertices of `split`, and (F,) places in the materials.
    """
    by_vertex = np.argsort(split.source, kind="stable")
    first = np.searchsorted(split.source[by_vertex], triangles)
    many = np.bincount(split.source)[triangles]
    most = int(many.max(initial=1))
    step = np.minimum(np.arange(most), many[..., None] - 1)
    choices = by_vertex[first[..., None] + step]  # (F, 3, most), the last one repeated
    uv = np.append(look.uv, np.full((1, 2), 1e6), axis=0)[split.texture[choices]]
    best = np.full(len(triangles), np.inf)
    corners = choices[..., 0].copy()
    for corner in range(3):
        for copy in range(most):
            away = np.linalg.norm(uv - uv[:, corner, None, None, copy], axis=-1)
            total = away.min(axis=-1).sum(axis=-1)
            nearest = np.take_along_axis(choices, away.argmin(axis=-1)[..., None], -1)[..., 0]
            nearer = total < best
            corners[nearer], best[nearer] = nearest[nearer], total[nearer]
    material = np.zeros(len(split.source), np.intp)
    material[split.triangles] = look.material[:, None]
    return corners, material[corners[:, 0]]


def smaller_image(content: bytes, most_pixels: int) -> bytes:
    """A PNG or JPEG of at most so many pixels a side; one that is larger, or MOST_BYTES, as JPEG.

    Raises:
        InputError: it cannot be decoded.
    """
    if len(content) <= MOST_BYTES and max(_opened(content).size) <= most_pixels:
        return content
    stream = io.BytesIO()
    decoded_image(content, most_pixels).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()


def decoded_image(content: bytes, most_pixels: int) -> "Image":
    """An image as 8 bits of RGB, scaled down to at most so many pixels a side.

    Raises:
        InputError: it cannot be decoded.
    """
    from PIL import Image

    image: Image.Image = _opened(content)
    try:
        image.draft("RGB", (most_pixels, most_pixels))  # of a JPEG fewer pixels are decoded
        if image.mode.startswith("I"):  # 16 bits of gray, which a conversion would cut off
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("RGB")
        image.thumbnail((most_pixels, most_pixels))
    except (OSError, SyntaxError, ValueError) as error:
        raise _undecodable(content, error) from None
    return image


def _opened(content: bytes) -> "ImageFile":
    from PIL import Image

    try:
        return Image.open(io.BytesIO(content))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _undecodable(content, error) from None


def _undecodable(content: bytes, error: Exception) -> InputError:
    return InputError(
        f"its texture of {len(content):,} bytes cannot be decoded ({first_line(error)}); save it "
        "again",
        ErrorCode.DAMAGED,
    )
