"""Faces on their way into a set: kept beside it, so that a run that ended early can go on.

`SET.part/` holds the faces as they were read, a line for every block of them that is safe, and the
plan of the run; only a run with the same plan goes on with them. The folder goes when the set is
there.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import Stopped, UsageError
from facedis_core.sources import Block
from facedis_core.streams import replaced_file, reserve_space

_PLAN, _FACES, _DONE = "plan.json", "faces.bin", "done.jsonl"
# A set of fewer faces is as soon made anew; an error in it leaves nothing behind.
WORTH_KEEPING: Final = 256
# What a killed run loses at most.
_SAVE_SECONDS: Final = 1.0


class Sizes(NamedTuple):
    """N faces of V vertices and S neutrals, M numbers measured of each face."""

    faces: int
    vertices: int
    subjects: int
    measures: int


@dataclass
class Scratch:
    """Faces (N, V, 3) mm, measurements (N, M) and neutrals (S, V, 3) in a file.

    Attributes:
        failures: row -> why it could not be read.
        done: numbers of the blocks that an earlier run has left.
        neutrals: subjects whose true neutral is there.
    """

    sizes: Sizes
    folder: Path
    failures: dict[int, str] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    neutrals: set[int] = field(default_factory=set)
    rows_done: int = 0
    _unsaved: list[str] = field(default_factory=list)
    _saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._measured = np.full((self.sizes.faces, self.sizes.measures), np.nan)
        self._file = os.open(self.folder / _FACES, os.O_RDWR | os.O_CREAT, 0o666)
        self._journal = os.open(self.folder / _DONE, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        reserve_space(self._file, (self.sizes.faces + self.sizes.subjects) * self._face_bytes)

    @property
    def worth_keeping(self) -> bool:
        """Whether it is left behind where an error ends the run."""
        return self.rows_done >= WORTH_KEEPING

    @property
    def _face_bytes(self) -> int:
        return self.sizes.vertices * 12

    def put(self, number: int, rows: Sequence[int], block: Block, subject: int, stamp: str) -> None:
        """Keep a block: `subject` is whose neutral it brings, `stamp` the state of its files."""
        self.failures |= block.failures
        for row, face in zip(rows, block.faces, strict=True):
            self._write(row, face)
        if block.measured is not None:
            self._measured[list(rows)] = block.measured
        if block.neutral is not None:
            self._write(self.sizes.faces + subject, block.neutral)
            self.neutrals.add(subject)
        self.rows_done += len(rows)
        if not block.failures:  # others are tried again by the next run
            record = {
                "block": number,
                "rows": list(rows),
                "stamp": stamp,
                "measured": self._measured[list(rows)].tolist(),
                "neutral": None if block.neutral is None else subject,
            }
            self._unsaved.append(json.dumps(record))
        if time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Make what is there last; a line is written only when its faces are on the disk."""
        os.fsync(self._file)
        _write_all(self._journal, "".join(f"{line}\n" for line in self._unsaved).encode())
        self._unsaved.clear()
        self._saved_at = time.monotonic()

    def recall(self, stamps: Sequence[str]) -> None:
        """Take up the blocks of an earlier run whose files are as they were: `stamps` by number."""
        content = os.pread(self._journal, os.fstat(self._journal).st_size, 0)
        whole = content[: content.rfind(b"\n") + 1]
        os.ftruncate(self._journal, len(whole))  # what is added must begin a line
        latest = {record["block"]: record for record in _records(whole)}
        for number, record in latest.items():
            if stamps[number] == record["stamp"]:
                self.done.add(number)
                self._measured[record["rows"]] = record["measured"]
                if record["neutral"] is not None:
                    self.neutrals.add(record["neutral"])
                self.rows_done += len(record["rows"])

    def faces(self, rows: NDArray[np.integer[Any]] | Sequence[int]) -> NDArray[np.float32]:
        """Faces (n, V, 3) of some rows."""
        return np.stack([self._read(int(row)) for row in rows])

    def neutral(self, subject: int) -> NDArray[np.float32]:
        """The true neutral (V, 3) of a subject in `neutrals`."""
        return self._read(self.sizes.faces + subject)

    def measured(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Measurements (n, M) of some rows."""
        return self._measured[rows]

    def close(self) -> None:
        """Save and let go of the files."""
        self.save()
        os.close(self._file)
        os.close(self._journal)

    def _write(self, place: int, face: NDArray[np.float32]) -> None:
        data = np.ascontiguousarray(face, "<f4").tobytes()
        _write_all(self._file, data, place * self._face_bytes)

    def _read(self, place: int) -> NDArray[np.float32]:
        data = os.pread(self._file, self._face_bytes, place * self._face_bytes)
        return np.frombuffer(data, "<f4").reshape(-1, 3)


@contextmanager
def open_scratch(
    output: str,
    plan: Mapping[str, Any],
    sizes: Sizes,
    stamps: Callable[[], Sequence[str]],
    *,
    resume: bool,
    warn: Callable[[str], None],
) -> Iterator[Scratch]:
    """The scratch of the set `output`, with what an earlier run of the same plan has left in it.

    `stamps` says of every block in what state its files are. The scratch is removed when the block
    ends well. When it ends otherwise it stays for the next run, unless there is little in it; of a
    set that goes to a pipe nothing stays.
    Raises UsageError where another run is at it, or where something else lies there.
    """
    target = replaced_file(output)
    if target is None:
        with tempfile.TemporaryDirectory() as passing:
            scratch = Scratch(sizes, Path(passing))
            yield scratch
            scratch.close()
        return
    folder = target.with_name(f"{target.name}.part")
    folder.mkdir(exist_ok=True)
    with _locked(folder):
        text = json.dumps([plan, sizes], sort_keys=True)
        before = _read_text(folder / _PLAN) if resume else None
        if before != text:
            if before is not None:
                warn(f"{folder} was begun with other options or data; starting anew")
            _clear(folder)
            (folder / _PLAN).write_text(text, "utf-8")
        scratch = Scratch(sizes, folder)
        if before == text:
            scratch.recall(stamps())
        try:
            yield scratch
        except BaseException as error:
            scratch.close()
            # An exception that is no Exception is somebody who stopped us: nothing is lost.
            stopped = isinstance(error, Stopped) or not isinstance(error, Exception)
            if not (scratch.worth_keeping or (stopped and scratch.rows_done)):
                shutil.rmtree(folder)
            raise
        scratch.close()
        shutil.rmtree(folder)


def stamp(paths: Sequence[Path]) -> str:
    """The state of files, by their sizes and the times of their last change."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = path.stat()
            digest.update(f"{found.st_size} {found.st_mtime_ns};".encode())
        except OSError:
            digest.update(b"gone;")
    return digest.hexdigest()[:16]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One run at a time; the lock ends with its process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(
            f"another run is making this set and holds {folder}; wait for it, or choose another "
            "name for the output"
        ) from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    """Empty a folder of ours; raises UsageError for any other."""
    found = [path.name for path in folder.iterdir()]
    strange = sorted(set(found) - {_PLAN, _FACES, _DONE})
    if strange:
        raise UsageError(
            f"{folder} is needed to make the set and holds {strange[0]}; move the folder away"
        )
    for name in found:
        (folder / name).unlink()


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _records(journal: bytes) -> Iterator[dict[str, Any]]:
    """Lines up to the first that a failing disk has garbled."""
    for line in journal.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _write_all(descriptor: int, data: bytes, offset: int | None = None) -> None:
    view = memoryview(data)
    while view:
        if offset is None:
            written = os.write(descriptor, view)
        else:
            written = os.pwrite(descriptor, view, offset)
            offset += written
        view = view[written:]
