"""VRML 2.0 reader and writer: point and coordIndex lists of every IndexedFaceSet.

Several shapes follow one another in one mesh, in the order of the file, each where its Transform
nodes place it. A Coordinate that is used again at the same place gives its vertices once.
Of a Switch the chosen node counts, of an LOD the first level.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.text import LONGEST_MARK, quoted, without_mark
from facedis_core.mesh.surface_builder import LONGEST_POLYGON, SurfaceBuilder
from facedis_core.mesh.text_numbers import (
    LONGEST_LINE,
    Tokens,
    decimal,
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
_BEFORE_WORD = b'[]{}"#, \t\r\n'
_NEXT_WORD = re.compile(rb"""(?:[\s,]++|#[^\r\n]*+)*+([^]{}["#\s,]{1,256})""")
_NEXT_LIST = re.compile(rb"(?:[\s,]++|#[^\r\n]*+)*+\[")
# Behind a point it is a part of a number, as in `-1.#IND`, which some programs write for NaN.
_LIST_COMMENT = re.compile(rb"#(?<!\.#)")
# A scene of a face has dozens.
_MOST_SYMBOLS = 1 << 18
_MOST_OPEN = 512
_MOST_PLACED = 1 << 18  # nodes, each as often as it is used
_MOST_REPEATED = 1 << 24  # bytes of lists
_SMALLEST_LIST = 1 << 12  # bytes that take as long as an empty list
_WIDEST_GAP = 1 << 26  # between two of them: other lists of numbers
_READ_AT_ONCE = 1 << 22
_BLOCK = 1 << 18

_LISTS = {b"Coordinate": b"point", b"IndexedFaceSet": b"coordIndex"}
# Fields of nodes that are drawn.
_DRAWN = (b"children", b"geometry", b"coord", b"choice", b"level")
# Fields of a Transform, and how many numbers they have.
_PLACING = {b"translation": 3, b"rotation": 4, b"scale": 3, b"scaleOrientation": 4, b"center": 3}
_NOT_READ = {
    b"Inline": "whose shapes are in another file",
    b"Billboard": "whose rotation is not fixed",
    **dict.fromkeys(
        [
            *(b"IndexedTriangleSet", b"IndexedTriangleStripSet", b"IndexedTriangleFanSet"),
            *(b"TriangleSet", b"TriangleStripSet", b"TriangleFanSet", b"QuadSet"),
            *(b"IndexedQuadSet", b"NurbsSurface", b"NurbsPatchSurface", b"GeoElevationGrid"),
        ],
        "which VRML 2.0 does not have",
    ),
}
_WITHOUT_VERTICES = (
    *(b"Box", b"Cone", b"Cylinder", b"ElevationGrid", b"Extrusion", b"Sphere", b"Text"),
)
_SURFACES = {*_LISTS, *_NOT_READ, *_WITHOUT_VERTICES}
# Nodes that may have a surface in them; the scene has no type.
_AROUND = {
    *(b"", b"Anchor", b"Billboard", b"Collision", b"Group", b"LOD", b"Script", b"Shape", b"Switch"),
    *(b"Transform", b"IndexedFaceSet", b"IndexedLineSet", b"PointSet"),
}


class _List(NamedTuple):
    """A bracketed list of numbers: its parts of the text, and the position behind it."""

    parts: list[slice]
    end: int


@dataclass(eq=False, slots=True)
class _Node:
    """A node: its type, the nodes in its fields, and of the fields that count the values."""

    type: bytes
    nodes: list[tuple[bytes, "_Node"]] = field(default_factory=list)
    content: _List | None = None
    values: dict[bytes, list[float]] = field(default_factory=dict)
    clockwise: bool = False

    def of_field(self, name: bytes) -> list["_Node"]:
        """The nodes in a field."""
        return [node for where, node in self.nodes if where == name]


class _Open(NamedTuple):
    """A node whose brace is open; of an open bracket, `field` is the field that it lists."""

    node: _Node
    field: bytes | None = None


def read(stream: BinaryIO) -> SurfaceBuilder:
    """Decode a VRML 2.0 scene.

    Raises InputError on text that is none, where a shape uses no Coordinate, and on a node that
    makes a surface which is not read.
    """
    beginning = without_mark(stream.read(len(_MAGIC) + LONGEST_MARK))
    if not beginning.startswith(_MAGIC):
        raise InputError(
            f"begins with {quoted(beginning[: len(_MAGIC)])}; expected '{_MAGIC.decode()}'",
            ErrorCode.WRONG_KIND,
        )
    text = bytearray(b"#" + beginning[len(_MAGIC) :])  # the rest of that line is a comment
    while piece := stream.read(_READ_AT_ONCE):
        text += piece
    if b"\0" in text:
        raise InputError("contains NUL bytes; expected text", ErrorCode.MESH_SYNTAX)
    surface = SurfaceBuilder()
    with np.errstate(over="ignore", invalid="ignore"):  # vertices that are not finite are refused
        _Scene(text, surface).add(_Parser(text).parse())
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


class _Parser:
    """Follows the braces; a list counts only in its own node: no texCoord passes for a coord."""

    def __init__(self, text: bytearray) -> None:
        self._text = text
        self._position = 0
        self._named: dict[bytes, _Node] = {}
        self._scene = _Node(b"")
        self._open = [_Open(self._scene)]
        self._prototypes: dict[bytes, bool] = {}  # whether they may hold shapes
        self._symbols = 0

    def parse(self) -> _Node:
        """The scene as a node.

        Raises InputError on braces and brackets that do not match, and on very many words.
        """
        name = before = word = b""
        while symbol := self._next():
            top = self._open[-1]
            if len(self._open) > _MOST_OPEN:
                raise InputError(
                    f"has {_MOST_OPEN} nodes in one another; expected a face",
                    ErrorCode.TOO_LARGE,
                )
            if symbol == b"{":
                node = self._node(word)
                top.node.nodes.append((before if top.field is None else top.field, node))
                if name:
                    self._named[name] = node
                self._open.append(_Open(node))
            elif symbol == b"[":
                if top.field is None and _LISTS.get(top.node.type) == word:
                    if top.node.content:
                        raise InputError(
                            f"has two lists {word.decode()} in one node; expected one",
                            ErrorCode.MESH_SYNTAX,
                        )
                    top.node.content = self._list()
                else:
                    self._open.append(_Open(top.node, word))
            elif symbol in b"}]":
                if len(self._open) == 1 or (top.field is None) != (symbol == b"}"):
                    what = "brace" if symbol == b"}" else "bracket"
                    raise InputError(
                        f"closes a {what} that it never opened; expected VRML nodes",
                        ErrorCode.MESH_SYNTAX,
                    )
                self._open.pop()
            elif symbol == b"DEF":
                name = self._word()
                continue
            elif symbol == b"USE":
                self._use(top.node, word if top.field is None else top.field)
            elif symbol in (b"PROTO", b"EXTERNPROTO"):
                self._prototype(symbol)
            else:
                before, word = word, symbol
                if top.field is None:
                    self._field(top.node, word)
                continue
            name = before = word = b""
        if len(self._open) > 1:
            what = "brace" if self._open[-1].field is None else "list"
            raise InputError(f"is truncated: a {what} is never closed", ErrorCode.TRUNCATED)
        return self._scene

    def _node(self, type_: bytes) -> _Node:
        """A node; raises InputError for one of a prototype that holds or may hold shapes."""
        if self._prototypes.get(type_):
            raise _of_prototype(type_)
        if type_ in _SURFACES:
            self._check_around()
        return _Node(type_)

    def _check_around(self) -> None:
        """Raise InputError within another node than VRML has, which may place what is in it."""
        for node, _ in self._open:
            if node.type in self._prototypes:
                raise _of_prototype(node.type)
            if node.type not in _AROUND:
                raise InputError(
                    f"has a shape in a node {quoted(node.type)}, which may place it elsewhere; "
                    "expected Transform, Group or another of VRML 2.0",
                    ErrorCode.UNSUPPORTED,
                )

    def _use(self, node: _Node, where: bytes) -> None:
        """Put a node there that has been named before."""
        name = self._word()
        found = self._named.get(name)
        if where in _DRAWN:
            self._check_around()
        if found is not None:
            if any(found is other.node for other in self._open):
                raise InputError(
                    f"uses the node {quoted(name)} within itself", ErrorCode.MESH_SYNTAX
                )
            node.nodes.append((where, found))
        elif where in _DRAWN:
            what = "a Coordinate" if where == b"coord" else "a node"
            raise InputError(
                f"uses {what} {quoted(name)} that no DEF before it has named",
                ErrorCode.MESH_SYNTAX,
            )

    def _field(self, node: _Node, word: bytes) -> None:
        """Take the values of a field that says where or how a surface is."""
        if _LISTS.get(node.type) == word and not _NEXT_LIST.match(self._text, self._position):
            raise InputError(
                f"has a field {word.decode()} without a bracket; expected a list",
                ErrorCode.MESH_SYNTAX,
            )
        if node.type == b"Transform" and word in _PLACING:
            count = _PLACING[word]
        elif (node.type, word) == (b"Switch", b"whichChoice"):
            count = 1
        elif (node.type, word) == (b"IndexedFaceSet", b"ccw"):
            node.clockwise = self._word() == b"FALSE"
            return
        else:
            return
        if word in node.values:
            raise InputError(
                f"has two fields {word.decode()} in a {node.type.decode()}; expected one",
                ErrorCode.MESH_SYNTAX,
            )
        node.values[word] = [decimal(self._word()) for _ in range(count)]
        if not np.isfinite(node.values[word]).all():
            raise InputError(
                f"has a field {word.decode()} that is not finite: {node.values[word]}",
                ErrorCode.NOT_FINITE,
            )

    def _prototype(self, kind: bytes) -> None:
        """Pass over the definition of a prototype: only its nodes in the scene count."""
        name, depth, surfaces = self._word(), 0, kind == b"EXTERNPROTO"
        blocks = 1 if surfaces else 2  # the interface, and the nodes
        while blocks and (symbol := self._next()):
            if symbol in (b"[", b"{"):
                depth += 1
            elif symbol in (b"]", b"}"):
                depth -= 1
                blocks -= depth == 0
            elif symbol in _SURFACES:
                surfaces = True
        if blocks:
            raise InputError("is truncated within a prototype", ErrorCode.TRUNCATED)
        self._prototypes[name] = surfaces

    def _word(self) -> bytes:
        """The next word, whatever it begins with: a name or a number."""
        found = _NEXT_WORD.match(self._text, self._position)
        if not found:
            raise InputError(
                "has a name or a number missing; expected VRML nodes", ErrorCode.MESH_SYNTAX
            )
        self._position = found.end()
        return bytes(found[1])

    def _next(self) -> bytes:
        """The next brace, bracket or word; empty at the end.

        Neither a bracket in a comment nor one in a text is structure, nor is the exponent of a
        number a word.
        """
        while self._symbols < _MOST_SYMBOLS:
            self._symbols += 1
            stop = self._position + _WIDEST_GAP
            match = _INTERESTING.search(self._text, self._position, stop)
            if not match:
                if stop < len(self._text):
                    raise InputError(
                        f"has no node in {_WIDEST_GAP >> 20} MB of text; expected a face",
                        ErrorCode.MESH_SYNTAX,
                    )
                return b""
            kind, start = match[0], match.start()
            if kind in b"{}[]":
                self._position = start + 1
                return bytes(kind)
            symbol = _SYMBOLS.get(bytes(kind), _WORD).match(self._text, start)
            assert symbol is not None  # each takes its first byte, whatever follows
            self._position = symbol.end()
            if kind not in _SYMBOLS and (not start or self._text[start - 1] in _BEFORE_WORD):
                return bytes(symbol[0])
        raise InputError(
            f"has more than {_MOST_SYMBOLS} words and braces; expected a face", ErrorCode.TOO_LARGE
        )

    def _list(self) -> _List:
        """Text up to the closing bracket, without comments."""
        text, start = self._text, self._position
        parts: list[slice] = []
        end = text.find(b"]", start)
        for _ in range(_MOST_SYMBOLS):
            if end < 0:
                raise InputError("is truncated: a list is never closed", ErrorCode.TRUNCATED)
            comment = _LIST_COMMENT.search(text, start, end)
            if not comment:
                self._position = end + 1
                return _List([*parts, slice(start, end)], end + 1)
            parts.append(slice(start, comment.start()))
            rest = _COMMENT.match(text, comment.start())
            assert rest is not None
            start = rest.end()
            if start > end:  # that bracket was a part of the comment
                end = text.find(b"]", start)
        raise InputError(
            f"has more than {_MOST_SYMBOLS} comments in a list; expected numbers",
            ErrorCode.TOO_LARGE,
        )


def _of_prototype(name: bytes) -> InputError:
    return InputError(
        f"has a node of the prototype {quoted(name)}, which may hold shapes; expected the nodes of "
        "VRML 2.0 themselves",
        ErrorCode.UNSUPPORTED,
    )


class _Scene:
    """Adds the shapes of a scene to a surface, each at its place."""

    def __init__(self, text: bytearray, surface: SurfaceBuilder) -> None:
        self._text = text
        self._surface = surface
        # Coordinate and placement -> its vertices, from the first to before the last.
        self._vertices: dict[tuple[_Node, bytes], tuple[int, int]] = {}
        self._added: set[_Node] = set()
        self._repeated = 0

    def add(self, scene: _Node) -> None:
        """Add the shapes in the order of the file.

        Raises InputError on a shape that is not read, and on nodes that are used very often.
        """
        left_out: Counter[str] = Counter()
        waiting = [(scene, np.eye(4))]
        placed = 0
        while waiting:
            node, placement = waiting.pop()
            placed += 1
            if placed > _MOST_PLACED:
                raise InputError(
                    f"has more than {_MOST_PLACED} nodes; expected a face", ErrorCode.TOO_LARGE
                )
            name = node.type.decode("ascii", "replace")
            if node.type in _NOT_READ:
                raise InputError(
                    f"has a node {name}, {_NOT_READ[node.type]}; expected IndexedFaceSet",
                    ErrorCode.UNSUPPORTED,
                )
            if node.type in _WITHOUT_VERTICES:
                left_out[name] += 1
            elif node.type == b"Coordinate":
                self._add_points(node, placement)
            elif node.type == b"IndexedFaceSet":
                self._add_faces(node, placement)
            else:
                if node.type == b"Transform":
                    placement = placement @ _placement(node)
                waiting += [(inner, placement) for inner in reversed(_drawn(node))]
        if left_out:
            counts = ", ".join(f"{count} {name}" for name, count in left_out.items())
            self._surface.warnings.append(f"shapes without vertices are left out: {counts}")

    def _add_points(self, node: _Node, placement: NDArray[np.float64]) -> tuple[int, int]:
        """Add the vertices of a Coordinate, unless they are there; the first and the last + 1."""
        key = (node, placement.tobytes())
        if key not in self._vertices:
            first = self._surface.vertex_count
            if node.content:
                self._count(node, node.content)
                moved = None if np.array_equal(placement, np.eye(4)) else placement
                _add_points(self._surface, self._text, node.content, moved)
            self._vertices[key] = first, self._surface.vertex_count
        return self._vertices[key]

    def _add_faces(self, node: _Node, placement: NDArray[np.float64]) -> None:
        coordinates = node.of_field(b"coord")
        if len(coordinates) > 1:
            raise InputError(
                "has an IndexedFaceSet with two Coordinates; expected one", ErrorCode.MESH_SYNTAX
            )
        for coordinate in coordinates:
            if coordinate.type != b"Coordinate":
                raise InputError(
                    f"has vertices in a node {quoted(coordinate.type)}; expected Coordinate",
                    ErrorCode.UNSUPPORTED,
                )
        vertices = [self._add_points(coordinate, placement) for coordinate in coordinates]
        if node.content is None:
            return
        if not vertices:
            raise InputError("has an IndexedFaceSet without a Coordinate", ErrorCode.MESH_SYNTAX)
        self._count(node, node.content)
        _add_polygons(self._surface, self._text, node.content, *vertices[0], node.clockwise)

    def _count(self, node: _Node, content: _List) -> None:
        """Raise InputError where short text would make a large mesh by repetition."""
        if node in self._added:
            self._repeated += _SMALLEST_LIST + content.end - content.parts[0].start
        self._added.add(node)
        if self._repeated > _MOST_REPEATED:
            raise InputError(
                f"repeats more than {_MOST_REPEATED >> 20} MB of shapes; expected a face",
                ErrorCode.TOO_LARGE,
            )


def _drawn(node: _Node) -> list[_Node]:
    """The nodes in a node that a viewer draws."""
    match node.type:
        case b"Switch":
            choices, chosen = node.of_field(b"choice"), node.values.get(b"whichChoice", [-1])[0]
            return [choice for number, choice in enumerate(choices) if number == chosen]
        case b"LOD":  # of the same from near to far, the first being the finest
            return node.of_field(b"level")[:1]
        case b"Script":
            return []
        case b"Collision":
            return [inner for where, inner in node.nodes if where != b"proxy"]
    return [inner for _, inner in node.nodes]


def _placement(node: _Node) -> NDArray[np.float64]:
    """Matrix (4, 4) of a Transform for points as columns: T C R SR S -SR -C.

    T translation, C center, R rotation, SR scaleOrientation, S scale, - the inverse.
    """
    values = node.values
    center, to_center = np.eye(4), np.eye(4)
    center[:3, 3] = values.get(b"center", [0, 0, 0])
    to_center[:3, 3] = -center[:3, 3]
    placement, scaled = np.eye(4), np.eye(4)
    turn = _rotation(values.get(b"scaleOrientation", [0, 0, 1, 0]))
    scaled[:3, :3] = turn * values.get(b"scale", [1, 1, 1]) @ turn.T
    placement[:3, :3] = _rotation(values.get(b"rotation", [0, 0, 1, 0]))
    placement = center @ placement @ scaled @ to_center
    placement[:3, 3] += values.get(b"translation", [0, 0, 0])
    return placement


def _rotation(axis_and_angle: list[float]) -> NDArray[np.float64]:
    """Matrix (3, 3) that turns by an angle in radians about an axis of any length (Rodrigues)."""
    axis, angle = np.array(axis_and_angle[:3]), axis_and_angle[3]
    length = np.linalg.norm(axis)
    if angle == 0:
        return np.eye(3)
    if not 0 < length < np.inf:
        raise InputError(
            f"has a rotation about the axis {axis.tolist()}; expected a direction",
            ErrorCode.MESH_SYNTAX,
        )
    x, y, z = axis / length
    across = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * across + (1 - np.cos(angle)) * across @ across


def _blocks(text: bytearray, content: _List) -> Iterator[tuple[Tokens, int]]:
    """The words of a list, commas being blanks in VRML, some at a time, and their bytes."""
    block = bytearray()
    for part in content.parts:
        for begin in range(part.start, part.stop, _BLOCK):
            block += text[begin : min(begin + _BLOCK, part.stop)].replace(b",", b" ")
            if len(block) >= _BLOCK:
                end = max(block.rfind(blank) for blank in b" \n\r\t") + 1
                if len(block) - end > LONGEST_LINE:
                    raise InputError(
                        f"has a word of more than {LONGEST_LINE} bytes in a list",
                        ErrorCode.TOO_LARGE,
                    )
                yield tokenize(bytes(block[:end])), end
                del block[:end]
        block += b" "  # a comment divides words
    yield tokenize(bytes(block)), len(block)


def _add_points(
    surface: SurfaceBuilder,
    text: bytearray,
    content: _List,
    placement: NDArray[np.float64] | None,
) -> None:
    """Vertices, which without a `placement` (4, 4) have the bits of the list."""
    rest = np.zeros(0, np.float32)
    total = 0
    for tokens, _ in _blocks(text, content):
        before = 3 * surface.vertex_count + rest.size
        vertex = partial(_vertex_of, before)
        numbers = decimals(tokens, np.arange(len(tokens.starts)), vertex)
        total += numbers.size
        numbers = np.concatenate((rest, numbers))
        whole = numbers.size - numbers.size % 3
        vertices = numbers[:whole].reshape(-1, 3)
        if placement is not None:
            placed = vertices @ placement[:3, :3].T + placement[:3, 3]
            vertices = placed.astype(np.float32)
        surface.add_vertices(vertices)
        rest = numbers[whole:]
    if rest.size:
        raise InputError(
            f"has {total} numbers in a point list; expected x y z each", ErrorCode.MESH_SYNTAX
        )


def _vertex_of(before: int, number: int) -> int:
    return (before + number) // 3


def _add_polygons(
    surface: SurfaceBuilder,
    text: bytearray,
    content: _List,
    first: int,
    end: int,
    clockwise: bool,
) -> None:
    """Polygons, each ended by -1, of the vertices from `first` to before `end`.

    `clockwise` ones are turned, so that all have their front where the corners go the other way.
    """
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
        _add_ended(surface, values[: values.size - rest.size], ends, first, clockwise, size)
    values = np.append(rest, -1)  # the last polygon may lack its end
    _add_ended(surface, values, np.array([rest.size]), first, clockwise, 0)


def _add_ended(
    surface: SurfaceBuilder,
    values: NDArray[np.int64],
    ends: NDArray[np.int64],
    first: int,
    clockwise: bool,
    size: int,
) -> None:
    counts = np.diff(ends, prepend=-1) - 1
    corners, counts = values[values != -1] + first, counts[counts > 0]
    if clockwise:  # the first corner stays, since polygons are triangulated from it
        begins = np.repeat(np.cumsum(counts) - counts, counts)
        place = np.arange(corners.size) - begins
        corners = corners[begins + np.where(place > 0, np.repeat(counts, counts) - place, 0)]
    surface.add_polygons(corners, counts, size)
