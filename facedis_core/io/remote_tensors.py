"""Tensors of a safetensors file by URL, of which parts are read when they are used.

For files that are larger than the disk here: nothing is kept, neither on disk nor in memory. The
storage must give parts of files (byte ranges), as object stores, SFTP and most web servers do.
"""

import json
import math
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.remote_input import open_remote_input, read_remote_ranges
from facedis_core.io.safetensors_file import LARGEST_HEADER, SafetensorsFile, parse_safetensors
from facedis_core.io.signals import install_signal_handlers
from facedis_core.io.streams import naming
from facedis_core.io.text import shown

_RANGE_BYTES: Final = 1 << 20  # of one request
_BATCH_BYTES: Final = 1 << 23  # of the requests that are made together


class RemoteRows:
    """Rows of a tensor in a remote file; `rows[...]` reads some and gives an array in memory.

    Takes what an array takes as `[rows]`, `[rows, a:b]` and `[a:b, columns]`. Rows that follow each
    other are read in one piece.

    Args:
        url: of the file.
        start: of the tensor, in bytes.
        dtype: of its values.
        shape: with two axes or more.
        mark: what tells the file from others; None = not checked.

    Raises:
        InputError: when rows are read: the storage does not answer, again and again, or the file
            has become another one.

    Example:
        >>> import fsspec
        >>> fsspec.filesystem("memory").pipe("/six.bin", np.arange(6, dtype="<f4").tobytes())
        >>> rows = RemoteRows("memory://six.bin", 0, np.dtype("<f4"), (3, 2))
        >>> rows[[2, 0]]
        array([[4., 5.],
               [0., 1.]], dtype=float32)
    """

    def __init__(
        self,
        url: str,
        start: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        mark: "Mark | None" = None,
    ) -> None:
        self.url, self.start, self.dtype, self.shape, self.mark = url, start, dtype, shape, mark
        self._column_bytes = dtype.itemsize * math.prod(shape[2:])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        first, *others = index if isinstance(index, tuple) else (index,)
        columns = range(self.shape[1])
        if others and isinstance(others[0], slice):
            columns, others = columns[others[0]], [slice(None), *others[1:]]
        elif others and not isinstance(first, slice | int | np.integer):
            raise TypeError("two lists of indices; take the rows first")
        if columns.step != 1:
            raise TypeError("columns with a step; take the rows first")
        wanted = np.arange(len(self))[first]
        rows, places = np.unique(np.atleast_1d(wanted), return_inverse=True)
        found = [self._read(part, columns)[:, *others] for part in self._parts(rows, columns)]
        values = np.concatenate(found)
        if not np.array_equal(places, np.arange(len(rows))):
            values = values[places]
        return values if wanted.ndim else values[0]

    def take(
        self, rows: NDArray[Any], axis: int = 0, out: NDArray[Any] | None = None, mode: str = ""
    ) -> NDArray[Any]:
        """The rows, as `np.take` asks for them; its modes are for rows that do not exist."""
        found = self[rows]
        if out is None:
            return found
        out[...] = found
        return out

    def _parts(self, rows: NDArray[Any], columns: range) -> list[NDArray[Any]]:
        """Rows that are read at a time; a part of none where there are none."""
        size = max(1, _BATCH_BYTES // max(1, len(columns) * self._column_bytes))
        return np.split(rows, range(size, len(rows), size))

    def _read(self, rows: NDArray[Any], columns: range) -> NDArray[Any]:
        """Some columns of ascending rows, each once."""
        row_bytes = self.shape[1] * self._column_bytes
        size = len(columns) * self._column_bytes
        offset = self.start + columns.start * self._column_bytes
        runs = _runs(rows) if size == row_bytes else [(row, row) for row in rows.tolist()]
        ranges: list[tuple[int, int]] = []
        for first, last in runs:
            begin, end = offset + first * row_bytes, offset + last * row_bytes + size
            ranges += pairwise([*range(begin, end, _RANGE_BYTES), end])
        try:
            content = b"".join(read_remote_ranges(self.url, ranges))
        except InputError:
            if self.mark is not None:  # a shorter file may be the reason
                self.mark.check(self.url, patient=False)
            raise
        if self.mark is not None:  # afterwards: all that was read is of the file that was opened
            self.mark.check(self.url)
        shape = len(rows), len(columns), *self.shape[2:]
        return np.frombuffer(content, self.dtype).reshape(shape)


def _runs(rows: NDArray[Any]) -> list[tuple[int, int]]:
    """First and last of rows that follow each other."""
    if not len(rows):
        return []
    breaks = np.flatnonzero(np.diff(rows) != 1)
    firsts, lasts = rows[np.r_[0, breaks + 1]], rows[np.r_[breaks, len(rows) - 1]]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


class Mark(NamedTuple):
    """The id in the header of a file, which is that of its content.

    Sizes and dates of a storage would tell as well, but not every one has them.

    Attributes:
        start: of its key in the file.
        id: 12 hex digits.
    """

    start: int
    id: str

    @classmethod
    def find(cls, beginning: bytes, id: str) -> "Mark | None":
        """In the first bytes of a file; None where it has none."""
        start = beginning.find(_key_of(id))
        return cls(start, id) if start >= 0 else None

    def check(self, url: str, *, patient: bool = True) -> None:
        """Raise InputError where the file has become another one, or as `read_remote_ranges`."""
        key = _key_of(self.id)
        part = self.start, self.start + len(key)
        if read_remote_ranges(url, [part], patient=patient) != [key]:
            raise InputError(
                f"{shown(url)} has become another file since it was opened; put the one with id "
                f"{self.id} back",
                ErrorCode.FILE_UNREADABLE,
            )


def _key_of(id: str) -> bytes:
    """As JSON within JSON."""
    return f'\\"id\\": \\"{id}\\"'.encode()


class _Entry(NamedTuple):
    """Where a tensor lies in a file, from its beginning."""

    start: int
    stop: int


def open_remote_safetensors(url: str, kind: str, rows_of: Collection[str]) -> SafetensorsFile:
    """A safetensors file of ours by URL, without reading its large tensors.

    Args:
        url: of the file.
        kind: expected, such as `faceset`.
        rows_of: tensors that are given as `RemoteRows`; the others are read.

    Raises:
        InputError: missing, not whole, not ours, or of another kind; the storage does not answer,
            or gives no parts of files.
    """
    with open_remote_input(url) as stream, naming(url), _parts_needed():
        if not stream.seekable():
            raise InputError(
                "is on a storage that gives no parts of files; download it first",
                ErrorCode.UNSUPPORTED,
            )
        size = stream.seek(0, 2)
        stream.seek(0)
        beginning = stream.read(min(8, size))
        length = int.from_bytes(beginning, "little")
        if length <= min(LARGEST_HEADER, size):
            beginning += stream.read(length)
        file, places = _parse(beginning, size, kind)
        mark = Mark.find(beginning, str(file.metadata.get("id")))
        tensors: dict[str, Any] = dict(file.tensors)
        for name, array in file.tensors.items():
            place = places[name]
            if name in rows_of:
                tensors[name] = RemoteRows(url, place.start, array.dtype, array.shape, mark)
                continue
            stream.seek(place.start)
            content = _read_exactly(stream, place.stop - place.start)
            tensors[name] = np.frombuffer(content, array.dtype).reshape(array.shape)
    return SafetensorsFile(file.kind, tensors, file.metadata)


@contextmanager
def _parts_needed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"could not be read in parts: {error.strerror}; download it first",
            ErrorCode.FILE_UNREADABLE,
        ) from error


def _parse(beginning: bytes, size: int, kind: str) -> tuple[SafetensorsFile, dict[str, _Entry]]:
    """Check the header of a file by that of a file with holes in place of its tensors."""
    install_signal_handlers()  # the file has a name
    with tempfile.NamedTemporaryFile() as holes:
        holes.write(beginning)
        holes.truncate(size)
        holes.flush()
        if not size:
            raise InputError("is empty; expected a face set", ErrorCode.EMPTY)
        file = parse_safetensors(np.memmap(holes.name, np.uint8, "r"), kind)
    header = json.loads(beginning[8:])
    places = {
        name: _Entry(*(len(beginning) + offset for offset in entry["data_offsets"]))
        for name, entry in header.items()
        if name != "__metadata__"
    }
    return file, places


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise InputError("ends before its last tensor; copy it again", ErrorCode.DAMAGED)
    return content
