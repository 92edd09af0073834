"""What is kept of a run against a twin in memory; journals cut and garbled; whose folder it is."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facedis_core.errors import InputError, Stopped, UsageError
from facedis_core.journal import Journal
from facedis_core.scratch import WORTH_KEEPING, Scratch, Sizes, open_scratch, stamp
from facedis_core.sources import Block

ROWS, BLOCK = 40, 5
SIZES = Sizes(faces=ROWS, vertices=7, subjects=ROWS // BLOCK, measures=2)
BLOCKS = [range(k, k + BLOCK) for k in range(0, ROWS, BLOCK)]
STAMPS = [f"state of block {k}" for k in range(len(BLOCKS))]
PLAN: Mapping[str, Any] = {"options": "the usual"}


def block(number: int) -> Block:
    """What a reader would make of a block; every third one brings no neutral."""
    random = np.random.default_rng(number)
    faces = random.normal(0, 50, (BLOCK, SIZES.vertices, 3)).astype(np.float32)
    neutral = faces[0] + 1 if number % 3 else None
    return Block(faces, neutral, random.normal(size=(BLOCK, SIZES.measures)))


def with_failure(number: int) -> Block:
    """The same, but one of its faces could not be read."""
    whole = block(number)
    whole.faces[2] = np.nan
    return whole._replace(failures={BLOCKS[number][2]: "one.ply is broken"})


def fill(scratch: Scratch, numbers: Any, made: Callable[[int], Block] = block) -> None:
    for number in numbers:
        scratch.put(number, BLOCKS[number], made(number), number, STAMPS[number])


def check(scratch: Scratch, numbers: Any) -> None:
    """Every block of these numbers is in the scratch as it was made."""
    for number in numbers:
        rows, made = np.array(BLOCKS[number]), block(number)
        np.testing.assert_array_equal(scratch.faces(rows), made.faces)
        np.testing.assert_array_equal(scratch.measured(rows), made.measured)
        assert (number in scratch.neutrals) == (made.neutral is not None)
        if made.neutral is not None:
            np.testing.assert_array_equal(scratch.neutral(number), made.neutral)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "set.safetensors"


class Opening:
    """A run as fd-prep's: the scratch and what is left in it of an earlier one.

    Attributes:
        goes_on: whether the last one that was opened was left by a run of the same plan.
        warnings: all that were given.
    """

    def __init__(self, target: Path | str) -> None:
        self.target = str(target)
        self.goes_on = False
        self.warnings: list[str] = []

    @contextmanager
    def __call__(
        self,
        plan: Mapping[str, Any] = PLAN,
        stamps: Sequence[str] = STAMPS,
        *,
        sizes: Sizes = SIZES,
        resume: bool = True,
    ) -> Iterator[Scratch]:
        with open_scratch(self.target, plan, sizes, resume=resume, warn=self.warnings.append) as (
            scratch,
            self.goes_on,
        ):
            if self.goes_on:
                scratch.recall(BLOCKS, stamps)
            yield scratch


@pytest.fixture
def opening(target: Path) -> Opening:
    return Opening(target)


def part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def stopped(opening: Opening, numbers: Any, made: Callable[[int], Block] = block) -> None:
    """A run that is ended by a signal after these blocks."""
    with pytest.raises(KeyboardInterrupt), opening() as scratch:
        fill(scratch, numbers, made)
        raise KeyboardInterrupt


def test_what_is_put_comes_back_in_any_order(opening, target):
    order = np.random.default_rng(0).permutation(len(BLOCKS)).tolist()
    stopped(opening, order[:3])
    assert not opening.goes_on
    stopped(opening, order[3:5])
    with opening() as scratch:
        assert opening.goes_on
        assert scratch.done == set(order[:5]) and scratch.rows_done == 5 * BLOCK
        check(scratch, order[:5])
        fill(scratch, order[5:])
        check(scratch, order)
    assert opening.warnings == []
    assert not part_of(target).exists()


def test_a_block_whose_files_have_changed_is_not_taken_up(opening):
    stopped(opening, range(6))
    changed = [s if k not in (1, 4) else "changed" for k, s in enumerate(STAMPS)]
    with opening(stamps=changed) as scratch:
        assert scratch.done == {0, 2, 3, 5} and scratch.rows_done == 4 * BLOCK
        check(scratch, scratch.done)
        assert not scratch.neutrals & {1, 4}
        fill(scratch, (1, 4))
        check(scratch, range(6))


def test_a_block_that_was_read_twice_counts_once_and_as_last_read(opening):
    stopped(opening, range(3))
    changed = ["changed", *STAMPS[1:]]

    def other(number: int) -> Block:
        made = block(number)
        return made._replace(faces=made.faces + 1)

    with pytest.raises(KeyboardInterrupt), opening(stamps=changed) as scratch:
        scratch.put(0, BLOCKS[0], other(0), 0, changed[0])
        raise KeyboardInterrupt
    with opening(stamps=changed) as scratch:
        assert scratch.done == {0, 1, 2} and scratch.rows_done == 3 * BLOCK
        np.testing.assert_array_equal(scratch.faces(BLOCKS[0]), block(0).faces + 1)
        check(scratch, (1, 2))


def test_a_block_with_a_failure_is_read_again(opening):
    stopped(opening, range(4), lambda k: with_failure(k) if k == 2 else block(k))
    with opening() as scratch:
        assert scratch.done == {0, 1, 3} and scratch.failures == {}
        fill(scratch, [2], with_failure)
        assert scratch.failures == {12: "one.ply is broken"}


@pytest.mark.parametrize("faces", [1, WORTH_KEEPING - 1, WORTH_KEEPING])
@pytest.mark.parametrize(
    ("error", "kept_from"),
    [
        (InputError, WORTH_KEEPING),
        (OSError, WORTH_KEEPING),
        (MemoryError, WORTH_KEEPING),
        (Stopped, 1),  # the user is told that the same command goes on
        (KeyboardInterrupt, 1),
        (SystemExit, 1),
    ],
)
def test_how_much_is_worth_keeping_depends_on_why_it_ended(target, error, kept_from, faces):
    sizes = Sizes(WORTH_KEEPING, 2, 1, 0)
    with (
        pytest.raises(error),
        open_scratch(str(target), PLAN, sizes, resume=True, warn=print) as (scratch, _),
    ):
        scratch.put(0, range(faces), Block(np.zeros((faces, 2, 3), np.float32)), 0, "")
        raise error("ended here")
    assert part_of(target).exists() == (faces >= kept_from)


def test_nothing_read_leaves_nothing(opening, target):
    stopped(opening, [])
    assert not part_of(target).exists()


@pytest.mark.parametrize("resume", [True, False])
def test_another_plan_starts_anew(opening, resume):
    stopped(opening, range(3))
    with opening(PLAN if not resume else {"options": "others"}, resume=resume) as scratch:
        assert not opening.goes_on
        assert scratch.done == set() and scratch.rows_done == 0 and not scratch.neutrals
        scratch.recall(BLOCKS, STAMPS)
        assert scratch.done == set()  # nothing of it is left to be recalled either
    assert [("starting anew" in line) for line in opening.warnings] == [True] * resume


def test_other_sizes_start_anew(opening):
    stopped(opening, range(3))
    with opening(sizes=SIZES._replace(vertices=SIZES.vertices + 1)) as scratch:
        assert not opening.goes_on and scratch.done == set()
    assert len(opening.warnings) == 1


def after_five_blocks(opening: Opening, target: Path) -> tuple[Path, bytes]:
    """The journal of five blocks and its content."""
    stopped(opening, range(5))
    journal = part_of(target) / "done.jsonl"
    return journal, journal.read_bytes()


def test_a_journal_cut_anywhere(opening, target):
    journal, whole = after_five_blocks(opening, target)
    ends = [k + 1 for k, byte in enumerate(whole) if byte == ord("\n")]
    for length in {1, 40, *ends[2:4], ends[2] - 1, ends[2] + 1, ends[3] + 60}:
        journal.write_bytes(whole[:length])
        with pytest.raises(KeyboardInterrupt), opening() as scratch:
            # what has no end of line was not written to its end
            assert scratch.done == {k for k, end in enumerate(ends) if end <= length}
            check(scratch, scratch.done)
            fill(scratch, set(range(5)) - scratch.done)
            raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt), opening() as scratch:
            assert scratch.done == set(range(5))
            check(scratch, range(5))
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 200 + b"\n",  # what a file system leaves after a power cut
        b"\xff\xfe\xfa not text\n",
        b"{}\n",
        b"[]\n",
        b"7\n",
        b"null\n",
        b'{"block": 99999, "rows": [0], "stamp": "", "measured": [[0, 0]], "neutral": null}\n',
        b"[" * 5000 + b"\n",
        b"\n",
    ],
)
def test_a_garbled_line_in_a_journal(opening, target, garbage):
    journal, whole = after_five_blocks(opening, target)
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], garbage, *lines[2:]]))
    with pytest.raises(KeyboardInterrupt), opening() as scratch:
        assert scratch.done == set(range(5))  # lines after it are as good as before
        check(scratch, scratch.done)
        fill(scratch, [5])
        raise KeyboardInterrupt
    # What has been read since is not lost behind the garbled line.
    with opening() as scratch:
        assert scratch.done == set(range(6))
        check(scratch, range(6))


def test_rows_that_are_not_the_blocks_own(opening, target):
    """As of a run that divided the same faces otherwise; every line of it is sound."""
    stopped(opening, range(5))
    journal = Journal(part_of(target) / "done.jsonl")
    first, second, third, *_ = journal.read()
    second["rows"] = [0, 1, 2, 3, 10**6]
    third["rows"] = third["rows"][:-1]
    journal.add([second, third])
    journal.close()
    with opening() as scratch:
        assert first["block"] == 0 and scratch.done == {0, 3, 4}
        check(scratch, scratch.done)


def test_a_changed_digit_anywhere_in_a_journal_is_never_believed(opening, target):
    journal, whole = after_five_blocks(opening, target)
    ends = np.cumsum([len(line) for line in whole.splitlines(keepends=True)])
    digits = [k for k, byte in enumerate(whole) if chr(byte).isdigit()]
    for place in np.random.default_rng(0).choice(digits, 30, replace=False):
        garbled = bytearray(whole)
        garbled[place] ^= 1  # another digit
        journal.write_bytes(garbled)
        scratch = Scratch(SIZES, part_of(target))
        scratch.recall(BLOCKS, STAMPS)
        assert scratch.done == set(range(5)) - {int(np.searchsorted(ends, place, "right"))}
        check(scratch, scratch.done)
        scratch.close()


# Bytes left of the file, and which of the blocks 0 to 4 are whole in them: 0, 3 bring no neutral.
@pytest.mark.parametrize(("left", "whole"), [(None, set()), (0, set()), (5 * 84, {0})])
def test_lost_faces_are_read_again(opening, target, left, whole):
    stopped(opening, range(5))
    faces = part_of(target) / "faces.bin"
    if left is None:
        faces.unlink()
    else:
        os.truncate(faces, left)
    with opening() as scratch:
        assert opening.goes_on and scratch.done == whole
        assert scratch.rows_done == BLOCK * len(whole) and not scratch.neutrals
        check(scratch, scratch.done)
        fill(scratch, set(range(5)) - scratch.done)
        check(scratch, range(5))


@pytest.mark.parametrize(("place", "block_hit"), [(7 * 84 + 5, 1), ((ROWS + 4) * 84, 4)])
def test_a_changed_bit_in_a_face_or_neutral_is_not_believed(opening, target, place, block_hit):
    stopped(opening, range(5))
    faces = part_of(target) / "faces.bin"
    with faces.open("r+b") as stream:
        stream.seek(place)
        (byte,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte ^ 16]))
    with opening() as scratch:
        assert scratch.done == set(range(5)) - {block_hit}
        check(scratch, scratch.done)
        fill(scratch, [block_hit])
        check(scratch, range(5))


@pytest.mark.parametrize("plan", [b"", b"{", b"\xff\xff"])
def test_a_garbled_plan_starts_anew(opening, target, plan):
    stopped(opening, range(5))
    (part_of(target) / "plan.json").write_bytes(plan)
    with opening() as scratch:
        assert scratch.done == set()
        fill(scratch, range(len(BLOCKS)))
        check(scratch, range(len(BLOCKS)))
    assert not part_of(target).exists()


def test_a_lost_plan_starts_anew(opening, target):
    stopped(opening, range(5))
    (part_of(target) / "plan.json").unlink()
    with opening() as scratch:
        assert scratch.done == set()


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_that_is_not_ours(opening, target, resume):
    part = part_of(target)
    part.mkdir()
    (part / "thesis.tex").write_text("three years")
    (part / "plan.json").write_text("of another program")
    with (
        pytest.raises(UsageError, match=r"thesis\.tex; move the folder away"),
        opening(resume=resume),
    ):
        pass
    assert sorted(path.name for path in part.iterdir()) == ["plan.json", "thesis.tex"]
    assert (part / "plan.json").read_text() == "of another program"


def test_a_strange_file_in_a_folder_of_ours_is_not_thrown_away(opening, target):
    stopped(opening, range(5))
    mine = part_of(target) / "notes.txt"
    mine.write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt; move"), opening():
        pass
    assert mine.read_text() == "mine"
    mine.unlink()
    with opening() as scratch:  # nor is anything else
        assert scratch.done == set(range(5))


def test_a_set_that_a_killed_run_was_writing_goes(opening, target):
    stopped(opening, range(5))
    half = part_of(target) / ".facedis-0123456789abcdef.tmp"
    half.write_bytes(b"half a set")
    with opening() as scratch:
        assert not half.exists()
        assert scratch.done == set(range(5))


@pytest.mark.parametrize("resume", [True, False])
def test_a_file_in_place_of_the_folder(opening, target, resume):
    part_of(target).write_text("mine")
    with (
        pytest.raises(UsageError, match=r"set\.safetensors\.part .* is a file; move it away"),
        opening(resume=resume),
    ):
        pass
    assert part_of(target).read_text() == "mine"


def test_two_at_once(opening, target):
    with opening() as scratch:
        fill(scratch, range(3))
        with pytest.raises(UsageError, match="another run"), opening():
            pass
        with pytest.raises(UsageError, match="another run"), opening(resume=False):
            pass
        check(scratch, range(3))
        fill(scratch, range(3, 8))
        check(scratch, range(8))
    assert not part_of(target).exists()


def test_the_lock_ends_with_its_process(opening, target):
    code = (
        "import os, sys\n"
        "from facedis_core.scratch import Sizes, open_scratch\n"
        "with open_scratch(sys.argv[1], {}, Sizes(1, 1, 1, 0), resume=True, warn=print):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(target)], timeout=60)
    assert part_of(target).exists()
    with opening() as scratch:
        assert scratch.done == set()
    assert not part_of(target).exists()


def test_no_room_for_the_faces_leaves_nothing(target):
    """As on a full disk: files may not grow beyond a limit."""
    code = (
        "import resource, signal, sys\n"
        "from facedis_core.errors import OutputError\n"
        "from facedis_core.scratch import Sizes, open_scratch\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "sizes = Sizes(1000, 1000, 1, 0)\n"
        "try:\n"
        "    with open_scratch(sys.argv[1], {}, sizes, resume=True, warn=print):\n"
        "        print('there was room')\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], capture_output=True, timeout=60
    )
    message = f"{part_of(target)} could not be written: File too large\n"
    assert done.stdout.decode() == message, done.stderr
    assert list(target.parent.iterdir()) == []


def test_of_a_pipe_nothing_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    opening = Opening("-")
    with opening() as scratch:
        assert list(tmp_path.iterdir()) != []
        fill(scratch, range(8))
        check(scratch, range(8))
    stopped(opening, range(3))
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_set_has_its_scratch_beside_the_set(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "set.safetensors").symlink_to(tmp_path / "disk" / "real.safetensors")
    stopped(Opening(tmp_path / "set.safetensors"), range(3))
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real.safetensors.part"]


def test_stamps_tell_states_of_files_apart(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"12345")
    other.write_bytes(b"123")
    os.utime(one, ns=(10**18, 10**18))
    first = stamp([one, other])
    assert stamp([one, other]) == first
    seen = {first, stamp([other, one]), stamp([one])}
    os.utime(one, ns=(10**18, 10**18 + 1000))
    seen.add(stamp([one, other]))
    os.utime(one, ns=(10**18, 10**18))
    assert stamp([one, other]) == first
    one.write_bytes(b"1234567")
    os.utime(one, ns=(10**18, 10**18))
    seen.add(stamp([one, other]))
    one.unlink()
    seen.add(stamp([one, other]))
    assert len(seen) == 6
