"""Reader of POLYDATA in legacy VTK files, ASCII and binary.

Points and polygons make the mesh. Vertices, lines and what belongs to points or cells are passed
over.
"""

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.streams import read_up_to
from facedis_core.io.text import quoted, with_newlines, without_mark
from facedis_core.mesh.surface_builder import SurfaceBuilder
from facedis_core.mesh.text_numbers import LONGEST_LINE, decimals, integers, tokenize

_VERSION = re.compile(rb"# vtk DataFile Version (\d+)\.")
# As NumPy's code; binary files are big-endian.
_TYPES = {
    **{b"float": "f4", b"double": "f8", b"char": "i1", b"unsigned_char": "u1", b"short": "i2"},
    **{b"unsigned_short": "u2", b"int": "i4", b"unsigned_int": "u4", b"long": "i8"},
    **{b"unsigned_long": "u8", b"vtkidtype": "i4", b"vtktypeint32": "i4", b"vtktypeint64": "i8"},
}
_TEXT_AT_ONCE = 1 << 18
_MOST_BLANK_LINES = 1 << 16
_MOST_SECTIONS = 1 << 10
_LONGEST_COUNT = 15  # digits


def read_polydata(stream: BinaryIO) -> SurfaceBuilder | None:
    """Decode a file of POLYDATA; None for another data set and for what is no legacy VTK file.

    Raises InputError where it is damaged, and on triangle strips.
    """
    start = without_mark(stream.readline(256))
    old_mac = b"\r" in start.removesuffix(b"\r\n")  # the whole file is a line
    if old_mac:
        stream = io.BytesIO(with_newlines(start + stream.read()))
        start = stream.readline(256)
    version = _VERSION.match(start)
    stream.readline(LONGEST_LINE)  # the title
    encoding = stream.readline(256).strip().upper()
    if version is None or encoding not in (b"ASCII", b"BINARY"):
        return None
    if old_mac and encoding == b"BINARY":  # numbers have such bytes, too
        raise InputError("has lines that end with CR; expected LF", ErrorCode.MESH_SYNTAX)
    file = _Sections(stream, encoding == b"BINARY")
    if [word.upper() for word in file.line()] != [b"DATASET", b"POLYDATA"]:
        return None
    surface = SurfaceBuilder()
    for _ in range(_MOST_SECTIONS):
        words = file.line()
        section = words[0].upper() if words else b""
        if section in (b"", b"POINT_DATA", b"CELL_DATA"):
            return surface
        if section == b"POINTS" and len(words) == 3:
            points = file.numbers(3 * _count(words[1]), words[2])
            with np.errstate(over="ignore"):  # too large for float32 is inf, which is refused
                surface.add_vertices(points.astype(np.float32).reshape(-1, 3))
        elif section in (b"POLYGONS", b"VERTICES", b"LINES") and len(words) == 3:
            counts = _count(words[1]), _count(words[2])
            cells = _offset_cells if int(version[1]) >= 5 else _counted_cells
            corners, sizes = cells(file, *counts)
            if section == b"POLYGONS":
                surface.add_polygons(corners, sizes, corners.nbytes)
        elif section == b"TRIANGLE_STRIPS":
            raise InputError(
                "has triangle strips; make them triangles, such as by Triangulate in ParaView",
                ErrorCode.UNSUPPORTED,
            )
        elif section == b"METADATA":
            file.skip_paragraph()
        elif section == b"FIELD" and len(words) == 3:
            for _ in range(min(_count(words[2]), _MOST_SECTIONS)):
                array = file.line()
                if len(array) != 4:
                    raise _not_understood(array)
                file.numbers(_count(array[1]) * _count(array[2]), array[3])
        else:
            raise _not_understood(words)
    raise InputError(f"has more than {_MOST_SECTIONS} sections", ErrorCode.TOO_LARGE)


class _Sections:
    """The lines that name sections, and the numbers behind them."""

    def __init__(self, stream: BinaryIO, binary: bool) -> None:
        self._stream, self._binary = stream, binary

    def line(self) -> list[bytes]:
        """Words of the next line that is not blank; none at the end."""
        for _ in range(_MOST_BLANK_LINES):
            line = self._stream.readline(LONGEST_LINE)
            if words := line.split():
                return words
            if not line:
                return []
        raise InputError(f"has more than {_MOST_BLANK_LINES} blank lines", ErrorCode.MESH_SYNTAX)

    def skip_paragraph(self) -> None:
        """Skip lines up to a blank one."""
        while self._stream.readline(LONGEST_LINE).strip():
            pass

    def numbers(self, count: int, kind: bytes) -> NDArray[np.number]:
        """The next numbers of a VTK type."""
        code = _TYPES.get(kind.lower())
        if code is None:
            raise InputError(
                f"has numbers of the type {quoted(kind)}; expected float, double or int",
                ErrorCode.MESH_SYNTAX,
            )
        if self._binary:
            size = count * np.dtype(code).itemsize
            data = read_up_to(self._stream, size)
            if len(data) < size:
                raise _truncated(count)
            return np.frombuffer(data, f">{code}")
        dtype = np.float32 if code[0] == "f" else np.int64
        return np.concatenate([np.zeros(0, dtype), *self._text_blocks(count, code[0] == "f")])

    def _text_blocks(self, count: int, fractions: bool) -> Iterator[NDArray[np.number]]:
        while count:
            block, words = bytearray(), 0
            while words < count and len(block) < _TEXT_AT_ONCE:
                if not (line := self._stream.readline(LONGEST_LINE)):
                    raise _truncated(count)
                if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                    raise InputError(
                        f"has a line of more than {LONGEST_LINE} bytes; write it as binary VTK",
                        ErrorCode.TOO_LARGE,
                    )
                block += line
                words += len(line.split())
            tokens = tokenize(bytes(block))
            if len(tokens.starts) > count:
                raise InputError(
                    "has more numbers on a line than its sections promise", ErrorCode.MESH_SYNTAX
                )
            count -= len(tokens.starts)
            which = np.arange(len(tokens.starts))
            yield decimals(tokens, which) if fractions else integers(tokens, which)


Cells = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Corners of all cells one after another, and how many each cell has."""


def _counted_cells(file: _Sections, count: int, size: int) -> Cells:
    """Cells before version 5: each is its number of corners and they."""
    values = file.numbers(size, b"int").astype(np.int64)
    each = size // count if count else 0
    if each and size == count * each and (values[::each] == each - 1).all():
        return values.reshape(count, each)[:, 1:].ravel(), np.full(count, each - 1)
    starts = []
    position = 0
    for _ in range(count):
        if position >= size or values[position] < 0:
            break
        starts.append(position)
        position += int(values[position]) + 1
    if len(starts) != count or position != size:
        raise InputError(
            f"has cells that are not {count} in {size} numbers as promised", ErrorCode.DAMAGED
        )
    return np.delete(values, starts), values[starts]


def _offset_cells(file: _Sections, count: int, size: int) -> Cells:
    """Cells since version 5: where each begins among the corners and where the last ends."""
    arrays = []
    for name, length in ((b"OFFSETS", count), (b"CONNECTIVITY", size)):
        words = file.line()
        if len(words) != 2 or words[0].upper() != name:
            raise _not_understood(words)
        arrays.append(file.numbers(length, words[1]).astype(np.int64))
    offsets, corners = arrays
    sizes = np.diff(offsets)
    if count and (offsets[0] != 0 or offsets[-1] != size or (sizes < 0).any()):
        raise InputError("has offsets of cells that are not in order", ErrorCode.DAMAGED)
    return corners, sizes


def _count(word: bytes) -> int:
    if not word.isdigit() or len(word) > _LONGEST_COUNT:
        raise InputError(f"has {quoted(word)} where a count was expected", ErrorCode.MESH_SYNTAX)
    return int(word)


def _truncated(count: int) -> InputError:
    return InputError(
        f"is truncated: {count} numbers were expected, the data end before that",
        ErrorCode.TRUNCATED,
    )


def _not_understood(words: list[bytes]) -> InputError:
    return InputError(
        f"has the line {quoted(b' '.join(words))}, not understood", ErrorCode.MESH_SYNTAX
    )
