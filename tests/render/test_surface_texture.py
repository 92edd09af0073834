"""Textures and colors of vertices in pictures."""

import io

import numpy as np
import pytest
from images import png
from PIL import Image

from facedis_core.mesh.appearance import file_among, linear, read_appearance
from facedis_core.mesh.mesh import Mesh, read_mesh
from facedis_core.render.camera import Camera
from facedis_core.render.shading import render_mesh
from facedis_core.render.surface_texture import colored_vertices, surface_texture

# A square with an image, a triangle of a color, and one whose places in the image are not known.
OBJ = """mtllib a.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 2 0 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl skin
f 1/1 2/2 3/3 4/4
usemtl plain
f 2 5 3
usemtl skin
f 2 5 3
"""
MTL = b"newmtl skin\nmap_Kd skin.png\nnewmtl plain\nKd 0.5 0.25 1\n"
PIXELS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [128, 128, 128]]], np.uint8)


def texture(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    (tmp_path / "a.obj").write_text(OBJ)
    beside = file_among({"a.mtl": MTL, "skin.png": stream.getvalue()})
    look = read_appearance("a.obj", OBJ.encode(), read_mesh(tmp_path / "a.obj"), beside)
    return surface_texture(look)


@pytest.mark.parametrize(
    ("triangle", "weights", "expected"),
    [
        (0, (0.75, 0, 0.25), linear(np.array([0, 0, 1.0]))),  # u = v = 1/4: the lower left pixel
        (0, (0.25, 0, 0.75), linear(np.array([0, 1.0, 0]))),  # the upper right one
        (1, (0.25, 0.5, 0.25), linear(PIXELS[0].mean(axis=0) / 255)),  # u = 1/2, v = 3/4
        (2, (0.2, 0.3, 0.5), [0.5, 0.25, 1]),
        (3, (0.2, 0.3, 0.5), [1, 1, 1]),
    ],
)
def test_between_the_pixels(tmp_path, triangle, weights, expected):
    found = texture(tmp_path).albedo(np.array([triangle]), np.array(weights)[:, None])
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_a_picture_has_the_colors(tmp_path):
    """All white light is alike in red and blue, so the side of a color can be told."""
    vertices = np.array([[0, 0, 0], [40, 0, 0], [40, 40, 0], [0, 40, 0]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    mesh = Mesh(vertices, triangles, "square", 1.0)
    colors = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]], np.float32)
    camera = Camera.framing([vertices], 32)
    shown = colored_vertices(colors, triangles)
    picture = render_mesh(mesh, camera, texture=shown).astype(int)
    middle = picture[picture.shape[0] // 2]
    red = middle[:, 0] > middle[:, 2] + 30
    blue = middle[:, 2] > middle[:, 0] + 30
    half = picture.shape[1] // 2
    assert red[: half - 4].sum() > 8 and not red[half:].any()
    assert blue[half + 4 :].sum() > 8 and not blue[:half].any()


def test_meshes_without_colors_have_no_texture(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ)
    mesh = read_mesh(tmp_path / "a.obj")
    look = read_appearance("a.obj", OBJ.encode(), mesh, file_among({"skin.png": png(1, 2, 3)}))
    assert surface_texture(look) is None
