"""The tables of a binary PLY, read some rows at a time.

Nothing is allocated on the word of a header, and no more is asked for than the rows that are still
missing must have.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.numerals import spans
from facedis_core.ply_header import WHOLE_TYPES, Element, Property
from facedis_core.polygons import LONGEST_POLYGON

_READ_AT_ONCE = 1 << 22
_WALKED_AT_ONCE = 1 << 18  # bytes, of which each may be a row with numbers of its own


class Listed(NamedTuple):
    """Values of a list property, row after row, and how many there are in each row."""

    values: NDArray[Any]
    counts: NDArray[np.int64]


Columns = dict[str, NDArray[Any] | Listed]
"""Of some rows the wanted properties: (n,) or, where all lists have one length k, (n, k)."""


def read_rows(stream: BinaryIO, element: Element, order: str) -> Iterator[tuple[Columns, int]]:
    """The table that comes next in the stream: wanted columns of some rows, and bytes of these.

    Raises InputError where the data end before the table does, or a list is too short.
    """
    row = _row_of_smallest(element, order)
    lists = [(i, p) for i, p in enumerate(element.properties) if p.count_type]
    wanted = [(i, p.name) for i, p in enumerate(element.properties) if p.name in element.wanted]
    at_once = max(1, _READ_AT_ONCE // row.itemsize)
    left = element.count
    while left:
        data = b"".join(_blocks(stream, element, min(left, at_once) * row.itemsize))
        rows = np.frombuffer(data, row)
        if not all((rows[f"count {i}"] == element.fewest(p)).all() for i, p in lists):
            yield from _walk(stream, element, order, data, left)
            return
        left -= len(rows)
        if wanted:
            yield {name: rows[f"value {i}"] for i, name in wanted}, len(data)


def truncated(element: Element) -> InputError:
    """What to say where the data end within the table."""
    return InputError(
        f"is truncated: its header promises {element.count} rows of {element.name[:32]!r}, "
        "the data end before that"
    )


def smallest_row(element: Element) -> int:
    """Bytes of a row with the shortest lists."""
    return sum(
        np.dtype(p.type).itemsize * (element.fewest(p) if p.count_type else 1)
        + (np.dtype(p.count_type).itemsize if p.count_type else 0)
        for p in element.properties
    )


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
    path = _Path(element, order)
    smallest = smallest_row(element)
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
            # What this row and all later ones need at the least is surely there to be asked for.
            first = needed - position - len(data)
            ask = min(first + (left - 1) * smallest, max(first, _READ_AT_ONCE))
            data += b"".join(_blocks(stream, element, ask))


class _Path:
    """How to go from row to row of a table."""

    def __init__(self, element: Element, order: str) -> None:
        self._element = element
        self._order = order
        self._least = smallest_row(element)
        # Of each list: bytes in front of its count, how to read that, its bytes, bytes of a value,
        # and how many values there are at the least.
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
        """Where whole rows begin, from `begin` on, where they end, and the next one at the least.

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
        """Where the row that begins here ends; at the least, where its counts are not all there."""
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
                found[p.name] = Listed(values, counts)
            places = places + counts * of_values.itemsize
        return found

    def _check(self, count: int, p: Property) -> None:
        least = self._element.fewest(p)
        if count < least:
            raise InputError(
                f"has a list {p.name[:32]!r} of length {count}; expected at least {least}"
            )
        if count > LONGEST_POLYGON and p.name in self._element.wanted:
            raise InputError(
                f"has a polygon of {count} corners; expected {LONGEST_POLYGON} at most"
            )


def _at(data: bytes, type_: np.dtype[Any], places: NDArray[np.int64]) -> NDArray[Any]:
    """The values that begin at these bytes."""
    everywhere = np.ndarray(len(data) - type_.itemsize + 1, type_, data, strides=(1,))
    return everywhere[places]


def _blocks(stream: BinaryIO, element: Element, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes, a bounded block at a time."""
    while size > 0:
        block = stream.read(min(size, _READ_AT_ONCE))
        if not block:
            raise truncated(element)
        size -= len(block)
        yield block
