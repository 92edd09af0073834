"""VRML scenes: lists are found by structure; and files that are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_files import WRL, check_alike, check_mesh, check_refused, read_bytes, read_in_blocks

from facedis_core.mesh import vrml
from facedis_core.mesh.text_numbers import LONGEST_LINE

MB = 1 << 20
SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.15]], np.float32)


def test_lists_are_found_by_structure(tmp_path):
    mesh = read_bytes(tmp_path, (WRL % "").encode(), ".wrl")
    check_mesh(mesh, SQUARE, [[0, 1, 2], [0, 2, 3], [0, 2, 1]])


def test_shapes_follow_one_another(tmp_path):
    more = (
        "Shape { geometry IndexedFaceSet { coord Coordinate { point [ 5 5 5 6 6 6 7 7 7 ] } "
        "coordIndex [ 2 1 0 ] } } "
        "Shape { geometry IndexedFaceSet { coord USE first coordIndex [ 3 2 1 -1 ] } }"
    )
    mesh = read_bytes(tmp_path, (WRL % more).encode(), ".wrl")
    check_mesh(
        mesh,
        [*SQUARE, *([k] * 3 for k in (5, 6, 7))],
        [[0, 1, 2], [0, 2, 3], [0, 2, 1], [6, 5, 4], [3, 2, 1]],
    )


@settings(max_examples=80)
@given(
    st.lists(st.lists(st.integers(-3, 9), max_size=6), max_size=8),
    st.lists(st.sampled_from([" ", ", ", "\n", " # c ] -1\n", "\t"]), min_size=1, max_size=5),
    st.integers(1, 40),
)
def test_blocks_of_any_size(tmp_path, polygons, blanks, size):
    words = [str(n) for polygon in polygons for n in [*polygon, -1]]
    listed = "".join(w + blanks[k % len(blanks)] for k, w in enumerate(words))
    points = "".join(f"{k} {k % 3} .5{blanks[k % len(blanks)]}" for k in range(9))
    data = (
        "#VRML V2.0 utf8\nShape { geometry IndexedFaceSet {\n"
        f"coordIndex [ {listed} ] coord DEF a Coordinate {{ point [ {points} ] }} }} }}\n"
    ).encode()
    check_alike(*read_in_blocks(tmp_path, data, ".wrl", size))


POINT = b"Coordinate { point ["
UNUSABLE = {
    "of version 1": (b"#VRML V1.0 ascii\n", "wrong-kind: expected '#VRML V2.0'"),
    "open list": (
        b"Shape { geometry IndexedFaceSet { coordIndex [ 1",
        "truncated: a list is never closed",
    ),
    "open brace": (b"Shape {", "truncated: a brace is never closed"),
    "closed twice": (b"}", "mesh-syntax: never opened"),
    "two numbers a point": (POINT + b" 1 2 ] }", "mesh-syntax: has 2 numbers"),
    "no coordinate": (
        b"IndexedFaceSet { coordIndex [0 1 2] }",
        "mesh-syntax: without a Coordinate",
    ),
    "unknown coordinate": (b"IndexedFaceSet { coord USE a }", "mesh-syntax: no DEF before it"),
    "index of the other shape": (
        b"Coordinate { point [0 0 0 1 1 1 2 2 2] } IndexedFaceSet { coord Coordinate {"
        b"point [0 0 0] } coordIndex [0 1 2] }",
        r"vertex-index: refers to vertex 1 \(counted from 0\) of a Coordinate with 1",
    ),
    "escapes without end": (b'"\\"' * 10**5, "empty: no vertices"),
    "nodes in one another": (b"{" * MB, "too-large: nodes in one another"),
    "words": (b"a " * MB, "too-large: more than .* words"),
    "comments in a list": (POINT + b"#\n" * MB, "truncated"),
    "comments in a whole list": (POINT + b"#\n" * MB + b"] }", "too-large: comments in a list"),
    "blanks": (b" " * 2 * MB, "mesh-syntax: no node in 1 MB"),
    "a long word in a list": (
        POINT + b"7" * 3 * LONGEST_LINE + b"] }",
        "too-large: word of more than",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_files(tmp_path, monkeypatch, case):
    monkeypatch.setattr(vrml, "_WIDEST_GAP", MB)
    data, error = UNUSABLE[case]
    data = data if data.startswith(b"#VRML") else b"#VRML V2.0 utf8\n" + data
    check_refused(tmp_path, data, ".wrl", error)


def test_an_empty_file(tmp_path):
    check_refused(tmp_path, b"", ".wrl", "wrong-kind: expected '#VRML V2.0'")
