"""Meshes are read block by block: the same for every size of a block, and in little memory."""

import io
import itertools
import os
import struct
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facedis_core.errors import InputError
from facedis_core.mesh import obj, ply, vrml
from facedis_core.mesh.mesh import read_mesh
from facedis_core.mesh.surface_builder import LONGEST_POLYGON, SurfaceBuilder
from facedis_core.mesh.text_numbers import LONGEST_LINE

MB = 1 << 20
CODES = {"u1": "B", "i1": "b", "u2": "H", "i4": "i", "f4": "f", "f8": "d"}
NAMES = {"u1": "uchar", "i1": "char", "u2": "ushort", "i4": "int", "f4": "float", "f8": "double"}

slowly = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def in_blocks_of(monkeypatch, size):
    """Let all readers take so many bytes at once."""
    monkeypatch.setattr(obj, "_READ_AT_ONCE", size)
    monkeypatch.setattr(ply, "_TEXT_AT_ONCE", size)
    monkeypatch.setattr(vrml, "_BLOCK", size)
    monkeypatch.setattr(ply, "_READ_AT_ONCE", size)
    monkeypatch.setattr(ply, "_WALKED_AT_ONCE", size)


def meshes(data, suffix, tmp_path):
    path = tmp_path / f"mesh{suffix}"
    path.write_bytes(data)
    try:
        mesh = read_mesh(path)
    except InputError as error:
        return str(error)
    return mesh.vertices.tolist(), mesh.triangles.tolist()


def alike(found, whole):
    """Of several mistakes another may be met first."""
    return found == whole or (isinstance(found, str) and isinstance(whole, str))


LINES = st.sampled_from(
    [
        *("v 0 0 0", "v 1 2 3 .5 .5 .5", "v 1e3 -2 .5", "vt 0 0", "vn 0 0 1", "g a", "", "  "),
        *("f 1 2 3", "f 1/1 2/2 3/3 1/4", "f -1 -2 -3", "f 1 2\\\n 3", "# a \\", "v 1 1 1 # x"),
        *("f 1 2 3 # \\", "usemtl x#y", "v 0 \\\n0 \\\n 0", "o o", "s 1", "\\"),
    ]
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


class TestAnySizeOfABlock:
    @slowly
    @given(
        st.lists(st.tuples(LINES, ENDS), max_size=12),
        st.integers(1, 40),
        st.sampled_from([b"", b"\xef\xbb\xbf"]),
    )
    def test_obj(self, tmp_path, lines, size, mark):
        start = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
        data = mark + (start + "".join(a.replace("\n", e) + e for a, e in lines)).encode()
        whole = meshes(data, ".obj", tmp_path)
        with pytest.MonkeyPatch.context() as monkeypatch:
            in_blocks_of(monkeypatch, size)
            assert alike(meshes(data, ".obj", tmp_path), whole)

    @slowly
    @given(
        st.lists(st.lists(st.integers(-3, 9), max_size=6), max_size=8),
        st.lists(st.sampled_from([" ", ", ", "\n", " # c ] -1\n", "\t"]), min_size=1, max_size=5),
        st.integers(1, 40),
    )
    def test_vrml(self, tmp_path, polygons, blanks, size):
        words = [str(n) for polygon in polygons for n in [*polygon, -1]]
        listed = "".join(w + blanks[k % len(blanks)] for k, w in enumerate(words))
        points = "".join(f"{k} {k % 3} .5{blanks[k % len(blanks)]}" for k in range(9))
        data = (
            "#VRML V2.0 utf8\nShape { geometry IndexedFaceSet {\n"
            f"coordIndex [ {listed} ] coord DEF a Coordinate {{ point [ {points} ] }} }} }}\n"
        ).encode()
        whole = meshes(data, ".wrl", tmp_path)
        with pytest.MonkeyPatch.context() as monkeypatch:
            in_blocks_of(monkeypatch, size)
            assert alike(meshes(data, ".wrl", tmp_path), whole)

    @slowly
    @given(
        st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=7), max_size=8),
        st.sampled_from(["\n", "\r\n", "\n\n", " \n"]),
        st.integers(1, 60),
        st.integers(0, 3),
    )
    def test_ascii_ply(self, tmp_path, polygons, end, size, cut):
        rows = ["0 0 0", "1 0 0 ", " 0 1 0", "0 0 1e0", "-1 .5 0"]
        rows += [" ".join(map(str, [len(p), *p])) for p in polygons]
        data = (
            "ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nproperty float y\n"
            f"property float z\nelement face {len(polygons)}\n"
            "property list uchar int vertex_indices\nend_header\n" + "".join(r + end for r in rows)
        ).encode()
        data = data[: len(data) - cut]
        whole = meshes(data, ".ply", tmp_path)
        with pytest.MonkeyPatch.context() as monkeypatch:
            in_blocks_of(monkeypatch, size)
            assert meshes(data, ".ply", tmp_path) == whole
            # other streams than files have no bytes at hand to look at
            try:
                vertices, triangles = ply.read(io.BytesIO(data)).finish()
            except InputError:
                assert isinstance(whole, str)
            else:
                assert (vertices.tolist(), triangles.tolist()) == whole


@st.composite
def tables(draw):
    """Properties of faces with values for some rows: lists of all sizes, one of them corners."""
    types = st.sampled_from(sorted(CODES))
    counts = st.sampled_from(["u1", "i1", "u2", "i4"])
    properties = draw(
        st.lists(st.tuples(types, st.none() | counts), max_size=3).map(
            lambda found: [(f"p{k}", *each) for k, each in enumerate(found)]
        )
    )
    corners = ("vertex_indices", draw(st.sampled_from(["u1", "u2", "i4"])), draw(counts))
    properties.insert(draw(st.integers(0, len(properties))), corners)
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        row = []
        for name, _, count in properties:
            least = 3 if name == "vertex_indices" else 0
            size = draw(st.integers(least, least + 3)) if count else 1
            row.append([draw(st.integers(0, 4)) for _ in range(size)])
        rows.append(row)
    return properties, rows


class CountingStream(io.RawIOBase):
    """Bytes of which each that is asked for is counted, as a pipe would wait for it."""

    def __init__(self, data):
        self.data, self.asked = data, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        self.asked += len(buffer)
        taken = self.data[: len(buffer)]
        self.data = self.data[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


@slowly
@given(tables(), st.sampled_from("<>"), st.integers(1, 60))
def test_rows_of_a_binary_ply_are_those_of_struct(table, order, size):
    properties, rows = table
    header = f"ply\nformat binary_{'little' if order == '<' else 'big'}_endian 1.0\n"
    header += "element vertex 5\n" + "".join(f"property float {axis}\n" for axis in "xyz")
    header += f"element face {len(rows)}\n"
    for name, kind, count in properties:
        header += f"property {f'list {NAMES[count]} ' if count else ''}{NAMES[kind]} {name}\n"
    body = struct.pack(order + "15f", *range(15))
    expected = []
    for row in rows:
        for (name, kind, count), values in zip(properties, row, strict=True):
            if count:
                body += struct.pack(order + CODES[count], len(values))
            body += struct.pack(f"{order}{len(values)}{CODES[kind]}", *values)
            if name == "vertex_indices":
                expected += [[values[0], *two] for two in itertools.pairwise(values[1:])]
    data = (header + "end_header\n").encode() + body
    stream = CountingStream(data + b"the next mesh")
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_blocks_of(monkeypatch, size)
        vertices, triangles = ply.read_next(stream).finish()
    assert triangles.tolist() == expected
    np.testing.assert_array_equal(vertices.ravel(), np.arange(15))
    assert stream.data == b"the next mesh"
    assert stream.asked == len(data)


PLY = "ply\nformat {} 1.0\nelement vertex {}\nproperty {} x\nproperty {} y\nproperty {} z\n{}"
ASCII = PLY.format("ascii", 3, *["float"] * 3, "end_header\n").encode()
FACES = "element face {}\nproperty list {} {} vertex_indices\nend_header\n"
BINARY = PLY.format("binary_little_endian", 3, *["uchar"] * 3, FACES)
V3 = b"v 0 0 0\nv 1 0 0\nv 0 1 0\n"
WRL = b"#VRML V2.0 utf8\n"
LONG = LONGEST_LINE + 2 * MB

HOSTILE = {
    "blanks before a ply": (b" " * MB, ".ply", "blanks where a PLY"),
    "blanks behind a ply": (ASCII + b"0 0 0\n" * 3 + b"\n" * MB, ".ply", "blanks where a PLY"),
    "a long row": (ASCII + b"7" * LONG, ".ply", "line of more than"),
    "a long row of blanks": (ASCII + b" " * LONG, ".ply", "line of more than"),
    "empty rows": (ASCII + b"\n" * 18 * MB, ".ply", "MB of empty lines"),
    "more rows than bytes": (
        PLY.format("ascii", 10**12, *["float"] * 3, "end_header\n").encode() + b"0 0 0\n" * 9,
        ".ply",
        "promises 1000000000000 rows",
    ),
    "a list of very many": (
        BINARY.format(2, "uint", "int").encode() + bytes(9) + b"\xff\xff\xff\x7f" + bytes(99),
        ".ply",
        f"of 2147483647 corners; expected {LONGEST_POLYGON} at most",
    ),
    "lists of 255": (
        BINARY.format(30_000, "uchar", "uchar").encode()
        + bytes(9)
        + (b"\xff" + bytes(255)) * 30_000,
        ".ply",
        "MB as triangles",
    ),
    "many properties": (
        ASCII.replace(b"end_", b"".join(b"property char p%d\n" % k for k in range(999)) + b"end_")
        + b"0 " * 3006,
        ".ply",
        "1002 properties in PLY element 'vertex'",
    ),
    "escapes in an element": (ASCII.replace(b"vertex 3", b"ver\x1btex -3"), ".ply", "expected a"),
    "a long line": (V3 + b"f " + b"1 " * LONG, ".obj", "line of more than"),
    "a long continued line": (V3 + b"f " + b"1\\\n" * LONG, ".obj", "line of more than"),
    "no lines of its own": (b"foo bar\n" * 3 * MB, ".obj", "no line v or f in"),
    "empty lines": (b"\n" * 18 * MB, ".obj", "no line v or f in"),
    "comments": (V3 + b"#\n" * 9 * MB, ".obj", "no line v or f in"),
    "index beyond int32": (V3 + b"f 1 2 4294967297\n", ".obj", "refers to vertex 4294967296"),
    "index far below": (V3 + b"f 1 2 -4294967297\n", ".obj", "refers to vertex -4294967294"),
    "nodes in one another": (WRL + b"{" * MB, ".wrl", "nodes in one another"),
    "words": (WRL + b"a " * MB, ".wrl", "more than .* words"),
    "comments in a list": (WRL + b"Coordinate { point [" + b"#\n" * MB, ".wrl", "truncated"),
    "comments in a whole list": (
        WRL + b"Coordinate { point [" + b"#\n" * MB + b"] }",
        ".wrl",
        "comments in a list",
    ),
    "blanks": (WRL + b" " * 66 * MB, ".wrl", "no node in 64 MB"),
    "a long word in a list": (
        WRL + b"Coordinate { point [" + b"7" * LONG + b"] }",
        ".wrl",
        "word of more than",
    ),
    "index of the other shape": (
        WRL + b"Coordinate { point [0 0 0 1 1 1 2 2 2] } IndexedFaceSet { coord Coordinate {"
        b"point [0 0 0] } coordIndex [0 1 2] }",
        ".wrl",
        r"refers to vertex 1 \(counted from 0\) of a Coordinate with 1",
    ),
    "an off that ends": (b"OFF\n# Created by", ".off", "does not say how many vertices"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_far_too_much_is_refused_early(tmp_path, case):
    data, suffix, message = HOSTILE[case]
    path = tmp_path / f"mesh{suffix}"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_mesh(path)
    text = str(caught.value)
    assert text.isprintable() and len(text) < 400 + len(str(path))


def test_an_endless_pipe_is_left_at_once(tmp_path):
    """Nobody waits for the end of what is no mesh already."""
    path = tmp_path / "mesh.obj"
    os.mkfifo(path)

    def feed():
        with path.open("wb", buffering=0) as pipe:
            try:
                while True:
                    pipe.write(b"7" * MB)
            except BrokenPipeError:
                pass

    threading.Thread(target=feed, daemon=True).start()
    with pytest.raises(InputError, match="line of more than"):
        read_mesh(path)


N = 200_000
LARGE = {
    "obj": (b"v 0 0 0\nf 1 1 1\n" * N, ".obj"),
    "quads": (V3 + b"f 1 1 1 1\n" * N, ".obj"),
    "ascii": (
        PLY.format("ascii", N, *["float"] * 3, FACES.format(N, "uchar", "int")).encode()
        + b"0 0 0\n" * N
        + b"3 0 0 0\n" * N,
        ".ply",
    ),
    "wrl": (
        WRL
        + b"Shape { geometry IndexedFaceSet { coord Coordinate { point ["
        + b"0 0 0," * N
        + b"] } coordIndex ["
        + b"0 0 0 -1," * N
        + b"] } }",
        ".wrl",
    ),
    "bytes": (
        PLY.format("binary_little_endian", 4 * N, *["uchar"] * 3, FACES)
        .format(2 * N, "uchar", "uchar")
        .encode()
        + bytes(12 * N)
        + b"\3\0\0\0" * 2 * N,
        ".ply",
    ),
    "triangles and quads": (
        PLY.format("binary_big_endian", N, *["double"] * 3, FACES)
        .format(N, "uchar", "int")
        .encode()
        + bytes(24 * N)
        + (b"\3" + bytes(12) + b"\4" + bytes(16)) * (N // 2),
        ".ply",
    ),
}


@pytest.mark.parametrize("case", LARGE)
def test_memory_follows_the_file(tmp_path, monkeypatch, case):
    """The smallest lines there can be, in blocks small beside the file."""
    data, suffix = LARGE[case]
    path = tmp_path / f"mesh{suffix}"
    path.write_bytes(data)
    in_blocks_of(monkeypatch, 1 << 14)
    tracemalloc.start()
    try:
        mesh = read_mesh(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(mesh.triangles) >= N
    assert peak < 4 * len(data) + 2 * MB


def test_polygons_that_arrive_in_parts_are_those_that_come_at_once():
    rng = np.random.default_rng(0)
    counts = rng.integers(3, 8, 50)
    corners = rng.integers(0, 9, counts.sum())
    vertices = rng.normal(size=(9, 3)).astype(np.float32)
    whole, parts = SurfaceBuilder(), SurfaceBuilder()
    whole.add_vertices(vertices)
    whole.add_polygons(corners, counts, 1)
    for row in range(3):
        parts.add_vertices(vertices[3 * row : 3 * row + 3])
    ends = np.cumsum(counts)
    for row in range(0, 50, 7):
        first = ends[row - 1] if row else 0
        last = ends[min(row + 7, 50) - 1]
        parts.add_polygons(corners[first:last], counts[row : row + 7], 1)
    for one, other in zip(whole.finish(), parts.finish(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    broken = SurfaceBuilder()
    broken.add_polygons(corners[: counts[0]], counts[:1], 1)
    with pytest.raises(InputError, match="polygon 1 has 2 corners"):
        broken.add_polygons(corners[:2], np.array([2]), 1)
