"""Mesh files as programs write them: PLY, OBJ and VRML in many flavours, and what they hold."""

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike
from raising import raises

from facedis_core.errors import InputError
from facedis_core.mesh import ply, text_numbers, vrml, vtk
from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh

# Nine float32 vertices of which no decimal of fewer than nine digits is all.
V9 = (np.random.default_rng(3).normal(size=(9, 3)) * [1e-3, 1, 1e4]).astype(np.float32)
TRIANGLES = [[0, 1, 3], [1, 4, 3], [1, 2, 4], [2, 5, 4]]
POLYGONS = [[0, 1, 4, 3], [1, 2, 4], [3, 4, 7, 6], [4, 2, 5, 8, 7], [0, 3, 6]]
ENCODINGS = ["ascii", "binary_little_endian", "binary_big_endian"]
PLY_CODES = {
    **{"char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I"},
    **{"float": "f", "double": "d"},
}
Element = tuple[str, Sequence[str], Sequence[Sequence[Any]]]
"""Name, properties and rows."""


def fans(polygons: Iterable[Sequence[int]]) -> np.ndarray:
    """Triangles (F, 3) of polygons, each cut from its first corner."""
    found = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
    return np.array(found, np.int32).reshape(-1, 3)


def encoded(mesh: Mesh, suffix: str = ".ply") -> bytes:
    """The file that we write."""
    stream = io.BytesIO()
    write_mesh(stream, mesh, suffix)
    return stream.getvalue()


def nine(name: str = "") -> Mesh:
    """The nine vertices with four triangles."""
    return Mesh(V9, np.array(TRIANGLES, np.int32), name)


def make_ply(encoding: str, *elements: Element, newline: str = "\n") -> bytes:
    """A PLY of tables; properties are lines of its header, numbers or lists the values in a row."""
    order = ">" if "big" in encoding else "<"
    header = ["ply", f"format {encoding} 1.0", "comment made here", "obj_info x y"]
    body = b""
    for element, properties, rows in elements:
        header.append(f"element {element} {len(rows)}")
        header += [f"property {line}" for line in properties]
        for row in rows:
            numbers: list[tuple[str, float]] = []
            for line, value in zip(properties, row, strict=True):
                words = line.split()
                if words[0] == "list":
                    numbers += [(words[1], len(value)), *((words[2], v) for v in value)]
                else:
                    numbers.append((words[0], value))
            if encoding == "ascii":
                body += " ".join(repr(n) for _, n in numbers).encode() + newline.encode()
            else:
                body += b"".join(struct.pack(order + PLY_CODES[k], n) for k, n in numbers)
    end = "\r\n" if newline == "\r\n" else "\n"
    return end.join([*header, "end_header", ""]).encode() + body


def vertex_table(vertices: ArrayLike = V9, kind: str = "float") -> Element:
    rows = np.asarray(vertices, float).tolist()
    return "vertex", [f"{kind} {axis}" for axis in "xyz"], rows


def face_table(
    polygons: Sequence[Sequence[int]] = TRIANGLES, line: str = "list uchar int vertex_indices"
) -> Element:
    return "face", [line], [[polygon] for polygon in polygons]


_OBJ_V = "".join("v {:.9g} {:.9g} {:.9g}\n".format(*row) for row in V9.tolist())
_PLAIN = _OBJ_V + "f 1 2 5 4\nf 2 3 5\n"
OBJ_FLAVOURS = {
    "plain": _PLAIN,
    "texture": _OBJ_V + "vt 0 0\nvt 1 1\nf 1/1 2/2 5/1 4/1\nf 2/2 3/1 5/2\n",
    "normals": _OBJ_V + "vn 0 0 1\nf 1//1 2//1 5//1 4//1\nf 2//1 3//1 5//1\n",
    "all three": _OBJ_V + "vt 0 0\nvn 0 0 1\nf 1/1/1 2/1/1 5/1/1 4/1/1\nf 2/1/1 3/1/1 5/1/1\n",
    "mixed tokens": _OBJ_V + "vt 0 0\nvn 0 0 1\nf 1 2/1 5//1 4/1/1\nf 2/1 3 5/1\n",
    "many texture vertices": _OBJ_V + "vt 0 0\n" * 30 + "f 1/30 2/29 5/28 4/1\nf 2/9 3/1 5/2\n",
    "negative": _OBJ_V + "f -9 -8 -5 -6\nv 1 2 3\nf -1 -2 -3\n",
    "n-gons": _OBJ_V + "f 1 2 3 6 9 8 7 4\nf 1 2 5\nf 1 2 5 4\n",
    "crlf": _PLAIN.replace("\n", "\r\n"),
    "old mac": _PLAIN.replace("\n", "\r"),
    "no last newline": _OBJ_V + "f 1 2 5",
    "comments": "# v 1 2 3\n" + _OBJ_V + "f 1 2 5 # f 1 2 3\n#f 1 2 3",
    "continued": _OBJ_V + "f 1 2 \\\n5 4\nf 2 \\\n 3 \\\n 5\n",
    "continued crlf": (_OBJ_V + "f 1 2 \\\n5 4\n").replace("\n", "\r\n"),
    "indented, tabs, blank lines": "\n\n" + _OBJ_V.replace("v ", " \tv\t") + "  f 1  2 5 \t\n\n",
    "groups": "mtllib a.mtl\no face\ng skin\ns 1\nusemtl m\n" + _OBJ_V + "s off\nf 1 2 5\nl 1 2\n",
    "interleaved": "".join(
        f"v {i} {i}.5 {-i}\n" + (f"f {i} {i - 1} {i - 2}\n" if i > 2 else "") for i in range(1, 30)
    ),
    "continued behind blanks": _OBJ_V + "f 1 2 \\ \n5 4\nf 2 \\\t \r\n 3 5\n",
    "two corners": _OBJ_V + "f 1 2\nf 1 2 5\nf 3\n",
    "# in words": _OBJ_V + "g a#1\nf 1 2 5 #6\n",
    "not for surfaces": _OBJ_V + "vp 1 2\np 1\nl 1 2\ncstype bezier\ncurv 0 1 1 2\nf 1 2 3\n",
    "weights": "v 1 2 3 1.0\nv 2 3 4 1\nv 5 6 7 1.0\nf 1 2 3\n",
    "colours": "v 1 2 3 .1 .2 .3\nv 2 3 4 0 0 1\nv 5 6 7 1 1 1\nv 0 0 0\nf 1 2 3\n",
    "exponents": "v 1e2 -2.5E-3 +.5\nv 5. 1e+3 -0\nv 1.5e-42 1e-50 0e5\nf 1 2 3\n",
    "no faces": _OBJ_V,
    "face before its vertices": "f 1 2 3\nv 1 2 3\nv 2 2 3\nv 3 2 3\n",
}

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

WRL_PLACED = """#VRML V2.0 utf8
PROTO Skin [ field SFColor c 1 0 1e-1 ] { Appearance { material Material { } } }
Transform { translation 100 0 -1e1 rotation 0 1 0 1.5708 scale 10 10 10
  scaleOrientation 1 1 0 .5 center 1 2 3 children [
    DEF both Group { children [
      DEF left Shape { appearance Skin { } geometry DEF skin IndexedFaceSet { ccw FALSE
        coord DEF points Coordinate { point [ 0 0 0, 1 0 0, 0 1 0, 1 1 1 ] }
        coordIndex [ 0 1 2 -1, 1 3 2 -1 ] } }
      Transform { children Shape { geometry USE skin } translation 5 5 5 } ] } ] }
Switch { whichChoice 1 choice [ Sphere { radius 2 } USE left ] }
LOD { range [ 10 ] level [ USE both Inline { url "far.wrl" } ] }
Collision { children Shape { geometry IndexedFaceSet {
  coord USE points coordIndex [ 3 2 1 ] } } proxy Box { } }
"""


def read_bytes(folder: Path, data: bytes, suffix: str) -> Mesh:
    """Read the file with this content."""
    path = folder / f"mesh{suffix}"
    path.write_bytes(data)
    return read_mesh(path)


def check_refused(folder: Path, data: bytes, suffix: str, error: str) -> None:
    """It is refused by an error of `raises`, in one short line that begins with the path."""
    path = folder / f"mesh{suffix}"
    with raises(error) as caught:
        read_bytes(folder, data, suffix)
    text = str(caught.value)
    assert text.startswith(str(path)) and text.isprintable() and len(text) < 400 + len(str(path))


def check_mesh(mesh: Mesh, vertices: ArrayLike, triangles: ArrayLike) -> None:
    """It has exactly these vertices and triangles."""
    assert (mesh.vertices.dtype, mesh.triangles.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(mesh.vertices, vertices)
    np.testing.assert_array_equal(mesh.triangles, triangles)


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    """Let all readers take so many bytes at once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for module, names in (
            (text_numbers, ["_READ_AT_ONCE"]),  # of OBJ and OFF
            (ply, ["_TEXT_AT_ONCE", "_READ_AT_ONCE", "_WALKED_AT_ONCE"]),
            (vrml, ["_BLOCK"]),
            (vtk, ["_TEXT_AT_ONCE"]),
        ):
            for name in names:
                monkeypatch.setattr(module, name, size)
        yield


def read_in_blocks(folder: Path, data: bytes, suffix: str, size: int) -> tuple[Any, Any]:
    """What the file holds, or why it is refused: read as usual, and in blocks of this size."""

    def read() -> tuple[list, list] | str:
        try:
            mesh = read_bytes(folder, data, suffix)
        except InputError as error:
            return str(error)
        return mesh.vertices.tolist(), mesh.triangles.tolist()

    usual = read()
    with blocks_of(size):
        return usual, read()


def check_alike(usual: Any, found: Any) -> None:
    """The same is found, or both are refused: of several faults another may be met first."""
    assert found == usual or (isinstance(found, str) and isinstance(usual, str))
