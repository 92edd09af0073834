"""Local copies of remote files that have to be mapped into memory, kept by what they hold."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from facedis_core.errors import output_error
from facedis_core.io.atomic import replacing
from facedis_core.io.text import shown

CACHE_VARIABLE: Final = "FACEDIS_CACHE"


class CachedFile(NamedTuple):
    """A file of the cache.

    Attributes:
        path: where it is.
        is_new: whether it was written just now.
    """

    path: Path
    is_new: bool


def cache_folder() -> Path:
    """$FACEDIS_CACHE, else facedis in $XDG_CACHE_HOME or ~/.cache; it can be removed any time."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    above = os.environ.get("XDG_CACHE_HOME")
    return (Path(above) if above else Path("~/.cache").expanduser()) / "facedis"


def cached_file(
    name: str, size: int, content: Iterable[bytes], *, again: bool = False
) -> CachedFile:
    """The file of that name in the cache; written if it is not there as it was written.

    Of several processes one writes it, and the others wait.

    Args:
        name: says what it holds.
        size: its bytes.
        content: read only if it is written.
        again: write it even if it is there.

    Raises:
        OutputError: the cache cannot be written.
        Errors of `content`.
    """
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder / f"{name}.lock") as note:
            path = folder / name
            if not again and _state(path) == note.read_text() != "":
                return CachedFile(path, is_new=False)
            note.write_text("")
            with replacing(path, force=True) as stream:
                for piece in content:
                    stream.write(piece)
            if path.stat().st_size == size:
                note.write_text(_state(path))
            return CachedFile(path, is_new=True)
    except OSError as error:
        raise output_error(
            f"the cache {shown(folder)} could not be written: {error.strerror}; choose another "
            f"folder with {CACHE_VARIABLE}",
            error,
        ) from error


def _state(path: Path) -> str:
    """What changes when something else writes to the file; "" without one."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


@contextmanager
def _locked(note: Path) -> Iterator[Path]:
    """The file beside a file of the cache, whose text is the state of that one, for one process."""
    with note.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield note
