"""PLY reader and writer: ASCII and binary, from a stream that need not seek.

No byte beyond a mesh is read: a process that writes mesh after mesh into a pipe may wait for the
answer to one before it sends the next.
Nothing is allocated by what a header promises: memory follows what the stream holds.
"""

import os
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.mesh.ply_header import (
    COORDINATES,
    STRIPS,
    WHOLE_TYPES,
    Element,
    PlyHeader,
    Property,
    read_header,
    read_line,
)
from facedis_core.mesh.surface_builder import LONGEST_POLYGON, SurfaceBuilder
from facedis_core.mesh.text_numbers import LONGEST_LINE, decimals, integers, lines, spans, tokenize

_RESTART = (-1, 2**32 - 1)  # between two strips, also of an unsigned type
_READ_AT_ONCE = 1 << 22
_WALKED_AT_ONCE = 1 << 18  # bytes, of which each may be a row with numbers of its own
_TEXT_AT_ONCE = 1 << 18
_MOST_BLANKS = 1 << 16  # around a mesh
_MOST_BLANK_LINES = 1 << 24  # bytes, among the rows


class ListColumn(NamedTuple):
    """Values of a list property, row after row, and how many there are in each row."""

    values: NDArray[Any]
    counts: NDArray[np.int64]


Columns = dict[str, NDArray[Any] | ListColumn]
"""Of some rows the wanted properties: (n,) or, where all lists have one length k, (n, k)."""


def read(stream: BinaryIO) -> SurfaceBuilder:
    """Decode the one PLY that the stream holds.

    Raises InputError on anything else.
    """
    surface = read_next(stream)
    if surface is None:
        raise InputError("is empty; expected a PLY mesh", ErrorCode.EMPTY)
    if _skip_blanks(stream):
        raise InputError(
            "goes on after its mesh; expected one PLY and nothing else", ErrorCode.MESH_SYNTAX
        )
    return surface


def read_next(stream: BinaryIO) -> SurfaceBuilder | None:
    """Decode the next PLY and leave the stream right behind it; None where only blanks are left.

    Raises InputError on anything but a PLY.
    """
    start = _skip_blanks(stream)
    if not start:
        return None
    header = read_header(start, stream)
    _check_size(stream, header)
    surface = SurfaceBuilder(header.name, header.unit_mm)
    for element in header.elements:
        if not element.count or not element.properties:
            continue
        if header.byte_order:
            blocks = _read_binary(stream, element, header.byte_order)
        else:
            blocks = _read_text(stream, element, header.line_end)
        for columns, size in blocks:
            _add(surface, element, columns, size)
    return surface


def read_vertex_numbers(stream: BinaryIO, name: str) -> NDArray[np.float32] | None:
    """A number of every vertex (V,), of `properties` of `write`; None = the file has none.

    Raises InputError on what is no PLY.
    """
    header = read_header(_skip_blanks(stream), stream)
    element = next(iter(header.elements), None)
    if element is None or element.name != "vertex" or not header.byte_order:
        return None
    if any(p.count_type for p in element.properties):
        return None
    row = _row_of_smallest(element, header.byte_order)
    data = b"".join(_read_exactly(stream, element, element.count * row.itemsize))
    for i, p in enumerate(element.properties):
        if p.name == name:
            return np.frombuffer(data, row)[f"value {i}"].astype(np.float32)
    return None


def _check_size(stream: BinaryIO, header: PlyHeader) -> None:
    """Raise InputError at once where a file on a disk is too small for what its header promises."""
    try:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            return
        left = status.st_size - stream.tell()
    except (OSError, ValueError):  # not a file
        return
    for element in header.elements:
        if header.byte_order:
            left -= element.count * _smallest_row(element)
        else:  # a digit and a blank a value; the last line may lack its end
            left -= element.count * 2 * sum(1 + element.fewest(p) for p in element.properties)
            left += bool(element.properties)
        if left < 0:
            raise _truncated(element)


def _add(surface: SurfaceBuilder, element: Element, columns: Columns, size: int) -> None:
    """Some rows of the vertices, or of the faces or strips, whose one wanted column are corners."""
    if COORDINATES[0] in columns:
        vertices = np.empty((len(columns[COORDINATES[0]]), 3), np.float32)
        with np.errstate(over="ignore"):  # too large for float32 is inf, which is refused
            for axis, name in enumerate(COORDINATES):
                vertices[:, axis] = columns[name]
        surface.add_vertices(vertices)
        return
    for corners in columns.values():
        if element.name == STRIPS:
            # where all lists have one length, it is zero
            if isinstance(corners, ListColumn):
                surface.add_triangles(_triangles_of_strips(corners), size)
        elif isinstance(corners, ListColumn):
            surface.add_polygons(corners.values, corners.counts, size)
        else:
            surface.add_triangles(corners, size)


def _triangles_of_strips(strips: ListColumn) -> NDArray[np.int64]:
    """The triangles (n, 3) of rows of strips, which begin anew at each row and behind each restart.

    Each corner with the two before it is a triangle; every other one is turned, so that all have
    one orientation. Triangles with two equal corners only lead from one part to the next.
    """
    values = strips.values.astype(np.int64)
    begins = np.zeros(values.size + 1, np.bool_)
    restart = np.isin(values, _RESTART)
    begins[1:] = restart
    begins[np.cumsum(strips.counts)] = begins[0] = True
    places = np.arange(values.size)
    age = places - np.maximum.accumulate(np.where(begins[:-1], places, 0))
    last = np.flatnonzero((age >= 2) & ~restart)
    odd = age[last] % 2
    corners = np.stack((values[last - 2 + odd], values[last - 1 - odd], values[last]), axis=1)
    a, b, c = corners.T
    return corners[(a != b) & (b != c) & (c != a)]


def write(
    stream: BinaryIO,
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    name: str,
    in_mm: bool,
    properties: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Encode as binary little-endian PLY.

    Args:
        stream: binary stream.
        vertices: (V, 3).
        triangles: (F, 3).
        name: of the mesh.
        in_mm: whether the unit is millimetres.
        properties: more numbers (V,) of the vertices, float32 or uint8, by name; readers that do
            not know them pass over them.
    """
    unit_line = "comment facedis unit=mm\n" if in_mm else ""
    # A file name need not be UTF-8; its bytes come back as they were.
    quoted = quote(name, safe="", errors="surrogateescape")
    name_line = f"comment facedis name={quoted}\n" if name else ""
    properties = properties or {}
    types = {key: "uchar" if p.dtype == np.uint8 else "float" for key, p in properties.items()}
    more = "".join(f"property {kind} {key}\n" for key, kind in types.items())
    header = (
        f"ply\nformat binary_little_endian 1.0\n{unit_line}"
        f"{name_line}element vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"{more}element face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    # Three corners are one value of 12 bytes here: as numbers they would be converted singly.
    rows = np.empty(len(triangles), [("count", "u1"), ("corners", "V12")])
    rows["count"] = 3
    rows["corners"] = np.ascontiguousarray(triangles, "<i4").view("V12").reshape(-1)
    stream.write(header.encode("ascii"))
    columns = np.ascontiguousarray(vertices, "<f4")
    if properties:
        extra = [(key, "u1" if kind == "uchar" else "<f4") for key, kind in types.items()]
        table = np.empty(len(vertices), [("position", "V12"), *extra])
        table["position"] = columns.view("V12").reshape(-1)
        for key, values in properties.items():
            table[key] = values
        columns = table
    stream.write(columns.reshape(-1).view(np.uint8).data)
    stream.write(rows.view(np.uint8).data)


def _skip_blanks(stream: BinaryIO) -> bytes:
    """The next byte that is no blank, or nothing at the end."""
    for _ in range(_MOST_BLANKS):
        if not (byte := stream.read(1)).isspace():
            return byte
    raise InputError(
        f"has {_MOST_BLANKS} blanks where a PLY mesh was expected", ErrorCode.MESH_SYNTAX
    )


def _read_binary(stream: BinaryIO, element: Element, order: str) -> Iterator[tuple[Columns, int]]:
    """The table that comes next in the stream: wanted columns of some rows, and bytes of these.

    Raises InputError where the data end before the table does, or a list is too short.
    """
    row = _row_of_smallest(element, order)
    lists = [(i, p) for i, p in enumerate(element.properties) if p.count_type]
    wanted = [(i, p.name) for i, p in enumerate(element.properties) if p.name in element.wanted]
    at_once = max(1, _READ_AT_ONCE // row.itemsize)
    left = element.count
    while left:
        data = b"".join(_read_exactly(stream, element, min(left, at_once) * row.itemsize))
        rows = np.frombuffer(data, row)
        if not all((rows[f"count {i}"] == element.fewest(p)).all() for i, p in lists):
            yield from _walk(stream, element, order, data, left)
            return
        left -= len(rows)
        if wanted:
            yield {name: rows[f"value {i}"] for i, name in wanted}, len(data)


def _truncated(element: Element) -> InputError:
    """Error for data that end within the table."""
    return InputError(
        f"is truncated: its header promises {element.count} rows of {element.name[:32]!r}, "
        "the data end before that",
        ErrorCode.TRUNCATED,
    )


def _smallest_row(element: Element) -> int:
    """Bytes of a row with the shortest lists."""
    size = 0
    for p in element.properties:
        if p.count_type is None:
            size += np.dtype(p.type).itemsize
        else:
            size += np.dtype(p.count_type).itemsize
            size += np.dtype(p.type).itemsize * element.fewest(p)
    return size


def _row_of_smallest(element: Element, order: str) -> np.dtype[np.void]:
    """A row with the shortest lists: no row is smaller, and in a triangle mesh none is larger."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for i, p in enumerate(element.properties):
        if p.count_type is None:
            fields.append((f"value {i}", order + p.type))
        else:
            fields.append((f"count {i}", order + p.count_type))
            fields.append((f"value {i}", order + p.type, (element.fewest(p),)))
    return np.dtype(fields)


def _walk(
    stream: BinaryIO, element: Element, order: str, data: bytes, left: int
) -> Iterator[tuple[Columns, int]]:
    """The last `left` rows, with lists of any length: only its counts tell where a row ends.

    `data` are their first bytes, at most as many as that many smallest rows have.
    """
    path = _RowWalker(element, order)
    smallest = _smallest_row(element)
    while left:
        position = 0
        while True:  # the whole rows among the bytes at hand
            begins, end, needed = path.follow(data, position, left)
            if not begins:
                break
            left -= len(begins)
            if element.wanted:
                yield path.columns(data, begins), end - position
            position = end
        data = data[position:]
        if left:
            # This row and the smallest possible later ones must exist, so reading them cannot wait.
            first = needed - position - len(data)
            ask = min(first + (left - 1) * smallest, max(first, _READ_AT_ONCE))
            data += b"".join(_read_exactly(stream, element, ask))


class _RowWalker:
    """Steps from row to row of a table with lists."""

    def __init__(self, element: Element, order: str) -> None:
        self._element = element
        self._order = order
        self._least = _smallest_row(element)
        # For each list: bytes before its count, reader of the count, bytes of the count, bytes of a
        # value, and smallest allowed number of values.
        self._lists: list[tuple[int, Callable[..., tuple[int]], int, int, int, Property]] = []
        gap = 0
        for p in element.properties:
            size = np.dtype(p.type).itemsize
            if p.count_type is None:
                gap += size
            else:
                unpacker = struct.Struct(order + WHOLE_TYPES[p.count_type])
                about = (unpacker.unpack_from, unpacker.size, size, element.fewest(p), p)
                self._lists.append((gap, *about))
                gap = 0

    def follow(self, data: bytes, begin: int, most: int) -> tuple[list[int], int, int]:
        """Starts of whole rows from `begin` on, their end, and the least end of the next row.

        So many rows at most, and not too many at once.
        Raises InputError on a list that is shorter than any may be, or longer.
        """
        begins: list[int] = []
        position, stop = begin, begin + _WALKED_AT_ONCE
        if len(self._lists) == 1 and self._lists[0][-1].count_type == "u1":
            # What nearly every file has, three times faster: lengths of rows from a table.
            gap, _, _, size, fewest, _ = self._lists[0]
            lengths = [self._least + max(0, count - fewest) * size for count in range(256)]
            last = len(data) - self._least
            stop = min(stop, last + 1)
            while position < stop and len(begins) < most:
                end = position + lengths[data[position + gap]]
                if end > len(data):
                    return begins, position, end
                begins.append(position)
                position = end
            return begins, position, position + self._least
        while position < stop and len(begins) < most:
            end = self._row_end(data, position)
            if end > len(data):
                return begins, position, end
            begins.append(position)
            position = end
        return begins, position, position + self._least

    def _row_end(self, data: bytes, position: int) -> int:
        """End of the row that begins here; a lower bound if its counts are not complete."""
        end = position + self._least
        for gap, unpack, width, size, fewest, p in self._lists:
            position += gap
            if position + width > len(data):
                break
            (count,) = unpack(data, position)
            if not fewest <= count < LONGEST_POLYGON:
                self._check(count, p)
            position += width + count * size
            end += (count - fewest) * size
        return end

    def columns(self, data: bytes, begins: list[int]) -> Columns:
        """The wanted properties of the rows that begin there."""
        found: Columns = {}
        places = np.array(begins, np.int64)
        for p in self._element.properties:
            of_values = np.dtype(self._order + p.type)
            wanted = p.name in self._element.wanted
            if p.count_type is None:
                if wanted:
                    found[p.name] = _at(data, of_values, places)
                places = places + of_values.itemsize
                continue
            of_counts = np.dtype(self._order + p.count_type)
            counts = _at(data, of_counts, places).astype(np.int64)
            self._check(counts.min(), p)
            places = places + of_counts.itemsize
            if wanted:
                values = _at(data, of_values, spans(places, counts, of_values.itemsize))
                found[p.name] = ListColumn(values, counts)
            places = places + counts * of_values.itemsize
        return found

    def _check(self, count: int, p: Property) -> None:
        least = self._element.fewest(p)
        if count < least:
            raise InputError(
                f"has a list {p.name[:32]!r} of length {count}; expected at least {least}",
                ErrorCode.MESH_SYNTAX,
            )
        if count > LONGEST_POLYGON and least and p.name in self._element.wanted:
            raise InputError(
                f"has a polygon of {count} corners; expected {LONGEST_POLYGON} at most",
                ErrorCode.TOO_LARGE,
            )


def _at(data: bytes, type_: np.dtype[Any], places: NDArray[np.int64]) -> NDArray[Any]:
    """The values that begin at these bytes."""
    everywhere = np.ndarray(len(data) - type_.itemsize + 1, type_, data, strides=(1,))
    return everywhere[places]


def _read_exactly(stream: BinaryIO, element: Element, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes, a bounded block at a time."""
    while size > 0:
        block = stream.read(min(size, _READ_AT_ONCE))
        if not block:
            raise _truncated(element)
        size -= len(block)
        yield block


def _read_text(
    stream: BinaryIO, element: Element, line_end: bytes
) -> Iterator[tuple[Columns, int]]:
    """One line a row; values that are not wanted are not even looked at."""
    done = blank = 0
    while done < element.count:
        blank += _skip_empty_lines(stream)
        text = _some_lines(stream, element.count - done, line_end)
        if not text:
            raise _truncated(element)
        if text.isspace():
            blank += len(text)
        if blank > _MOST_BLANK_LINES:
            raise InputError(
                f"has {blank >> 20} MB of empty lines; expected one line a row", ErrorCode.TOO_LARGE
            )
        if text.isspace():
            continue
        tokens = tokenize(text)
        first, sizes = lines(tokens)
        if done + len(first) < element.count and not text.endswith(b"\n"):
            raise _truncated(element)
        end = first + sizes
        columns: Columns = {}
        for p in element.properties if element.wanted else ():
            _check_rows(first < end, stream, element, done)
            if p.count_type is None:
                if p.name in element.wanted:
                    columns[p.name] = decimals(tokens, first, done.__add__)
                first = first + 1
            else:
                many = integers(tokens, first)
                _check_rows((many >= 0) & (many < end - first), stream, element, done)
                if p.name in element.wanted:
                    columns[p.name] = ListColumn(integers(tokens, spans(first + 1, many)), many)
                first = first + 1 + many
        if columns:
            _check_rows(first == end, stream, element, done)
            yield columns, len(text)
        done += len(first)


def _skip_empty_lines(stream: BinaryIO) -> int:
    """Skip the buffered empty lines at once; returns how many bytes they had."""
    skipped = 0
    while isinstance(stream, BufferedReader):
        ready = stream.peek()
        blanks = ready[: len(ready) - len(ready.lstrip())]
        empty = max(blanks.rfind(b"\n"), blanks.rfind(b"\r")) + 1
        if not empty or skipped > _MOST_BLANK_LINES:
            break
        skipped += len(stream.read(empty))
    return skipped


def _some_lines(stream: BinaryIO, most: int, line_end: bytes) -> bytes:
    """The next whole lines, some at a time or as many as are left; nothing at the end.

    They end with LF, also where the `line_end` of the stream is CR.
    Taking them one by one would cost more than to decode them, so whatever has arrived is taken at
    once, up to the last line that is ours.
    """
    text = bytearray()
    while most and len(text) < _TEXT_AT_ONCE:
        begun = len(text) - 1 - text.rfind(line_end)
        if not (piece := _next_piece(stream, most, line_end)):
            break
        text += piece
        most -= piece.count(line_end)
        _check_line(begun + (piece.find(line_end) if line_end in piece else len(piece)))
    if text and not text.endswith(line_end):
        text += _next_line(stream, line_end)
        _check_line(len(text) - 1 - text.rfind(line_end))
    return bytes(text) if line_end == b"\n" else bytes(text).replace(line_end, b"\n")


def _next_piece(stream: BinaryIO, most: int, line_end: bytes) -> bytes:
    """Bytes that the stream has buffered, up to `most` lines; at least one line."""
    if not isinstance(stream, BufferedReader):
        return _next_line(stream, line_end)
    ready = stream.peek()
    if ready.count(line_end) >= most:
        behind = ready.split(line_end, most)[-1]
        return stream.read(len(ready) - len(behind))
    return stream.read(len(ready))


def _next_line(stream: BinaryIO, line_end: bytes) -> bytes:
    if line_end == b"\n":
        return stream.readline(LONGEST_LINE)
    return read_line(stream, LONGEST_LINE)


def _check_line(length: int) -> None:
    if length >= LONGEST_LINE:
        raise InputError(
            f"has a line of more than {LONGEST_LINE} bytes; expected one row a line",
            ErrorCode.TOO_LARGE,
        )


def _check_rows(good: NDArray[np.bool_], stream: BinaryIO, element: Element, before: int) -> None:
    if not good.all():
        if before + len(good) < element.count and not stream.read(1):
            raise _truncated(element)  # these rows may be those of what was to follow
        row = before + int(np.argmin(good))
        properties = " ".join(p.name for p in element.properties[:9])[:60]
        raise InputError(
            f"row {row} of PLY element {element.name[:32]!r} has too few or too many values; "
            f"expected one line a row with {properties!r}",
            ErrorCode.MESH_SYNTAX,
        )
