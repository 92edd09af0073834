"""PLY files of many kinds, one after another in a stream, and files that are none."""

import io
import math
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_files import (
    ENCODINGS,
    PLY_CODES,
    POLYGONS,
    TRIANGLES,
    V9,
    blocks_of,
    check_mesh,
    check_refused,
    encoded,
    face_table,
    fans,
    make_ply,
    nine,
    read_bytes,
    read_in_blocks,
    vertex_table,
)
from raising import raises

from facedis_core.mesh.mesh import Mesh, read_meshes, write_mesh
from facedis_core.mesh.surface_builder import LONGEST_POLYGON
from facedis_core.mesh.text_numbers import LONGEST_LINE

MB = 1 << 20


class Trickle(io.RawIOBase):
    """A pipe: no seeking, a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self.data, self.step, self.position = data, step, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        block = self.data[self.position : self.position + min(self.step, len(buffer))]
        buffer[: len(block)] = block
        self.position += len(block)
        return len(block)


WHOLE = st.sampled_from([kind for kind in PLY_CODES if kind not in ("float", "double")])
OTHERS = st.one_of(
    st.sampled_from(sorted(PLY_CODES)),
    st.tuples(WHOLE, st.sampled_from(sorted(PLY_CODES))).map(lambda two: f"list {two[0]} {two[1]}"),
)


def among_others(draw, table, most=3):
    """The table with other properties between those that count."""
    name, properties, rows = table
    properties, rows = list(properties), [list(row) for row in rows]
    for number in range(draw(st.integers(0, most))):
        place = draw(st.integers(0, len(properties)))
        kind = draw(OTHERS)
        properties.insert(place, f"{kind} p{number}")
        values = st.integers(0, 4)
        for row in rows:
            row.insert(place, draw(st.lists(values, max_size=3) if "list" in kind else values))
    return name, properties, rows


@st.composite
def plys(draw):
    """A PLY, its vertices and its polygons."""
    vertices = V9[: draw(st.integers(5, 9))]
    size = draw(st.sampled_from([3, 4, None]))
    corners = st.lists(st.integers(0, 4), min_size=size or 3, max_size=size or 6)
    polygons = draw(st.lists(corners, max_size=8))
    name = draw(st.sampled_from(["vertex_indices", "vertex_index"]))
    tables = [
        among_others(draw, vertex_table(vertices, draw(st.sampled_from(["float", "double"])))),
        among_others(draw, face_table(polygons, f"list {draw(WHOLE)} {draw(WHOLE)} {name}")),
    ]
    if draw(st.booleans()):
        edges = among_others(draw, ("edge", ["int vertex1"], [[k] for k in range(3)]))
        tables.insert(draw(st.integers(0, 2)), edges)
    newline = draw(st.sampled_from(["\n", "\r\n", "\n\n", " \n"]))
    data = make_ply(draw(st.sampled_from(ENCODINGS)), *tables, newline=newline)
    return data, vertices, polygons


@settings(max_examples=50)
@given(plys(), st.sampled_from([1, 9, 60]), st.sampled_from([1, 7, 10**6]), st.integers(0, 9))
def test_any_properties_in_blocks_of_any_size(tmp_path, made, size, step, cut):
    data, vertices, polygons = made
    mesh = read_bytes(tmp_path, data, ".PLY")
    check_mesh(mesh, vertices, fans(polygons))
    assert mesh.unit_mm is None
    if b"format ascii" in data:  # the last line may lack its end
        check_mesh(read_bytes(tmp_path, data.rstrip(), ".ply"), vertices, fans(polygons))
    usual, found = read_in_blocks(tmp_path, data[: len(data) - cut], ".ply", size)
    assert found == usual
    stream = Trickle(b"\n" + data + b" \r\n" + data, step)
    with blocks_of(size):
        meshes = read_meshes(stream)
        for end in (1 + len(data), 4 + 2 * len(data)):
            check_mesh(next(meshes), vertices, fans(polygons))
            # nothing of what follows has been asked for, so a live pipe never waits for it
            assert stream.position <= end and not stream.data[stream.position : end].strip()
        assert next(meshes, None) is None


def test_a_mesh_arrives_before_the_next_is_sent():
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as source, os.fdopen(write_end, "wb") as sink:
        meshes = read_meshes(source)
        for number in range(3):
            write_mesh(sink, nine())
            sink.flush()
            mesh = next(meshes)
            check_mesh(mesh, V9, TRIANGLES)
            assert mesh.name == f"mesh{number + 1}"
        sink.close()
        assert next(meshes, None) is None


def test_ours_byte_for_byte():
    mesh = Mesh(np.ones((3, 3), np.float32), np.array([[0, 1, 2]], np.int32), "a b/é=1\n", 1.0)
    assert encoded(mesh) == (
        b"ply\nformat binary_little_endian 1.0\ncomment facedis unit=mm\n"
        b"comment facedis name=a%20b%2F%C3%A9%3D1%0A\nelement vertex 3\n"
        b"property float x\nproperty float y\nproperty float z\nelement face 1\n"
        b"property list uchar int vertex_indices\nend_header\n"
        + struct.pack("<9f", *[1.0] * 9)
        + struct.pack("<B3i", 3, 0, 1, 2)
    )
    (back,) = read_meshes(io.BytesIO(encoded(mesh)))
    assert (back.name, back.unit_mm) == ("a b/é=1\n", 1.0)


def test_an_unknown_unit_is_not_written():
    data = encoded(Mesh(V9, np.array(TRIANGLES, np.int32), "face", None))
    assert b"unit" not in data
    (back,) = read_meshes(io.BytesIO(data))
    assert back.unit_mm is None


def test_a_name_that_is_not_utf_8_comes_back_byte_for_byte():
    name = os.fsdecode(b"m\xfcller/\xe9")
    data = encoded(nine(name))
    assert b"name=m%FCller%2F%E9\n" in data
    (back,) = read_meshes(io.BytesIO(data))
    assert back.name == name


def test_polygons_are_numbered_across_blocks(tmp_path):
    with blocks_of(1):
        data = ascii_ply(polygons=[[0, 1, 2], [1, 2, 3], [0, 1]])
        check_refused(tmp_path, data, ".ply", "mesh-syntax: polygon 2 has 2 corners")


BINARY = make_ply("binary_little_endian", vertex_table(), face_table())
QUADS = make_ply("binary_little_endian", vertex_table(), face_table(POLYGONS))
ASCII = make_ply("ascii", vertex_table(), face_table())
POINTS = make_ply("ascii", vertex_table([[0, 0, 0]] * 3))
INT_LISTS = make_ply(
    "binary_little_endian", vertex_table(), face_table(TRIANGLES, "list int int vertex_indices")
)


def ascii_ply(vertices=V9, polygons=TRIANGLES, kind="float"):
    return make_ply("ascii", vertex_table(vertices, kind), face_table(polygons))


def uchar_ply(faces, counts, corners, body):
    """Three vertices of bytes, and faces whose rows are given."""
    coordinates = "".join(f"property uchar {axis}\n" for axis in "xyz")
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex 3\n{coordinates}"
        f"element face {faces}\nproperty list {counts} {corners} vertex_indices\nend_header\n"
    )
    return header.encode() + bytes(9) + body


def slow_strips(strips, restarts=(-1,)):
    """Triangles of triangle strips, one after another."""
    found = []
    for strip in strips:
        part = []
        for corner in strip:
            part = [] if corner in restarts else [*part, corner]
            if len(part) >= 3:
                a, b, c = part[-3:]
                found.append([a, b, c] if len(part) % 2 else [b, a, c])
    return [corners for corners in found if len(set(corners)) == 3]


STRIPS = st.lists(st.lists(st.integers(-1, 8), max_size=12), max_size=4)


@settings(max_examples=60)
@given(STRIPS, st.sampled_from(ENCODINGS), st.booleans(), st.integers(1, 60))
def test_triangle_strips_against_a_slow_way(tmp_path, strips, encoding, faces, size):
    table = ("tristrips", ["list int int vertex_indices"], [[strip] for strip in strips])
    tables = [vertex_table(), *([face_table()] if faces else []), table]
    data = make_ply(encoding, *tables)
    expected = [*(TRIANGLES if faces else []), *slow_strips(strips)]
    with blocks_of(size):
        mesh = read_bytes(tmp_path, data, ".ply")
    check_mesh(mesh, V9, np.array(expected, np.int32).reshape(-1, 3))


def test_strips_of_an_unsigned_type(tmp_path):
    strip = [0, 1, 3, 4, 2**32 - 1, 1, 2, 4, 5]
    table = ("tristrips", ["list uchar uint vertex_index"], [[strip]])
    mesh = read_bytes(tmp_path, make_ply("binary_big_endian", vertex_table(), table), ".ply")
    check_mesh(mesh, V9, [[0, 1, 3], [3, 1, 4], [1, 2, 4], [4, 2, 5]])


def test_a_strip_longer_than_any_polygon(tmp_path):
    strip = np.tile([0, 1, 3, 4], LONGEST_POLYGON // 3).tolist()
    table = ("tristrips", ["list int int vertex_indices"], [[strip]])
    mesh = read_bytes(tmp_path, make_ply("binary_little_endian", vertex_table(), table), ".ply")
    assert len(mesh.triangles) == len(strip) - 2


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["edge", "material", "multi_patch", "camera"])
def test_elements_without_a_surface(tmp_path, encoding, name):
    others = (name, ["int vertex1", "list uchar int other"], [[0, [1, 2]], [5, []]])
    data = make_ply(encoding, others, vertex_table(), face_table())
    check_mesh(read_bytes(tmp_path, data, ".ply"), V9, TRIANGLES)


@settings(max_examples=60)
@given(st.sampled_from(["\n", "\r\n", "\r"]), st.integers(1, 60), st.integers(1, 40))
def test_line_ends_of_text(tmp_path, newline, size, step):
    data = make_ply("ascii", vertex_table(), face_table(POLYGONS)).replace(b"\n", newline.encode())
    with blocks_of(size):
        check_mesh(read_bytes(tmp_path, data, ".ply"), V9, fans(POLYGONS))
        stream = io.BufferedReader(Trickle(b"\xef\xbb\xbf" + data + data, step))
        found = [(m.vertices.tolist(), m.triangles.tolist()) for m in read_meshes(stream)]
    assert found == [(V9.tolist(), fans(POLYGONS).tolist())] * 2


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("first", [10, 13])
def test_data_that_begin_with_a_byte_of_a_line_end(tmp_path, newline, first):
    vertices = V9.copy()
    vertices.view(np.uint8)[0, 0] = first
    data = encoded(Mesh(vertices, np.array(TRIANGLES, np.int32)))
    end = data.index(b"end_header\n") + len(b"end_header\n")
    data = data[:end].replace(b"\n", newline) + data[end:]
    check_mesh(read_bytes(tmp_path, data, ".ply"), vertices, TRIANGLES)


UNUSABLE = {
    "strips beyond the vertices": (
        make_ply(
            "ascii", vertex_table(), ("tristrips", ["list int int vertex_indices"], [[[0, 1, 9]]])
        ),
        "vertex-index: refers to vertex 9",
    ),
    "strips with another negative index": (
        make_ply(
            "binary_little_endian",
            vertex_table(),
            ("tristrips", ["list int int vertex_indices"], [[[0, 1, -2]]]),
        ),
        "vertex-index: refers to vertex -2",
    ),
    "strips without lists": (
        make_ply("ascii", vertex_table(), ("tristrips", ["int vertex_indices"], [[1]])),
        "mesh-syntax: tristrips without one list",
    ),
    "a grid of a scanner": (
        make_ply("ascii", vertex_table(), ("range_grid", ["list uchar int v"], [[[0]]])),
        "unsupported: a surface in the PLY element 'range_grid'; expected it in face or tristrips",
    ),
    "faces of another name": (
        make_ply("ascii", vertex_table(), ("skin", ["list uchar int vertex_index"], [[[0, 1, 2]]])),
        "unsupported: a surface in the PLY element 'skin'",
    ),
    "faces in upper case": (
        make_ply("ascii", vertex_table(), ("Face", ["list uchar int v"], [[[0, 1, 2]]])),
        "unsupported: a surface in the PLY element 'Face'",
    ),
    "msvc nan": (
        make_ply("ascii", vertex_table([[1, 2, 3], [0.5, 0, 0]])).replace(b"0.5", b"1.#QNAN"),
        "mesh-syntax: vertex 1 has '1.#QNAN' where a number was expected",
    ),
    "utf-16": ("ply\nformat ascii 1.0\n".encode("utf-16"), "wrong-kind: text in UTF-16"),
    "utf-16 without a mark": ("ply\nformat".encode("utf-16-le"), "wrong-kind: text in UTF-16"),
    "utf-32": ("ply\nformat ascii 1.0\n".encode("utf-32"), "wrong-kind: text in UTF-32"),
    "empty": (b"", "empty"),
    "a pickle": (b"\x80\x04\x95\x00", "wrong-kind: begins with"),
    "latents": (b"\x93NUMPY\x01\x00v\x00", "wrong-kind: holds a .npy array"),
    "no header end": (BINARY[:60], "truncated: truncated within its PLY header"),
    "truncated vertices": (BINARY[: BINARY.index(b"end_header") + 30], "truncated"),
    "truncated faces": (BINARY[:-1], "truncated"),
    "truncated polygons": (QUADS[:-1], "truncated"),
    "truncated ascii": (ASCII[:-12], "truncated"),
    "trailing": (BINARY + b"more", "mesh-syntax: goes on after its mesh"),
    "many rows": (
        BINARY.replace(b"vertex 9", b"vertex 1000000000000"),
        "truncated: es 1000000000000 rows",
    ),
    "many polygons": (
        QUADS.replace(b"face 5", b"face 1000000000000"),
        "truncated: es 1000000000000 rows",
    ),
    "many lines": (
        ASCII.replace(b"vertex 9", b"vertex 1000000000000"),
        "truncated: es 1000000000000 rows",
    ),
    "count without end": (
        BINARY.replace(b"vertex 9", b"vertex " + b"9" * 5000),
        "mesh-syntax: promises",
    ),
    "negative count": (
        BINARY.replace(b"vertex 9", b"vertex -9"),
        "mesh-syntax: promises '-9' rows",
    ),
    "escapes in an element": (
        BINARY.replace(b"vertex 9", b"ver\x1btex -3"),
        "mesh-syntax: expected a",
    ),
    "zero vertices": (
        b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n",
        "empty: no vertices",
    ),
    "no vertex element": (b"ply\nformat ascii 1.0\nend_header\n", "mesh-syntax: PLY elements"),
    "no coordinates": (BINARY.replace(b"float x", b"float u"), "mesh-syntax: no x, y and z"),
    "a property twice": (
        BINARY.replace(b"float x", b"float y"),
        "mesh-syntax: two properties of one name",
    ),
    "many properties": (
        POINTS.replace(b"end_", b"".join(b"property char p%d\n" % k for k in range(999)) + b"end_"),
        "too-large: 1002 properties in PLY element 'vertex'",
    ),
    "no format": (BINARY.replace(b"format binary_little_endian 1.0\n", b""), "mesh-syntax: format"),
    "a line of no PLY": (
        BINARY.replace(b"element face", b"elephant face"),
        "mesh-syntax: not understood",
    ),
    "unknown type": (BINARY.replace(b"float x", b"quaternion x"), "mesh-syntax: type 'quaternion'"),
    "corners of float": (
        BINARY.replace(b"uchar int", b"uchar float"),
        "mesh-syntax: whole numbers",
    ),
    "negative list": (
        INT_LISTS.replace(struct.pack("<ii", 3, 0), struct.pack("<ii", -3, 0)),
        "mesh-syntax: length -3",
    ),
    "two corners": (
        ascii_ply(polygons=[[0, 1, 2], [0, 1]]),
        "mesh-syntax: polygon 1 has 2 corners",
    ),
    "index out of range": (ascii_ply(polygons=[[0, 1, 9]]), "vertex-index: refers to vertex 9"),
    "negative index": (
        make_ply("binary_big_endian", vertex_table(), face_table([[0, 1, -1]])),
        "vertex-index: refers to vertex -1",
    ),
    "not finite": (ascii_ply([[0, 0, 0], [0, 0, math.nan]]), "not-finite: vertex 1 is not finite"),
    "double beyond float": (
        ascii_ply([[0, 0, 1e300]] * 3, kind="double"),
        "not-finite",
    ),
    "row too short": (
        ASCII.replace(b"3 0 1 3", b"3 0 1"),
        "mesh-syntax: row 0 of PLY element 'face'",
    ),
    "row too long": (
        ASCII.replace(b"3 0 1 3", b"3 0 1 3 4"),
        "mesh-syntax: row 0 of PLY element 'face'",
    ),
    "word for a number": (ASCII.replace(b"3 0 1 3", b"3 0 x 3"), "mesh-syntax: has 'x' where"),
    "blanks before": (b" " * MB, "mesh-syntax: blanks where a PLY"),
    "blanks behind": (POINTS + b"\n" * MB, "mesh-syntax: blanks where a PLY"),
    "a long row": (POINTS[:-20] + b"7" * LONGEST_LINE, "too-large: line of more than"),
    "a long row of blanks": (POINTS[:-20] + b" " * LONGEST_LINE, "too-large: line of more than"),
    "empty rows": (
        POINTS[: POINTS.index(b"end_header") + 11] + b"\n" * 18 * MB,
        "too-large: MB of empty lines",
    ),
    "a list of very many": (
        uchar_ply(2, "uint", "int", b"\xff\xff\xff\x7f" + bytes(99)),
        f"too-large: of 2147483647 corners; expected {LONGEST_POLYGON} at most",
    ),
    "lists of 255": (
        uchar_ply(30_000, "uchar", "uchar", (b"\xff" + bytes(255)) * 30_000),
        "too-large: MB as triangles",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_files(tmp_path, case):
    data, error = UNUSABLE[case]
    check_refused(tmp_path, data, ".ply", error)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b" \n", "empty: standard input"),
        (BINARY + BINARY[:-1], "truncated: standard input, mesh 2"),
    ],
)
def test_unusable_streams(data, error):
    with raises(error):
        list(read_meshes(io.BytesIO(data)))
