"""Colors of vertices from textures."""

import io

import numpy as np
import pytest
from PIL import Image

from facedis_core.errors import InputError
from facedis_core.mesh.appearance import file_among, linear, read_appearance
from facedis_core.mesh.mesh import read_mesh
from facedis_core.render.materials import SKIN
from facedis_core.render.vertex_colors import vertex_colors

# A square with a texture, in which one place lies beyond 1, a triangle of a material without, and a
# vertex of no face.
OBJ = """mtllib a.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 2 0 0
v 9 9 9
vt 0.1 0.1
vt 0.9 0.1
vt 1.9 0.9
vt 0.1 0.9
usemtl skin
f 1/1 2/2 3/3 4/4
usemtl plain
f 2 5 3
"""
MTL = b"newmtl skin\nmap_Kd skin.png\nnewmtl plain\nKd 0.5 0.25 1\n"
PIXELS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [128, 128, 128]]], np.uint8)


def look(tmp_path, image):
    (tmp_path / "a.obj").write_text(OBJ)
    beside = file_among({"a.mtl": MTL, "skin.png": image})
    return read_appearance("a.obj", OBJ.encode(), read_mesh(tmp_path / "a.obj"), beside)


def test_the_mean_over_the_corners_of_a_vertex(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    found = vertex_colors(look(tmp_path, stream.getvalue()), 6)
    gray, plain = linear(np.array([128 / 255] * 3)), np.array([0.5, 0.25, 1])
    expected = [
        [0, 0, 1],  # the lower left pixel
        (gray + plain) / 2,  # a corner of each material
        np.array([[0, 1, 0], [0, 1, 0], plain]).mean(axis=0),
        [1, 0, 0],
        plain,
        SKIN,
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_broken_image(tmp_path):
    with pytest.raises(InputError, match="cannot be decoded"):
        vertex_colors(look(tmp_path, b"\x89PNG\r\n\x1a\n"), 6)


def test_without_textures_the_colors_of_the_file(tmp_path):
    text = OBJ.replace("skin", "plain").replace("v 9 9 9", "v 9 9 9")
    content = text.encode()
    (tmp_path / "a.obj").write_bytes(content)
    plain = read_appearance("a.obj", content, read_mesh(tmp_path / "a.obj"), file_among({}))
    assert vertex_colors(plain, 6) is None
