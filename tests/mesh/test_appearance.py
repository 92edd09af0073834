"""What OBJ with .mtl, and PLY, say about how their surface looks."""

import os

import numpy as np
import pytest
from images import png
from mesh_files import ENCODINGS, TRIANGLES, V9, face_table, make_ply, vertex_table

from facedis_core.mesh.appearance import Material, read_appearance
from facedis_core.mesh.mesh import read_mesh


def appearance_of(folder, text, name="head.obj"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_appearance(str(path), path.read_bytes(), read_mesh(path))


# A square of two quads that share an edge, which is a seam of the texture but for one end.
QUADS = """# by hand
mtllib my head.mtl
v 0 0 0
v 1 0 0
v 2 0 0
v 0 1 0
v 1 1 0
v 2 1 0
v 9 9 9
vt 0 0
vt 0.5 0
vt 0 1
vt 0.5 1 0
vt 0.75 0
vt 1 0
vt 1 1
vn 0 0 2
vn 0 1 1
usemtl skin of ann
f 1/1/1 2/2/1 5/4/1 4/3/1
usemtl cloth
f 2/5/1 3/6/1 6/-1/-1 \\
  5/4/1
f 1 2
"""


def test_corners_of_an_obj(tmp_path):
    look = appearance_of(tmp_path, QUADS)
    np.testing.assert_array_equal(look.triangles, [[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]])
    np.testing.assert_array_equal(look.texture, [[0, 1, 3], [0, 3, 2], [4, 5, 6], [4, 6, 3]])
    np.testing.assert_array_equal(look.normal, [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(look.material, [0, 0, 1, 1])
    assert [material.name for material in look.materials] == ["skin of ann", "cloth"]
    assert look.uv[3].tolist() == [0.5, 1]
    (warning,) = look.warnings
    assert warning.endswith(
        "head.obj: its materials my head.mtl are missing; put that file beside it"
    )


def test_vertices_are_split_at_seams_alone(tmp_path):
    look = appearance_of(tmp_path, QUADS)
    split = look.split(7)
    np.testing.assert_array_equal(split.source, [0, 1, 2, 3, 4, 5, 6, 1])
    np.testing.assert_array_equal(split.triangles, [[0, 1, 4], [0, 4, 3], [7, 2, 5], [7, 5, 4]])
    np.testing.assert_array_equal(split.texture, [0, 1, 5, 2, 3, 6, -1, 4])
    np.testing.assert_array_equal(split.normal, [0, 0, 0, 0, 0, 1, -1, 0])


def test_a_library(tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/skin 1.png").write_bytes(png(200, 100, 50))
    (tmp_path / "rough.tga").write_bytes(b"\0\0\2" + bytes(40))
    (tmp_path / "my head.mtl").write_text(
        "# made\nnewmtl skin of ann\r\n\tKd 0 0 0\r\n\tmap_Kd -s 1 1 1 -clamp on maps\\skin 1.png\n"
        "newmtl cloth\nKd 0.5 0.25 2\nTr 0.75\nmap_Kd rough.tga\n"
        "newmtl lashes that nothing has\nmap_Kd none.jpg\nKd nan\nd 0\n"
    )
    look = appearance_of(tmp_path, QUADS)
    skin, cloth = look.materials
    assert skin == Material("skin of ann", (1, 1, 1, 1), png(200, 100, 50))
    assert cloth == Material("cloth", (0.5, 0.25, 1, 0.25))
    bright, tga = look.warnings
    assert bright.endswith(
        "my head.mtl: Kd of cloth is '0.5 0.25 2', expected numbers from 0 to 1; mend it there"
    )
    assert "rough.tga is left out: a texture must be PNG or JPEG" in tga


@pytest.mark.parametrize("word", ["Kd red", "Kd spectral skin.rfl", "d nan", "Tr -1"])
def test_values_of_materials_that_are_none(tmp_path, word):
    (tmp_path / "a.mtl").write_text(f"newmtl skin\n{word}\nmap_Kd C:\\work\\none.png\n")
    look = appearance_of(tmp_path, TRIANGLE.format("a.mtl", "skin"))
    assert look.materials[0].color == (0.8, 0.8, 0.8, 1)
    wrong, missing = look.warnings
    assert f"a.mtl: {word.split()[0]} of skin is" in wrong
    assert missing.endswith("its texture C:\\work\\none.png is missing; put it beside it")


def test_materials_that_no_library_has_are_told(tmp_path):
    (tmp_path / "a.mtl").write_text("newmtl cloth\nKd 0 1 0\n")
    look = appearance_of(tmp_path, QUADS.replace("my head.mtl", "a.mtl"))
    assert [material.color for material in look.materials] == [(0.8, 0.8, 0.8, 1), (0, 1, 0, 1)]
    (warning,) = look.warnings
    assert warning.endswith("a.mtl has no material skin of ann, which stays grey; add it there")


TRIANGLE = "mtllib {}\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl {}\nf 1/1 2/1 3/1\n"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("on_disk", [b"K\xc3\xb6pf.mtl", b"K\xf6pf.mtl", b"KO\xcc\x88PF.MTL"])
def test_files_whose_names_are_spelled_otherwise(tmp_path, encoding, on_disk):
    """In Latin-1, with accents composed as macOS does, in the case of Windows."""
    library = tmp_path / os.fsdecode(on_disk)
    library.write_bytes("newmtl Häut\nKd 1 0 0\nmap_Kd Größe.png\n".encode(encoding))
    (tmp_path / "größe.PNG").write_bytes(png(1, 2, 3))
    look = appearance_of(tmp_path, TRIANGLE.format("Köpf.mtl", "Häut").encode(encoding))
    assert look.materials == (Material("Häut", (1, 1, 1, 1), png(1, 2, 3)),)
    assert look.warnings == ()


def test_a_name_in_latin_1_is_shown_as_it_reads(tmp_path):
    look = appearance_of(tmp_path, TRIANGLE.format("Köpf.mtl", "Häut").encode("latin-1"))
    assert [material.name for material in look.materials] == ["Häut"]
    assert "its materials Köpf.mtl are missing" in look.warnings[0]


@pytest.mark.parametrize(
    ("used", "described", "color"),
    [
        ("Skin #2", "Skin #1\nKd 1 0 0\nnewmtl Skin #2", 0.25),
        ("skin # of ann", "skin", 0.25),
        ("Skin #2", "Skin", 0.25),
        ("skin", "skin # of ann", 0.8),
    ],
)
def test_materials_whose_names_have_a_number_sign(tmp_path, used, described, color):
    (tmp_path / "a.mtl").write_text(f"newmtl {described}\nKd 0.25\n")
    look = appearance_of(tmp_path, "# usemtl eye\n" + TRIANGLE.format("a.mtl", used))
    assert look.materials == (Material(used, (color, color, color, 1)),)
    assert bool(look.warnings) == (color == 0.8)


def test_textures_without_coordinates_are_left_out(tmp_path):
    """They have no place; glTF with them is invalid."""
    (tmp_path / "a.png").write_bytes(png(1, 2, 3))
    (tmp_path / "a.mtl").write_text("newmtl skin\nd 0.5\nmap_Kd a.png\nmap_d a.png\n")
    bare = TRIANGLE.replace("vt 0 0\n", "").replace("/1", "").format("a.mtl", "skin")
    look = appearance_of(tmp_path, bare)
    assert look.materials == (Material("skin"),) and not look.is_textured
    (warning,) = look.warnings
    assert warning.endswith(
        "head.obj has no texture coordinates (vt), so its textures are left out; export it with "
        "them"
    )
    with (tmp_path / "a.mtl").open("a") as library:
        library.write("newmtl lips\nKd 1 0 0\n")
    look = appearance_of(tmp_path, f"{bare}usemtl lips\nf 1 2 3\n")  # keeps its own color
    assert look.materials == (Material("skin"), Material("lips", (1, 0, 0, 1)))


def test_a_texture_with_opacity(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 and so on")
    (tmp_path / "a.mtl").write_text("newmtl lashes\nd 0\nmap_Kd /gone/a.jpg\nmap_d a.jpg\n")
    (lashes,) = appearance_of(tmp_path, TRIANGLE.format("none.mtl a.mtl", "lashes")).materials
    assert lashes == Material("lashes", (1, 1, 1, 1), b"\xff\xd8\xff\xe0 and so on", True)


def test_indices_that_are_nowhere_are_none(tmp_path):
    look = appearance_of(
        tmp_path,
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 nan\nvt 0 1\nf 1/1/9 2/2/-7 3/99999999999999999/\n",
    )
    assert look.texture.tolist() == [[-1, 1, -1]]
    assert look.normal.tolist() == [[-1, -1, -1]]
    assert look.materials == ()


def test_texture_coordinates_of_one_number(tmp_path):
    """As of a gradient; they count like those of two or three."""
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0.5\nvt 0.25 0.75\nvt 1 0.5 0\nf 1/1 2/2 3/3\n"
    look = appearance_of(tmp_path, text)
    np.testing.assert_array_equal(look.uv, [[0.5, 0], [0.25, 0.75], [1, 0.5]])
    np.testing.assert_array_equal(look.texture, [[0, 1, 2]])


def test_texture_coordinates_that_are_not_there_are_told(tmp_path):
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt nan 0\nf 1/1 2/2 3/7\nf 1 2 3\n"
    (warning,) = appearance_of(tmp_path, text).warnings
    assert "head.obj: 2 of 6 corners of its triangles have texture coordinates (vt)" in warning


def test_materials_without_a_library_are_told(tmp_path):
    (warning,) = appearance_of(
        tmp_path, TRIANGLE.replace("mtllib {}\n", "").format("skin")
    ).warnings
    assert "head.obj names no file of materials (mtllib), so skin stays grey" in warning


def test_a_texture_of_tiles(tmp_path):
    """UDIM: 1001 + column + 10 rows; a border belongs to the tile of its triangle."""
    (tmp_path / "a.mtl").write_text(
        "newmtl skin\nKd 1 0 0\nmap_Kd s.<UDIM>.png\nnewmtl eye\nKd 0 1 0\n"
    )
    for number in (1001, 1002, 1012):
        (tmp_path / f"s.{number}.png").write_bytes(png(number % 100, 0, 0))
    places = ("0 0", "1 0", "1 1", "2 0", "2 1", "1 2", "2 2", "3 0", "3 1")
    faces = ("1 2 3", "2 4 5", "3 7 6", "8 9 5", "5 7 3")
    text = "".join(f"vt {p}\nv {p} 0\n" for p in places) + "usemtl skin\n"
    text += "".join("f " + " ".join(f"{k}/{k}" for k in f.split()) + "\n" for f in faces)
    look = appearance_of(tmp_path, f"mtllib a.mtl\n{text}usemtl eye\nf 1/1 2/2 3/3\n")
    assert look.materials == (
        Material("skin.1001", (1, 1, 1, 1), png(1, 0, 0)),
        Material("skin.1002", (1, 1, 1, 1), png(2, 0, 0)),
        Material("skin.1003", (1, 0, 0, 1)),
        Material("skin.1012", (1, 1, 1, 1), png(12, 0, 0)),
        Material("eye", (0, 1, 0, 1)),
    )
    assert look.material.tolist() == [0, 1, 3, 2, 3, 4]
    (missing,) = look.warnings
    assert missing.endswith("its texture s.1003.png is missing; put it beside it")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["v 0 0 0 255 0 0", "v 1 0 0 0 255 0", "v 0 1 0 0 0 51"], 0.033105),  # 0.2 in linear light
        (["v 0 0 0 1 0 0 1", "v 1 0 0 0 1 0 1", "v 0 1 0 0 0 0.2 0.5"], 0.033105),  # with opacity
        (["#MRGB ffff000000", "#MRGB 00ff00", "v 0 0 0", "v 1 0 0", "v 0 1 0"], None),
        (
            ["v 0 0 0", "v 1 0 0", "#MRGB ffff0000ff00ff00", "#MRGB 80000033", "v 0 1 0"],
            0.033105,  # of ZBrush
        ),
    ],
)
def test_other_ways_to_write_colors_of_vertices(tmp_path, lines, expected):
    look = appearance_of(tmp_path, "\n".join([*lines, "f 1 2 3", ""]))
    if expected is None:
        assert look.colors is None
        return
    np.testing.assert_allclose(look.colors, [[1, 0, 0], [0, 1, 0], [0, 0, expected]], atol=1e-5)


@pytest.mark.parametrize("end", ["\n", " \r\n", " # red\r\n"])
def test_colors_of_the_vertices_of_an_obj(tmp_path, end):
    lines = ["v 0 0 0 1 0 0.5", "v 1 0 0 1 0 0.5", "v 0 1 0 1 0 0.5"]
    look = appearance_of(tmp_path, end.join([*lines, "f 1 2 3", ""]))
    np.testing.assert_allclose(look.colors, [[1, 0, 0.2140]] * 3, atol=1e-4)
    lines[1] = "v 1 0 0"
    assert appearance_of(tmp_path, end.join([*lines, "f 1 2 3", ""])).colors is None
    lines = [line + " 1" for line in lines]  # r g b a
    assert appearance_of(tmp_path, end.join([*lines, "f 1 2 3", ""])).colors is None


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_ply(tmp_path, encoding):
    (tmp_path / "skin.png").write_bytes(png(1, 2, 3))
    name, properties, rows = vertex_table(V9)
    more = [(*row, k / 8, 1 - k / 8, 255, 0, 188) for k, row in enumerate(rows)]
    properties = [*properties, "float s", "float t", "uchar red", "uchar green", "uchar blue"]
    data = make_ply(encoding, (name, properties, more), face_table(TRIANGLES))
    data = data.replace(b"comment made here", b"comment TextureFile skin.png")
    look = appearance_of(tmp_path, data, "head.ply")
    np.testing.assert_array_equal(look.texture, TRIANGLES)
    np.testing.assert_array_equal(look.uv[:, 0], np.arange(9) / 8)
    np.testing.assert_allclose(look.colors[0], [1, 0, 0.5029], atol=1e-4)
    assert look.materials == (Material("skin", (1, 1, 1, 1), png(1, 2, 3)),)
    assert len(look.split(9).source) == 9


@pytest.mark.parametrize(
    ("kind", "red"), [("ushort", 65535 // 2), ("ushort", 127), ("int", 127), ("float", 0.498)]
)
def test_colors_of_a_ply_are_parts_of_the_largest_value(tmp_path, kind, red):
    name, properties, rows = vertex_table(V9)
    properties = [*properties, f"{kind} red", f"{kind} green", f"{kind} blue"]
    table = name, properties, [(*row, red, 0, 0) for row in rows]
    data = make_ply("ascii", table, face_table(TRIANGLES))
    colors = appearance_of(tmp_path, data, "head.ply").colors
    np.testing.assert_allclose(colors, [[0.213, 0, 0]] * 9, atol=2e-3)  # a half, in linear light


def test_texture_coordinates_of_corners_of_a_ply_are_told(tmp_path):
    """As MeshLab writes them."""
    head = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
    head += "property float z\nelement face 1\nproperty list uchar int vertex_indices\n"
    body = "0 0 0\n1 0 0\n0 1 0\n3 0 1 2"
    wedges = f"{head}property list uchar float texcoord\nend_header\n{body} 6 0 0 1 0 0 1\n"
    (warning,) = appearance_of(tmp_path, wedges, "head.ply").warnings
    assert "head.ply has texture coordinates at the corners of faces (texcoord)" in warning
    assert not appearance_of(tmp_path, f"{head}end_header\n{body}\n", "head.ply").warnings


def test_other_files_are_plain(tmp_path):
    look = appearance_of(tmp_path, "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "head.off")
    assert look.materials == () and not len(look.uv) and look.colors is None
    np.testing.assert_array_equal(look.split(3).triangles, [[0, 1, 2]])
