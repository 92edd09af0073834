"""Textures for the viewer of pages: which corners are drawn where."""

import base64

import numpy as np
import pytest
from images import png

from facedis_core.mesh.appearance import file_among, read_appearance
from facedis_core.mesh.mesh import read_mesh
from facedis_core.render.page_texture import page_texture

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


def test_without_images_there_is_no_texture(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ)
    mesh = read_mesh(tmp_path / "a.obj")
    look = read_appearance("a.obj", OBJ.encode(), mesh, file_among({"a.mtl": MTL}))
    assert page_texture(look, None, mesh.triangles) is None
    assert "its texture skin.png is missing" in look.warnings[0]
