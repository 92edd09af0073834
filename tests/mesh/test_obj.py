"""OBJ files of many kinds against a slow reader of a few lines, and files that are none."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_files import (
    OBJ_FLAVOURS,
    blocks_of,
    check_alike,
    check_mesh,
    check_refused,
    fans,
    read_bytes,
    read_in_blocks,
)
from raising import raises

from facedis_core.mesh import obj
from facedis_core.mesh.mesh import read_mesh
from facedis_core.mesh.text_numbers import LONGEST_LINE

MB = 1 << 20


def slow_obj(text: str) -> tuple[np.ndarray, np.ndarray]:
    vertices, polygons = [], []
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"\\[ \t]*\n", " ", text)
    for line in text.splitlines():
        words = re.sub(r"(?<!\S)#.*", "", line).split()
        if words[:1] == ["v"]:
            vertices.append([np.float32(float(word)) for word in words[1:4]])
        elif words[:1] == ["f"]:
            numbers = [int(word.split("/")[0]) for word in words[1:]]
            if len(numbers) >= 3:
                polygons.append([n - 1 if n > 0 else len(vertices) + n for n in numbers])
    return np.array(vertices, np.float32), fans(polygons)


@pytest.mark.parametrize("flavour", OBJ_FLAVOURS)
def test_flavours(tmp_path, flavour):
    text = OBJ_FLAVOURS[flavour]
    check_mesh(read_bytes(tmp_path, text.encode(), ".obj"), *slow_obj(text))


@pytest.mark.skipif("FACEDIS_ICT" not in os.environ, reason="FACEDIS_ICT is not set")
def test_the_real_ict_face():
    path = Path(os.environ["FACEDIS_ICT"]) / "generic_neutral_mesh.obj"
    mesh = read_mesh(path)
    assert mesh.vertices.shape == (26719, 3)
    check_mesh(mesh, *slow_obj(path.read_text()))


LINES = st.sampled_from(
    [
        *("v 0 0 0", "v 1 2 3 .5 .5 .5", "v 1e3 -2 .5", "vt 0 0", "vn 0 0 1", "g a", "", "  "),
        *("f 1 2 3", "f 1/1 2/2 3/3 1/4", "f -1 -2 -3", "f 1 2\\\n 3", "# a \\", "v 1 1 1 # x"),
        *("f 1 2 3 # \\", "usemtl x#y", "f 1 2", "f 1 \\ \n 2 3", "v 1.#INF 0 0", "3 4"),
        *("v 0 \\\n0 \\\n 0", "o o", "s 1", "\\"),
    ]
)


@settings(max_examples=80)
@given(
    st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\r"])), max_size=12),
    st.integers(1, 40),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_blocks_of_any_size(tmp_path, lines, size, mark):
    start = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
    data = mark + (start + "".join(a.replace("\n", e) + e for a, e in lines)).encode()
    check_alike(*read_in_blocks(tmp_path, data, ".obj", size))


V3 = b"v 0 0 0\nv 1 0 0\nv 0 1 0\n"
UNUSABLE = {
    "empty": (b"", "empty: has no vertices"),
    "nul bytes": (V3 + b"\0\0", "mesh-syntax: NUL bytes"),
    "utf-16": (V3.decode().encode("utf-16"), "wrong-kind: text in UTF-16; save it as UTF-8"),
    "nan": (b"v 0 0 nan\n", "not-finite"),
    "inf": (b"v 0 0 1e39\n", "not-finite"),
    "two coordinates": (b"v 0 0\n", "mesh-syntax: vertex 0 has 2 numbers"),
    "no number": (b"v 0 0 1_0\n", "mesh-syntax: has '1_0' where a number was expected"),
    "glued numbers": (b"v 0 0 1-2\n", "mesh-syntax: has '1-2' where"),
    "a long number": (b"v " + b"1" * 10**6 + b" 0 0\n", "mesh-syntax: where a number was expected"),
    "index 0": (V3 + b"f 0 1 2\n", "vertex-index: vertex index 0"),
    "index 4 of 3": (V3 + b"f 1 2 4\n", "vertex-index: refers to vertex 3"),
    "index -4 of 3": (V3 + b"f 1 2 -4\n", "vertex-index: refers to vertex -1"),
    "index beyond int32": (V3 + b"f 1 2 4294967297\n", "vertex-index: refers to vertex 4294967296"),
    "index far below": (V3 + b"f 1 2 -4294967297\n", "vertex-index: refers to vertex -4294967294"),
    "index 2^63": (V3 + b"f 1 2 9223372036854775808\n", "mesh-syntax: whole number"),
    "huge index": (V3 + b"f 1 2 99999999999999999999\n", "mesh-syntax: whole number"),
    "fractional index": (V3 + b"f 1 2 2.5\n", "mesh-syntax: has '2.5' where a whole"),
    "bare slash": (V3 + b"f 1 2 /3\n", "mesh-syntax: has '/3' where a whole number"),
    "a weight": (V3 + b"v 0 0 1 2\n", "unsupported: vertex 3 has the weight 2; expected"),
    "msvc nan": (
        b"v 10 20 30\nv 11 20 30\nv 10 21 -1.#IND\nv 10 20 1.#QNAN\nf 1 2 3\nf 1 2 4\n",
        r"mesh-syntax: vertex 2 has '-1\.#IND' where a number was expected",
    ),
    "msvc inf": (V3 + b"v 1.#INF 0 0\n", r"mesh-syntax: vertex 3 has '1\.#INF' where"),
    "a comment within a word": (V3 + b"f 1 2 3#4\n", "mesh-syntax: has '3#4' where a whole"),
    "free-form surface": (
        V3 + b"vt 0 0\ncstype bezier\nsurf 0 1 0 1 1 2 3\nend\n",
        r"unsupported: has a free-form surface \(surf\)",
    ),
    "old patch": (V3 + b"bzp 1 2 3\n", r"unsupported: has a free-form surface \(bzp\)"),
    "another file": (V3 + b"call head.obj\n", r"unsupported: other files \(call\)"),
    "upper case": (V3 + b"F 1 2 3\n", r"unsupported: has a statement in upper case \(F\)"),
    "a line cut in two": (V3 + b"f 1 2\n3 4\n", "mesh-syntax: a line that begins with '3'"),
    "no-break spaces": ("v\u00a01 2 3\n".encode(), "mesh-syntax: a line that begins with 'v"),
    "huge polygon": (V3 + b"f " + b"9 " * 10**5, "vertex-index: refers to vertex 8"),
    "texture and no face": (V3 + b"vt 0 0\nvt 0 1\n", "truncated: lines vt and none with f"),
    "a group and no face": (V3 + b"g head\nusemtl skin\n", "truncated: lines g and none with f"),
    "a long line": (V3 + b"f " + b"1 " * LONGEST_LINE, "too-large: line of more than"),
    "a long continued line": (V3 + b"f " + b"1\\\n" * LONGEST_LINE, "too-large: line of more than"),
    "no lines of its own": (b"foo bar\n" * 2 * MB, "mesh-syntax: no line v or f in"),
    "empty lines": (b"\n" * 2 * MB, "mesh-syntax: no line v or f in"),
    "comments": (V3 + b"#\n" * MB, "mesh-syntax: no line v or f in"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_files(tmp_path, monkeypatch, case):
    monkeypatch.setattr(obj, "_MOST_IDLE", MB)
    data, error = UNUSABLE[case]
    check_refused(tmp_path, data, ".obj", error)


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (b"f 1 2\nf 1 2 3\n", ["1 of 2 faces (f) are left out: fewer than three corners"]),
        (
            b"f 1\nf 1 2 3\nf 1 2\nf -3 -2\n",
            ["3 of 4 faces (f) are left out: fewer than three corners"],
        ),
        (b"f 1 2 3\nl 1 2\np 1\ncurv 0 1 1 2\nvp 0 1\n", []),
        (b"f 1 2 \\ \n 3\n", []),
        (b"f 1 \\\t\r\n2 \\  \r\n3", []),
        (b"fo 1 2 3\n", []),
        (b"f -3 -2 -1 # f 1 2\n#f 1 2\ng a#b # c\n", []),
    ],
)
@pytest.mark.parametrize("size", [1 << 18, 7])
def test_statements_beside_the_triangle(tmp_path, text, warnings, size):
    with blocks_of(size):
        mesh = read_bytes(tmp_path, V3 + text, ".obj")
    check_mesh(mesh, [[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    assert [line.partition(": ")[2] for line in mesh.warnings] == warnings


@pytest.mark.parametrize("text", [b"", b"# points\no cloud\n"])
def test_vertices_alone_are_a_point_cloud(tmp_path, text):
    assert len(read_bytes(tmp_path, text + V3, ".obj").vertices) == 3


def test_an_endless_pipe_is_left_at_once(endless_pipe):
    """Nobody waits for the end of what is no mesh already."""
    with raises("too-large"):
        read_mesh(endless_pipe("mesh.obj", b"7" * MB))
