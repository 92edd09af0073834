"""Files by URL (s3://, gs://, sftp://, https://, ...), through fsspec, imported when one is given.

Credentials come from where the backends look for them: their configuration files and the
environment. A URL with some in it is refused: it would end up in messages and lists of failures.

Every call of a backend has a time limit and is repeated a few times where a connection breaks.
"""

import io
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeVar

from facedis_core.errors import (
    ErrorCode,
    FacedisError,
    InputError,
    OutputError,
    UsageError,
    missing_extra,
)
from facedis_core.io.signals import install_signal_handlers
from facedis_core.io.text import first_line, shown

Answer = TypeVar("Answer")

TIMEOUT_VARIABLE: Final = "FACEDIS_REMOTE_TIMEOUT"
_TIMEOUT_SECONDS: Final = 60.0  # without an answer
_PAUSES: tuple[float, ...] = (0.2, 1.0, 3.0)  # seconds before a storage is asked again
# Likewise in a training, which shall outlive a storage that restarts.
_LONG_PAUSES: tuple[float, ...] = (0.2, 2.0, 10.0, 30.0)
_AT_ONCE: Final = 1 << 20  # bytes; slower than this in a minute counts as no answer
_PART: Final = 1 << 23  # bytes; larger files are uploaded in several
_MOST_PARTS: Final = 9000  # S3 takes 10,000
_SFTP_REQUEST: Final = 1 << 15  # bytes that every server gives at once
_MOST_FILES: Final = 1_000_000

# Where a file begins to exist when its upload is completed.
_OBJECT_STORES: Final = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "memory")
_WEB: Final = ("http", "https")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PATH_OF_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # has lost a slash
_SECRET: Final = re.compile(r"[^/@]*:(?![0-9]+/).*@", re.DOTALL)  # user:password@, no host:port/
_TOKEN: Final = re.compile(r"[^/]*@|.*[?]", re.DOTALL)  # of the web: token@, and any query
# Signed queries of storages.
_SIGNED: Final = re.compile(
    r"[?&](x-(amz|goog)-[a-z-]+|sig|signature|token|awsaccesskeyid|password)=", re.IGNORECASE
)

# What backends log would be on standard error, with tracebacks.
_LOGGERS: Final = (
    *("fsspec", "asyncio", "aiohttp", "urllib3"),
    *("s3fs", "botocore", "aiobotocore", "gcsfs", "google", "adlfs", "azure", "paramiko"),
)

# The same within a text.
_USER: Final = re.compile(r"://[^/\s@]*:(?![0-9]+/)\S*@|(?<=http)://[^/\s]*@|(?<=https)://[^/\s]*@")
_QUERY: Final = re.compile(r"(?<=\S)[?]\S*=\S*")

# Errors that a second try would not mend.
_FINAL: Final = (
    FacedisError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    NotImplementedError,
    ValueError,
    TypeError,
    ImportError,
)
_REFUSED: Final = re.compile("Auth|Credential|HostKey|Token")  # types of errors of backends
# What backends call what changes with the content of a file, the surest first.
_STATES: Final = ("etag", "generation", "checksum", "mtime", "lastmodified", "updated")


def is_url(source: object) -> bool:
    """Whether this is a URL and not a path."""
    return _URL.match(str(source)) is not None


def refuse_url(path: str | Path) -> None:
    """Raise InputError for a URL, also as a Path, where a folder on a disk is needed."""
    if _PATH_OF_URL.match(str(path)) and not os.path.isdir(path):  # noqa: PTH112 - as it is called
        url = re.sub(":/+", "://", str(path), count=1)
        _check_secrets(url)
        raise InputError(
            f"{shown(url)} is a URL; expected a folder on a disk: copy it first",
            ErrorCode.UNSUPPORTED,
        )


def without_secrets(text: str) -> str:
    """The text of a message, where URLs have lost their passwords, tokens and signatures.

    Example:
        >>> without_secrets("sftp://ann:secret@host/a.ply, https://host/b?sig=secret is no mesh")
        'sftp://...@host/a.ply, https://host/b?... is no mesh'
    """
    return _QUERY.sub("?...", _USER.sub("://...@", text))


def scheme_of(url: str) -> str:
    """`s3` of s3://bucket/face.ply."""
    return url.partition("://")[0].lower()


def connections_to(url: str) -> int:
    """How many files of a storage to read or write at once."""
    return 16 if scheme_of(url) in (*_OBJECT_STORES, *_WEB) else 4  # others have a session each


def remote_exists(url: str) -> bool:
    """Whether there is a file.

    Raises:
        InputError: the storage cannot be asked.
    """
    with _reading(url):
        return _asked(url, _exists)


def _exists(system: Any, path: str) -> bool:
    try:  # fsspec's own exists() takes every failure for an absent file
        system.info(path)
    except FileNotFoundError:
        return False
    return True


def _walked(system: Any, folder: str) -> Iterator[str]:
    """Paths of all files below a folder; fsspec's own find() leaves out what cannot be listed."""
    waiting = [folder.rstrip("/")]
    while waiting:
        place = waiting.pop()
        for found in system.ls(place, detail=True):
            if found["type"] == "directory":
                below = found["name"].rstrip("/")
                waiting += [below] if below != place else []
            else:
                yield found["name"]


def remote_files_below(url: str) -> list[str]:
    """Paths of all files below a folder, relative and with `/`, sorted; hidden ones are left out.

    Raises:
        InputError: the storage cannot be asked, or there are more than a million files.
    """
    return [n for n in _files_below(url) if not any(p.startswith(".") for p in n.split("/"))]


def remote_outputs(pattern: str) -> set[str]:
    """URLs of all files in the folder of an output pattern, such as s3://bucket/{name}.ply.

    Raises:
        InputError: errors of `remote_files_below`.
    """
    folder = f"{pattern.partition('{')[0].rpartition('/')[0]}/"
    return {f"{folder}{name}" for name in _files_below(folder)}


def _files_below(url: str) -> list[str]:

    def find(system: Any, path: str) -> list[str]:
        base = f"{path.rstrip('/')}/"
        if getattr(system, "async_impl", False):
            names = [str(name) for name in system.find(base)]
            system.invalidate_cache()  # large; and a key may be a file and a folder
        else:
            names = list(_walked(system, base)) if _exists(system, base) else []
        return [name.removeprefix(base) for name in names if name.startswith(base)]

    with _reading(url):
        found = _asked(url, find)
    if len(found) > _MOST_FILES:
        raise InputError(
            f"{shown(url)} holds more than {_MOST_FILES} files; give a folder of fewer, or lists "
            "(--files-from)",
            ErrorCode.TOO_LARGE,
        )
    return sorted(filter(None, found))


def remote_glob(url: str) -> list[str]:
    """The URLs of the files that match a pattern, sorted.

    Raises:
        InputError: the storage cannot be asked.
    """

    def match(system: Any, path: str) -> list[str]:
        beginning = url.removesuffix(path)  # with the host, which paths of some backends lack
        found = sorted(f"{beginning}{name}" for name in system.glob(path))
        system.invalidate_cache()  # as above
        # raises where the connection is lost, for which glob() leaves out files
        _exists(system, re.split("[*?[]", path, maxsplit=1)[0].rpartition("/")[0])
        return found

    with _reading(url):
        return _asked(url, match)


@contextmanager
def open_remote_input(url: str) -> Iterator[BinaryIO]:
    """Open a file for reading bytes; what is read wrongly later is an OSError.

    A file that ends before its size is not taken for whole; where a connection breaks, reading
    goes on in a new one as long as the file has not changed.

    Raises:
        InputError: it is missing, or the storage cannot be asked.
    """
    with _RemoteFile(url) as raw:
        yield io.BufferedReader(raw, _AT_ONCE)  # readers peek


def read_remote(url: str, at_most: int) -> bytes | None:
    """Every byte of a file; None of one that is larger, or whose size the storage does not tell.

    Raises:
        InputError: errors of `open_remote_input`.
        OSError: it cannot be read.
    """
    with _RemoteFile(url) as raw:
        if raw.size is None or raw.size > at_most:
            return None
        return io.BufferedReader(raw, _AT_ONCE).read()  # a raw file may give less at once


def read_remote_ranges(url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Parts of a file, each from one byte to before another; at once where a backend can.

    What is missing is asked for again for most of a minute, and what has arrived is not.

    Raises:
        InputError: the storage does not answer, or the file ends before, also in the last try; the
            file is missing, or the storage gives no parts of files.
    """
    found: dict[int, bytes] = {}
    with _reading(url):
        _check_secrets(url)
        _tried(
            url,
            lambda: _within(lambda: _read_missing(*_reached(url), ranges, found)),
            _LONG_PAUSES,
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
    if scheme_of(url) in _WEB:
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
        is_there = not force and _asked(url, _exists)
        missing = _asked(url, partial(_missing_place, scheme_of(url), parents))
    if is_there:
        raise remote_output_exists(url)
    if missing:
        raise OutputError(
            f"{shown(url)}: there is no {missing}; create it first", ErrorCode.OUTPUT_UNWRITABLE
        )


def _missing_place(scheme: str, parents: bool, system: Any, path: str) -> str:
    """The bucket or the folder of a file if it does not exist, else ""."""
    if scheme == "memory":
        return ""
    if scheme in _OBJECT_STORES:
        bucket = path.partition("/")[0]
        try:
            return "" if _exists(system, bucket) else f"bucket {bucket}"
        except PermissionError:  # to look at it, as in one for uploads alone
            return ""
    folder = path.rpartition("/")[0]
    return "" if parents or not folder or _exists(system, folder) else f"folder {folder}"


def remote_output_exists(url: str) -> UsageError:
    """The error of an output that is there already."""
    return UsageError(
        f"{shown(url)} exists; replace it with --force, or choose another name",
        ErrorCode.OUTPUT_EXISTS,
    )


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
        with _reading(url):
            self._stream, self._state = _asked(url, self._opened)
        self.size = self._state.size

    def _opened(self, system: Any, path: str) -> tuple[Any, _State]:
        stream = system.open(path, "rb", block_size=_AT_ONCE)
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
            self._stream, content = _asked(self._url, read)
        except FacedisError:
            raise
        except Exception as error:  # of any library
            raise OSError(0, _answer(error)) from error
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
                _within(stream.close)
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


def _upload(url: str, stream: BinaryIO, *, parents: bool = False) -> None:
    """Write a whole file; again from its beginning where a connection breaks."""
    upload = _upload_object if scheme_of(url) in _OBJECT_STORES else _upload_aside

    def once() -> None:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        upload(url, stream, size, parents)

    with _writing(url):
        _check_secrets(url)
        _tried(url, once)


def _upload_object(url: str, stream: BinaryIO, size: int, parents: bool) -> None:
    """An object, which appears when its upload is completed; one of parts that fails is aborted."""
    if size <= _PART:
        content = stream.read()
        _within(lambda: _put(*_reached(url), content))
        return

    def begin() -> Any:
        system, path = _reached(url)
        part = max(_PART, -(-size // _MOST_PARTS))
        target = system.open(path, "wb", block_size=part, autocommit=False)
        system.transaction.files.remove(target)  # completed below, a failure too
        return target

    target = _within(begin)
    try:
        while content := stream.read(_PART):
            _within(partial(target.write, content))
        _within(target.close)
        _within(target.commit)
    except BaseException:
        with suppress(Exception):
            _within(target.discard)
        target.closed = True  # else its end would write the rest
        raise


def _put(system: Any, path: str, content: bytes) -> None:
    system.pipe_file(path, content)


def _upload_aside(url: str, stream: BinaryIO, size: int, parents: bool) -> None:
    """A file beside its target, which takes the name of the target at the end."""
    system, path = _within(lambda: _reached(url))
    # fsspec's own transactions of these begin in /tmp of the server, which may be another disk
    folder, slash, _ = path.rpartition("/")
    temporary = f"{folder}{slash}.facedis-{os.urandom(8).hex()}.tmp"

    def begin() -> Any:
        if parents and folder:
            system.makedirs(folder, exist_ok=True)
        target = system.open(temporary, "wb", block_size=_AT_ONCE)
        if hasattr(target, "set_pipelined"):
            target.set_pipelined(True)  # else paramiko waits for each answer; the size is checked
        return target

    def end() -> None:
        target.close()
        if system.info(temporary)["size"] != size:
            raise EOFError
        system.mv(temporary, path)

    try:
        target = _within(begin)
        while content := stream.read(_AT_ONCE):
            _within(partial(target.write, content))
        _within(end)
    except BaseException:
        with suppress(Exception):  # never begun
            _within(lambda: system.rm(temporary))
        raise


def _asked(url: str, ask: Callable[[Any, str], Answer]) -> Answer:
    """What the file system of a URL answers about the path there.

    Raises whatever the backend does in the last try, TimeoutError, and errors of `_reached`.
    """
    _check_secrets(url)
    return _tried(url, lambda: _within(lambda: ask(*_reached(url))))


def _tried(url: str, work: Callable[[], Answer], pauses: Sequence[float] | None = None) -> Answer:
    if pauses is None:  # backends of object stores try again by themselves
        pauses = _PAUSES[:1] if scheme_of(url) in _OBJECT_STORES else _PAUSES
    for pause in pauses:
        try:
            return _unwrapped(url, work)
        except _FINAL:
            raise
        except Exception as error:
            if _REFUSED.search(type(error).__name__):
                raise
            _forget_connections(url)
        time.sleep(pause)
    return _unwrapped(url, work)


def _unwrapped(url: str, work: Callable[[], Answer]) -> Answer:
    try:
        return work()
    except FileNotFoundError as error:
        # what the backend of the web makes of every failure
        cause = error.__cause__
        if scheme_of(url) in _WEB and cause and getattr(cause, "status", 0) not in (404, 410):
            raise cause from None
        raise


def _within(call: Callable[[], Answer]) -> Answer:
    from facedis_core.io.waiting import within

    return within(_timeout(), call)


def _timeout() -> float:
    given = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(given) if given else _TIMEOUT_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise UsageError(
            f"{TIMEOUT_VARIABLE} is {given!r}; expected seconds", ErrorCode.OPTION_VALUE
        )
    return seconds


def _check_secrets(url: str) -> None:
    scheme, rest = scheme_of(url), url.partition("://")[2]
    if _SECRET.match(rest) or _SIGNED.search(rest) or (scheme in _WEB and _TOKEN.match(rest)):
        raise UsageError(
            f"a {scheme}:// URL has a password, a token or a query, which would end up in "
            "messages; configure them where its backend looks for them, and leave them out",
            ErrorCode.OPTION_VALUE,
        )
    if scheme in _WEB and "#" in rest:
        raise UsageError(f"{shown(url)} has a #; write it as %23", ErrorCode.OPTION_VALUE)


def _reached(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there, as it is: `::`, `?` and `..` mean nothing.

    Raises:
        UsageError: the backend is not installed.
        InputError: an unknown scheme.
    """
    scheme = scheme_of(url)
    host, slash, below = url.partition("://")[2].partition("/")
    beginning = f"{scheme}://{host}/"
    kind = _backend(scheme, url)
    made = partial(kind, **kind._get_kwargs_from_urls(beginning))
    if getattr(kind, "async_impl", False):  # for all threads; takes a second to make
        with _making:
            if beginning not in _shared:
                _shared[beginning] = made(skip_instance_cache=True)
            system = _shared[beginning]
    else:
        system = made()  # fsspec keeps one for each thread
    return system, f"{str(kind._strip_protocol(beginning)).rstrip('/')}{slash}{below}"


_shared: dict[str, Any] = {}
_making: Final = threading.Lock()


def _backend(scheme: str, url: str) -> Any:
    try:
        import fsspec
    except ModuleNotFoundError:
        raise missing_extra(f"{scheme}://", "remote") from None
    import logging

    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:  # fsspec says what to install
        raise UsageError(
            f"{scheme}:// needs another package: {first_line(error)}", ErrorCode.EXTRA_MISSING
        ) from None
    except ValueError:
        raise InputError(
            f"{shown(url)} has an unknown scheme; expected one that fsspec knows, such as s3, gs, "
            "sftp or https",
            ErrorCode.UNSUPPORTED,
        ) from None


def _forget_connections(url: str) -> None:
    kind = _backend(scheme_of(url), url)
    if not getattr(kind, "async_impl", False):  # others connect again by themselves
        kind.clear_instance_cache()


def _answer(error: Exception) -> str:
    # not the words of the error, which may quote headers and keys
    if isinstance(error, TimeoutError):
        return f"the storage has not answered for {_timeout():g} s"
    if isinstance(error, EOFError):
        return "the storage ends it too early"
    status = getattr(error, "status", None)  # of the web
    number = f" {status}" if isinstance(status, int) else ""
    return f"the storage answers {type(error).__name__}{number}"


@contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        if shown(url) in str(error):
            raise
        raise InputError(f"{shown(url)}: {error}", error.code) from None
    except FacedisError:
        raise
    except FileNotFoundError as error:
        raise InputError(
            f"{shown(url)} does not exist; expected a file", ErrorCode.FILE_MISSING
        ) from error
    except IsADirectoryError as error:
        raise InputError(
            f"{shown(url)} is a folder; expected a file", ErrorCode.NOT_A_FILE
        ) from error
    except Exception as error:
        raise InputError(
            f"{shown(url)} could not be reached: {_answer(error)}", ErrorCode.FILE_UNREADABLE
        ) from error


@contextmanager
def _writing(url: str) -> Iterator[None]:
    try:
        yield
    except FacedisError:
        raise
    except Exception as error:
        raise OutputError(
            f"{shown(url)} could not be written: {_answer(error)}", ErrorCode.OUTPUT_UNWRITABLE
        ) from error
