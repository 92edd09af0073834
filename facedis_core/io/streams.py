"""Opening inputs and outputs: files, pipes, devices and the standard streams.

A regular file is written whole or not at all; a pipe or device is written in place.
Standard library only, so that an output can be refused before anything heavy is imported.
"""

import errno
import fcntl
import hashlib
import io
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from facedis_core.errors import (
    ErrorCode,
    InputError,
    OutputError,
    ReaderLeft,
    UsageError,
    output_error,
)
from facedis_core.io.atomic import created_folders, replacing
from facedis_core.io.paths import exists, is_file, is_folder
from facedis_core.io.permissions import Permissions
from facedis_core.io.remote_input import open_remote_input
from facedis_core.io.remote_output import check_remote_output, open_remote_output
from facedis_core.io.text import missing, shown
from facedis_core.io.urls import is_url

_STANDARD_DEVICES = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_OWN_DESCRIPTORS = ("/dev/fd", "/proc/self/fd")
_MOST_LINKS = 40
_READ_AT_ONCE = 1 << 20
_LONGEST_MESSAGE = 1000
_POINTER = b"version https://git-lfs.github.com/spec/"


@contextmanager
def naming(source: str | Path) -> Iterator[None]:
    """Put the name of a source before what is wrong with it: `scan.ply: has no vertices`.

    Readers raise InputError without a name. OSError and MemoryError become InputError.
    """
    try:
        yield
    except InputError as error:
        text = str(error)
        if text.startswith((f"{shown(source)} ", f"{shown(source)}: ")):
            raise  # it says so already
        if len(text) > _LONGEST_MESSAGE:  # it quotes the file
            text = f"{text[:_LONGEST_MESSAGE]}..."
        raise InputError(f"{shown(source)}: {text}", error.code) from error
    except OSError as error:
        raise InputError(
            f"{shown(source)}: could not be read ({error.strerror})", ErrorCode.FILE_UNREADABLE
        ) from error
    except MemoryError as error:
        raise InputError(f"{shown(source)}: does not fit into memory", ErrorCode.MEMORY) from error


@contextmanager
def open_input(source: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input for `-`, for reading bytes.

    Raises UsageError if the input is a terminal, and InputError if the file is missing, cannot be
    opened, or stands for one that Git LFS has not fetched.
    """
    if source == "-":
        if sys.stdin is None:
            raise InputError(
                "standard input is closed; expected data, or name a file", ErrorCode.STREAM_CLOSED
            )
        if sys.stdin.isatty():
            raise UsageError(
                "standard input is a terminal; name a file, or pipe data in: command < FILE",
                ErrorCode.TERMINAL,
            )
        yield sys.stdin.buffer
        return
    if is_url(source):
        with open_remote_input(source) as stream:
            yield stream
        return
    try:
        # entered below, outside of this try
        stream = open(source, "rb", opener=_open_no_terminal)  # noqa: SIM115
    except FileNotFoundError as error:
        raise missing(source) from error
    except IsADirectoryError as error:
        raise InputError(
            f"{shown(source)} is a folder; expected a file", ErrorCode.NOT_A_FILE
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{shown(source)} could not be opened: {reason}", ErrorCode.FILE_UNREADABLE
        ) from error
    with stream, _being_read(stream):
        if stream.isatty():
            raise UsageError(
                f"{shown(source)} is a terminal; expected data from a file or a pipe",
                ErrorCode.TERMINAL,
            )
        with naming(source):
            # to look into a pipe might wait
            if _file_key(stream) and stream.peek(len(_POINTER)).startswith(_POINTER):
                raise InputError(
                    "is a pointer of Git LFS, not the file itself; fetch it: git lfs pull",
                    ErrorCode.WRONG_KIND,
                )
        yield stream


_inputs: Counter[tuple[int, int]] = Counter()  # regular files that are open for reading


def _file_key(stream: BinaryIO) -> tuple[int, int] | None:
    found = os.fstat(stream.fileno())
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


@contextmanager
def _being_read(stream: BinaryIO) -> Iterator[None]:
    key = _file_key(stream)
    _inputs.update([key] if key else ())
    try:
        yield
    finally:
        _inputs.subtract([key] if key else ())


def _refuse_own_input(stream: BinaryIO, target: str) -> None:
    """Raise UsageError for an output that is being read: it would grow without end."""
    try:
        key = _file_key(stream)
    except (OSError, ValueError):  # no file of the system behind it
        return
    if key and _inputs[key] > 0:
        raise UsageError(
            f"{shown(target)} is also an input; write to another file", ErrorCode.SAME_FILE
        )


def read_all(source: str, at_most: int | None = None, expected: str = "less") -> bytes:
    """Every byte of a file, or of standard input for `-`.

    Raises what `open_input` does, and InputError if reading fails or there are more bytes than
    `at_most`; the message then says what was `expected`.
    """
    with open_input(source) as stream, naming(source):
        content = stream.read() if at_most is None else read_up_to(stream, at_most + 1)
    if at_most is not None and len(content) > at_most:
        raise InputError(
            f"{shown(source)} has more than {at_most >> 20} MB; expected {expected}",
            ErrorCode.TOO_LARGE,
        )
    return content


def read_up_to(stream: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes, fewer at the end; memory grows with what arrives, not with `size`."""
    pieces: list[bytes] = []
    while size > 0 and (piece := stream.read(min(size, _READ_AT_ONCE))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


class _Prefixed(io.RawIOBase):
    """A stream with bytes that have been read put back in front."""

    def __init__(self, beginning: bytes, stream: BinaryIO) -> None:
        self._beginning, self._stream = beginning, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._beginning[: len(buffer)] or self._stream.read1(len(buffer))  # type: ignore[attr-defined]
        self._beginning = self._beginning[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def read_ahead(stream: BinaryIO, size: int) -> tuple[bytes, BinaryIO]:
    """The first bytes of a buffered stream, and a stream that still has them.

    `peek` would return what has arrived so far, which may be one byte of a slow pipe.
    """
    beginning = stream.read(size)
    return beginning, io.BufferedReader(_Prefixed(beginning, stream))


def file_id(content: bytes) -> str:
    """First 12 hex digits of the SHA-256 of a file, by which a history names it."""
    return hashlib.sha256(content).hexdigest()[:12]


def check_output(target: str, force: bool, *, binary: bool = True, parents: bool = False) -> None:
    """Raise the errors of `open_output` before the computation.

    UsageError for an existing file without `force`, a folder, or binary data for a terminal;
    OutputError where the folder of the target is missing (unless `parents`) or not writable.
    """
    if target == "-":
        if sys.stdout is None:
            raise OutputError(
                "standard output is closed; redirect it (> FILE) or name a file with -o",
                ErrorCode.OUTPUT_UNWRITABLE,
            )
        if binary and sys.stdout.isatty():
            raise _terminal_refused("standard output")
        return
    if is_url(target):
        check_remote_output(target, force, parents=parents)
        return
    with _as_output_error(target):
        path = _resolved(target)
        if _in_place(path):
            if binary and _is_terminal(path):
                raise _terminal_refused(target)
            return
        if is_folder(path) or target.endswith("/"):
            raise UsageError(
                f"{shown(target)} is a folder; expected the name of a file",
                ErrorCode.OUTPUT_PATTERN,
            )
        if exists(path) and not force:
            raise UsageError(
                f"{shown(target)} exists; replace it with --force, or choose another name",
                ErrorCode.OUTPUT_EXISTS,
            )
        folder = Path(os.path.realpath(path)).parent
        while parents and not exists(folder):
            folder = folder.parent
        if not is_folder(folder):
            raise OutputError(
                f"{shown(target)}: there is no folder {folder}; create it first",
                ErrorCode.OUTPUT_UNWRITABLE,
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(
                f"{shown(target)}: the folder {folder} is not writable", ErrorCode.OUTPUT_UNWRITABLE
            )


def replaced_file(target: str) -> Path | None:
    """The regular file that `open_output` would replace; None of a pipe, a device or a URL."""
    if target == "-" or is_url(target):
        return None
    with _as_output_error(target):
        path = _resolved(target)
        return None if _in_place(path) else Path(os.path.realpath(path))


@contextmanager
def open_output(
    target: str,
    *,
    force: bool,
    binary: bool = True,
    parents: bool = False,
    permissions: Permissions | None = None,
) -> Iterator[BinaryIO]:
    """Open a file, or standard output for `-`, for writing bytes.

    A regular file gets its name when the block has ended without an exception and its bytes are
    on the disk; until then it is a hidden temporary file beside it, which can also be read and
    mapped, and which is removed if the block fails.  `parents` creates missing folders, and
    removes them again if the block fails.  A replaced file keeps its permissions; a new one gets
    `permissions`, or those of the umask.
    Raises what `check_output` does, OutputError where writing fails, ReaderLeft on a closed pipe,
    InputError where the block cannot read another file.
    """
    check_output(target, force, binary=binary, parents=parents)
    if is_url(target):
        with open_remote_output(target, parents=parents) as stream:
            yield stream
        return
    with _as_output_error(target), _opened(target, force, binary, permissions) as stream:
        try:
            yield stream
        except OSError as error:
            if error.filename is None:  # as whenever an open stream cannot be written
                raise
            raise InputError(
                f"{shown(error.filename)}: {error.strerror}", ErrorCode.FILE_UNREADABLE
            ) from error


@contextmanager
def keeping_existing(keep: bool) -> Iterator[None]:
    """With `keep`, leave a file as it is that has appeared since its absence was seen.

    Another process may do the same work, such as a task of a batch that was started twice.
    """
    try:
        yield
    except UsageError as error:
        if not keep or error.code is not ErrorCode.OUTPUT_EXISTS:
            raise


@contextmanager
def append_output(target: str) -> Iterator[BinaryIO]:
    """Open a regular file for bytes at its end, which stay when the block fails.

    Raises OutputError where it cannot be written, or another process appends to it.
    """
    with _as_output_error(target), Path(target).open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = os.path.samestat(os.fstat(stream.fileno()), Path(target).stat())  # not replaced
        except BlockingIOError:
            free = False
        except OSError:  # a file system without locks
            free = True
        if not free:
            raise OutputError(
                f"{shown(target)} is being written by another process; wait for it, or name "
                "another file",
                ErrorCode.OUTPUT_UNWRITABLE,
            )
        yield stream


def _open_no_terminal(path: str | Path, flags: int) -> int:
    """Open a file; a terminal does not become the one that controls the process.

    It would where the process leads a session without one, and its end would then end the process.
    """
    return os.open(path, flags | os.O_NOCTTY)


@contextmanager
def _opened(
    target: str, force: bool, binary: bool, permissions: Permissions | None
) -> Iterator[BinaryIO]:
    if target == "-":
        _refuse_own_input(sys.stdout.buffer, "-")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif _in_place(path := _resolved(target)):
        with _open_in_place(path) as stream:
            if binary and stream.isatty():
                raise _terminal_refused(target)
            _refuse_own_input(stream, target)
            yield stream
    else:
        # A symbolic link stays one: the file that it points to is replaced.
        real = Path(os.path.realpath(path))
        with created_folders(real.parent), replacing(real, force, permissions) as stream:
            yield stream


def _terminal_refused(target: str) -> UsageError:
    return UsageError(
        f"{target} is a terminal and the output is binary; "
        "redirect it (> FILE), pipe it (| COMMAND) or name a file with -o",
        ErrorCode.TERMINAL,
    )


@contextmanager
def _as_output_error(target: str) -> Iterator[None]:
    name = "standard output" if target == "-" else shown(target)
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderLeft(f"the reader of {name} has left", ErrorCode.READER_LEFT) from error
    except (OSError, ValueError) as error:
        # A ValueError is about the name (a NUL in it) only when it comes from the path functions.
        if isinstance(error, ValueError) and "\0" not in target:
            raise
        reason = getattr(error, "strerror", None) or error
        raise output_error(f"{name} could not be written: {reason}", error) from error


def _descriptor(path: Path) -> int | None:
    """The file descriptor that a path such as /dev/fd/3 or /dev/stdout names."""
    if str(path.parent) in _OWN_DESCRIPTORS and path.name.isascii() and path.name.isdigit():
        return int(path.name)
    return _STANDARD_DEVICES.get(str(path))


def _resolved(target: str) -> Path:
    """The target of symbolic links, except of links to descriptors of this process."""
    path = Path(target)
    for _ in range(_MOST_LINKS):
        if _descriptor(path) is not None or not path.is_symlink():
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), target)


def _in_place(path: Path) -> bool:
    """Whether this is a pipe, a device or an open file descriptor, not a regular file."""
    if _descriptor(path) is not None:
        return True
    return exists(path) and not is_file(path) and not is_folder(path)


def _is_terminal(path: Path) -> bool:
    number = _descriptor(path)
    if number is not None:
        return os.isatty(number)
    if not path.is_char_device():  # opening a FIFO would wait for its reader
        return False
    descriptor = _open_no_terminal(path, os.O_WRONLY)
    try:
        return os.isatty(descriptor)
    finally:
        os.close(descriptor)


def _open_in_place(path: Path) -> BinaryIO:
    number = _descriptor(path)
    # opening it anew would start at the beginning of the file
    descriptor = _open_no_terminal(path, os.O_WRONLY) if number is None else os.dup(number)
    return os.fdopen(descriptor, "wb")
