"""Atomic writes of regular files: a temporary file beside the target, then a rename.

Standard library only.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from facedis_core.errors import ErrorCode, UsageError
from facedis_core.io.paths import exists
from facedis_core.io.permissions import Permissions
from facedis_core.io.signals import install_signal_handlers


@contextmanager
def created_folders(folder: Path) -> Iterator[None]:
    """Create a folder and those above it; on failure remove what was created and is still empty."""
    missing = [f for f in (folder, *folder.parents) if not exists(f)]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for created in missing:
            with suppress(OSError):
                created.rmdir()
        raise


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed at the end, also where a signal ends the process."""
    from tempfile import TemporaryDirectory

    install_signal_handlers()
    with TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def replacing(
    path: Path, force: bool, permissions: Permissions | None = None
) -> Iterator[BinaryIO]:
    """A hidden temporary file that becomes `path` when the block ends without an exception.

    It gets the permissions of the file that it replaces; a new file gets `permissions`, or those of
    the umask. Until then the owner alone may read it.
    Raises UsageError where a file of that name has appeared and `force` is not set.
    """
    install_signal_handlers()
    temporary = path.parent / f".facedis-{os.urandom(8).hex()}.tmp"
    try:  # before the file exists: an interrupt may come as soon as it does
        private = permissions is not None or exists(path)
        # Not tempfile: its files are for their owner alone, new ones have the mode of the umask.
        descriptor = os.open(
            temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666
        )
        with os.fdopen(descriptor, "w+b") as stream:
            yield stream
            stream.flush()
            if private and (given := Permissions.of(path) or permissions):
                given.give_to(stream.fileno())
            os.fsync(stream.fileno())
        if force:
            temporary.replace(path)
        else:
            _rename_to_new(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Rename, but never over a file that has appeared since the output was checked."""
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise UsageError(
            f"{path} has appeared meanwhile; replace it with --force, or choose another name",
            ErrorCode.OUTPUT_EXISTS,
        ) from error
    except OSError:  # a file system without hard links
        temporary.replace(path)
    else:
        temporary.unlink()


def _sync_folder(folder: Path) -> None:
    # Makes the rename durable; not every file system can, and the file is whole without it.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def reserve_space(descriptor: int, size: int) -> None:
    """Allocate disk space now: a full disk under a memory map would kill the process."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, max(size, 1))
        except OSError as error:  # some file systems cannot reserve
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
