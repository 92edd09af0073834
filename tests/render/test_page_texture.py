"""Textures for the viewer of pages: which corners are drawn where."""

import base64
import io

import numpy as np
import pytest
from images import png
from PIL import Image

from facedis_core.errors import ErrorCode, InputError
from facedis_core.mesh.appearance import file_among, read_appearance
from facedis_core.mesh.mesh import read_mesh
from facedis_core.render.page_texture import MOST_BYTES, page_texture, smaller_image

# A square of two triangles whose diagonal is a seam, a triangle of another material, and a vertex
# that no surface has.
OBJ = """mtllib a.mtl
v 9 9 9
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 2 0 0
vt 0 0
vt 1 0
vt 1 1
vt 0.25 0.25
vt 0.75 0.75
vt 0 1
usemtl skin
f 2/1 3/2 4/3
usemtl plain
f 3/2 6/2 4/3
usemtl skin
f 2/4 4/5 5/6
f 1/1 2/1 3/1
"""
MTL = b"newmtl skin\nmap_Kd skin.png\nnewmtl plain\nKd 0.5 0.25 1\n"


def numbers(text, kind, width):
    return np.frombuffer(base64.b64decode(text), kind).reshape(-1, width)


@pytest.mark.parametrize("rows", [[4, 1, 2, 3, 5], None])
def test_corners_have_the_places_of_the_file(tmp_path, rows):
    """The surface has its own order of vertices, and not the first one of the file."""
    (tmp_path / "a.obj").write_text(OBJ)
    mesh = read_mesh(tmp_path / "a.obj")
    beside = file_among({"a.mtl": MTL, "skin.png": png(1, 2, 3)})
    look = read_appearance("a.obj", OBJ.encode(), mesh, beside)
    order = np.array([0, 1, 2, 3, 4, 5] if rows is None else rows)
    place = {vertex: k for k, vertex in enumerate(order.tolist())}
    triangles = [[place[v] for v in t] for t in mesh.triangles.tolist() if set(t) <= set(place)]
    surface = np.array(triangles, np.int32)
    found = page_texture(look, None if rows is None else order, surface)
    copies = numbers(found["copies"], "<u4", 1)[:, 0]
    drawn, uv = numbers(found["triangles"], "<u4", 3), numbers(found["uv"], "<f4", 2)
    vertex = np.concatenate([np.arange(len(order)), copies])[drawn]
    pairs = zip(drawn, order[vertex].tolist(), strict=True)
    seen = {tuple(corners): uv[triangle].tolist() for triangle, corners in pairs}
    wanted = {
        (1, 2, 3): [[0, 1], [1, 1], [1, 0]],
        (1, 3, 4): [[0.25, 0.75], [0.75, 0.25], [0, 0]],
        (2, 5, 3): [[1, 1], [1, 1], [1, 0]],
    }
    wanted |= {(0, 1, 2): [[0, 1], [0, 1], [0, 1]]} if rows is None else {}
    assert seen == wanted
    skin, plain = found["groups"]
    assert skin == {"count": 2 + (rows is None), "color": [1, 1, 1], "image": 0}
    assert plain == {"count": 1, "color": [0.5, 0.25, 1], "image": -1}
    assert order[vertex[-1]].tolist() == [2, 5, 3]  # material after material
    (image,) = found["images"]
    assert base64.b64decode(image["content"]) == png(1, 2, 3) and image["type"] == "image/png"


def test_a_simplified_surface_is_drawn_whole(tmp_path):
    """Of a strip without its middle row; a seam at x = 1, whose halves lie apart in the image."""
    lines = [f"v {x} {y} 0" for y in range(3) for x in range(3)]
    lines += [f"vt {x / 10} {y / 10}" for y in range(3) for x in range(2)]
    lines += [f"vt {0.5 + x / 10} {y / 10}" for y in range(3) for x in range(1, 3)]
    lines += ["mtllib a.mtl"]
    for y in range(2):
        a, b = 3 * y + 1, 2 * y + 1
        lines += ["usemtl skin", f"f {a}/{b} {a + 1}/{b + 1} {a + 4}/{b + 3} {a + 3}/{b + 2}"]
        a, b = a + 1, b + 6
        lines += ["usemtl plain", f"f {a}/{b} {a + 1}/{b + 1} {a + 4}/{b + 3} {a + 3}/{b + 2}"]
    text = "\n".join(lines) + "\n"
    (tmp_path / "a.obj").write_text(text)
    beside = file_among({"a.mtl": MTL, "skin.png": png(1, 2, 3)})
    look = read_appearance("a.obj", text.encode(), read_mesh(tmp_path / "a.obj"), beside)
    rows = np.array([0, 1, 2, 6, 7, 8])
    surface = np.array([[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]], np.int32)
    found = page_texture(look, rows, surface)
    assert [group["count"] for group in found["groups"]] == [2, 2]
    drawn, uv = numbers(found["triangles"], "<u4", 3), numbers(found["uv"], "<f4", 2)
    x, y = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 0, 0, 2, 2, 2])
    vertex = np.concatenate([np.arange(6), numbers(found["copies"], "<u4", 1)[:, 0]])[drawn]
    np.testing.assert_array_equal(vertex, surface)
    apart = np.array([0, 0, 0.5, 0.5])[:, None]
    expected = np.stack([apart + x[vertex] / 10, 1 - y[vertex] / 10], axis=-1)
    np.testing.assert_allclose(uv[drawn], expected, atol=1e-6)


def test_without_images_there_is_no_texture(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ)
    mesh = read_mesh(tmp_path / "a.obj")
    look = read_appearance("a.obj", OBJ.encode(), mesh, file_among({"a.mtl": MTL}))
    assert page_texture(look, None, mesh.triangles) is None
    assert "its texture skin.png is missing" in look.warnings[0]


def test_an_image_of_several_materials_is_there_once(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ)
    mesh = read_mesh(tmp_path / "a.obj")
    library = MTL + b"map_Kd skin.png\n"
    beside = file_among({"a.mtl": library, "skin.png": png(1, 2, 3)})
    look = read_appearance("a.obj", OBJ.encode(), mesh, beside)
    found = page_texture(look, None, mesh.triangles)
    assert [group["image"] for group in found["groups"]] == [0, 0] and len(found["images"]) == 1


def test_colors_of_vertices(tmp_path):
    """Linear light: sRGB 0.5 is 0.214 of 255."""
    text = "v 0 0 0 1 0 0.5\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\nf 1 2 3\n"
    (tmp_path / "a.obj").write_text(text)
    mesh = read_mesh(tmp_path / "a.obj")
    look = read_appearance("a.obj", text.encode(), mesh)
    found = page_texture(look, np.array([2, 0, 1]), mesh.triangles)
    assert numbers(found.pop("colors"), "u1", 3).tolist() == [
        [0, 0, 255],
        [255, 0, 55],
        [0, 255, 0],
    ]
    assert not found


def image(mode, size, color, kind="PNG"):
    stream = io.BytesIO()
    Image.new(mode, size, color).save(stream, kind)
    return stream.getvalue()


def test_a_small_image_stays_as_it_is():
    assert smaller_image(png(1, 2, 3), 1) == png(1, 2, 3)


@pytest.mark.parametrize(
    ("content", "size", "color"),
    [
        (image("RGB", (64, 32), (200, 100, 50), "JPEG"), (16, 8), (200, 100, 50)),
        (image("RGBA", (64, 16), (200, 100, 50, 0)), (16, 4), (200, 100, 50)),
        (image("I;16", (32, 32), 200 * 256), (16, 16), (200, 200, 200)),  # 16 bits of gray
        (image("P", (32, 32), 0), (16, 16), (0, 0, 0)),
    ],
)
def test_a_larger_image_keeps_shape_and_colors(content, size, color):
    found = Image.open(io.BytesIO(smaller_image(content, 16)))
    assert (found.format, found.size) == ("JPEG", size)
    assert np.abs(np.subtract(found.getpixel((3, 3)), color)).max() < 4


def test_images_of_many_bytes_are_jpegs():
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    assert len(stream.getvalue()) > MOST_BYTES
    found = Image.open(io.BytesIO(smaller_image(stream.getvalue(), 600)))
    assert (found.format, found.size) == ("JPEG", (600, 600))


@pytest.mark.parametrize("cut", [10, 50])
def test_a_broken_image(cut):
    with pytest.raises(InputError, match="cannot be decoded") as error:
        smaller_image(image("RGB", (64, 32), 0)[:cut], 16)
    assert error.value.code == ErrorCode.DAMAGED
