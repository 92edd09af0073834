"""Reading files by URL: whole ones or parts, and on from where a connection broke."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Final, NamedTuple

from facedis_core.errors import ErrorCode, FacedisError, InputError
from facedis_core.io.remote import (
    AT_ONCE,
    answer_of,
    ask_storage,
    in_time,
    reading,
    storage_of,
    try_again,
)
from facedis_core.io.urls import check_secrets

# Seconds before it is asked again in a training, which shall outlive a storage that restarts.
_LONG_PAUSES: Final = (0.2, 2.0, 10.0, 30.0)
_SFTP_REQUEST: Final = 1 << 15  # bytes that every server gives at once

# What backends call what changes with the content of a file, the surest first.
_STATES: Final = ("etag", "generation", "checksum", "mtime", "lastmodified", "updated")


@contextmanager
def open_remote_input(url: str) -> Iterator[BinaryIO]:
    """Open a file for reading bytes; what is read wrongly later is an OSError.

    A file that ends before its size is not taken for whole; where a connection breaks, reading
    goes on in a new one as long as the file has not changed.

    Raises:
        InputError: it is missing, or the storage cannot be asked.
    """
    with _RemoteFile(url) as raw:
        yield io.BufferedReader(raw, AT_ONCE)  # readers peek


def read_remote(url: str, at_most: int) -> bytes | None:
    """Every byte of a file; None of one that is larger, or whose size the storage does not tell.

    Raises:
        InputError: errors of `open_remote_input`.
        OSError: it cannot be read.
    """
    with _RemoteFile(url) as raw:
        if raw.size is None or raw.size > at_most:
            return None
        return io.BufferedReader(raw, AT_ONCE).read()  # a raw file may give less at once


def read_remote_ranges(
    url: str, ranges: Sequence[tuple[int, int]], *, patient: bool = True
) -> list[bytes]:
    """Parts of a file, each from one byte to before another; at once where a backend can.

    If `patient`, what is missing is asked for again for most of a minute, and what has arrived is
    not.

    Raises:
        InputError: the storage does not answer, or the file ends before, also in the last try; the
            file is missing, or the storage gives no parts of files.
    """
    found: dict[int, bytes] = {}
    with reading(url):
        check_secrets(url)
        try_again(
            url,
            lambda: in_time(lambda: _read_missing(*storage_of(url), ranges, found)),
            _LONG_PAUSES if patient else (),
        )
    return [found[number] for number in range(len(ranges))]


def _read_missing(
    system: Any, path: str, ranges: Sequence[tuple[int, int]], found: dict[int, bytes]
) -> None:
    """Read those ranges that were not found yet; the first error is raised when all are asked."""
    missing = [number for number in range(len(ranges)) if number not in found]
    wanted = [ranges[number] for number in missing]
    answers: list[Any] = []
    if getattr(system, "async_impl", False):
        starts, ends = ([part[side] for part in wanted] for side in (0, 1))
        answers = system.cat_ranges([path] * len(wanted), starts, ends, on_error="return")
    else:  # to open the file for each would take longer than to read it
        with system.open(path, "rb", cache_type="none") as stream:
            for start, end in wanted:
                stream.seek(start)
                answers.append(_read_some(stream, start, end - start))
    errors: list[BaseException] = []
    for number, (start, end), answer in zip(missing, wanted, answers, strict=True):
        if isinstance(answer, BaseException):
            errors.append(answer)
        elif len(answer) < end - start:
            errors.append(EOFError())
        elif len(answer) > end - start:
            raise InputError(
                "is on a server that gives no parts of files; download it first",
                ErrorCode.UNSUPPORTED,
            )
        else:
            found[number] = bytes(answer)
    for error in errors:
        raise error


class _State(NamedTuple):
    """Size of a file and what else changes with its content, as far as a storage tells."""

    size: int | None
    version: str


class _RemoteFile(io.RawIOBase):
    """A file of a backend, opened again in its place where a connection breaks.

    Attributes:
        size: in bytes; None = the storage does not tell, but tells where the file ends.
    """

    def __init__(self, url: str) -> None:
        self._url, self._place = url, 0
        with reading(url):
            self._stream, self._state = ask_storage(url, self._opened)
        self.size = self._state.size

    def _opened(self, system: Any, path: str) -> tuple[Any, _State]:
        stream = system.open(path, "rb", block_size=AT_ONCE)
        found = getattr(stream, "details", None) or system.info(path)
        if found.get("type") == "directory":
            raise IsADirectoryError
        facts = {key.lower().replace("-", ""): value for key, value in found.items()}
        answer = getattr(stream, "r", None)  # of the web
        if facts.get("size") is None and answer is not None:
            _check_has_end(answer.headers)
        state = next((str(facts[key]) for key in _STATES if facts.get(key)), "")
        return stream, _State(facts.get("size"), state)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.size is not None

    def readinto(self, buffer: Any) -> int:
        wanted = len(buffer)
        if self.size is not None:
            wanted = min(wanted, max(self.size - self._place, 0))
        if not wanted:
            return 0
        # taken away, so that a thread that is left behind cannot move the next one's place
        stream, self._stream = self._stream, None

        def read(system: Any, path: str) -> tuple[Any, bytes]:
            nonlocal stream
            opened, stream = stream, None
            if opened is None:
                opened, state = self._opened(system, path)
                if state != self._state:
                    raise InputError("changed while it was read", ErrorCode.FILE_UNREADABLE)
            if opened.tell() != self._place:
                opened.seek(self._place)
            content = _read_some(opened, self._place, wanted)
            if not content and self.size is not None:
                raise EOFError
            return opened, content

        try:
            self._stream, content = ask_storage(self._url, read)
        except FacedisError:
            raise
        except Exception as error:  # of any library
            raise OSError(0, answer_of(error)) from error
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self.size is None:
            raise io.UnsupportedOperation("seek")
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        stream, self._stream = getattr(self, "_stream", None), None
        with suppress(Exception):  # nothing was written
            if stream is not None:
                in_time(stream.close)
        super().close()


def _read_some(stream: Any, place: int, size: int) -> bytes:
    if not hasattr(stream, "readv"):
        return bytes(stream.read(size))
    # paramiko would wait for the answer to each request
    starts = range(place, place + size, _SFTP_REQUEST)
    chunks = [(start, min(_SFTP_REQUEST, place + size - start)) for start in starts]
    pieces = []
    for (_, expected), piece in zip(chunks, stream.readv(chunks), strict=True):
        pieces.append(piece)
        if len(piece) < expected:
            break
    return b"".join(pieces)


def _check_has_end(headers: Any) -> None:
    """Refuse an answer of the web that ends where the connection does, for any reason."""
    if headers.get("Transfer-Encoding") is None and headers.get("Content-Length") is None:
        raise InputError(
            "the server does not tell where the file ends, so that a broken connection could not "
            "be noticed; download it first",
            ErrorCode.UNSUPPORTED,
        )
