"""Codecs against slow readers of a few lines each, and against whatever is no mesh."""

import io
import math
import os
import struct
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facedis_core.errors import InputError, UsageError
from facedis_core.mesh.mesh import Mesh, mesh_files, read_mesh, read_meshes, topology_id, write_mesh
from facedis_core.mesh.text_numbers import decimals, tokenize

QUADS_AND_TRIANGLES = [[0, 1, 4, 3], [1, 2, 4], [3, 4, 7, 6], [4, 2, 5, 8, 7], [0, 3, 6]]
TRIANGLES = [[0, 1, 3], [1, 4, 3], [1, 2, 4], [2, 5, 4]]


def nine_vertices() -> np.ndarray:
    """Nine float32 vertices of which no decimal of fewer than nine digits is all."""
    return (np.random.default_rng(3).normal(size=(9, 3)) * [1e-3, 1, 1e4]).astype(np.float32)


def fans(polygons) -> np.ndarray:
    found = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
    return np.array(found, np.int32).reshape(-1, 3)


def naive_obj(text: str) -> tuple[np.ndarray, np.ndarray]:
    vertices, polygons = [], []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["v"]:
            vertices.append([np.float32(float(word)) for word in words[1:4]])
        elif words[:1] == ["f"]:
            numbers = [int(word.split("/")[0]) for word in words[1:]]
            polygons.append([n - 1 if n > 0 else len(vertices) + n for n in numbers])
    return np.array(vertices, np.float32), fans(polygons)


PLY_CODES = {"uchar": "B", "int": "i", "uint": "I", "short": "h", "float": "f", "double": "d"}


def naive_ply(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    header, _, body = data.partition(b"end_header\n")
    lines = [line.split() for line in header.decode().splitlines()]
    encoding = next(line[1] for line in lines if line[0] == "format")
    words = iter(body.split())
    order = ">" if "big" in encoding else "<"
    position = 0

    def value(kind):
        nonlocal position
        if encoding == "ascii":
            return float(next(words))
        (result,) = struct.unpack_from(order + PLY_CODES[kind], body, position)
        position += struct.calcsize(order + PLY_CODES[kind])
        return result

    vertices, polygons, elements = [], [], []
    for line in lines:
        if line[0] == "element":
            elements.append((line[1], int(line[2]), []))
        elif line[0] == "property":
            elements[-1][2].append(line[1:])
    for element, count, properties in elements:
        for _ in range(count):
            row = {}
            for p in properties:
                if p[0] == "list":
                    row[p[3]] = [value(p[2]) for _ in range(int(value(p[1])))]
                else:
                    row[p[1]] = value(p[0])
            if element == "vertex":
                vertices.append([row["x"], row["y"], row["z"]])
            elif element == "face":
                corners = row["vertex_indices"] if "vertex_indices" in row else row["vertex_index"]
                polygons.append([int(corner) for corner in corners])
    return np.array(vertices).astype(np.float32), fans(polygons)


def make_ply(encoding, vertex_rows, face_rows, edge_rows=(), comments="", newline="\n") -> bytes:
    """Rows are lists of (property line, value) with a list as the value of a list property."""
    order = ">" if "big" in encoding else "<"
    header = ["ply", f"format {encoding} 1.0", *comments.splitlines()]
    body = b""
    for element, rows in (("vertex", vertex_rows), ("edge", edge_rows), ("face", face_rows)):
        if not len(rows):
            continue
        header.append(f"element {element} {len(rows)}")
        header += [f"property {line}" for line, _ in rows[0]]
        for row in rows:
            numbers = []
            for line, value in row:
                words = line.split()
                if words[0] == "list":
                    numbers += [(words[1], len(value)), *((words[2], v) for v in value)]
                else:
                    numbers.append((words[0], value))
            if encoding == "ascii":
                body += " ".join(repr(n) for _, n in numbers).encode() + newline.encode()
            else:
                body += b"".join(struct.pack(order + PLY_CODES[k], n) for k, n in numbers)
    return newline.join([*header, "end_header", ""]).encode() + body


def plain_rows(vertices, kind="float"):
    return [
        [(f"{kind} {axis}", float(value)) for axis, value in zip("xyz", row, strict=True)]
        for row in vertices
    ]


def face_rows(polygons, line="list uchar int vertex_indices"):
    return [[(line, polygon)] for polygon in polygons]


def read_bytes(tmp_path: Path, data: bytes, suffix: str) -> Mesh:
    path = tmp_path / f"mesh{suffix}"
    path.write_bytes(data)
    return read_mesh(path)


def encoded(mesh: Mesh, suffix: str = ".ply") -> bytes:
    stream = io.BytesIO()
    write_mesh(stream, mesh, suffix)
    return stream.getvalue()


def assert_is(mesh: Mesh, vertices, triangles) -> None:
    assert mesh.vertices.dtype == np.float32
    assert mesh.triangles.dtype == np.int32
    np.testing.assert_array_equal(mesh.vertices, vertices)
    np.testing.assert_array_equal(mesh.triangles, triangles)


# Every flavour is what some program writes.
OBJ_V = "".join("v {:.9g} {:.9g} {:.9g}\n".format(*row) for row in nine_vertices().tolist())
OBJ_FLAVOURS = {
    "plain": OBJ_V + "f 1 2 5 4\nf 2 3 5\n",
    "texture": OBJ_V + "vt 0 0\nvt 1 1\nf 1/1 2/2 5/1 4/1\nf 2/2 3/1 5/2\n",
    "normals": OBJ_V + "vn 0 0 1\nf 1//1 2//1 5//1 4//1\nf 2//1 3//1 5//1\n",
    "all three": OBJ_V + "vt 0 0\nvn 0 0 1\nf 1/1/1 2/1/1 5/1/1 4/1/1\nf 2/1/1 3/1/1 5/1/1\n",
    "mixed tokens": OBJ_V + "vt 0 0\nvn 0 0 1\nf 1 2/1 5//1 4/1/1\nf 2/1 3 5/1\n",
    "many texture vertices": OBJ_V + "vt 0 0\n" * 30 + "f 1/30 2/29 5/28\n",
    "negative": OBJ_V + "f -9 -8 -5 -6\nv 1 2 3\nf -1 -2 -3\n",
    "n-gons": OBJ_V + "f 1 2 3 6 9 8 7 4\nf 1 2 5\nf 1 2 5 4\n",
    "crlf": (OBJ_V + "f 1 2 5 4\nf 2 3 5\n").replace("\n", "\r\n"),
    "old mac": (OBJ_V + "f 1 2 5 4\nf 2 3 5\n").replace("\n", "\r"),
    "no last newline": OBJ_V + "f 1 2 5",
    "comments": "# v 1 2 3\n" + OBJ_V + "f 1 2 5 # f 1 2 3\n#f 1 2 3",
    "continued": OBJ_V + "f 1 2 \\\n5 4\nf 2 \\\n 3 \\\n 5\n",
    "continued crlf": (OBJ_V + "f 1 2 \\\n5 4\n").replace("\n", "\r\n"),
    "indented, tabs, blank lines": "\n\n" + OBJ_V.replace("v ", " \tv\t") + "  f 1  2 5 \t\n\n",
    "groups": "mtllib a.mtl\no face\ng skin\ns 1\nusemtl m\n" + OBJ_V + "s off\nf 1 2 5\nl 1 2\n",
    "interleaved": "".join(
        f"v {i} {i}.5 {-i}\n" + (f"f {i} {i - 1} {i - 2}\n" if i > 2 else "") for i in range(1, 30)
    ),
    "weights": "v 1 2 3 1.0\nv 2 3 4 1\nv 5 6 7 1.0\nf 1 2 3\n",
    "colours": "v 1 2 3 .1 .2 .3\nv 2 3 4 0 0 1\nv 5 6 7 1 1 1\nv 0 0 0\nf 1 2 3\n",
    "exponents": "v 1e2 -2.5E-3 +.5\nv 5. 1e+3 -0\nv 1.5e-42 1e-50 0e5\nf 1 2 3\n",
    "no faces": OBJ_V,
    "face before its vertices": "f 1 2 3\nv 1 2 3\nv 2 2 3\nv 3 2 3\n",
}


@pytest.mark.parametrize("flavour", OBJ_FLAVOURS)
def test_obj_flavours(tmp_path, flavour):
    text = OBJ_FLAVOURS[flavour]
    assert_is(
        read_bytes(tmp_path, text.encode(), ".obj"),
        *naive_obj(text.replace("\r\n", "\n").replace("\r", "\n")),
    )


def rich_vertex_rows(vertices):
    return [
        [
            ("uchar red", 7),
            ("double x", float(x)),
            ("float nx", 0.5),
            ("double y", float(y)),
            ("short label", -3),
            ("double z", float(z)),
        ]
        for x, y, z in vertices
    ]


def listed_vertex_rows(vertices):
    """Lists of different lengths before and between the coordinates."""
    return [
        [
            ("list uchar float weights", [0.5] * (i % 3)),
            ("float x", float(x)),
            ("float y", float(y)),
            ("list uint short ids", [i] * (i % 2)),
            ("float z", float(z)),
        ]
        for i, (x, y, z) in enumerate(vertices)
    ]


def rich_face_rows(polygons):
    return [
        [
            ("uchar flag", 1),
            ("list uint uint vertex_index", polygon),
            ("list uchar float texcoord", [0.25] * (i % 2 * 2 * len(polygon))),
            ("float quality", 1.0),
        ]
        for i, polygon in enumerate(polygons)
    ]


EDGES = [[("int vertex1", 0), ("int vertex2", i)] for i in range(4)]
V9 = nine_vertices()
PLY_FLAVOURS = {
    "triangles": (plain_rows(V9), face_rows(TRIANGLES)),
    "mixed polygons": (plain_rows(V9), face_rows(QUADS_AND_TRIANGLES)),
    "quads": (plain_rows(V9), face_rows([p for p in QUADS_AND_TRIANGLES if len(p) == 4])),
    "vertex_index": (plain_rows(V9), face_rows(TRIANGLES, "list uchar uint vertex_index")),
    "short corners": (plain_rows(V9), face_rows(TRIANGLES, "list int short vertex_indices")),
    "doubles": (plain_rows(V9, "double"), face_rows(TRIANGLES)),
    "many vertex properties": (rich_vertex_rows(V9), face_rows(TRIANGLES)),
    "vertex lists": (listed_vertex_rows(V9), face_rows(QUADS_AND_TRIANGLES)),
    "many face properties": (plain_rows(V9), rich_face_rows(QUADS_AND_TRIANGLES)),
    "edges": (plain_rows(V9), face_rows(TRIANGLES), EDGES),
    "edge lists": (plain_rows(V9), face_rows(TRIANGLES), [[("list uchar int e", [1, 2])]] * 3),
    "no faces": (plain_rows(V9), []),
}
ENCODINGS = ["ascii", "binary_little_endian", "binary_big_endian"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("flavour", PLY_FLAVOURS)
def test_ply_flavours(tmp_path, flavour, encoding):
    data = make_ply(encoding, *PLY_FLAVOURS[flavour], comments="comment made here\nobj_info x y")
    mesh = read_bytes(tmp_path, data, ".ply")
    assert_is(mesh, *naive_ply(data))
    np.testing.assert_array_equal(mesh.vertices, V9)
    assert mesh.unit_mm is None


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_ply_with_crlf(tmp_path, encoding):
    data = make_ply(encoding, plain_rows(V9), face_rows(QUADS_AND_TRIANGLES), newline="\r\n")
    assert_is(read_bytes(tmp_path, data, ".PLY"), V9, fans(QUADS_AND_TRIANGLES))


def test_ascii_ply_with_blank_lines_and_no_last_newline(tmp_path):
    data = make_ply("ascii", plain_rows(V9), face_rows(TRIANGLES), newline="\n\n").rstrip()
    assert_is(read_bytes(tmp_path, data, ".ply"), V9, TRIANGLES)


@pytest.mark.parametrize(
    ("suffix", "triangles"),
    [
        *((suffix, TRIANGLES) for suffix in (".ply", ".obj", ".wrl", ".off", ".vtk", ".vtu")),
        *((suffix, []) for suffix in (".ply", ".obj", ".wrl")),
    ],
)
def test_round_trip_is_exact(tmp_path, suffix, triangles):
    extremes = np.array([[3e38, -1e-45, 1.17549435e-38], [-0.0, 16777217, 1 / 3]], np.float32)
    vertices = np.concatenate((V9, extremes)) if suffix in (".ply", ".obj", ".wrl") else V9
    mesh = Mesh(vertices, np.array(triangles, np.int32).reshape(-1, 3), "face", unit_mm=1.0)
    read = read_bytes(tmp_path, encoded(mesh, suffix), suffix)
    assert_is(read, mesh.vertices, mesh.triangles)
    assert read.vertices.tobytes() == vertices.tobytes()  # -0.0 too
    assert read.unit_mm == (1.0 if suffix == ".ply" else None)
    assert encoded(read, ".obj") == encoded(mesh, ".obj")


def test_our_ply_byte_for_byte():
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


@pytest.mark.parametrize("unit_mm", [None, 10.0])
def test_a_mesh_is_only_said_to_be_in_mm_when_it_is(unit_mm):
    data = encoded(Mesh(V9, np.array(TRIANGLES, np.int32), "face", unit_mm))
    assert b"unit" not in data
    (back,) = read_meshes(io.BytesIO(data))
    assert back.unit_mm is None


def test_a_name_that_is_not_utf_8_comes_back_byte_for_byte():
    name = os.fsdecode(b"m\xfcller/\xe9")
    data = encoded(Mesh(V9, np.array(TRIANGLES, np.int32), name))
    assert b"name=m%FCller%2F%E9\n" in data
    (back,) = read_meshes(io.BytesIO(data))
    assert back.name == name


def test_topology_id_is_that_of_little_endian_int32():
    assert topology_id(np.array([[0, 1, 2]], np.int64)) == topology_id(np.array([[0, 1, 2]], ">i4"))
    assert topology_id(np.array([[0, 1, 2]])) != topology_id(np.array([[0, 2, 1]]))
    assert len(topology_id(np.zeros((0, 3), np.int32))) == 12


def test_a_lone_file_is_called_by_its_stem_and_a_pipe_by_its_comment(tmp_path):
    data = encoded(Mesh(V9, np.array(TRIANGLES, np.int32), "carried"))
    assert read_bytes(tmp_path, data, ".ply").name == "mesh"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(data,))
    writer.start()
    assert read_mesh(fifo).name == "carried"
    writer.join()


WRL = """#VRML V2.0 utf8
# a comment with [ brackets } and "half a text
Group { children [
  DEF view Viewpoint { description "no ] end { \\" here" position 0 0 1e-3 }
  Shape {
    appearance Appearance { texture ImageTexture { url ["a#b].png"] } }
    geometry IndexedFaceSet {
      coordIndex [ 0, 1, 2, 3, -1, # a quad
        0 2 1 -1 ]
      texCoord TextureCoordinate { point [ 0 0, 1 1 ] }
      texCoordIndex [ 0, 1, 1, 0, -1 ]
      coord DEF first Coordinate { point [ 0 0 0, 1 0 0,
        1 1 0, 0 1 1.5e-1 ] }
    }
  }
  %s
] }
"""


def test_vrml_lists_are_found_by_structure(tmp_path):
    mesh = read_bytes(tmp_path, (WRL % "").encode(), ".wrl")
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.15]], np.float32)
    assert_is(mesh, square, [[0, 1, 2], [0, 2, 3], [0, 2, 1]])


def test_vrml_shapes_follow_one_another(tmp_path):
    more = (
        "Shape { geometry IndexedFaceSet { coord Coordinate { point [ 5 5 5 6 6 6 7 7 7 ] } "
        "coordIndex [ 2 1 0 ] } } "
        "Shape { geometry IndexedFaceSet { coord USE first coordIndex [ 3 2 1 -1 ] } }"
    )
    mesh = read_bytes(tmp_path, (WRL % more).encode(), ".wrl")
    assert len(mesh.vertices) == 7
    np.testing.assert_array_equal(mesh.triangles[-2:], [[6, 5, 4], [3, 2, 1]])


def generic_neutral() -> Path:
    root = os.environ.get("FACEDIS_ICT")
    if not root:
        pytest.skip("FACEDIS_ICT does not name a FaceXModel folder")
    return Path(root) / "generic_neutral_mesh.obj"


def test_the_real_ict_face():
    path = generic_neutral()
    mesh = read_mesh(path)
    assert mesh.vertices.shape == (26719, 3)
    assert_is(mesh, *naive_obj(path.read_text()))


def test_a_face_of_the_same_kind_as_ict(tmp_path):
    """Quads and triangles mixed, and more texture vertices than vertices."""
    text = OBJ_V + "".join(f"vt {i / 20} 0.5\n" for i in range(14))
    for polygon in QUADS_AND_TRIANGLES:
        text += "f " + " ".join(f"{c + 1}/{(5 * c) % 14 + 1}" for c in polygon) + "\n"
    mesh = read_bytes(tmp_path, text.encode(), ".obj")
    assert_is(mesh, V9, fans(QUADS_AND_TRIANGLES))


class Trickle(io.RawIOBase):
    """A pipe: no seeking, no more than asked for, a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self.data, self.step, self.position = data, step, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        block = self.data[self.position : self.position + min(self.step, len(buffer))]
        buffer[: len(block)] = block
        self.position += len(block)
        return len(block)


@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_plys_of_all_kinds_one_after_the_other(step):
    files = [
        (make_ply(encoding, *rows), gap)
        for encoding in ENCODINGS
        for rows in PLY_FLAVOURS.values()
        for gap in (b"", b"\n", b" \r\n\n")
    ]
    stream = Trickle(b"\n" + b"".join(data + gap for data, gap in files), step)
    meshes = read_meshes(stream)
    consumed = 1
    for i, (data, gap) in enumerate(files):
        mesh = next(meshes)
        assert_is(mesh, *naive_ply(data))
        assert mesh.name == f"mesh{i + 1}"
        # Not a byte of what follows has been asked for, so a live pipe never waits for it.
        assert stream.position == consumed + len(data)
        consumed += len(data) + len(gap)
    assert next(meshes, None) is None


def test_a_mesh_arrives_before_the_next_is_sent():
    read_end, write_end = os.pipe()
    mesh = Mesh(V9, np.array(TRIANGLES, np.int32), "one")
    with os.fdopen(read_end, "rb") as source, os.fdopen(write_end, "wb") as sink:
        meshes = read_meshes(source)
        for _ in range(3):
            write_mesh(sink, mesh)
            sink.flush()
            assert_is(next(meshes), V9, TRIANGLES)
        sink.close()
        assert next(meshes, None) is None


def test_nothing_in_a_stream_is_said_to_be_empty():
    with pytest.raises(InputError, match="standard input is empty; expected one or more PLY"):
        list(read_meshes(io.BytesIO(b" \n")))


def test_the_second_mesh_of_a_stream_is_named_when_broken():
    data = encoded(Mesh(V9, np.array(TRIANGLES, np.int32)))
    with pytest.raises(InputError, match="standard input, mesh 2: is truncated"):
        list(read_meshes(io.BytesIO(data + data[:-1])))


BINARY = make_ply("binary_little_endian", plain_rows(V9), face_rows(TRIANGLES))
QUAD_PLY = make_ply("binary_little_endian", plain_rows(V9), face_rows(QUADS_AND_TRIANGLES))
ASCII = make_ply("ascii", plain_rows(V9), face_rows(TRIANGLES))
V3 = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
UNUSABLE = {
    "empty": (b"", ".ply", "is empty"),
    "empty obj": (b"", ".obj", "has no vertices"),
    "empty wrl": (b"", ".wrl", "expected '#VRML V2.0'"),
    "no header end": (BINARY[:60], ".ply", "truncated within its PLY header"),
    "truncated vertices": (BINARY[: BINARY.index(b"end_header") + 30], ".ply", "is truncated"),
    "truncated faces": (BINARY[:-1], ".ply", "is truncated"),
    "truncated polygons": (QUAD_PLY[:-1], ".ply", "is truncated"),
    "truncated ascii": (ASCII[:-12], ".ply", "is truncated"),
    "trailing": (BINARY + b"more", ".ply", "goes on after its mesh"),
    "a million million": (
        BINARY.replace(b"vertex 9", b"vertex 1000000000000"),
        ".ply",
        "promises 1000000000000 rows of 'vertex'",
    ),
    "a million million polygons": (
        QUAD_PLY.replace(b"face 5", b"face 1000000000000"),
        ".ply",
        "promises 1000000000000 rows of 'face'",
    ),
    "a million million lines": (
        ASCII.replace(b"vertex 9", b"vertex 1000000000000"),
        ".ply",
        "promises 1000000000000",
    ),
    "count without end": (
        BINARY.replace(b"vertex 9", b"vertex " + b"9" * 5000),
        ".ply",
        "promises",
    ),
    "negative count": (BINARY.replace(b"vertex 9", b"vertex -9"), ".ply", "promises '-9' rows"),
    "zero vertices": (b"ply\nformat ascii 1.0\nelement vertex 0\nend_header\n", ".ply", "no vert"),
    "no vertex element": (b"ply\nformat ascii 1.0\nend_header\n", ".ply", "PLY elements"),
    "no coordinates": (BINARY.replace(b"float x", b"float u"), ".ply", "no x, y and z"),
    "no format": (BINARY.replace(b"format binary_little_endian 1.0\n", b""), ".ply", "format"),
    "unknown type": (BINARY.replace(b"float x", b"quaternion x"), ".ply", "type 'quaternion'"),
    "corners of float": (BINARY.replace(b"uchar int", b"uchar float"), ".ply", "whole numbers"),
    "negative list": (
        make_ply(
            "binary_little_endian",
            plain_rows(V9),
            face_rows(TRIANGLES, "list int int vertex_indices"),
        ).replace(struct.pack("<i", 3) + struct.pack("<i", 0), struct.pack("<ii", -3, 0)),
        ".ply",
        "length -3",
    ),
    "two corners": (
        make_ply("ascii", plain_rows(V9), face_rows([[0, 1]])),
        ".ply",
        "polygon 0 has 2 corners",
    ),
    "index out of range": (
        make_ply("ascii", plain_rows(V9), face_rows([[0, 1, 9]])),
        ".ply",
        "refers to vertex 9",
    ),
    "negative index": (
        make_ply("binary_big_endian", plain_rows(V9), face_rows([[0, 1, -1]])),
        ".ply",
        "refers to vertex -1",
    ),
    "not finite": (
        make_ply("binary_little_endian", plain_rows([[0, 0, math.nan]] * 3), []),
        ".ply",
        "vertex 0 is not finite",
    ),
    "double beyond float": (
        make_ply("binary_little_endian", plain_rows([[0, 0, 1e300]] * 3, "double"), []),
        ".ply",
        "not finite",
    ),
    "row too short": (ASCII.replace(b"3 0 1 3", b"3 0 1"), ".ply", "row 0 of PLY element 'face'"),
    "row too long": (
        ASCII.replace(b"3 0 1 3", b"3 0 1 3 4"),
        ".ply",
        "row 0 of PLY element 'face'",
    ),
    "word for a number": (ASCII.replace(b"3 0 1 3", b"3 0 x 3"), ".ply", "has 'x' where"),
    "a pickle": (b"\x80\x04\x95\x00", ".ply", "begins with"),
    "nan in obj": (b"v 0 0 nan\n", ".obj", "not finite"),
    "inf in obj": (b"v 0 0 1e39\n", ".obj", "not finite"),
    "two coordinates": (b"v 0 0\n", ".obj", "vertex 0 has 2 numbers"),
    "no number": (b"v 0 0 1_0\n", ".obj", "has '1_0' where a number was expected"),
    "glued numbers": (b"v 0 0 1-2\n", ".obj", "has '1-2' where"),
    "index 0": ((V3 + "f 0 1 2\n").encode(), ".obj", "vertex index 0"),
    "index 4 of 3": ((V3 + "f 1 2 4\n").encode(), ".obj", "refers to vertex 3"),
    "index -4 of 3": ((V3 + "f 1 2 -4\n").encode(), ".obj", "refers to vertex -1"),
    "huge index": ((V3 + "f 1 2 99999999999999999999\n").encode(), ".obj", "whole number"),
    "index 2^63": ((V3 + "f 1 2 9223372036854775808\n").encode(), ".obj", "whole number"),
    "fractional index": ((V3 + "f 1 2 2.5\n").encode(), ".obj", "has '2.5' where a whole"),
    "bare slash": ((V3 + "f 1 2 /3\n").encode(), ".obj", "has '/3' where a whole number"),
    "a line": ((V3 + "f 1 2\n").encode(), ".obj", "polygon 0 has 2 corners"),
    "nul bytes": (V3.encode() + b"\0\0", ".obj", "NUL bytes"),
    "utf-16": (V3.encode("utf-16"), ".obj", "NUL bytes"),
    "huge line": (b"v " + b"1" * 10**6 + b" 0 0\n", ".obj", "where a number was expected"),
    "huge polygon": (V3.encode() + b"f " + b"9 " * 10**5, ".obj", "refers to vertex 8"),
    "vrml 1": (b"#VRML V1.0 ascii\n", ".wrl", "expected '#VRML V2.0'"),
    "open list": (
        b"#VRML V2.0 utf8\nShape { geometry IndexedFaceSet { coordIndex [ 1",
        ".wrl",
        "trunc",
    ),
    "open brace": (b"#VRML V2.0 utf8\nShape {", ".wrl", "never closed"),
    "closed twice": (b"#VRML V2.0 utf8\n}", ".wrl", "never opened"),
    "two numbers a point": (b"#VRML V2.0 utf8\nCoordinate { point [ 1 2 ] }", ".wrl", "2 numbers"),
    "no coordinate": (b"#VRML V2.0 utf8\nIndexedFaceSet { coordIndex [0 1 2] }", ".wrl", "without"),
    "escapes without end": (b"#VRML V2.0 utf8\n" + b'"\\"' * 10**5, ".wrl", "no vertices"),
    "texture and no face": ((V3 + "vt 0 0\nvt 0 1\n").encode(), ".obj", "ends before its faces"),
    "cut within its faces' group": (
        (V3 + "g head\nusemtl skin\n").encode(),
        ".obj",
        "ends before its faces",
    ),
    "latents": (b"\x93NUMPY\x01\x00v\x00", ".npy", "holds latents, which are encoded already"),
    "latents as a mesh": (b"\x93NUMPY\x01\x00v\x00", ".ply", "holds latents"),
    "a face set": (
        (90).to_bytes(8, "little") + b'{"__metadata__"',
        "",
        "holds a face set or a model, expected a mesh; give a face set as a .safetensors file",
    ),
    "an stl": (b"solid\nendsolid\n", ".STL", "triangles without an order of vertices; expected"),
    "not an off": (b"nothing of the kind", ".off", "meshio could not read it"),
    "not a vtu": (b"<VTKFile", ".vtu", "meshio could not read it"),
    "unknown suffix": (b"ply", ".fbx", "meshio could not read it"),
    "no suffix": (b"what", "", "expected a PLY"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_input_is_one_line(tmp_path, capfd, case):
    data, suffix, message = UNUSABLE[case]
    with pytest.raises(InputError) as caught:
        read_bytes(tmp_path, data, suffix)
    text = str(caught.value)
    assert message in text
    assert text.startswith(str(tmp_path / f"mesh{suffix}"))
    assert "\n" not in text
    assert len(text) < 400 + len(str(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_mesh(tmp_path / "none.obj")
    with pytest.raises(InputError, match="is a folder"):
        read_mesh(tmp_path)


def test_a_suffix_that_nothing_writes():
    with pytest.raises(UsageError, match=r"cannot write \.fbx .*expected \.ply \.obj \.wrl"):
        encoded(Mesh(V9, np.array(TRIANGLES, np.int32)), ".fbx")
    with pytest.raises(UsageError, match=r"cannot write \.stl: STL has triangles without an order"):
        encoded(Mesh(V9, np.array(TRIANGLES, np.int32)), ".stl")
    with pytest.raises(UsageError) as caught:
        encoded(Mesh(V9, np.array(TRIANGLES, np.int32)), ".xyzq")
    assert tempfile.gettempdir() not in str(caught.value)


def test_vertices_alone_are_a_point_cloud(tmp_path):
    assert len(read_bytes(tmp_path, V3.encode(), ".obj").vertices) == 3
    assert len(read_bytes(tmp_path, b"# points\no cloud\n" + V3.encode(), ".obj").vertices) == 3


def test_a_name_too_long_for_a_file():
    with pytest.raises(InputError, match="File name too long"):
        read_mesh("a" * 300)


def test_mesh_files_are_sorted_and_hidden_ones_left_out(tmp_path):
    for name in ("b.obj", "a/c.PLY", "a.wrl", "a/.hidden.ply", ".x/y.ply", "n.txt", ".t.ply.tmp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [str(path.relative_to(tmp_path)) for path in mesh_files(tmp_path)]
    assert found == ["a/c.PLY", "a.wrl", "b.obj"]


def test_mesh_files_of_nothing(tmp_path):
    with pytest.raises(InputError, match=r"has no mesh; expected files \.ply"):
        mesh_files(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        mesh_files(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Not a directory"):
        mesh_files(tmp_path / "file")


VALID = {
    ".obj": [OBJ_FLAVOURS[k].encode() for k in ("mixed tokens", "negative", "continued crlf")],
    ".ply": [
        BINARY,
        QUAD_PLY,
        ASCII,
        make_ply("binary_big_endian", listed_vertex_rows(V9), rich_face_rows(TRIANGLES)),
        make_ply("ascii", listed_vertex_rows(V9), rich_face_rows(TRIANGLES)),
    ],
    ".wrl": [(WRL % "").encode()],
}


@st.composite
def mutated_files(draw):
    suffix = draw(st.sampled_from(sorted(VALID)))
    data = bytearray(draw(st.sampled_from(VALID[suffix])))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 8)))
        junk = st.sampled_from([b"", b"-", b"9999999999", b"1e400", b"\n", b"/", b"list ", b"\0"])
        data[start:stop] = draw(junk | st.binary(max_size=8))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return suffix, bytes(data)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mutated_files() | st.tuples(st.sampled_from(sorted(VALID)), st.binary(max_size=200)))
def test_damaged_files_give_a_mesh_or_an_input_error(tmp_path, case):
    suffix, data = case
    try:
        mesh = read_bytes(tmp_path, data, suffix)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(mesh.vertices).all()
        assert ((mesh.triangles >= 0) & (mesh.triangles < len(mesh.vertices))).all()


NUMBER = st.from_regex(
    r"[+-]?([0-9]{1,25}(\.[0-9]{0,25})?|\.[0-9]{1,25})([eE][+-]?[0-9]{1,3})?", fullmatch=True
)
SHORTEST = st.floats(width=32, allow_nan=False).map(lambda x: repr(float(x)))
NINE_DIGITS = st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda x: f"{x:.9g}")


@settings(max_examples=300, deadline=None)
@given(st.lists(NUMBER | SHORTEST | NINE_DIGITS, min_size=1, max_size=30))
def test_decimals_are_those_of_python_bit_for_bit(words):
    found = decimals(tokenize(" ".join(words).encode()), np.arange(len(words)))
    with np.errstate(over="ignore"):
        expected = np.array([float(word) for word in words]).astype(np.float32)
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 0x7F000000), st.integers(-3, 3), st.integers(-60, 60))
def test_decimals_beside_midpoints_of_float32(bits, nudge, shift):
    """Where two roundings and one differ if anywhere: half way between two float32."""
    low = np.array([bits], np.int32).view(np.float32)[0]
    middle = (float(low) + float(np.nextafter(low, np.float32(np.inf)))) / 2
    for _ in range(abs(nudge)):
        middle = math.nextafter(middle, math.inf * nudge)
    for word in (repr(middle), f"{middle:.18e}", f"{math.ldexp(middle, shift):.17g}"):
        found = decimals(tokenize(word.encode()), np.arange(1))
        with np.errstate(over="ignore"):
            assert found[0] == np.array(float(word)).astype(np.float32)
