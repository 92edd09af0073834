"""Storages by URL (s3://, gs://, sftp://, https://, ...): asked and listed, through fsspec.

fsspec is imported when a URL is given. Credentials come from where its backends look for them:
their configuration files and the environment.

Every call of a backend has a time limit and is repeated a few times where a connection breaks.
Files are read in `remote_input` and written in `remote_output`.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from facedis_core.errors import (
    ErrorCode,
    FacedisError,
    InputError,
    UsageError,
    missing_extra,
)
from facedis_core.io.text import first_line, missing, shown
from facedis_core.io.urls import OBJECT_STORES, WEB, check_secrets, scheme_of

Answer = TypeVar("Answer")

TIMEOUT_VARIABLE: Final = "FACEDIS_REMOTE_TIMEOUT"
_TIMEOUT_SECONDS: Final = 60.0  # without an answer
_PAUSES: tuple[float, ...] = (0.2, 1.0, 3.0)  # seconds before a storage is asked again
AT_ONCE: Final = 1 << 20  # bytes; slower than this in a minute counts as no answer
_MOST_FILES: Final = 1_000_000

# What backends log would be on standard error, with tracebacks.
_LOGGERS: Final = (
    *("fsspec", "asyncio", "aiohttp", "urllib3"),
    *("s3fs", "botocore", "aiobotocore", "gcsfs", "google", "adlfs", "azure", "paramiko"),
)

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
_BROKEN: Final = re.compile("saw EOF")  # paramiko, of a connection that breaks while it logs in


def connections_to(url: str) -> int:
    """How many files of a storage to read or write at once."""
    return 16 if scheme_of(url) in (*OBJECT_STORES, *WEB) else 4  # others have a session each


def remote_exists(url: str) -> bool:
    """Whether there is a file.

    Raises:
        InputError: the storage cannot be asked.
    """
    with reading(url):
        return ask_storage(url, is_there)


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
            names = list(_walked(system, base)) if is_there(system, base) else []
        return [name.removeprefix(base) for name in names if name.startswith(base)]

    with reading(url):
        found = ask_storage(url, find)
    if len(found) > _MOST_FILES:
        raise InputError(
            f"{shown(url)} holds more than {_MOST_FILES} files; give a folder of fewer, or lists "
            "(--files-from)",
            ErrorCode.TOO_LARGE,
        )
    return sorted(filter(None, found))


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
        is_there(system, re.split("[*?[]", path, maxsplit=1)[0].rpartition("/")[0])
        return found

    with reading(url):
        return ask_storage(url, match)


def ask_storage(url: str, ask: Callable[[Any, str], Answer]) -> Answer:
    """What the file system of a URL answers about the path there.

    Raises whatever the backend does in the last try, TimeoutError, and errors of `storage_of`.
    """
    check_secrets(url)
    return try_again(url, lambda: in_time(lambda: ask(*storage_of(url))))


def is_there(system: Any, path: str) -> bool:
    """Whether there is a file or a folder; errors of the backend."""
    try:  # fsspec's own exists() takes every failure for an absent file
        system.info(path)
    except FileNotFoundError:
        return False
    return True


def try_again(
    url: str, work: Callable[[], Answer], pauses: Sequence[float] | None = None
) -> Answer:
    """Do it again, after some seconds, where the connection to a storage breaks.

    Raises the error of the last try, or one that another try would not mend.
    """
    if pauses is None:  # backends of object stores try again by themselves
        pauses = _PAUSES[:1] if scheme_of(url) in OBJECT_STORES else _PAUSES
    for pause in pauses:
        try:
            return _unwrapped(url, work)
        except _FINAL:
            raise
        except Exception as error:
            if _REFUSED.search(type(error).__name__) and not _BROKEN.search(str(error)):
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
        if scheme_of(url) in WEB and cause and getattr(cause, "status", 0) not in (404, 410):
            raise cause from None
        raise


def in_time(call: Callable[[], Answer]) -> Answer:
    """The result of a call of a backend; TimeoutError where it takes a minute or as configured."""
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


def storage_of(url: str) -> tuple[Any, str]:
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


def answer_of(error: Exception) -> str:
    """For a message; not the words of the error, which may quote headers and keys."""
    if isinstance(error, TimeoutError):
        return f"the storage has not answered for {_timeout():g} s"
    if isinstance(error, EOFError):
        return "the storage ends it too early"
    status = getattr(error, "status", None)  # of the web
    number = f" {status}" if isinstance(status, int) else ""
    return f"the storage answers {type(error).__name__}{number}"


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Errors of a storage as InputError that names the URL."""
    try:
        yield
    except InputError as error:
        if shown(url) in str(error):
            raise
        raise InputError(f"{shown(url)}: {error}", error.code) from None
    except FacedisError:
        raise
    except FileNotFoundError as error:
        kind = "folder" if url.endswith("/") else "file"
        raise missing(url, kind) from error
    except IsADirectoryError as error:
        raise InputError(
            f"{shown(url)} is a folder; expected a file (a folder of meshes ends in /)",
            ErrorCode.NOT_A_FILE,
        ) from error
    except Exception as error:
        raise InputError(
            f"{shown(url)} could not be reached: {answer_of(error)}", ErrorCode.FILE_UNREADABLE
        ) from error
