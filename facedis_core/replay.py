"""Streams whose beginning has been looked into: what it is decides who reads it."""

import io
from typing import Any, BinaryIO


class _Replayed(io.RawIOBase):
    """Bytes that have been read already, and then the rest of their stream."""

    def __init__(self, beginning: bytes, stream: BinaryIO) -> None:
        self._beginning, self._stream = beginning, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._beginning[: len(buffer)] or self._stream.read1(len(buffer))  # type: ignore[attr-defined]
        self._beginning = self._beginning[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def looked_into(stream: BinaryIO, size: int) -> tuple[bytes, BinaryIO]:
    """The first bytes of a buffered stream, and a stream that still has them.

    A `peek` would return what has come so far, which of a slow pipe may be a single byte.
    """
    beginning = stream.read(size)
    return beginning, io.BufferedReader(_Replayed(beginning, stream))
