"""Colors of the vertices of a mesh from its textures, for scans, whose vertices are dense."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.mesh.appearance import Appearance, linear
from facedis_core.render.materials import SKIN
from facedis_core.render.page_texture import decoded_image

MOST_PIXELS: Final = 1024  # a side of an image that is looked at: a scanned face has no more


def vertex_colors(look: Appearance, vertices: int) -> NDArray[np.float32] | None:
    """Linear RGB (V, 3): the mean over the corners of a vertex; None without textures and colors.

    Raises:
        InputError: an image cannot be decoded.
    """
    if not look.is_textured:
        return look.colors
    images = {m.texture: _pixels(m.texture) for m in look.materials if m.texture}
    total, count = np.zeros((vertices, 3)), np.zeros(vertices)
    for number, material in enumerate(look.materials):
        corners = look.triangles[look.material == number].ravel()
        rows = look.texture[look.material == number].ravel()
        color = np.tile(material.color[:3], (len(corners), 1)).astype(np.float64)
        if material.texture:
            color[rows >= 0] *= _sampled(images[material.texture], look.uv[rows[rows >= 0]])
        count += np.bincount(corners, minlength=vertices)
        for channel in range(3):
            total[:, channel] += np.bincount(corners, color[:, channel], minlength=vertices)
    found = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], SKIN)
    return found.astype(np.float32)


def _pixels(content: bytes) -> NDArray[np.float64]:
    """Linear RGB (height, width, 3) of an image."""
    return linear(np.asarray(decoded_image(content, MOST_PIXELS)) / 255).astype(np.float64)


def _sampled(image: NDArray[np.float64], uv: NDArray[Any]) -> NDArray[np.float64]:
    """The pixels (n, 3) at places (n, 2), v upwards; beyond 0 to 1 the image is repeated."""
    height, width = image.shape[:2]
    u, v = np.mod(uv[:, 0], 1), np.mod(1 - uv[:, 1], 1)
    column, row = (u * width).astype(np.intp), (v * height).astype(np.intp)
    pixels: NDArray[np.float64] = image[np.minimum(row, height - 1), np.minimum(column, width - 1)]
    return pixels
