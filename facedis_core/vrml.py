"""VRML 2.0: point and coordIndex lists of every IndexedFaceSet, found by structure, not by line.

Several shapes follow one another in one mesh. The placement of shapes by Transform nodes is not
applied: vertices are what the file lists.
"""

import re
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.numerals import Indices, Tokens, decimals, integers, tokenize
from facedis_core.polygons import Polygons

_MAGIC = b"#VRML V2.0"
_TEXT_OR_COMMENT = re.compile(rb'("(?:[^"\\]|\\.)*+"?)|#[^\r\n]*', re.DOTALL)
_SYMBOL = re.compile(rb"[{}\[\]]|[A-Za-z_][^\s,{}\[\]]*")
_ROWS_AT_ONCE = 8192


@dataclass
class _Shape:
    """An IndexedFaceSet: which of all Coordinates it uses, and its polygons."""

    coordinate: int | None = None
    values: Indices = field(default_factory=lambda: np.zeros(0, np.int64))  # -1 ends a polygon


@dataclass
class _Scene:
    points: list[NDArray[np.float32]] = field(default_factory=list)  # of every Coordinate
    shapes: list[_Shape] = field(default_factory=list)


def read(stream: BinaryIO) -> Polygons:
    """Decode a VRML 2.0 scene.

    Raises InputError on text that is none, or where a shape uses no Coordinate.
    """
    data = stream.read()
    if not data.startswith(_MAGIC):
        shown = data[:10].decode("ascii", "backslashreplace")
        raise InputError(f"begins with {shown!r}; expected '{_MAGIC.decode()}'")
    # Neither a bracket in a comment nor one in a text is structure.
    scene = _parse(_TEXT_OR_COMMENT.sub(lambda m: b" " if m[1] is None else b'""', data))
    offsets = np.cumsum([0] + [len(points) for points in scene.points])
    corners, counts = [], []
    for shape in scene.shapes:
        values = np.append(shape.values, -1)  # the last polygon may lack its end
        ends = np.flatnonzero(values == -1)
        sizes = np.diff(ends, prepend=-1) - 1
        counts.append(sizes[sizes > 0])
        if counts[-1].size and shape.coordinate is None:
            raise InputError("has an IndexedFaceSet without a Coordinate")
        corners.append(values[values != -1] + offsets[shape.coordinate or 0])
    empty = np.zeros(0, np.int64)
    return Polygons(
        np.concatenate([np.zeros((0, 3), np.float32), *scene.points]),
        np.concatenate([empty, *corners]),
        np.concatenate([empty, *counts]),
    )


def write(
    stream: BinaryIO,
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    name: str,
    in_mm: bool,
) -> None:
    """Encode as one shape; nine significant digits bring every float32 back exactly."""
    stream.write(_MAGIC + b" utf8\nShape { geometry IndexedFaceSet {\ncoord Coordinate { point [\n")
    _write_rows(stream, "%.9g %.9g %.9g,\n", vertices)
    stream.write(b"] }\ncoordIndex [\n")
    _write_rows(stream, "%d, %d, %d, -1,\n", triangles)
    stream.write(b"] } }\n")


def _parse(text: bytes) -> _Scene:
    """Follow the braces; a list counts only in its own node: no texCoord passes for a coord."""
    scene = _Scene()
    named: dict[bytes, int] = {}
    nodes: list[tuple[bytes, _Shape | None]] = []  # open ones: type, and the shape they belong to
    words = [b"", b"", b""]
    position = 0
    while match := _SYMBOL.search(text, position):
        position = match.end()
        symbol = match[0]
        node, shape = nodes[-1] if nodes else (b"", None)
        if symbol == b"{":
            if words[-1] == b"IndexedFaceSet":
                shape = _Shape()
                scene.shapes.append(shape)
            elif words[-1] == b"Coordinate":
                if words[0] == b"DEF":
                    named[words[1]] = len(scene.points)
                if shape:
                    shape.coordinate = len(scene.points)
                scene.points.append(np.zeros((0, 3), np.float32))
            nodes.append((words[-1], shape))
        elif symbol == b"}":
            if not nodes:
                raise InputError("closes a brace that it never opened; expected VRML nodes")
            nodes.pop()
        elif symbol == b"[" and (node, words[-1]) == (b"Coordinate", b"point"):
            content, position = _list(text, position)
            numbers = decimals(content, np.arange(len(content.starts)))
            if numbers.size % 3:
                raise InputError(f"has {numbers.size} numbers in a point list; expected x y z each")
            scene.points[-1] = numbers.reshape(-1, 3)
        elif symbol == b"[" and (node, words[-1]) == (b"IndexedFaceSet", b"coordIndex"):
            assert shape is not None
            content, position = _list(text, position)
            shape.values = integers(content, np.arange(len(content.starts)))
        elif words[-2:] == [b"coord", b"USE"] and shape:
            if symbol not in named:
                raise InputError("uses a Coordinate that no DEF before it has named")
            shape.coordinate = named[symbol]
        words = [*words[1:], symbol]
    if nodes:
        raise InputError("is truncated: a brace is never closed")
    return scene


def _list(text: bytes, start: int) -> tuple[Tokens, int]:
    """Words up to the closing bracket, commas being blanks in VRML, and the position after it."""
    end = text.find(b"]", start)
    if end < 0:
        raise InputError("is truncated: a list is never closed")
    return tokenize(text[start:end].replace(b",", b" ")), end + 1


def _write_rows(stream: BinaryIO, line: str, rows: NDArray[np.generic]) -> None:
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[begin : begin + _ROWS_AT_ONCE]
        stream.write((line * len(block) % tuple(block.ravel().tolist())).encode("ascii"))
