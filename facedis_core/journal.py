"""A file of lines that is only added to, and of which only whole and unchanged lines are believed.

Each line is a record as JSON after its CRC-32, so that what a crash has cut, or a failing disk
changed, is no record.
"""

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Journal:
    """The records in a file, open for adding to them."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)

    def read(self) -> list[dict[str, Any]]:
        """All records; lines that are none are taken out of the file."""
        content = os.pread(self._file, os.fstat(self._file).st_size, 0)
        found = {line: _record(line) for line in content.splitlines(keepends=True)}
        sound = {line: record for line, record in found.items() if record is not None}
        if len(sound) < len(found):
            os.ftruncate(self._file, 0)
            write_all(self._file, b"".join(sound))
        return list(sound.values())

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        """Write some more records."""
        write_all(self._file, b"".join(map(_line, records)))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def write_all(descriptor: int, data: bytes, offset: int | None = None) -> None:
    """Write every byte, at the offset or, with None, where the file is."""
    view = memoryview(data)
    while view:
        if offset is None:
            written = os.write(descriptor, view)
        else:
            written = os.pwrite(descriptor, view, offset)
            offset += written
        view = view[written:]


def _line(record: dict[str, Any]) -> bytes:
    text = json.dumps(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _record(line: bytes) -> dict[str, Any] | None:
    check, _, text = line.removesuffix(b"\n").partition(b" ")
    if not text or not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(text):
        return None
    return json.loads(text)
