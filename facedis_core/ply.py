"""PLY: ASCII and binary in either byte order, read from a stream that cannot seek.

Not one byte beyond a mesh is asked for: whoever writes mesh after mesh into a pipe may send the
next one only when it has seen what came of this one.
Nothing is allocated on the word of a header: memory follows what the stream really holds.
"""

import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from typing import BinaryIO
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.numerals import LONGEST_LINE, decimals, integers, lines, spans, tokenize
from facedis_core.ply_header import COORDINATES, Element, Header, read_header
from facedis_core.ply_rows import Columns, Listed, read_rows, smallest_row, truncated
from facedis_core.polygons import Surface

_TEXT_AT_ONCE = 1 << 18
_MOST_BLANKS = 1 << 16  # around a mesh
_MOST_BLANK_LINES = 1 << 24  # bytes, among the rows


def read(stream: BinaryIO) -> Surface:
    """Decode the one PLY that the stream holds.

    Raises InputError on anything else.
    """
    surface = read_next(stream)
    if surface is None:
        raise InputError("is empty; expected a PLY mesh")
    if _skip_blanks(stream):
        raise InputError("goes on after its mesh; expected one PLY and nothing else")
    return surface


def read_next(stream: BinaryIO) -> Surface | None:
    """Decode the next PLY and leave the stream right behind it; None where only blanks are left.

    Raises InputError on anything but a PLY.
    """
    start = _skip_blanks(stream)
    if not start:
        return None
    header = read_header(start, stream)
    _check_size(stream, header)
    surface = Surface(header.name, header.unit_mm)
    for element in header.elements:
        if not element.count or not element.properties:
            continue
        if header.byte_order:
            blocks = read_rows(stream, element, header.byte_order)
        else:
            blocks = _read_text(stream, element)
        for columns, size in blocks:
            _add(surface, columns, size)
    return surface


def _check_size(stream: BinaryIO, header: Header) -> None:
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
            left -= element.count * smallest_row(element)
        else:  # a digit and a blank a value; the last line may lack its end
            left -= element.count * 2 * sum(1 + element.fewest(p) for p in element.properties)
            left += bool(element.properties)
        if left < 0:
            raise truncated(element)


def _add(surface: Surface, columns: Columns, size: int) -> None:
    """Some rows of the vertices, or of the faces, whose one wanted column are their corners."""
    if COORDINATES[0] in columns:
        vertices = np.empty((len(columns[COORDINATES[0]]), 3), np.float32)
        with np.errstate(over="ignore"):  # too large for float32 is inf, which is refused
            for axis, name in enumerate(COORDINATES):
                vertices[:, axis] = columns[name]
        surface.add_vertices(vertices)
        return
    for corners in columns.values():
        if isinstance(corners, Listed):
            surface.add_polygons(corners.values, corners.counts, size)
        else:
            surface.add_triangles(corners, size)


def write(
    stream: BinaryIO,
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    name: str,
    in_mm: bool,
) -> None:
    """Encode as binary little-endian PLY: the same mesh, the same bytes."""
    unit_line = "comment facedis unit=mm\n" if in_mm else ""
    # A file name need not be UTF-8; its bytes come back as they were.
    quoted = quote(name, safe="", errors="surrogateescape")
    name_line = f"comment facedis name={quoted}\n" if name else ""
    header = (
        f"ply\nformat binary_little_endian 1.0\n{unit_line}"
        f"{name_line}element vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    # Three corners are one value of 12 bytes here: as numbers they would be converted singly.
    rows = np.empty(len(triangles), [("count", "u1"), ("corners", "V12")])
    rows["count"] = 3
    rows["corners"] = np.ascontiguousarray(triangles, "<i4").view("V12").reshape(-1)
    stream.write(header.encode("ascii"))
    stream.write(np.ascontiguousarray(vertices, "<f4").reshape(-1).view(np.uint8).data)
    stream.write(rows.view(np.uint8).data)


def _skip_blanks(stream: BinaryIO) -> bytes:
    """The next byte that is no blank, or nothing at the end."""
    for _ in range(_MOST_BLANKS):
        if not (byte := stream.read(1)).isspace():
            return byte
    raise InputError(f"has {_MOST_BLANKS} blanks where a PLY mesh was expected")


def _read_text(stream: BinaryIO, element: Element) -> Iterator[tuple[Columns, int]]:
    """One line a row; values that are not wanted are not even looked at."""
    done = blank = 0
    while done < element.count:
        blank += _skip_empty_lines(stream)
        text = _some_lines(stream, element.count - done)
        if not text:
            raise truncated(element)
        if text.isspace():
            blank += len(text)
        if blank > _MOST_BLANK_LINES:
            raise InputError(f"has {blank >> 20} MB of empty lines; expected one line a row")
        if text.isspace():
            continue
        tokens = tokenize(text)
        first, sizes = lines(tokens)
        if done + len(first) < element.count and not text.endswith(b"\n"):
            raise truncated(element)
        end = first + sizes
        columns: Columns = {}
        for p in element.properties if element.wanted else ():
            _check_rows(first < end, stream, element, done)
            if p.count_type is None:
                if p.name in element.wanted:
                    columns[p.name] = decimals(tokens, first)
                first = first + 1
            else:
                many = integers(tokens, first)
                _check_rows((many >= 0) & (many < end - first), stream, element, done)
                if p.name in element.wanted:
                    columns[p.name] = Listed(integers(tokens, spans(first + 1, many)), many)
                first = first + 1 + many
        if columns:
            _check_rows(first == end, stream, element, done)
            yield columns, len(text)
        done += len(first)


def _skip_empty_lines(stream: BinaryIO) -> int:
    """Pass over empty lines that are at hand, all at once, and say how many bytes those were."""
    skipped = 0
    while isinstance(stream, BufferedReader):
        ready = stream.peek()
        empty = ready[: len(ready) - len(ready.lstrip())].rfind(b"\n") + 1
        if not empty or skipped > _MOST_BLANK_LINES:
            break
        skipped += len(stream.read(empty))
    return skipped


def _some_lines(stream: BinaryIO, most: int) -> bytes:
    """The next whole lines, some at a time or as many as are left; nothing at the end.

    Taking them one by one would cost more than to decode them, so whatever has arrived is taken at
    once, up to the last line that is ours.
    """
    text = bytearray()
    while most and len(text) < _TEXT_AT_ONCE:
        begun = len(text) - 1 - text.rfind(b"\n")
        if not (piece := _next_piece(stream, most)):
            break
        text += piece
        most -= piece.count(b"\n")
        _check_line(begun + (piece.find(b"\n") if b"\n" in piece else len(piece)))
    if text and not text.endswith(b"\n"):
        text += stream.readline(LONGEST_LINE)
        _check_line(len(text) - 1 - text.rfind(b"\n"))
    return bytes(text)


def _next_piece(stream: BinaryIO, most: int) -> bytes:
    """What the stream has at hand, up to the end of as many lines, whole or not; else a line."""
    if not isinstance(stream, BufferedReader):
        return stream.readline(LONGEST_LINE)
    ready = stream.peek()
    if ready.count(b"\n") >= most:
        behind = ready.split(b"\n", most)[-1]
        return stream.read(len(ready) - len(behind))
    return stream.read(len(ready))


def _check_line(length: int) -> None:
    if length >= LONGEST_LINE:
        raise InputError(f"has a line of more than {LONGEST_LINE} bytes; expected one row a line")


def _check_rows(good: NDArray[np.bool_], stream: BinaryIO, element: Element, before: int) -> None:
    if not good.all():
        if before + len(good) < element.count and not stream.read(1):
            raise truncated(element)  # these rows may be those of what was to follow
        row = before + int(np.argmin(good))
        properties = " ".join(p.name for p in element.properties[:9])[:60]
        raise InputError(
            f"row {row} of PLY element {element.name[:32]!r} has too few or too many values; "
            f"expected one line a row with {properties!r}"
        )
