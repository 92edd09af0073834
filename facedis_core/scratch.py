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
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.atomic import reserve_space
from facedis_core.errors import OutputError, Stopped, UsageError
from facedis_core.journal import Journal, write_all
from facedis_core.paths import exists, is_folder
from facedis_core.sources import Block
from facedis_core.streams import replaced_file

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

    @property
    def face_bytes(self) -> int:
        """Of one face."""
        return self.vertices * 12

    @property
    def bytes(self) -> int:
        """Of all faces and neutrals."""
        return (self.faces + self.subjects) * self.face_bytes


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
    _unsaved: list[dict[str, Any]] = field(default_factory=list)
    _saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._measured = np.full((self.sizes.faces, self.sizes.measures), np.nan)
        self._file = os.open(self.folder / _FACES, os.O_RDWR | os.O_CREAT, 0o666)
        self._journal = Journal(self.folder / _DONE)
        reserve_space(self._file, self.sizes.bytes)

    @property
    def worth_keeping(self) -> bool:
        """Whether it is left behind where an error ends the run."""
        return self.rows_done >= WORTH_KEEPING

    def put(self, number: int, rows: Sequence[int], block: Block, subject: int, stamp: str) -> None:
        """Keep a block: `subject` is whose neutral it brings, `stamp` the state of its files."""
        self.failures |= block.failures
        places = list(rows)
        faces = list(block.faces)
        if block.neutral is not None:
            places.append(self.sizes.faces + subject)
            faces.append(block.neutral)
            self.neutrals.add(subject)
        checksum = 0
        for place, face in zip(places, faces, strict=True):
            data = np.ascontiguousarray(face, "<f4").tobytes()
            checksum = zlib.crc32(data, checksum)
            write_all(self._file, data, place * self.sizes.face_bytes)
        if block.measured is not None:
            self._measured[list(rows)] = block.measured
        self.rows_done += len(rows)
        if not block.failures:  # others are tried again by the next run
            self._unsaved.append(
                {
                    "block": number,
                    "rows": list(rows),
                    "stamp": stamp,
                    "measured": self._measured[list(rows)].tolist(),
                    "neutral": None if block.neutral is None else subject,
                    "faces": checksum,
                }
            )
        if time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Make what is there last; a line is written only when its faces are on the disk."""
        os.fsync(self._file)
        self._journal.add(self._unsaved)
        self._unsaved.clear()
        self._saved_at = time.monotonic()

    def recall(self, blocks: Sequence[Sequence[int]], stamps: Sequence[str]) -> None:
        """Take up what an earlier run has left of these blocks, if their files are as they were."""
        latest = {record["block"]: record for record in self._journal.read()}
        for number, record in latest.items():
            rows = record["rows"]
            subjects = [] if record["neutral"] is None else [record["neutral"]]
            places = [*rows, *(self.sizes.faces + subject for subject in subjects)]
            if (
                list(blocks[number]) == rows
                and stamps[number] == record["stamp"]
                and self._checksum(places) == record["faces"]
            ):
                self.done.add(number)
                self._measured[rows] = record["measured"]
                self.neutrals.update(subjects)
                self.rows_done += len(rows)

    def _checksum(self, places: Sequence[int]) -> int:
        """CRC-32 of faces as they are in the file."""
        check = 0
        for place in places:
            check = zlib.crc32(self._bytes(place), check)
        return check

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
        self._journal.close()

    def _read(self, place: int) -> NDArray[np.float32]:
        return np.frombuffer(self._bytes(place), "<f4").reshape(-1, 3)

    def _bytes(self, place: int) -> bytes:
        return os.pread(self._file, self.sizes.face_bytes, place * self.sizes.face_bytes)


def scratch_folder(target: Path) -> Path:
    """Where the faces of a set are kept until it is there."""
    return target.with_name(f"{target.name}.part")


@contextmanager
def open_scratch(
    output: str,
    plan: Mapping[str, Any],
    sizes: Sizes,
    *,
    resume: bool,
    warn: Callable[[str], None],
) -> Iterator[tuple[Scratch, bool]]:
    """The scratch of the set `output`, and whether it is one that a run of this plan has left.

    It is removed when the block ends well. When it ends otherwise it stays for the next run, unless
    there is little in it; of a set that goes to a pipe nothing stays.
    Raises UsageError where another run is at it, or where something else lies there, OutputError
    where the disk has no room for the set.
    """
    target = replaced_file(output)
    if target is None:
        with tempfile.TemporaryDirectory() as passing:
            scratch = Scratch(sizes, Path(passing))
            yield scratch, False
            scratch.close()
        return
    folder = scratch_folder(target)
    if exists(folder) and not is_folder(folder):
        raise UsageError(f"{folder} is needed to make the set and is a file; move it away")
    folder.mkdir(exist_ok=True)
    with _locked(folder):
        _check_ours(folder)
        text = json.dumps([plan, sizes], sort_keys=True)
        before = _read_text(folder / _PLAN) if resume else None
        goes_on = before == text
        try:
            if not goes_on:
                if before is not None:
                    warn(f"{folder} was begun with other options or data; starting anew")
                for path in folder.iterdir():
                    path.unlink()
                (folder / _PLAN).write_text(text, "utf-8")
            scratch = Scratch(sizes, folder)
            _check_room(target, sizes)
        except (OSError, OutputError) as error:
            if not goes_on:
                shutil.rmtree(folder)
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{folder} could not be written: {error.strerror}") from error
        try:
            yield scratch, goes_on
        except BaseException as error:
            scratch.close()
            # An exception that is no Exception is somebody who stopped us: nothing is lost.
            stopped = isinstance(error, Stopped) or not isinstance(error, Exception)
            if not (scratch.worth_keeping or (stopped and scratch.rows_done)):
                shutil.rmtree(folder)
            raise
        scratch.close()
        shutil.rmtree(folder)


def _check_room(target: Path, sizes: Sizes) -> None:
    """The scratch has its room already; the set, which takes as much, is written at the end."""
    free = shutil.disk_usage(target.parent).free
    if free < sizes.bytes:
        raise OutputError(
            f"{target} needs {sizes.bytes / 1e9:.3g} GB, its disk has {free / 1e9:.3g} GB left; "
            "make room, or write to another disk"
        )


def file_state(path: Path) -> str:
    """Size and time of the last change of a file."""
    try:
        found = path.stat()
    except OSError:
        return "gone"
    return f"{found.st_size} {found.st_mtime_ns}"


def stamp(paths: Sequence[Path], state: Callable[[Path], str] = file_state) -> str:
    """The state of some files as one short text."""
    text = "".join(f"{state(path)};" for path in paths)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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


def _check_ours(folder: Path) -> None:
    """Refuse a folder with anything else in it; what a killed run was writing goes."""
    for temporary in folder.glob(".facedis-*.tmp"):
        temporary.unlink()
    strange = sorted({path.name for path in folder.iterdir()} - {_PLAN, _FACES, _DONE})
    if strange:
        raise UsageError(
            f"{folder} is needed to make the set and holds {strange[0]}; move the folder away"
        )


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
