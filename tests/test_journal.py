"""Lines that are harmed in any way: none of them is believed, and all others are found again."""

import json
import resource
import zlib
from pathlib import Path

import numpy as np
import pytest

from facedis_core.journal import Journal, write_all

RECORDS = [{"block": k, "stamp": f"é {k}", "measured": [k / 3, None]} for k in range(4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of RECORDS."""
    add(tmp_path / "done.jsonl", RECORDS)
    return tmp_path / "done.jsonl"


def add(path: Path, records: list[dict]) -> None:
    journal = Journal(path)
    journal.add(records)
    journal.close()


def read(path: Path) -> list[dict]:
    journal = Journal(path)
    try:
        return journal.read()
    finally:
        journal.close()


def test_what_is_added_is_read(path):
    assert read(path) == read(path) == RECORDS
    lines = path.read_text().splitlines()
    for line, record in zip(lines, RECORDS, strict=True):
        check, _, text = line.partition(" ")
        assert int(check, 16) == zlib.crc32(text.encode()) and json.loads(text) == record


def test_a_new_one_is_empty_and_can_be_read_while_it_is_added_to(tmp_path):
    journal = Journal(tmp_path / "new")
    assert journal.read() == []
    for k, record in enumerate(RECORDS):
        journal.add([record])
        assert journal.read() == RECORDS[: k + 1]
    journal.add([])
    assert journal.read() == RECORDS
    journal.close()


def test_cut_anywhere(path):
    whole = path.read_bytes()
    ends = np.cumsum([len(line) for line in whole.splitlines(keepends=True)])
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        sound = RECORDS[: np.count_nonzero(ends <= length)]
        assert read(path) == sound
        add(path, RECORDS[-1:])  # what comes next is no part of the line that was cut
        assert read(path) == [r for r in sound if r != RECORDS[-1]] + RECORDS[-1:]


def test_any_byte_changed(path):
    whole = path.read_bytes()
    ends = np.cumsum([len(line) for line in whole.splitlines(keepends=True)])
    random = np.random.default_rng(0)
    for place in range(len(whole)):
        garbled = bytearray(whole)
        garbled[place] ^= int(random.integers(1, 256))
        path.write_bytes(garbled)
        hit = int(np.searchsorted(ends, place, "right"))
        # where the end of a line is hit it takes the next one with it
        lost = {hit, hit + 1} if place in ends - 1 else {hit}
        assert read(path) == [r for k, r in enumerate(RECORDS) if k not in lost]


@pytest.mark.parametrize("where", [0, 2, 4])
@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 5000 + b"\n",  # what a file system leaves after a power cut
        b"\xff\xfe no text\r\n\n\r \n",
        b"null\n[]\n{}\n",
        b'{"block": 9}\n',
        b"00000000 {}\n",
        b"00000000 \n \n",  # zero is the checksum of nothing
    ],
)
def test_garbage_between_lines(path, garbage, where):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:where], garbage, *lines[where:]]))
    assert read(path) == RECORDS
    assert path.read_bytes() == b"".join(lines)  # and it is gone from the file


def test_what_is_added_after_garbage_is_found_again(path):
    with path.open("ab") as stream:
        stream.write(b"\0\0\0 half a line")
    journal = Journal(path)
    assert journal.read() == RECORDS
    journal.add([{"block": 4}])
    journal.close()
    assert read(path) == [*RECORDS, {"block": 4}]


def test_a_full_disk_is_an_error_and_no_shorter_line(path):
    """As on a disk that is full: files may not grow beyond a limit, and take a part before it."""
    size = path.stat().st_size
    journal = Journal(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.add([{"block": 4}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.stat().st_size == size + 10
    assert journal.read() == RECORDS
    journal.add([{"block": 4}])
    assert journal.read() == [*RECORDS, {"block": 4}]
    journal.close()


def test_written_at_a_place(tmp_path):
    with (tmp_path / "file").open("w+b") as stream:
        write_all(stream.fileno(), b"abc", 5)
        write_all(stream.fileno(), b"12", 1)
        stream.seek(0)
        assert stream.read() == b"\x0012\0\0abc"
