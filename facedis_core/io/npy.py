"""`.npy` arrays, one after another, read from a stream that need not seek.

NumPy reads the headers. Its reader of arrays needs whole files, suggests to allow pickle for
damaged ones, and allocates what a header promises; here memory grows with what the stream holds.
"""

import io
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.streams import read_ahead, read_up_to

MAGIC: Final = b"\x93NUMPY"
_START: Final = len(MAGIC) + 2 + 4  # magic, version, and length of a header but the oldest kind's
_LONGEST_HEADER: Final = 65536
# What NumPy raises on a header that is none.
_HEADER_ERRORS: Final = (
    *(ValueError, ArithmeticError, SyntaxError, TypeError, LookupError, AttributeError),
    *(RuntimeError, MemoryError, tokenize.TokenError),
)
_BLOCK: Final = 1 << 20  # bytes of rows that are handed out together


Mistaken = Sequence[tuple[int, bytes, str]]


class ArrayHeader(NamedTuple):
    """Type, shape and order of an array."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool


class NpyReader:
    """The arrays of a stream, each to be read to its end before the next."""

    def __init__(self, stream: BinaryIO, wanted: str, mistaken: Mistaken = ()) -> None:
        """Read from a stream; errors do not name it.

        Args:
            stream: at the beginning of an array, or at its end.
            wanted: expected content, for messages.
            mistaken: other files that people give: an offset, the bytes there, what to say.
        """
        self._stream, self._wanted, self._mistaken = stream, wanted, mistaken
        self._arrays = 0

    def header(self) -> ArrayHeader | None:
        """Begin the next array; None at the end.

        Raises:
            InputError: no array, a damaged one, or one of Python objects.
        """
        magic = read_up_to(self._stream, len(MAGIC))
        if not magic:
            return None
        if magic != MAGIC:
            raise InputError(
                f"is {self._guess(magic + read_up_to(self._stream, 10))}", ErrorCode.WRONG_KIND
            )
        self._arrays += 1
        version = read_up_to(self._stream, 2)
        size = read_up_to(self._stream, _size_bytes(version))
        length = int.from_bytes(size, "little")
        if length > _LONGEST_HEADER:
            raise InputError(
                f"has a .npy header of {length} bytes, expected {_LONGEST_HEADER} at most",
                ErrorCode.TOO_LARGE,
            )
        text = read_up_to(self._stream, length)
        if len(size) < _size_bytes(version) or len(text) < length:
            raise InputError(
                f"is truncated in its header, expected {self._wanted}", ErrorCode.TRUNCATED
            )
        return _parsed(version, text)

    def blocks(self, header: ArrayHeader) -> Iterator[np.ndarray]:
        """The rows of the array that `header` began, about a megabyte at a time.

        Raises:
            InputError: the data end before the array does.
        """
        dtype, shape, fortran_order = header
        promised, done = prod(shape) * dtype.itemsize, 0
        row = promised // shape[0] if shape and shape[0] else promised
        # the rows of an array in Fortran's order are only there at its end
        at_once = promised if fortran_order or not shape else max(1, _BLOCK // max(row, 1)) * row
        while done < promised:
            wanted = min(at_once, promised - done)
            data = read_up_to(self._stream, wanted)
            done += len(data)
            if len(data) < wanted:
                raise InputError(
                    f"is truncated: its header promises {promised} bytes of an array, "
                    f"{done} are there",
                    ErrorCode.TRUNCATED,
                )
            rows = np.frombuffer(data, dtype)
            if not shape:
                yield rows.reshape(())
            elif fortran_order:
                yield rows.reshape(shape, order="F")
            else:
                yield rows.reshape(-1, *shape[1:])

    def array(self) -> np.ndarray | None:
        """The whole next array, in memory; None at the end.

        Raises:
            InputError: errors of `header` and `blocks`.
        """
        header = self.header()
        if header is None:
            return None
        blocks = list(self.blocks(header))
        return np.concatenate(blocks) if blocks else np.empty(header.shape, header.dtype)

    def _guess(self, beginning: bytes) -> str:
        if self._arrays:
            return "damaged: after its first array comes something that is no .npy array"
        for offset, magic, what in self._mistaken:
            if beginning.startswith(magic, offset):
                return what
        return f"not a .npy file, expected {self._wanted}"


def peek_header(stream: BinaryIO) -> tuple[ArrayHeader | None, BinaryIO]:
    """The header of the array that a buffered stream begins with, and a stream that still has it.

    None for any other stream.

    Raises:
        InputError: errors of `NpyReader.header`.
    """
    start, stream = read_ahead(stream, _START)
    if not start.startswith(MAGIC):
        return None, stream
    size = _size_bytes(start[len(MAGIC) :][:2])
    length = int.from_bytes(start[len(MAGIC) + 2 :][:size], "little")
    text, stream = read_ahead(stream, len(MAGIC) + 2 + size + min(length, _LONGEST_HEADER))
    return NpyReader(io.BytesIO(text), "a .npy array").header(), stream


def _size_bytes(version: bytes) -> int:
    """Bytes of the length of a header."""
    return 2 if version[:1] == b"\x01" else 4


@lru_cache(maxsize=64)  # in a stream of many arrays all have the same
def _parsed(version: bytes, text: bytes) -> ArrayHeader:
    if version not in (b"\1\0", b"\2\0", b"\3\0"):
        raise InputError(
            f"has version {'.'.join(map(str, version))} of the .npy format, expected 1.0 to 3.0",
            ErrorCode.FORMAT_VERSION,
        )
    damaged = InputError("has a damaged .npy header; make it again", ErrorCode.DAMAGED)
    try:
        if version == b"\3\0":  # UTF-8, not Latin-1; an escape in a literal is the same character
            text = text.decode().encode("ascii", "backslashreplace")
        stream = io.BytesIO(len(text).to_bytes(4, "little") + text)
        # of Python about the text it parses, of NumPy about headers by Python 2
        with warnings.catch_warnings(action="ignore"):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(
                stream, max_header_size=len(text)
            )
    except _HEADER_ERRORS:
        raise damaged from None
    if dtype.hasobject:
        raise InputError(
            "holds Python objects, which facedis never opens; make it again", ErrorCode.UNSUPPORTED
        )
    if not dtype.itemsize or dtype.subdtype is not None or any(length < 0 for length in shape):
        raise damaged
    return ArrayHeader(dtype, shape, fortran_order)


def labelled(dtype: np.dtype, label: str) -> np.dtype:
    """A structured type whose first field also has a title, the only place of a header for words.

    Readers know the field by its name as before; `label_of` finds the title.
    """
    first, *others = dtype.names or ()
    fields: list[Any] = [(name, dtype[name]) for name in others]
    return np.dtype([((label, first), dtype[first]), *fields])


def label_of(header: ArrayHeader) -> str:
    """The title of the first field of a structured array; "" = none."""
    fields = header.dtype.fields
    if not header.dtype.names or fields is None:
        return ""
    field = fields[header.dtype.names[0]]
    return str(field[2]) if len(field) > 2 else ""


def write_array(stream: BinaryIO, array: np.ndarray) -> None:
    """Write an array to a stream that need not be a file; same array, same bytes."""
    stream.write(encoded_header(array.dtype, array.shape))
    stream.write(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")


def encoded_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """The beginning of an array whose data follow in C order; same array, same bytes."""
    text = io.BytesIO()
    described = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        text, {"descr": described, "fortran_order": False, "shape": shape}
    )
    return text.getvalue()
