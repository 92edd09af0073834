"""Textures and colors of vertices of a surface, for pictures."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.mesh.appearance import Appearance, linear
from facedis_core.render.page_texture import decoded_image

MOST_PIXELS: Final = 2048  # a side of an image


class SurfaceTexture(NamedTuple):
    """What each point of a surface of F triangles reflects.

    Attributes:
        corners: (F, 3, C) of the corners of triangles: places in images (C = 2, v downwards), or
            linear RGB (C = 3).
        colors: (F, 3) linear RGB, which multiplies the image.
        image: (F,) place in `images`, -1 = none.
        images: sRGB (height, width, 3) each.
    """

    corners: NDArray[np.float32]
    colors: NDArray[np.float32]
    image: NDArray[np.intp]
    images: tuple[NDArray[np.uint8], ...]

    def albedo(self, triangle: NDArray[np.integer[Any]], weights: NDArray[Any]) -> NDArray[Any]:
        """Linear RGB (P, 3) of points in triangles (P,), with barycentric weights (3, P)."""
        found = self.colors[triangle]
        corners = self.corners[triangle]
        value = sum(weights[k][:, None] * corners[:, k] for k in range(3))
        if not self.images:
            return np.asarray(found * value)
        for number, image in enumerate(self.images):
            here = np.flatnonzero(self.image[triangle] == number)
            found[here] *= linear(_sampled(image, value[here]) / np.float32(255))
        return found


def surface_texture(look: Appearance) -> SurfaceTexture | None:
    """The texture of the triangles of a mesh; None without images and colors.

    Raises:
        InputError: an image cannot be decoded.
    """
    if not look.is_textured:
        if look.colors is None:
            return None
        return colored_vertices(look.colors, look.triangles)
    contents = list(dict.fromkeys(one.texture for one in look.materials if one.texture))
    places = np.append(look.uv, np.zeros((1, 2)), axis=0)[look.texture]
    places[..., 1] = 1 - places[..., 1]
    colors = np.array([one.color[:3] for one in look.materials], np.float32)[look.material]
    of_material = [contents.index(one.texture) if one.texture else -1 for one in look.materials]
    image = np.where((look.texture >= 0).all(axis=1), np.array(of_material)[look.material], -1)
    images = tuple(np.asarray(decoded_image(content, MOST_PIXELS)) for content in contents)
    return SurfaceTexture(places.astype(np.float32), colors, image, images)


def colored_vertices(
    colors: NDArray[np.float32], triangles: NDArray[np.integer[Any]]
) -> SurfaceTexture:
    """The colors (V, 3), linear RGB, of the vertices of triangles (F, 3)."""
    white, none = np.ones((len(triangles), 3), np.float32), np.full(len(triangles), -1, np.intp)
    return SurfaceTexture(colors[triangles], white, none, ())


def _sampled(image: NDArray[np.uint8], places: NDArray[Any]) -> NDArray[np.float32]:
    """The values (n, 3) between the pixels about places (n, 2); beyond 0 to 1 it is repeated."""
    size = np.array(image.shape[1::-1])
    low = np.floor(places * size - 0.5)
    share = (places * size - 0.5 - low).astype(np.float32)
    (left, top), (right, bottom) = (np.mod(low + step, size).astype(np.intp).T for step in (0, 1))
    across, down = share[:, :1], share[:, 1:]
    upper = (1 - across) * image[top, left] + across * image[top, right]
    lower = (1 - across) * image[bottom, left] + across * image[bottom, right]
    values: NDArray[np.float32] = (1 - down) * upper + down * lower
    return values
