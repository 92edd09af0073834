"""VRML 2.0 reader and writer: point and coordIndex lists of every IndexedFaceSet.

Several shapes follow one another in one mesh. The placement of shapes by Transform nodes is not
applied: vertices are what the file lists.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.mesh.surface_builder import LONGEST_POLYGON, SurfaceBuilder
from facedis_core.mesh.text_numbers import (
    LONGEST_LINE,
    Tokens,
    decimals,
    integers,
    tokenize,
    write_rows,
)

_MAGIC = b"#VRML V2.0"
_INTERESTING = re.compile(rb"""[]{}["#A-Za-z_]""")  # a single set of bytes is found fastest
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_COMMENT = re.compile(rb"#[^\r\n]*")
_SYMBOLS = {b'"': _TEXT, b"#": _COMMENT}
_WORD = re.compile(rb"""[A-Za-z_][^]{}["#\s,]{0,255}""")
# A scene of a face has dozens.
_MOST_SYMBOLS = 1 << 18
_MOST_OPEN = 256
_WIDEST_GAP = 1 << 26  # between two of them: other lists of numbers
_READ_AT_ONCE = 1 << 22
_BLOCK = 1 << 18


class _List(NamedTuple):
    """A bracketed list of numbers: its parts of the text, and the position behind it."""

    parts: list[slice]
    end: int


@dataclass
class _Shape:
    """An IndexedFaceSet: which of all Coordinates it uses, and where its polygons are listed."""

    coordinate: int | None = None
    polygons: _List | None = None


class _Scene:
    def __init__(self) -> None:
        self.points: list[_List | None] = []  # of every Coordinate
        self.shapes: list[_Shape] = []


def read(stream: BinaryIO) -> SurfaceBuilder:
    """Decode a VRML 2.0 scene.

    Raises InputError on text that is none, or where a shape uses no Coordinate.
    """
    beginning = stream.read(len(_MAGIC))
    if beginning != _MAGIC:
        shown = beginning.decode("ascii", "backslashreplace")
        raise InputError(
            f"begins with {shown!r}; expected '{_MAGIC.decode()}'", ErrorCode.WRONG_KIND
        )
    text = bytearray(b"#")  # the rest of that line is a comment
    while piece := stream.read(_READ_AT_ONCE):
        text += piece
    scene = _parse(text)
    surface = SurfaceBuilder()
    first = []  # vertex of every Coordinate
    for points in scene.points:
        first.append(surface.vertex_count)
        if points:
            _add_points(surface, text, points)
    first.append(surface.vertex_count)
    for shape in scene.shapes:
        if not shape.polygons:
            continue
        if shape.coordinate is None:
            raise InputError("has an IndexedFaceSet without a Coordinate", ErrorCode.MESH_SYNTAX)
        _add_polygons(surface, text, shape.polygons, *first[shape.coordinate :][:2])
    return surface


def write(
    stream: BinaryIO,
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    name: str,
    in_mm: bool,
) -> None:
    """Encode as one shape; nine significant digits bring every float32 back exactly."""
    stream.write(_MAGIC + b" utf8\nShape { geometry IndexedFaceSet {\ncoord Coordinate { point [\n")
    write_rows(stream, "%.9g %.9g %.9g,\n", vertices)
    stream.write(b"] }\ncoordIndex [\n")
    write_rows(stream, "%d, %d, %d, -1,\n", triangles)
    stream.write(b"] } }\n")


def _parse(text: bytearray) -> _Scene:
    """Follow the braces; a list counts only in its own node: no texCoord passes for a coord."""
    scene = _Scene()
    named: dict[bytes, int] = {}
    nodes: list[tuple[bytes, _Shape | None, int]] = []  # open ones: type, their shape, Coordinate
    words = [b"", b"", b""]
    position = 0
    for _ in range(_MOST_SYMBOLS):
        symbol, position = _next_symbol(text, position)
        if not symbol:
            break
        node, shape, coordinate = nodes[-1] if nodes else (b"", None, 0)
        if symbol == b"{":
            if len(nodes) == _MOST_OPEN:
                raise InputError(
                    f"has {_MOST_OPEN} nodes in one another; expected a face", ErrorCode.TOO_LARGE
                )
            if words[-1] == b"IndexedFaceSet":
                shape = _Shape()
                scene.shapes.append(shape)
            elif words[-1] == b"Coordinate":
                coordinate = len(scene.points)
                if words[0] == b"DEF":
                    named[words[1]] = coordinate
                if shape:
                    shape.coordinate = coordinate
                scene.points.append(None)
            nodes.append((words[-1], shape, coordinate))
        elif symbol == b"}":
            if not nodes:
                raise InputError(
                    "closes a brace that it never opened; expected VRML nodes",
                    ErrorCode.MESH_SYNTAX,
                )
            nodes.pop()
        elif symbol == b"[" and (node, words[-1]) == (b"Coordinate", b"point"):
            scene.points[coordinate] = points = _list(text, position)
            position = points.end
        elif symbol == b"[" and (node, words[-1]) == (b"IndexedFaceSet", b"coordIndex"):
            assert shape is not None
            shape.polygons = _list(text, position)
            position = shape.polygons.end
        elif words[-2:] == [b"coord", b"USE"] and shape:
            if symbol not in named:
                raise InputError(
                    "uses a Coordinate that no DEF before it has named", ErrorCode.MESH_SYNTAX
                )
            shape.coordinate = named[symbol]
        words = [*words[1:], symbol]
    else:
        raise InputError(
            f"has more than {_MOST_SYMBOLS} words and braces; expected a face", ErrorCode.TOO_LARGE
        )
    if nodes:
        raise InputError("is truncated: a brace is never closed", ErrorCode.TRUNCATED)
    return scene


def _next_symbol(text: bytearray, position: int) -> tuple[bytes, int]:
    """The next brace, bracket or word, and where it ends; a text in quotes and a comment are `"`.

    Neither a bracket in a comment nor one in a text is structure.  Empty at the end.
    """
    if not (match := _INTERESTING.search(text, position, position + _WIDEST_GAP)):
        if position + _WIDEST_GAP < len(text):
            raise InputError(
                f"has no node in {_WIDEST_GAP >> 20} MB of text; expected a face",
                ErrorCode.MESH_SYNTAX,
            )
        return b"", len(text)
    kind, start = match[0], match.start()
    if kind in b"{}[]":
        return kind, start + 1
    symbol = _SYMBOLS.get(kind, _WORD).match(text, start)
    assert symbol is not None  # each takes its first byte, whatever follows
    return kind if kind in _SYMBOLS else symbol[0], symbol.end()


def _list(text: bytearray, start: int) -> _List:
    """Text up to the closing bracket, without comments."""
    parts: list[slice] = []
    end = text.find(b"]", start)
    for _ in range(_MOST_SYMBOLS):
        if end < 0:
            raise InputError("is truncated: a list is never closed", ErrorCode.TRUNCATED)
        comment = text.find(b"#", start, end)
        if comment < 0:
            return _List([*parts, slice(start, end)], end + 1)
        parts.append(slice(start, comment))
        _, start = _next_symbol(text, comment)
        if start > end:  # that bracket was a part of the comment
            end = text.find(b"]", start)
    raise InputError(
        f"has more than {_MOST_SYMBOLS} comments in a list; expected numbers", ErrorCode.TOO_LARGE
    )


def _blocks(text: bytearray, content: _List) -> Iterator[tuple[Tokens, int]]:
    """The words of a list, commas being blanks in VRML, some at a time, and their bytes."""
    block = bytearray()
    for part in content.parts:
        for begin in range(part.start, part.stop, _BLOCK):
            block += text[begin : min(begin + _BLOCK, part.stop)].replace(b",", b" ")
            if len(block) >= _BLOCK:
                end = max(block.rfind(blank) for blank in b" \n") + 1
                if len(block) - end > LONGEST_LINE:
                    raise InputError(
                        f"has a word of more than {LONGEST_LINE} bytes in a list",
                        ErrorCode.TOO_LARGE,
                    )
                yield tokenize(bytes(block[:end])), end
                del block[:end]
        block += b" "  # a comment divides words
    yield tokenize(bytes(block)), len(block)


def _add_points(surface: SurfaceBuilder, text: bytearray, content: _List) -> None:
    rest = np.zeros(0, np.float32)
    total = 0
    for tokens, _ in _blocks(text, content):
        numbers = decimals(tokens, np.arange(len(tokens.starts)))
        total += numbers.size
        numbers = np.concatenate((rest, numbers))
        whole = numbers.size - numbers.size % 3
        surface.add_vertices(numbers[:whole].reshape(-1, 3))
        rest = numbers[whole:]
    if rest.size:
        raise InputError(
            f"has {total} numbers in a point list; expected x y z each", ErrorCode.MESH_SYNTAX
        )


def _add_polygons(
    surface: SurfaceBuilder, text: bytearray, content: _List, first: int, end: int
) -> None:
    """Polygons, each ended by -1, of the vertices from `first` to before `end`."""
    rest = np.zeros(0, np.int64)
    for tokens, size in _blocks(text, content):
        values = integers(tokens, np.arange(len(tokens.starts)))
        wrong = (values < -1) | (values >= end - first)
        if wrong.any():
            raise InputError(
                f"a polygon refers to vertex {values[np.argmax(wrong)]} (counted from 0) of a "
                f"Coordinate with {end - first}",
                ErrorCode.VERTEX_INDEX,
            )
        values = np.concatenate((rest, values))
        ends = np.flatnonzero(values == -1)
        rest = values[ends[-1] + 1 if ends.size else 0 :]
        if rest.size > LONGEST_POLYGON:
            raise InputError(
                f"has a polygon of more than {LONGEST_POLYGON} corners", ErrorCode.TOO_LARGE
            )
        _add_ended(surface, values[: values.size - rest.size], ends, first, size)
    values = np.append(rest, -1)  # the last polygon may lack its end
    _add_ended(surface, values, np.array([rest.size]), first, 0)


def _add_ended(
    surface: SurfaceBuilder,
    values: NDArray[np.int64],
    ends: NDArray[np.int64],
    first: int,
    size: int,
) -> None:
    counts = np.diff(ends, prepend=-1) - 1
    surface.add_polygons(values[values != -1] + first, counts[counts > 0], size)
