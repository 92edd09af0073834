"""VRML scenes: lists are found by structure; and files that are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_files import (
    WRL,
    blocks_of,
    check_alike,
    check_mesh,
    check_refused,
    fans,
    read_bytes,
    read_in_blocks,
)

from facedis_core.mesh import vrml_nodes
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


TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
SHAPE = (
    "Shape { geometry IndexedFaceSet { coord Coordinate { point [ 0 0 0, 1 0 0, 0 1 0 ] } "
    "coordIndex [ 0 1 2 -1 ] } }"
)


def scene(text: str) -> bytes:
    return f"#VRML V2.0 utf8\n{text}\n".encode()


def slow_turn(axis: np.ndarray, angle: float, point: np.ndarray) -> np.ndarray:
    """A point turned about an axis by a rotation of quaternions."""

    def times(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return np.array(
            [p[0] * q[0] - p[1:] @ q[1:], *(p[0] * q[1:] + q[0] * p[1:]) + np.cross(p[1:], q[1:])]
        )

    half = np.array([np.cos(angle / 2), *(np.sin(angle / 2) * axis / np.linalg.norm(axis))])
    return times(times(half, np.array([0, *point])), half * [1, -1, -1, -1])[1:]


def slowly_placed(point: np.ndarray, transform: dict[str, np.ndarray]) -> np.ndarray:
    """A point of the node within a Transform, moved step by step as the standard says."""
    center, (*axis, angle) = transform["center"], transform["scaleOrientation"]
    point = slow_turn(np.array(axis), -angle, point - center) * transform["scale"]
    point = slow_turn(np.array(axis), angle, point)
    *axis, angle = transform["rotation"]
    return slow_turn(np.array(axis), angle, point) + center + transform["translation"]


numbers = st.integers(-40, 40).map(lambda n: n / 8)
AXES = st.tuples(numbers, numbers, numbers).filter(any)
TRANSFORMS = st.fixed_dictionaries(
    {
        "translation": st.tuples(numbers, numbers, numbers),
        "center": st.tuples(numbers, numbers, numbers),
        "scale": st.tuples(*[st.integers(1, 24).map(lambda n: n / 8)] * 3),
        "rotation": st.tuples(AXES, numbers).map(lambda two: (*two[0], two[1])),
        "scaleOrientation": st.tuples(AXES, numbers).map(lambda two: (*two[0], two[1])),
    }
).map(lambda fields: {name: np.array(values, float) for name, values in fields.items()})


@settings(max_examples=60)
@given(st.lists(TRANSFORMS, min_size=1, max_size=3), st.data())
def test_transforms_in_one_another_against_a_slow_way(tmp_path, transforms, data):
    text, expected = SHAPE, TRIANGLE.astype(float)
    for transform in transforms:
        names = data.draw(st.permutations(["children", *transform]))
        values = {name: " ".join(map(str, value)) for name, value in transform.items()}
        values["children"] = data.draw(st.sampled_from([text, f"[ {text} ]"]))
        text = "Transform { " + " ".join(f"{name} {values[name]}" for name in names) + " }"
        expected = np.array([slowly_placed(point, transform) for point in expected])
    mesh = read_bytes(tmp_path, scene(text), ".wrl")
    np.testing.assert_allclose(mesh.vertices, expected, rtol=1e-5, atol=1e-4)
    assert mesh.triangles.tolist() == [[0, 1, 2]]


def test_a_shape_has_the_place_of_its_transform(tmp_path):
    moved = f"Transform {{ translation 100 0 0 scale 10 10 10 children [ {SHAPE} ] }}"
    check_mesh(read_bytes(tmp_path, scene(moved), ".wrl"), 10 * TRIANGLE + [100, 0, 0], [[0, 1, 2]])
    two = (
        f"Transform {{ translation 100 0 0 children [ DEF T {SHAPE} ] }}"
        f"Transform {{ children {SHAPE} translation -100 0 0 }}"
    )
    mesh = read_bytes(tmp_path, scene(two), ".wrl")
    both = np.concatenate([TRIANGLE + np.array([x, 0, 0]) for x in (100, -100)])
    check_mesh(mesh, both, [[0, 1, 2], [3, 4, 5]])


def test_a_transform_that_moves_nothing_keeps_every_bit(tmp_path):
    text = SHAPE.replace("1 0 0, 0 1 0", "0.1 1e-42 3, 16777217 0 0.3333333333")
    placed = f"Transform {{ rotation 1 2 3 0 scale 1 1 1 center 5 6 7 children {text} }}"
    read = [read_bytes(tmp_path, scene(each), ".wrl").vertices for each in (text, placed)]
    np.testing.assert_array_equal(*read)


@pytest.mark.parametrize(
    ("text", "places", "triangles"),
    [
        # the same coordinates in the same place are the same vertices
        (f"DEF T {SHAPE} USE T", [0], [[0, 1, 2], [0, 1, 2]]),
        (f"DEF T {SHAPE} Transform {{ translation 5 0 0 children USE T }}", [0, 5], None),
        (
            SHAPE.replace("coord C", "coord DEF c C")
            + "Transform { translation 5 0 0 children Shape { geometry IndexedFaceSet {"
            "coordIndex [ 0 1 2 ] coord USE c } } }",
            [0, 5],
            None,
        ),
        (
            SHAPE.replace("geometry I", "geometry DEF g I")
            + "Transform { translation 5 0 0 children Shape { geometry USE g } }",
            [0, 5],
            None,
        ),
        (f"DEF 01_a {SHAPE} DEF 02_a Transform {{}} USE 02_a", [0], None),
        (f"Group {{ children [ Anchor {{ children {SHAPE} }} ] }}", [0], None),
        (f"Switch {{ whichChoice 1 choice [ Box {{}} {SHAPE} {SHAPE} ] }}", [0], None),
        (f"{SHAPE} Switch {{ choice {SHAPE} }}", [0], None),
        (f"LOD {{ range [ 1 ] level [ {SHAPE} Inline {{}} ] }}", [0], None),
        (f"Collision {{ proxy {SHAPE} children {SHAPE} }}", [0], None),
        (f"DEF T {SHAPE} Script {{ field SFNode n USE T url \"a\" }}", [0], None),
        (f"PROTO P [ field SFColor c 0 1e-1 1 ] {{ Material {{}} }} {SHAPE} P {{}}", [0], None),
        (f"PROTO P [ field MFNode n [ ] ] {{ {SHAPE} }} {SHAPE}", [0], None),
        (f"EXTERNPROTO P [ field SFInt32 n ] [ \"a.wrl\" ] {SHAPE}", [0], None),
        (SHAPE.replace("0 1 2 -1", "2 1 0 -1").replace("{ coord", "{ ccw FALSE coord"),
         [0], [[2, 0, 1]]),
        (SHAPE.replace("coordI", "ccw TRUE coordI"), [0], None),
    ],
)  # fmt: skip
def test_nodes_that_are_drawn(tmp_path, text, places, triangles):
    mesh = read_bytes(tmp_path, scene(text), ".wrl")
    vertices = [row for place in places for row in TRIANGLE + np.array([place, 0, 0])]
    usual = [[3 * k, 3 * k + 1, 3 * k + 2] for k in range(len(places))]
    check_mesh(mesh, vertices, triangles or usual)


def test_clockwise_polygons_are_turned(tmp_path):
    points = " ".join(f"{k} {k * k} 0" for k in range(9))
    polygons = [[0, 1, 2, 3], [4, 5, 6], [8, 7, 6, 5, 4]]
    listed = " ".join(" ".join(map(str, [*polygon, -1])) for polygon in polygons)
    text = (
        f"Shape {{ geometry IndexedFaceSet {{ coordIndex [ {listed} ] ccw FALSE "
        f"coord Coordinate {{ point [ {points} ] }} }} }}"
    )
    turned = [[polygon[0], *polygon[:0:-1]] for polygon in polygons]
    for size in (1 << 18, 3):
        with blocks_of(size):
            mesh = read_bytes(tmp_path, scene(text), ".wrl")
        np.testing.assert_array_equal(mesh.triangles, fans(turned))


def test_shapes_without_vertices_are_told(tmp_path):
    text = f"Shape {{ geometry Sphere {{ }} }} {SHAPE} Shape {{ geometry Text {{ }} }}"
    mesh = read_bytes(tmp_path, scene(text * 2), ".wrl")
    assert len(mesh.vertices) == 6
    (line,) = mesh.warnings
    assert line.endswith("mesh.wrl: shapes without vertices are left out: 2 Sphere, 2 Text")


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
    "msvc nan": (
        POINT + b" 0 0 0, 1 0 0, 0 -1.#IND 0 ] }",
        r"mesh-syntax: vertex 2 has '-1\.#IND' where a number was expected",
    ),
    "nul bytes": (SHAPE.encode() + b"\0", "mesh-syntax: NUL bytes"),
    "another file": (b'Inline { url "a.wrl" }', "unsupported: node Inline, whose shapes are in"),
    "turned to the viewer": (b"Billboard { }", "unsupported: node Billboard, whose rotation"),
    "a node of X3D": (b"Shape { geometry TriangleSet { } }", "unsupported: node TriangleSet"),
    "a prototype with a shape": (
        f"PROTO P [ ] {{ {SHAPE} }} P {{ }}".encode(),
        "unsupported: node of the prototype 'P', which may hold",
    ),
    "a shape in a prototype": (
        f"PROTO P [ field MFNode n [ ] ] {{ Group {{ }} }} P {{ n [ {SHAPE} ] }}".encode(),
        "unsupported: node of the prototype 'P', which may hold",
    ),
    "a prototype of another file": (
        b'EXTERNPROTO P [ ] "a.wrl" P { }',
        "unsupported: node of the prototype 'P', which may hold",
    ),
    "a shape in a node of X3D": (
        f"HAnimHumanoid {{ translation 5 0 0 skin [ {SHAPE} ] }}".encode(),
        "unsupported: has a shape in a node 'HAnimHumanoid', which may place it elsewhere",
    ),
    "vertices on the globe": (
        SHAPE.replace("Coordinate", "GeoCoordinate").encode(),
        "unsupported: has vertices in a node 'GeoCoordinate'; expected Coordinate",
    ),
    "a node within itself": (
        b"DEF A Group { children [ USE A ] }",
        "mesh-syntax: uses the node 'A' within itself",
    ),
    "unknown node": (b"Group { children USE A }", "mesh-syntax: no DEF before it"),
    "two lists": (POINT + b"0 0 0] point [ 1 1 1 ] }", "mesh-syntax: two lists point"),
    "a point without a list": (b"Coordinate { point 0 0 0 }", "mesh-syntax: without a bracket"),
    "two places": (
        b"Transform { translation 0 0 0 translation 1 1 1 }",
        "mesh-syntax: two fields translation in a Transform",
    ),
    "no number in a place": (b"Transform { scale 1 x 1 }", "mesh-syntax: has 'x' where a number"),
    "a place cut short": (b"Transform { scale 1 1", "mesh-syntax: a number missing"),
    "a place of nan": (b"Transform { scale 1 1 nan }", "not-finite: a field scale"),
    "a place far away": (
        b"Transform { scale 1e200 1 1 children Transform { scale 1e200 1 1 children "
        b"Coordinate { point [ 1 1 1 ] } } }",
        "not-finite: vertex 0",
    ),
    "no axis": (b"Transform { rotation 0 0 0 1 }", "mesh-syntax: a rotation about the axis"),
    "a bracket too many": (b"Group { ] }", "mesh-syntax: closes a bracket that it never opened"),
    "nodes that double": (
        f"DEF N0 {SHAPE}".encode()
        + b"".join(
            b"DEF N%d Group { children [ USE N%d USE N%d ] }" % (k + 1, k, k) for k in range(60)
        ),
        "too-large: repeats more than",
    ),
    "lists that repeat": (
        b"DEF T Shape { geometry IndexedFaceSet { coord "
        + POINT
        + b"0 0 0] } coordIndex ["
        + b"0 0 0 -1 " * 10**4
        + b"] } }"
        + b"USE T " * 10**3,
        "too-large: repeats more than",
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
    monkeypatch.setattr(vrml_nodes, "_WIDEST_GAP", MB)
    data, error = UNUSABLE[case]
    data = data if data.startswith(b"#VRML") else b"#VRML V2.0 utf8\n" + data
    check_refused(tmp_path, data, ".wrl", error)


def test_an_empty_file(tmp_path):
    check_refused(tmp_path, b"", ".wrl", "wrong-kind: expected '#VRML V2.0'")
