"""VRML 2.0 reader and writer: point and coordIndex lists of every IndexedFaceSet.

Several shapes follow one another in one mesh, in the order of the file, each where its Transform
nodes place it. A Coordinate that is used again at the same place gives its vertices once.
Of a Switch the chosen node counts, of an LOD the first level.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.text import LONGEST_MARK, quoted, without_mark
from facedis_core.mesh.surface_builder import LONGEST_POLYGON, SurfaceBuilder
from facedis_core.mesh.text_numbers import (
    LONGEST_LINE,
    Tokens,
    decimals,
    integers,
    tokenize,
    write_rows,
)
from facedis_core.mesh.vrml_nodes import (
    NOT_READ,
    WITHOUT_VERTICES,
    Node,
    NodeParser,
    NumberList,
)

_MAGIC = b"#VRML V2.0"
# A scene of a face has dozens.
_MOST_PLACED = 1 << 18  # nodes, each as often as it is used
_MOST_REPEATED = 1 << 24  # bytes of lists
_SMALLEST_LIST = 1 << 12  # bytes that take as long as an empty list
_READ_AT_ONCE = 1 << 22
_BLOCK = 1 << 18


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
        _Scene(text, surface).add(NodeParser(text).parse())
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


class _Scene:
    """Adds the shapes of a scene to a surface, each at its place."""

    def __init__(self, text: bytearray, surface: SurfaceBuilder) -> None:
        self._text = text
        self._surface = surface
        # Coordinate and placement -> its vertices, from the first to before the last.
        self._vertices: dict[tuple[Node, bytes], tuple[int, int]] = {}
        self._added: set[Node] = set()
        self._repeated = 0

    def add(self, scene: Node) -> None:
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
            if node.type in NOT_READ:
                raise InputError(
                    f"has a node {name}, {NOT_READ[node.type]}; expected IndexedFaceSet",
                    ErrorCode.UNSUPPORTED,
                )
            if node.type in WITHOUT_VERTICES:
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

    def _add_points(self, node: Node, placement: NDArray[np.float64]) -> tuple[int, int]:
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

    def _add_faces(self, node: Node, placement: NDArray[np.float64]) -> None:
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

    def _count(self, node: Node, content: NumberList) -> None:
        """Raise InputError where short text would make a large mesh by repetition."""
        if node in self._added:
            self._repeated += _SMALLEST_LIST + content.end - content.parts[0].start
        self._added.add(node)
        if self._repeated > _MOST_REPEATED:
            raise InputError(
                f"repeats more than {_MOST_REPEATED >> 20} MB of shapes; expected a face",
                ErrorCode.TOO_LARGE,
            )


def _drawn(node: Node) -> list[Node]:
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


def _placement(node: Node) -> NDArray[np.float64]:
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


def _blocks(text: bytearray, content: NumberList) -> Iterator[tuple[Tokens, int]]:
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
    content: NumberList,
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
    content: NumberList,
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
