"""Files by URL (s3://, gs://, sftp://, https://, ...), through fsspec, imported when one is given.

Credentials come from where the backends look for them: their configuration files and the
environment. A URL with some in it is refused: it would end up in messages and lists of failures.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Final

from facedis_core.errors import ErrorCode, InputError, OutputError, UsageError, missing_extra
from facedis_core.io.text import first_line

# Where a file begins to exist when its upload is completed.
_OBJECT_STORES: Final = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "memory")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SECRET: Final = re.compile(r"[^/@]*:[^/]*@")  # user:password@
_TOKEN: Final = re.compile(r"[^/]*@|.*[?]")  # of the web: token@, and signed queries


def is_url(source: object) -> bool:
    """Whether this is a URL and not a path."""
    return _URL.match(str(source)) is not None


def scheme_of(url: str) -> str:
    """`s3` of s3://bucket/face.ply."""
    return url.partition("://")[0].lower()


def remote_exists(url: str) -> bool:
    """Whether there is a file.

    Raises:
        InputError: the storage cannot be asked.
    """
    system, path = _reached(url)
    with _reading(url):
        return bool(system.exists(path))


def remote_files_below(url: str) -> list[str]:
    """Paths of all files below a folder, relative and with `/`, sorted; hidden ones are left out.

    Raises:
        InputError: the storage cannot be asked.
    """
    system, path = _reached(url)
    base = path.rstrip("/")
    with _reading(url):
        found = [str(name).removeprefix(base).lstrip("/") for name in system.find(base)]
    return sorted(n for n in found if not any(part.startswith(".") for part in n.split("/")))


def remote_glob(url: str) -> list[str]:
    """The URLs of the files that match a pattern, sorted.

    Raises:
        InputError: the storage cannot be asked.
    """
    system, path = _reached(url)
    beginning = url.removesuffix(path)  # with the host, which paths of some backends lack
    with _reading(url):
        return sorted(f"{beginning}{name}" for name in system.glob(path))


@contextmanager
def open_remote_input(url: str) -> Iterator[BinaryIO]:
    """Open a file for reading bytes; what is read wrongly later is an OSError.

    Raises:
        InputError: it is missing, or the storage cannot be asked.
    """
    system, path = _reached(url)
    with _reading(url):
        raw = system.open(path, "rb")
    with raw:
        yield io.BufferedReader(_Raw(raw))  # readers peek


@contextmanager
def open_remote_output(url: str) -> Iterator[BinaryIO]:
    """A local temporary file that is uploaded when the block ends without an exception.

    The file appears whole: in an object store at the end of the upload, which is given up if it
    fails, elsewhere under another name beside it until then.

    Raises:
        OutputError: it cannot be written.
    """
    from tempfile import TemporaryFile

    system, path = _reached(url)
    with TemporaryFile() as stream:
        yield stream
        stream.seek(0)
        with _writing(url), _uploading(system, path, scheme_of(url)) as target:
            while content := stream.read(1 << 20):
                target.write(content)


@contextmanager
def _uploading(system: Any, path: str, scheme: str) -> Iterator[Any]:
    if scheme in _OBJECT_STORES:
        with system.transaction, system.open(path, "wb") as target:
            yield target
        return
    # fsspec's own transactions of these begin in /tmp of the server, which may be another disk
    folder, slash, name = path.rpartition("/")
    temporary = f"{folder}{slash}.facedis-{os.urandom(8).hex()}-{name}.tmp"
    try:
        with system.open(temporary, "wb") as target:
            yield target
        system.mv(temporary, path)
    except BaseException:
        with suppress(Exception):  # never begun
            system.rm(temporary)
        raise


def check_remote_output(url: str, force: bool) -> None:
    """Raise UsageError for a file that exists, without `force`, or the name of a folder."""
    if url.endswith("/"):
        raise UsageError(
            f"{url} is a folder; expected the name of a file: outputs by URL are single files",
            ErrorCode.OUTPUT_PATTERN,
        )
    if not force and remote_exists(url):
        raise UsageError(
            f"{url} exists; replace it with --force, or choose another name",
            ErrorCode.OUTPUT_EXISTS,
        )


class _Raw(io.RawIOBase):
    """A file of a backend; whatever a backend raises while reading is an OSError."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def readinto(self, buffer: Any) -> int:
        with _as_os_error():
            content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _as_os_error():
            return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of any library
        raise OSError(0, f"the storage answers {type(error).__name__}") from error


def _reached(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there.

    Raises:
        UsageError: a password, a token or a query in the URL, or the backend is not installed.
        InputError: an unknown scheme.
    """
    scheme, rest = scheme_of(url), url.partition("://")[2]
    if _SECRET.match(rest) or (scheme in ("http", "https") and _TOKEN.match(rest)):
        raise UsageError(
            f"a {scheme}:// URL has a password, a token or a query, which would end up in "
            "messages; configure them where its backend looks for them, and leave them out",
            ErrorCode.OPTION_VALUE,
        )
    try:
        import fsspec
    except ModuleNotFoundError:
        raise missing_extra(f"{scheme}://", "remote") from None
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:  # fsspec says what to install
        raise UsageError(
            f"{scheme}:// needs another package: {first_line(error)}", ErrorCode.EXTRA_MISSING
        ) from None
    except ValueError:
        raise InputError(
            f"{url} has an unknown scheme; expected one that fsspec knows, such as s3, gs, sftp "
            "or https",
            ErrorCode.UNSUPPORTED,
        ) from None
    except Exception as error:
        raise _unreachable(url, error) from error
    return system, str(path)


def _unreachable(url: str, error: Exception) -> InputError:
    # not the words of the error, which may quote headers and keys
    return InputError(
        f"{url} could not be reached: the storage answers {type(error).__name__}",
        ErrorCode.FILE_UNREADABLE,
    )


@contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"{url} does not exist; expected a file", ErrorCode.FILE_MISSING
        ) from error
    except IsADirectoryError as error:
        raise InputError(f"{url} is a folder; expected a file", ErrorCode.NOT_A_FILE) from error
    except Exception as error:
        raise _unreachable(url, error) from error


@contextmanager
def _writing(url: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise OutputError(
            f"{url} could not be written: the storage answers {type(error).__name__}",
            ErrorCode.OUTPUT_UNWRITABLE,
        ) from error
