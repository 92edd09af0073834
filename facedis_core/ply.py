"""PLY: ASCII and binary in either byte order, read from a stream that cannot seek.

Not one byte beyond a mesh is asked for: whoever writes mesh after mesh into a pipe may send the
next one only when it has seen what came of this one.
Nothing is allocated on the word of a header: memory follows what the stream really holds.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.numerals import Indices, decimals, integers, lines, spans, tokenize
from facedis_core.ply_header import (
    COORDINATES,
    CORNER_LISTS,
    WHOLE_TYPES,
    Element,
    read_header,
)
from facedis_core.polygons import Polygons

_READ_AT_ONCE = 1 << 22
_LINES_AT_ONCE = 1 << 16


class Column(NamedTuple):
    """Values of one property, row after row, and how many there are in each row."""

    values: NDArray[np.generic]
    counts: Indices


def read(stream: BinaryIO) -> Polygons:
    """Decode the one PLY that the stream holds.

    Raises InputError on anything else.
    """
    polygons = read_next(stream)
    if polygons is None:
        raise InputError("is empty; expected a PLY mesh")
    if _skip_blanks(stream):
        raise InputError("goes on after its mesh; expected one PLY and nothing else")
    return polygons


def read_next(stream: BinaryIO) -> Polygons | None:
    """Decode the next PLY and leave the stream right behind it; None where only blanks are left.

    Raises InputError on anything but a PLY.
    """
    start = _skip_blanks(stream)
    if not start:
        return None
    header = read_header(start, stream)
    columns: dict[str, Column] = {}
    for element in header.elements:
        if element.count and element.properties:
            columns |= _read_element(stream, element, header.byte_order)
    vertices = np.empty((len(columns["x"].values), 3), np.float32)
    with np.errstate(over="ignore"):  # too large for float32 is inf, which is refused later
        for axis, name in enumerate(COORDINATES):
            vertices[:, axis] = columns[name].values
    polygons = Polygons(vertices, name=header.name, unit_mm=header.unit_mm)
    for name in CORNER_LISTS:
        if name in columns:
            values, counts = columns[name]
            return polygons._replace(corners=values, counts=counts)
    return polygons


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
    while (byte := stream.read(1)).isspace():
        pass
    return byte


def _read_element(stream: BinaryIO, element: Element, order: str) -> dict[str, Column]:
    """The wanted columns of the table that comes next in the stream."""
    if not order:
        return _read_ascii(stream, element)
    row = _smallest_row(element, order)
    lists = [(i, p) for i, p in enumerate(element.properties) if p.count_type]
    if not element.wanted and not lists:
        for _ in _blocks(stream, element, element.count * row.itemsize):
            pass
        return {}
    data = b"".join(_blocks(stream, element, element.count * row.itemsize))
    rows = np.frombuffer(data, row)
    if not all((rows[f"count {i}"] == element.fewest(p)).all() for i, p in lists):
        return _walk(stream, element, order, bytearray(data))
    columns = {}
    for i, p in enumerate(element.properties):
        if p.name in element.wanted:
            counts = np.full(len(rows), element.fewest(p) if p.count_type else 1)
            columns[p.name] = Column(rows[f"value {i}"].ravel(), counts)
    return columns


def _smallest_row(element: Element, order: str) -> np.dtype[np.void]:
    """A row with the shortest lists: no row is smaller, and in a triangle mesh none is larger."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for i, p in enumerate(element.properties):
        if p.count_type is None:
            fields.append((f"value {i}", order + p.type))
        else:
            fields.append((f"count {i}", order + p.count_type))
            fields.append((f"value {i}", order + p.type, (element.fewest(p),)))
    return np.dtype(fields)


def _walk(stream: BinaryIO, element: Element, order: str, data: bytearray) -> dict[str, Column]:
    """Rows with lists of any length, where only its counts tell where a row ends.

    `data` holds as many bytes as that many smallest rows have. Where the row at hand reaches beyond
    it, what this row and all later ones need at the least is surely there to be asked for.
    """
    smallest = _smallest_row(element, order).itemsize
    places: dict[str, list[int]] = {name: [] for name in element.wanted}
    counts: dict[str, list[int]] = {name: [] for name in element.wanted}
    unpackers = [
        struct.Struct(order + WHOLE_TYPES[p.count_type]) if p.count_type else None
        for p in element.properties
    ]
    sizes = [np.dtype(p.type).itemsize for p in element.properties]
    names = [p.name for p in element.properties]
    fewest = [element.fewest(p) if p.count_type else 1 for p in element.properties]

    position = 0
    for rows_after in reversed(range(element.count)):
        rest = smallest
        for name, unpacker, size, least in zip(names, unpackers, sizes, fewest, strict=True):
            if len(data) < position + rest:
                needed = position + rest + rows_after * smallest
                data += b"".join(_blocks(stream, element, needed - len(data)))
            count = 1
            if unpacker:
                (count,) = unpacker.unpack_from(data, position)
                if count < least:
                    raise InputError(
                        f"has a list {name!r} of length {count}; expected at least {least}"
                    )
                position += unpacker.size
                rest -= unpacker.size
            if name in places:
                places[name].append(position)
                counts[name].append(count)
            position += count * size
            rest -= least * size
    data += b"".join(_blocks(stream, element, position - len(data)))

    content = np.frombuffer(data, np.uint8)
    columns = {}
    for name, size, p in zip(names, sizes, element.properties, strict=True):
        if name in places:
            many = np.array(counts[name], np.int64)
            which = spans(np.array(places[name], np.int64), many * size)
            columns[name] = Column(content[which].view(order + p.type), many)
    return columns


def _read_ascii(stream: BinaryIO, element: Element) -> dict[str, Column]:
    """One line a row; values that are not wanted are not even looked at."""
    text = bytearray()
    missing = element.count
    while missing:
        block = list(islice(stream, min(missing, _LINES_AT_ONCE)))
        if not block:
            raise _truncated(element)
        rows = [line for line in block if not line.isspace()]
        missing -= len(rows)
        if element.wanted:
            text += b"".join(rows)
    if not element.wanted:
        return {}
    tokens = tokenize(bytes(text))
    position, sizes = lines(tokens)
    end = position + sizes
    columns = {}
    for p in element.properties:
        _check_rows(position < end, element)
        if p.count_type is None:
            if p.name in element.wanted:
                columns[p.name] = Column(decimals(tokens, position), np.ones_like(position))
            position = position + 1
        else:
            many = integers(tokens, position)
            _check_rows((many >= 0) & (many < end - position), element)
            if p.name in element.wanted:
                columns[p.name] = Column(integers(tokens, spans(position + 1, many)), many)
            position = position + 1 + many
    _check_rows(position == end, element)
    return columns


def _check_rows(good: NDArray[np.bool_], element: Element) -> None:
    if len(good) != element.count or not good.all():
        row = int(np.argmin(good)) if len(good) == element.count else 0
        properties = " ".join(p.name for p in element.properties)[:60]
        raise InputError(
            f"row {row} of PLY element {element.name[:32]!r} has too few or too many values; "
            f"expected one line a row with {properties}"
        )


def _blocks(stream: BinaryIO, element: Element, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes, a bounded block at a time."""
    while size > 0:
        block = stream.read(min(size, _READ_AT_ONCE))
        if not block:
            raise _truncated(element)
        size -= len(block)
        yield block


def _truncated(element: Element) -> InputError:
    return InputError(
        f"is truncated: its header promises {element.count} rows of {element.name[:32]!r}, "
        "the data end before that"
    )
