"""A mesh file with moved vertices: everything else in it stays as it is.

A file is taken as text or a table in which the coordinates are replaced, not as a mesh that is
written anew: so texture coordinates, materials, groups, polygons, comments, properties and the ends
of lines come back byte by byte, and so does each vertex that has not moved.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedReader, BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.streams import naming, read_all
from facedis_core.io.text import shown
from facedis_core.io.urls import is_url
from facedis_core.mesh.mesh import Mesh, check_remote_mesh, decode_mesh, read_mesh
from facedis_core.mesh.meshio_formats import WRITTEN_SUFFIXES, moved_with_meshio
from facedis_core.mesh.obj_text import (
    BEGIN,
    GAP,
    NORMAL,
    REST,
    VERTEX,
    read_faces,
    statements,
    without_comments,
)
from facedis_core.mesh.ply_header import COORDINATES, WHOLE_TYPES, Element, PlyHeader, read_header

Normals = Literal["update", "drop"]
Points = NDArray[np.float64]

_PLY_NORMALS: Final = ("nx", "ny", "nz")

_OBJ_NORMAL_LINE: Final = re.compile(BEGIN + rb"vn" + GAP + REST + rb"(?:\r\n|\r|\n|\Z)")
_OBJ_FACE: Final = re.compile(BEGIN + rb"fo?" + GAP + REST)
_OBJ_CORNER: Final = re.compile(rb"(?<![^\s\\])[+-]?\d+/(?:[+-]?\d+)?(/[+-]?\d*)")
_PLY_VERTEX: Final = re.compile(rb"(?<=[\r\n])[ \t]*element[ \t]+vertex[ \t]+\d+")
_PLY_WORD: Final = re.compile(rb"\S+")
_PLY_LINE: Final = re.compile(rb"[^\r\n]*\S[^\r\n]*")


@dataclass(frozen=True)
class Original:
    """A mesh file whose vertices are to be moved.

    Attributes:
        source: its path.
        mesh: what is in it, as `read_mesh` reads it.
        held: its bytes, where it is no file of this machine.
    """

    source: str
    mesh: Mesh
    held: bytes = field(default=b"", repr=False)

    @property
    def suffix(self) -> str:
        """The format, such as `.obj`."""
        return Path(self.source).suffix.lower()

    @cached_property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.held or read_all(self.source)

    def moved(self, vertices: NDArray[np.floating[Any]], normals: Normals = "update") -> bytes:
        """The content of the file with other vertices.

        Normals of an OBJ (vn) or PLY (nx, ny, nz) turn as the surface around them turns, so that
        hard edges stay hard.

        Args:
            vertices: (V, 3), in the unit and pose of the file.
            normals: `drop` leaves them out instead.

        Raises:
            InputError: not finite, or a file whose vertices cannot be replaced one by one.

        Example:
            >>> original = read_original("weights/examples/bob_smile.ply")
            >>> original.moved(original.mesh.vertices) == original.content
            True
        """
        old = self.mesh.vertices
        new = np.asarray(vertices, np.float64)
        if new.shape != old.shape:
            raise InputError(
                f"vertices of shape {new.shape}, {shown(self.source)} has {old.shape}",
                ErrorCode.ARRAY_SHAPE,
            )
        with np.errstate(over="ignore"):
            if not np.isfinite(new.astype(np.float32)).all():
                raise InputError(
                    f"a moved vertex of {shown(self.source)} is not finite; check the latents",
                    ErrorCode.NOT_FINITE,
                )
        with naming(self.source):
            if self.suffix in _WRITERS:
                return _WRITERS[self.suffix](self.content, self.mesh, new, normals)

            def change(name: str, values: NDArray[Any]) -> NDArray[Any] | None:
                """Data of the vertices by name; None = left out."""
                if name.lower() != "normals" or values.shape != new.shape:
                    return values
                return None if normals == "drop" else _turned_at_vertices(values, self.mesh, new)

            return moved_with_meshio(Path(self.source), new, change)


def read_original(source: str | Path) -> Original:
    """Read a mesh whose file is to be written with other vertices; one by URL is kept in memory.

    Raises:
        InputError: errors of `read_mesh`, or a format whose files cannot be written like this.

    Example:
        >>> read_original("weights/examples/bob_smile.ply").mesh
        Mesh('bob_smile', 26719 vertices, 52220 triangles, in mm)
    """
    check_original_suffix(Path(source).suffix, str(source))
    if not is_url(source):
        return Original(str(source), read_mesh(source))
    check_remote_mesh(str(source))
    content = read_all(str(source))
    stream: Any = BytesIO(content)
    return Original(str(source), decode_mesh(BufferedReader(stream), str(source)), content)


def check_original_suffix(suffix: str, source: str) -> None:
    """Raise InputError for a format in which vertices cannot be replaced."""
    known = (*_WRITERS, *WRITTEN_SUFFIXES)
    if suffix.lower() not in known:
        raise InputError(
            f"{source} cannot be written with moved vertices; expected a file {' '.join(known)}",
            ErrorCode.UNSUPPORTED,
        )


def _numbers(values: Points) -> list[bytes]:
    """Decimal text of each of some coordinates, to the precision of float32 at their size."""
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    digits = 7 - int(np.floor(np.log10(largest))) if largest > 0 else 0
    digits = min(max(digits, 0), 40)
    return [b"%.*f" % (digits, value) for value in values.ravel().tolist()]


def _spliced(data: bytes, pieces: Iterable[tuple[int, int, bytes]]) -> bytes:
    """The data with some ranges (begin, end) replaced, in order."""
    done, parts = 0, []
    for begin, end, text in pieces:
        parts += [data[done:begin], text]
        done = end
    return b"".join([*parts, data[done:]])


def _differs(old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows (n,) of (n, 3) differ in single precision; what is no number stays."""
    one, other = old.astype(np.float32), new.astype(np.float32)
    changed: NDArray[np.bool_] = ((one != other) & ~np.isnan(one)).any(axis=1)
    return changed


def _obj(data: bytes, mesh: Mesh, new: Points, normals: Normals) -> bytes:
    """An OBJ: numbers of the lines `v` and `vn`; normals that are dropped also leave the faces.

    Raises InputError where the lines `v` are not those that a reader finds.
    """
    text = without_comments(data)
    found, values = statements(text, VERTEX)
    if len(values) != len(new) or _differs(values, mesh.vertices).any():
        raise InputError(
            "has lines that continue others in a way that hides vertices; save it again as OBJ "
            "with one line a vertex",
            ErrorCode.UNSUPPORTED,
        )
    pieces = list(_replaced(found, mesh.vertices, new))
    if b"vn" in text:
        more = _dropped_normals(text) if normals == "drop" else _turned_normals(text, mesh, new)
        pieces = sorted([*pieces, *more])
    return _spliced(data, pieces)


def _replaced(
    found: Sequence[re.Match[bytes]], old: NDArray[np.floating[Any]], new: Points
) -> Iterator[tuple[int, int, bytes]]:
    """Pieces for `_spliced`: the three numbers of statements, where they differ."""
    texts = _numbers(new)
    for row in np.flatnonzero(_differs(old, new)).tolist():
        for axis in range(3):
            yield *found[row].span(axis + 1), texts[3 * row + axis]


def _dropped_normals(text: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Pieces that leave out the lines `vn` of an OBJ, and the normals of the corners of faces."""
    for line in _OBJ_NORMAL_LINE.finditer(text):
        yield *line.span(), b""
    for face in _OBJ_FACE.finditer(text):
        for corner in _OBJ_CORNER.finditer(text, *face.span(1)):
            begin, end = corner.span(1)
            yield begin - (text[begin - 1 : begin] == b"/"), end, b""


def _turned_normals(text: bytes, mesh: Mesh, new: Points) -> Iterator[tuple[int, int, bytes]]:
    """Pieces with the normals `vn` of an OBJ turned with the surface."""
    found, before = statements(text, NORMAL)
    corners = _obj_corners(text, len(before))
    return _replaced(found, before, _turned(before, corners, mesh, new))


class _Corners(NamedTuple):
    """Corners of polygons, one after another.

    Attributes:
        vertex, normal: (C,) indices; a normal of -1 = none.
        first: (F,) place of the first corner of each polygon.
    """

    vertex: NDArray[np.intp]
    normal: NDArray[np.intp]
    first: NDArray[np.intp]


def _obj_corners(text: bytes, normal_count: int) -> _Corners:
    """The corners of the faces of an OBJ."""
    faces = read_faces(text)
    if ((faces.normal < -1) | (faces.normal >= normal_count)).any():
        raise InputError(
            f"a face has a normal that is not among the {normal_count} there are (vn); "
            "leave normals out: --normals drop",
            ErrorCode.VERTEX_INDEX,
        )
    return _Corners(faces.vertex, faces.normal, faces.first)


def _normals_at(corners: _Corners, points: Points, count: int) -> Points:
    """For each of `count` normals the sum (n, 3) of the area vectors of the polygons with it."""
    total = np.zeros((count, 3))
    if not len(corners.first):
        return total
    sizes = np.diff(np.append(corners.first, len(corners.vertex)))
    following = np.arange(1, len(corners.vertex) + 1)
    following[corners.first + sizes - 1] = corners.first
    at = points[corners.vertex]
    area = np.add.reduceat(np.cross(at, at[following]), corners.first) / 2
    used = corners.normal >= 0
    of_corner = np.repeat(area, sizes, axis=0)[used]
    for axis in range(3):
        total[:, axis] = np.bincount(corners.normal[used], of_corner[:, axis], count)
    return total


def _turned(normals: Points, corners: _Corners, mesh: Mesh, new: Points) -> Points:
    """Normals (n, 3) turned as the polygons around them turn.

    By the smallest rotation from one direction to the other, Rodrigues' formula for unit vectors a
    to b: x cos + (a x b) x x + (a x b)(a x b . x)/(1 + cos). Where a direction is unknown or the
    opposite of the other, the normal stays.
    """
    before = _normals_at(corners, mesh.vertices.astype(np.float64), len(normals))
    after = _normals_at(corners, new, len(normals))
    length = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    known = (length > 0) & np.isfinite(normals).all(axis=1)
    scale = np.where(known, length, 1)[:, None]
    axis = np.cross(before, after) / scale
    cosine = (before * after).sum(axis=1, keepdims=True) / scale
    known &= cosine[:, 0] > -0.999
    along = (axis * normals).sum(axis=1, keepdims=True)
    turned = (
        cosine * normals + np.cross(axis, normals) + axis * along / (1 + cosine + ~known[:, None])
    )
    return np.where(known[:, None], turned, normals)


def _turned_at_vertices(normals: Points, mesh: Mesh, new: Points) -> Points:
    """Normals (V, 3) of vertices, turned as the triangles around them turn."""
    vertex = mesh.triangles.ravel().astype(np.intp)
    return _turned(normals, _Corners(vertex, vertex, np.arange(0, len(vertex), 3)), mesh, new)


def _ply(data: bytes, mesh: Mesh, new: Points, normals: Normals) -> bytes:
    """A PLY: the numbers x y z and nx ny nz of its vertices."""
    rows = ply_vertices(data)
    if any(rows.types[name] in WHOLE_TYPES for name in COORDINATES):
        raise InputError(
            "has whole numbers as coordinates; save it again as a PLY with float x y z",
            ErrorCode.UNSUPPORTED,
        )
    old = mesh.vertices
    rows.replace(COORDINATES, new, _differs(old, new))
    if not rows.types.keys() >= set(_PLY_NORMALS):
        return rows.content()
    if normals == "drop":
        return rows.content(without=_PLY_NORMALS)
    before = rows.values(_PLY_NORMALS)
    turned = _turned_at_vertices(before, mesh, new)
    rows.replace(_PLY_NORMALS, turned, _differs(before, turned))
    return rows.content()


def ply_vertices(data: bytes) -> "PlyTable | PlyLines":
    """The vertices of a PLY with all their properties.

    Raises:
        InputError: they have lists, or elements with lists are before them.
    """
    stream = BytesIO(data)
    header = read_header(stream.read(1), stream)
    place = [element.name for element in header.elements].index("vertex")
    if any(p.count_type for element in header.elements[: place + 1] for p in element.properties):
        raise InputError(
            "has lists before or in its vertices; save it again as a PLY with vertices first",
            ErrorCode.UNSUPPORTED,
        )
    return (PlyTable if header.byte_order else PlyLines)(data, stream.tell(), header, place)


class PlyTable:
    """The vertices of a binary PLY; `types` of their properties by name."""

    def __init__(self, data: bytes, start: int, header: PlyHeader, place: int) -> None:
        self.types = {p.name: p.type for p in header.elements[place].properties}
        *before, vertex = (_row_type(e, header.byte_order) for e in header.elements[: place + 1])
        counts = [element.count for element in header.elements]
        self._begin = start + sum(n * row.itemsize for n, row in zip(counts, before, strict=False))
        self._data, self._start = data, start
        self._rows = np.frombuffer(data, vertex, counts[place], self._begin).copy()

    def values(self, names: Sequence[str]) -> Points:
        """Some numbers of each vertex, (V, n)."""
        return np.stack([self._rows[name].astype(np.float64) for name in names], axis=1)

    def replace(self, names: Sequence[str], values: Points, changed: NDArray[np.bool_]) -> None:
        """Set some numbers (V, n) of the vertices that changed."""
        for name, column in zip(names, values.T, strict=True):
            self._rows[name][changed] = column[changed]

    def content(self, without: Sequence[str] = ()) -> bytes:
        """The bytes of the file; without some properties."""
        kept = [name for name in self._rows.dtype.names or () if name not in without]
        rows = np.empty(len(self._rows), [(name, self._rows.dtype[name]) for name in kept])
        for name in kept:
            rows[name] = self._rows[name]
        header = _without_properties(self._data[: self._start], without)
        between = self._data[self._start : self._begin]
        behind = self._data[self._begin + self._rows.nbytes :]
        return b"".join([header, between, rows.tobytes(), behind])


class PlyLines:
    """The vertices of an ASCII PLY; methods as those of `PlyTable`."""

    def __init__(self, data: bytes, start: int, header: PlyHeader, place: int) -> None:
        vertex = header.elements[place]
        self.types = {p.name: p.type for p in vertex.properties}
        first = sum(element.count for element in header.elements[:place] if element.properties)
        lines = islice(_PLY_LINE.finditer(data, start), first, first + vertex.count)
        self._words = [[w.span() for w in _PLY_WORD.finditer(data, *line.span())] for line in lines]
        self._column = {p.name: k for k, p in enumerate(vertex.properties)}
        self._data, self._start = data, start
        self._pieces: list[tuple[int, int, bytes]] = []

    def values(self, names: Sequence[str]) -> Points:
        words = [[row[self._column[name]] for name in names] for row in self._words]
        return np.array([[float(self._data[a:b]) for a, b in row] for row in words])

    def replace(self, names: Sequence[str], values: Points, changed: NDArray[np.bool_]) -> None:
        texts = _numbers(values)
        for row in np.flatnonzero(changed).tolist():
            for axis, name in enumerate(names):
                span = self._words[row][self._column[name]]
                self._pieces.append((*span, texts[len(names) * row + axis]))

    def content(self, without: Sequence[str] = ()) -> bytes:
        dropped = [(*row[self._column[name]], b"") for row in self._words for name in without]
        body = _spliced(self._data, sorted(self._pieces + dropped))
        return _without_properties(body[: self._start], without) + body[self._start :]


def _row_type(element: Element, order: str) -> np.dtype[np.void]:
    return np.dtype([(p.name, order + p.type) for p in element.properties])


def _without_properties(header: bytes, names: Sequence[str]) -> bytes:
    """The header without some properties of the vertices."""
    vertices = _PLY_VERTEX.search(header)
    place = vertices.end() if vertices else 0
    for name in names:
        line = rb"(?<=[\r\n])[ \t]*property[ \t]+\w+[ \t]+%b[ \t]*(?:\r\n|\r|\n)"
        below = re.sub(line % name.encode(), b"", header[place:], count=1)
        header = header[:place] + below
    return header


_WRITERS: Final[dict[str, Callable[[bytes, Mesh, Points, Normals], bytes]]] = {
    ".obj": _obj,
    ".ply": _ply,
}
