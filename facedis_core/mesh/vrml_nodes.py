"""VRML 2.0 text as a tree of nodes: the first half of the reader in vrml.py.

Of the fields only those count that say where or how a surface is.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.text import quoted
from facedis_core.mesh.text_numbers import decimal

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
_WIDEST_GAP = 1 << 26  # bytes between two words: other lists of numbers

_LISTS = {b"Coordinate": b"point", b"IndexedFaceSet": b"coordIndex"}
# Fields of nodes that are drawn.
_DRAWN = (b"children", b"geometry", b"coord", b"choice", b"level")
# Fields of a Transform, and how many numbers they have.
_PLACING = {b"translation": 3, b"rotation": 4, b"scale": 3, b"scaleOrientation": 4, b"center": 3}
# Surfaces that are refused, and why.
NOT_READ = {
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
# Surfaces that are left out.
WITHOUT_VERTICES = {
    *(b"Box", b"Cone", b"Cylinder", b"ElevationGrid", b"Extrusion", b"Sphere", b"Text"),
}
_SURFACES = {*_LISTS, *NOT_READ, *WITHOUT_VERTICES}
# Nodes that may have a surface in them; the scene has no type.
_AROUND = {
    *(b"", b"Anchor", b"Billboard", b"Collision", b"Group", b"LOD", b"Script", b"Shape", b"Switch"),
    *(b"Transform", b"IndexedFaceSet", b"IndexedLineSet", b"PointSet"),
}


class NumberList(NamedTuple):
    """A bracketed list of numbers: its parts of the text, and the position behind it."""

    parts: list[slice]
    end: int


@dataclass(eq=False, slots=True)
class Node:
    """A node: its type, the nodes in its fields, and of the fields that count the values."""

    type: bytes
    nodes: list[tuple[bytes, "Node"]] = field(default_factory=list)
    content: NumberList | None = None
    values: dict[bytes, list[float]] = field(default_factory=dict)
    clockwise: bool = False

    def of_field(self, name: bytes) -> list["Node"]:
        """The nodes in a field."""
        return [node for where, node in self.nodes if where == name]


class _Open(NamedTuple):
    """A node whose brace is open; of an open bracket, `field` is the field that it lists."""

    node: Node
    field: bytes | None = None


class NodeParser:
    """Follows the braces; a list counts only in its own node: no texCoord passes for a coord."""

    def __init__(self, text: bytearray) -> None:
        self._text = text
        self._position = 0
        self._named: dict[bytes, Node] = {}
        self._scene = Node(b"")
        self._open = [_Open(self._scene)]
        self._prototypes: dict[bytes, bool] = {}  # whether they may hold shapes
        self._symbols = 0

    def parse(self) -> Node:
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

    def _node(self, type_: bytes) -> Node:
        """A node; raises InputError for one of a prototype that holds or may hold shapes."""
        if self._prototypes.get(type_):
            raise _of_prototype(type_)
        if type_ in _SURFACES:
            self._check_around()
        return Node(type_)

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

    def _use(self, node: Node, where: bytes) -> None:
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

    def _field(self, node: Node, word: bytes) -> None:
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

    def _list(self) -> NumberList:
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
                return NumberList([*parts, slice(start, end)], end + 1)
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
