"""Writing files by URL: each appears whole or not at all."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO, Final

from facedis_core.errors import ErrorCode, FacedisError, OutputError, UsageError
from facedis_core.io.remote import (
    AT_ONCE,
    answer_of,
    ask_storage,
    in_time,
    is_there,
    storage_of,
    try_again,
)
from facedis_core.io.signals import install_signal_handlers
from facedis_core.io.text import shown
from facedis_core.io.urls import OBJECT_STORES, SFTP, WEB, check_secrets, scheme_of

_PART: Final = 1 << 23  # bytes; larger files are uploaded in several
_MOST_PARTS: Final = 9000  # S3 takes 10,000


@contextmanager
def open_remote_output(url: str, *, parents: bool = False) -> Iterator[BinaryIO]:
    """A local temporary file that is uploaded when the block ends without an exception.

    `parents` creates missing folders, where a storage has any.

    The file appears whole: in an object store at the end of the upload, which is given up if it
    fails, elsewhere under another name beside it until then.

    Raises:
        OutputError: it cannot be written.
    """
    from tempfile import TemporaryFile

    install_signal_handlers()  # an upload shall be given up in order
    with TemporaryFile() as stream:
        yield stream
        _upload(url, stream, parents=parents)


def write_remote(url: str, content: bytes) -> None:
    """Write a file as `open_remote_output` does, with the folders that it needs.

    Raises:
        OutputError: it cannot be written.
    """
    _upload(url, io.BytesIO(content), parents=True)


def check_remote_output(url: str, force: bool, *, parents: bool = False) -> None:
    """Raise what would prevent the upload of a file, before it is computed.

    Raises:
        UsageError: it exists, without `force`, or is no file that can be written.
        OutputError: the storage cannot be asked, there is no such bucket, or, without `parents`,
            no such folder.
    """
    if scheme_of(url) in WEB:
        raise UsageError(
            f"{shown(url)} can only be read; write to a disk, or to a storage such as s3:// or "
            "sftp://",
            ErrorCode.OUTPUT_PATTERN,
        )
    if url.endswith("/"):
        raise UsageError(
            f"{shown(url)} is a folder; expected the name of a file", ErrorCode.OUTPUT_PATTERN
        )
    with _writing(url):
        present = not force and ask_storage(url, is_there)
        missing = ask_storage(url, partial(_missing_place, scheme_of(url), parents))
    if present:
        raise remote_output_exists(url)
    if missing:
        raise OutputError(
            f"{shown(url)}: there is no {missing}; create it first", ErrorCode.OUTPUT_UNWRITABLE
        )


def _missing_place(scheme: str, parents: bool, system: Any, path: str) -> str:
    """The bucket or the folder of a file if it does not exist, else ""."""
    if scheme == "memory":
        return ""
    if scheme in OBJECT_STORES:
        bucket = path.partition("/")[0]
        try:
            return "" if is_there(system, bucket) else f"bucket {bucket}"
        except PermissionError:  # to look at it, as in one for uploads alone
            return ""
    folder = path.rpartition("/")[0]
    return "" if parents or not folder or is_there(system, folder) else f"folder {folder}"


def remote_output_exists(url: str) -> UsageError:
    """The error of an output that is there already."""
    return UsageError(
        f"{shown(url)} exists; replace it with --force, or choose another name",
        ErrorCode.OUTPUT_EXISTS,
    )


def _upload(url: str, stream: BinaryIO, *, parents: bool = False) -> None:
    """Write a whole file; again from its beginning where a connection breaks."""
    upload = _upload_object if scheme_of(url) in OBJECT_STORES else _upload_aside

    def once() -> None:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        upload(url, stream, size, parents)

    with _writing(url):
        check_secrets(url)
        try_again(url, once)


def _upload_object(url: str, stream: BinaryIO, size: int, parents: bool) -> None:
    """An object, which appears when its upload is completed; one of parts that fails is aborted."""
    if size <= _PART:
        content = stream.read()
        in_time(lambda: _put(*storage_of(url), content))
        return

    def begin() -> Any:
        system, path = storage_of(url)
        part = max(_PART, -(-size // _MOST_PARTS))
        target = system.open(path, "wb", block_size=part, autocommit=False)
        system.transaction.files.remove(target)  # completed below, a failure too
        return target

    target = in_time(begin)
    try:
        while content := stream.read(_PART):
            in_time(partial(target.write, content))
        in_time(target.close)
        in_time(target.commit)
    except BaseException:
        with suppress(Exception):
            in_time(target.discard)
        target.closed = True  # else its end would write the rest
        raise


def _put(system: Any, path: str, content: bytes) -> None:
    system.pipe_file(path, content)


def _upload_aside(url: str, stream: BinaryIO, size: int, parents: bool) -> None:
    """A file beside its target, which takes the name of the target at the end."""
    system, path = in_time(lambda: storage_of(url))
    # fsspec's own transactions of these begin in /tmp of the server, which may be another disk
    folder, slash, _ = path.rpartition("/")
    temporary = f"{folder}{slash}.facedis-{os.urandom(8).hex()}.tmp"

    def begin() -> Any:
        if parents and folder:
            system.makedirs(folder, exist_ok=True)
        # without a buffer paramiko has nothing left to write, and to wait for, after an error
        buffer = 0 if scheme_of(url) in SFTP else AT_ONCE
        target = system.open(temporary, "wb", block_size=buffer)
        if hasattr(target, "set_pipelined"):
            target.set_pipelined(True)  # else paramiko waits for the answer to each 32 KB
        return target

    def end() -> None:
        if size and hasattr(target, "set_pipelined"):
            # a write that was refused leaves a hole: once more the last byte, which waits for all
            stream.seek(size - 1)
            target.seek(size - 1)
            target.set_pipelined(False)
            target.write(stream.read(1))
        target.close()
        if system.info(temporary)["size"] != size:
            raise EOFError
        system.mv(temporary, path)

    def give_up() -> None:
        with suppress(Exception):  # never begun
            target.close()  # now, not whenever it is collected
        system.rm(temporary)

    target: Any = None
    try:
        target = in_time(begin)
        while content := stream.read(AT_ONCE):
            in_time(partial(target.write, content))
        in_time(end)
    except BaseException:
        with suppress(Exception):
            in_time(give_up)
        raise


@contextmanager
def _writing(url: str) -> Iterator[None]:
    try:
        yield
    except FacedisError:
        raise
    except Exception as error:
        raise OutputError(
            f"{shown(url)} could not be written: {answer_of(error)}", ErrorCode.OUTPUT_UNWRITABLE
        ) from error
