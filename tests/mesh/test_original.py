"""Mesh files with moved vertices: what is read back, and which bytes stay."""

import re

import meshio
import numpy as np
import pytest
from mesh_files import (
    ENCODINGS,
    OBJ_FLAVOURS,
    TRIANGLES,
    V9,
    face_table,
    make_ply,
    vertex_table,
)
from raising import raises

from facedis_core.geometry.surface import vertex_normals
from facedis_core.mesh.mesh import read_mesh, write_mesh
from facedis_core.mesh.original import read_original

SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
NORMALS = [[0, 0, 1], [0, 0.6, 0.8], [0.6, 0, 0.8], [0, 0, 1]]
TILTED = [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]]  # about the x axis by 90 degrees


def original_of(folder, data, suffix):
    path = folder / f"original{suffix}"
    path.write_bytes(data)
    return read_original(path)


def moved_mesh(folder, original, vertices, **options):
    path = folder / f"moved{original.suffix}"
    path.write_bytes(original.moved(vertices, **options))
    return read_mesh(path)


def check_vertices(found, wanted):
    """To the precision of float32 at the size of the mesh."""
    wanted = np.asarray(wanted, np.float64)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-7 * np.abs(wanted).max())


@pytest.mark.parametrize("flavour", OBJ_FLAVOURS)
def test_obj_of_every_flavour(tmp_path, flavour):
    original = original_of(tmp_path, OBJ_FLAVOURS[flavour].encode(), ".obj")
    old = original.mesh.vertices
    assert original.moved(old) == original.content

    wanted = old.astype(np.float64)
    wanted[1:] = wanted[1:] * 1.25 + 3
    mesh = moved_mesh(tmp_path, original, wanted)
    check_vertices(mesh.vertices, wanted)
    np.testing.assert_array_equal(mesh.triangles, original.mesh.triangles)
    np.testing.assert_array_equal(mesh.vertices[0], old[0])  # has not moved
    # all but the numbers of the lines v and vn
    rest = [
        re.sub(rb"(?m)((?:^|\r)[ \t]*vn?)([ \t]+[^\s#]+){3}", rb"\1", data)
        for data in (original.content, original.moved(wanted))
    ]
    assert rest[0] == rest[1]


def test_obj_vertices_behind_a_continued_line_are_refused(tmp_path):
    # a reader takes the second line as a part of the group's name
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\ng a \\ \nv 9 9 9\nf 1 2 3\n"
    original = original_of(tmp_path, text.encode(), ".obj")
    assert len(original.mesh.vertices) == 3
    with raises("unsupported: one line a vertex"):
        original.moved(original.mesh.vertices + 1)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_obj_comments_are_no_statements(tmp_path, end):
    lines = ["# from C:\\heads\\", *(f"v {x} {y} 0 # v 9 9 9\\" for x, y, _ in SQUARE)]
    lines += ["vn 0 0 1 # up", "f 1//1 2//1 3//1 # was 4/5/6", "#vn 0 0 1", ""]
    original = original_of(tmp_path, end.join(lines).encode(), ".obj")
    moved = original.moved(np.array(SQUARE) * 2.0).decode()
    assert [line.partition("#")[2] for line in moved.split(end)] == [
        line.partition("#")[2] for line in lines
    ]
    check_vertices(
        moved_mesh(tmp_path, original, np.array(SQUARE) * 2.0).vertices, 2.0 * np.array(SQUARE)
    )
    bare = original.moved(np.array(SQUARE), normals="drop").decode()
    assert bare == end.join([*lines[:5], "f 1 2 3 # was 4/5/6", "#vn 0 0 1", ""])


class TestNormals:
    def obj(self, normals=NORMALS):
        lines = ["v {} {} {}".format(*row) for row in SQUARE]
        lines += ["vn {} {} {}".format(*row) for row in normals]
        return "\n".join([*lines, "vt 0 0", "f 1/1/1 2/1/2 3/1/3 4/1/-1", ""]).encode()

    def test_of_an_obj_turn_with_the_surface(self, tmp_path):
        text = original_of(tmp_path, self.obj(), ".obj").moved(np.array(TILTED)).decode()
        found = [line.split()[1:] for line in text.splitlines() if line.startswith("vn")]
        turned = [[x, -z, y] for x, y, z in NORMALS]
        np.testing.assert_allclose(np.array(found, float), turned, atol=1e-6)
        assert text.endswith("vt 0 0\nf 1/1/1 2/1/2 3/1/3 4/1/-1\n")

    def test_of_an_obj_stay_where_nothing_turns(self, tmp_path):
        text = original_of(tmp_path, self.obj(), ".obj").moved(np.array(SQUARE) + 5.0).decode()
        assert [line for line in text.splitlines() if "vn" in line] == [
            line for line in self.obj().decode().splitlines() if "vn" in line
        ]

    def test_of_an_obj_are_left_out(self, tmp_path):
        original = original_of(tmp_path, self.obj(), ".obj")
        text = original.moved(np.array(SQUARE), normals="drop").decode()
        assert "vn" not in text and text.endswith("vt 0 0\nf 1/1 2/1 3/1 4/1\n")
        bare = self.obj().replace(b"/1/", b"//").replace(b"vt 0 0\n", b"")
        assert (
            original_of(tmp_path, bare, ".obj")
            .moved(np.array(SQUARE), normals="drop")
            .endswith(b"f 1 2 3 4\n")
        )

    @pytest.mark.parametrize("odd", ["nan nan nan", "-1.#IND 0 0", "0 0 0"])
    def test_of_an_obj_that_are_none_stay(self, tmp_path, odd):
        data = self.obj().replace(b"vn 0 0 1\n", f"vn {odd}\n".encode())
        original = original_of(tmp_path, data, ".obj")
        assert original.moved(np.array(SQUARE)) == data
        lines = original.moved(np.array(TILTED)).decode().splitlines()
        assert [line[3:] for line in lines if line.startswith("vn")][::3] == [odd, odd]

    @pytest.mark.parametrize("number", ["5", "-5", "99999999999999999999"])
    def test_of_an_obj_that_are_missing(self, tmp_path, number):
        data = self.obj().replace(b"4/1/-1", f"4/1/{number}".encode())
        original = original_of(tmp_path, data, ".obj")
        with raises("vertex-index: among the 4 there are"):
            original.moved(np.array(TILTED))
        assert b"/1 2/1 3/1 4/1\n" in original.moved(np.array(TILTED), normals="drop")

    def test_of_an_obj_with_a_word_in_their_place(self, tmp_path):
        data = self.obj().replace(b"4/1/-1", b"4/1/x")
        original = original_of(tmp_path, data, ".obj")
        assert original.moved(np.array(TILTED)).endswith(b"4/1/x\n")

    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_of_a_ply_that_are_none_stay(self, tmp_path, encoding):
        names = [f"float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")]
        rows = [(*v, np.nan, 0.0, 1.0) for v in V9.tolist()]
        data = make_ply(encoding, ("vertex", names, rows), face_table())
        original = original_of(tmp_path, data, ".ply")
        assert original.moved(V9) == data
        turned = original.moved(V9[:, [0, 2, 1]], normals="update")
        (tmp_path / "turned.ply").write_bytes(turned)
        found = meshio.read(tmp_path / "turned.ply").point_data
        np.testing.assert_array_equal(found["nx"], np.full(9, np.nan))
        np.testing.assert_array_equal(found["nz"], np.ones(9))

    def test_of_a_sphere_are_those_of_the_moved_sphere(self, tmp_path):
        """Smooth normals of a dense mesh after a smooth motion, against normals made anew."""
        angle, height = np.meshgrid(np.arange(40) * np.pi / 20, np.linspace(-1.4, 1.4, 30))
        points = np.stack(
            [np.cos(angle) * np.cos(height), np.sin(angle) * np.cos(height), np.sin(height)], -1
        ).reshape(-1, 3)
        row, column = np.divmod(np.arange(29 * 40), 40)
        right = row * 40 + (column + 1) % 40
        here = row * 40 + column
        triangles = np.concatenate(
            [np.stack([here, right, right + 40], 1), np.stack([here, right + 40, here + 40], 1)]
        ).astype(np.int32)
        bent = points * [1.3, 0.8, 1] + 0.2 * np.sin(points[:, [2, 0, 1]])
        vertices = [tuple(row) for row in points.astype(np.float32).tolist()]
        rows = [(*v, *n) for v, n in zip(vertices, points.tolist(), strict=True)]
        names = [f"float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")]
        data = make_ply(
            "binary_little_endian", ("vertex", names, rows), face_table(triangles.tolist())
        )
        original = original_of(tmp_path, data, ".ply")
        (tmp_path / "moved.ply").write_bytes(original.moved(bent))
        moved = meshio.read(tmp_path / "moved.ply")
        found = np.stack([moved.point_data[f"n{axis}"] for axis in "xyz"], 1)
        wanted = vertex_normals(bent, triangles)
        assert (found * wanted).sum(1)[40:-40].min() > 0.999
        assert (points * wanted).sum(1)[40:-40].min() < 0.97  # they had to turn


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["float", "double"])
def test_ply_keeps_other_properties(tmp_path, encoding, kind):
    names = ["uchar red", *(f"{kind} {axis}" for axis in "xyz"), "float quality"]
    rows = [(k, *map(float, v), 0.5 * k) for k, v in enumerate(V9.tolist())]
    camera = "camera", ["float focus", "int id"], [(1.5, 3), (2.5, 4)]
    faces = "face", ["list uchar int vertex_indices", "uchar flag"], [(t, 7) for t in TRIANGLES]
    data = make_ply(encoding, camera, ("vertex", names, rows), faces)
    original = original_of(tmp_path, data, ".ply")
    assert original.moved(original.mesh.vertices) == data
    wanted = V9.astype(np.float64) + 10
    moved = original.moved(wanted)
    expected = [(k, *map(float, v), 0.5 * k) for k, v in enumerate(wanted.tolist())]
    if encoding == "ascii":
        assert len(moved.splitlines()) == len(data.splitlines())
        assert [line.split()[0::4] for line in moved.splitlines()] == [
            line.split()[0::4] for line in data.splitlines()
        ]
    else:
        assert moved == make_ply(encoding, camera, ("vertex", names, expected), faces)
    mesh = moved_mesh(tmp_path, original, wanted)
    check_vertices(mesh.vertices, wanted)
    np.testing.assert_array_equal(mesh.triangles, TRIANGLES)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_ply_normals_are_left_out(tmp_path, encoding):
    names = [f"float {name}" for name in ("nx", "x", "ny", "y", "z", "nz")]
    rows = [(0.0, v[0], 0.0, v[1], v[2], 1.0) for v in V9.tolist()]
    data = make_ply(encoding, ("vertex", names, rows), face_table())
    original = original_of(tmp_path, data, ".ply")
    moved = original.moved(V9, normals="drop")
    assert b" nx\n" not in moved and b" nz\n" not in moved
    if encoding != "ascii":
        assert moved == make_ply(encoding, vertex_table(), face_table())
    mesh = moved_mesh(tmp_path, original, V9, normals="drop")
    np.testing.assert_array_equal(mesh.vertices, V9)
    np.testing.assert_array_equal(mesh.triangles, TRIANGLES)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_ply_normals_of_another_element_stay(tmp_path, encoding):
    lamp = "lamp", [f"float {name}" for name in ("nx", "ny", "nz")], [(1.0, 2.0, 3.0)]
    names = [f"float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")]
    rows = [(*v, 0.0, 0.0, 1.0) for v in V9.tolist()]
    data = make_ply(encoding, lamp, ("vertex", names, rows), face_table())
    original = original_of(tmp_path, data, ".ply")
    mesh = moved_mesh(tmp_path, original, V9, normals="drop")
    np.testing.assert_array_equal(mesh.vertices, V9)
    if encoding != "ascii":
        assert original.moved(V9, normals="drop") == make_ply(
            encoding, lamp, vertex_table(), face_table()
        )


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_ply_of_whole_numbers_is_refused(tmp_path, encoding):
    rows = [(k, k * k, 1) for k in range(9)]
    names = [f"int {axis}" for axis in "xyz"]
    data = make_ply(encoding, ("vertex", names, rows), face_table())
    original = original_of(tmp_path, data, ".ply")
    with raises("unsupported: float x y z"):
        original.moved(original.mesh.vertices + 0.5)


def test_formats_of_meshio(tmp_path):
    path = tmp_path / "cube.vtu"
    cells = [("triangle", np.array(TRIANGLES))]
    data = {"heat": np.arange(9.0)}
    meshio.write_points_cells(path, V9.astype(float), cells, point_data=data)
    original = read_original(path)
    mesh = moved_mesh(tmp_path, original, V9 + 1.0)
    check_vertices(mesh.vertices, V9 + 1.0)
    np.testing.assert_array_equal(mesh.triangles, TRIANGLES)
    np.testing.assert_array_equal(meshio.read(tmp_path / "moved.vtu").point_data["heat"], range(9))


def test_normals_in_formats_of_meshio(tmp_path):
    path = tmp_path / "square.vtk"
    cells = [("triangle", np.array([[0, 1, 2], [0, 2, 3]]))]
    data = {"Normals": np.array(NORMALS), "heat": np.arange(4.0)}
    meshio.write_points_cells(path, np.array(SQUARE, float), cells, point_data=data)
    original = read_original(path)
    out = tmp_path / "out.vtk"
    out.write_bytes(original.moved(np.array(TILTED)))
    turned = [[x, -z, y] for x, y, z in NORMALS]
    np.testing.assert_allclose(meshio.read(out).point_data["Normals"], turned, atol=1e-6)
    out.write_bytes(original.moved(np.array(TILTED), normals="drop"))
    assert list(meshio.read(out).point_data) == ["heat"]


def test_polydata_of_vtk_is_refused(tmp_path):
    """Our own reader reads it; meshio does not."""
    text = "# vtk DataFile Version 3.0\nhead\nASCII\nDATASET POLYDATA\nPOINTS 3 float\n"
    text += "0 0 0 1 0 0 0 1 0\nPOLYGONS 1 4\n3 0 1 2\n"
    original = original_of(tmp_path, text.encode(), ".vtk")
    with raises("unsupported: save it again as .obj or .ply"):
        original.moved(original.mesh.vertices)


@pytest.mark.parametrize("suffix", [".off", ".wrl", ".stl", ""])
def test_other_formats_are_refused(tmp_path, suffix):
    with raises("unsupported: moved vertices"):
        read_original(tmp_path / f"mesh{suffix}")


def test_ply_with_lists_before_its_vertices_is_refused(tmp_path):
    data = make_ply("binary_little_endian", face_table(), vertex_table())
    original = original_of(tmp_path, data, ".ply")
    with raises("unsupported: vertices first"):
        original.moved(V9)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e39])
def test_vertices_that_are_not_finite_are_refused(tmp_path, wrong):
    path = tmp_path / "mesh.ply"
    path.write_bytes(make_ply("ascii", vertex_table(), face_table()))
    vertices = V9.astype(np.float64)
    vertices[3, 1] = wrong
    with raises("not-finite"):
        read_original(path).moved(vertices)
    with raises("array-shape"):
        read_original(path).moved(V9[:4])


def test_our_own_ply(tmp_path):
    mesh = read_mesh("weights/examples/bob_smile.ply")
    write_mesh(tmp_path / "bob.ply", mesh)
    original = read_original(tmp_path / "bob.ply")
    again = moved_mesh(tmp_path, original, mesh.vertices * np.float32(1.5))
    np.testing.assert_array_equal(again.vertices, mesh.vertices * np.float32(1.5))
    assert again.unit_mm == 1.0
