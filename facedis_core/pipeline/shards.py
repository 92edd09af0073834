"""Shards: a batch in parts that need not know of each other, and the files they leave to merge.

A part is a contiguous piece of the batch in one order that does not depend on how files are
listed, so that the parts one after another are the whole. Each part writes an array (`.npy`) whose
header says which part of which work it is: a merge then misses none, takes none twice and none of
other work.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from facedis_core import __version__
from facedis_core.data.latents import Latents, LatentSource, open_latents, save_latents
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.npy import ArrayHeader, encoded_header, label_of, labelled, peek_header
from facedis_core.io.paths import files_below, is_folder
from facedis_core.io.streams import naming, open_input
from facedis_core.io.text import first_of, shown
from facedis_core.pipeline.file_lists import expand_pattern
from facedis_core.pipeline.inputs import FaceInputs, find_inputs

_GIVEN: Final = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
_LABEL: Final = re.compile(r"shard ([0-9]{1,9})/([0-9]{1,9}) of ([0-9a-f]{12})")
_MOST_NAMED: Final = 5


@dataclass(frozen=True, order=True)
class Shard:
    """One of several parts of a batch.

    Attributes:
        number: which one, from 1.
        count: how many there are.

    Example:
        >>> [list(range(7))[Shard(number, 3).part(7)] for number in (1, 2, 3)]
        [[0, 1], [2, 3], [4, 5, 6]]
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard of an option `--shard I/N`.

        Raises:
            UsageError: another text.
        """
        match = _GIVEN.fullmatch(text)
        number, count = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= count:
            raise UsageError(
                f"--shard {shown(text)}: expected I/N with I from 1 to N, such as 3/16",
                ErrorCode.OPTION_VALUE,
            )
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def part(self, items: int) -> slice:
        """Its places among so many items; the parts follow each other and differ by one at most."""
        return slice((self.number - 1) * items // self.count, self.number * items // self.count)

    def label(self, work: str) -> str:
        """What the header of its file says: which part of which work, an id of `work_id`."""
        return f"shard {self} of {work}"


def work_id(*facts: Any) -> str:
    """An id of everything that decides the result of a batch, and of the names of its items.

    It is another one in another version, which may compute other last digits.

    Args:
        facts: values for JSON.
    """
    text = json.dumps([__version__, *facts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def read_label(source: str) -> tuple[Shard, str] | None:
    """The shard that a file is, and the id of its work; None of any other file.

    Raises:
        InputError: errors of `open_input`, or a damaged array.
    """
    with open_input(source) as stream, naming(source):
        header, _ = peek_header(stream)
    return None if header is None else parse_label(header)


def parse_label(header: ArrayHeader) -> tuple[Shard, str] | None:
    """The shard and the id of its work in the header of the first array of a file; None = none."""
    match = _LABEL.fullmatch(label_of(header))
    return (Shard(int(match[1]), int(match[2])), match[3]) if match else None


def write_label(stream: BinaryIO, label: str) -> None:
    """Begin the file of a shard whose arrays follow: with one without rows that bears the label."""
    stream.write(encoded_header(labelled(np.dtype([("part", "|u1")]), label), (0,)))


def more_than_a_part() -> InputError:
    """The error of a file that goes on after its part, such as one that holds it twice."""
    return InputError("holds more than its part; run it again", ErrorCode.DAMAGED)


def find_shards(given: Sequence[str], command: str, work: str | None = None) -> list[str]:
    """The files of all shards of one work, in order.

    Args:
        given: files, folders of them, or patterns.
        command: what made them, such as `fd-encode --shard`, for messages.
        work: id of the work that is merged; None = that of most of the files.

    Raises:
        InputError: a file that is no shard or of other work, two files of one shard, or a shard
            without a file.
    """
    labels: dict[str, tuple[Shard, str]] = {}
    for file in _files(given):
        label = read_label(file)
        if label is None:
            raise InputError(
                f"{shown(file)} is no shard; expected a file of {command} I/N",
                ErrorCode.WRONG_KIND,
            )
        labels[file] = label
    if not labels:
        raise InputError(
            f"--merge {', '.join(map(shown, given))} holds no .npy file; expected those of "
            f"{command} I/N",
            ErrorCode.EMPTY,
        )
    works = Counter((id_, shard.count) for shard, id_ in labels.values())
    known, count = works.most_common(1)[0][0]
    if work is not None:
        known = work
    found: dict[int, str] = {}
    for file, (shard, id_) in labels.items():
        if id_ != known or shard.count != count:
            other = "the others" if work is None else "this command"
            raise InputError(
                f"{shown(file)} is shard {shard} of other work (id {id_}) than {other} "
                f"(id {known}, {count} shards): of other inputs, options, model or version; "
                "leave it out",
                ErrorCode.SHARDS,
            )
        twin = found.setdefault(shard.number, file)
        if twin != file:
            raise InputError(
                f"{shown(twin)} and {shown(file)} are both shard {shard}; leave one out",
                ErrorCode.SHARDS,
            )
    missing = [number for number in range(1, count + 1) if number not in found]
    if missing:
        names = first_of([f"{number}/{count}" for number in missing], _MOST_NAMED)
        raise InputError(
            f"--merge lacks shard {names}, {len(found)} of {count} are there; run what is "
            "missing first",
            ErrorCode.SHARDS,
        )
    return [found[number] for number in range(1, count + 1)]


@dataclass(frozen=True)
class InputPart:
    """The items of a shard among all items of a batch.

    Attributes:
        inputs: its items; without a shard all.
        shard: which; None = the whole batch, in the order given.
        listing: names of all items of the batch, which the shard is a part of.
        names: of the meshes of the whole batch, as far as they are known before they are read.
    """

    inputs: FaceInputs
    shard: Shard | None = None
    listing: Sequence[str] = ()
    names: Sequence[str] = ()

    def label(self, *facts: Any) -> str:
        """The header of what it makes; "" without a shard.

        Args:
            facts: everything beside the items that decides the result.
        """
        return "" if self.shard is None else self.shard.label(work_id(self.listing, facts))


def find_part(
    shard: Shard | None,
    inputs: Sequence[str],
    split: str = "all",
    *,
    root: str | None = None,
    keep_going: bool = False,
    scans: bool = False,
) -> InputPart:
    """A part of the meshes that inputs name, in the order of their sorted names.

    Face sets and folders keep the order that they have within. Arguments and errors beside `shard`
    are those of `find_inputs`.

    Raises:
        UsageError: a pipe or an array, which says what it holds only as it is read.
    """
    if shard is not None:
        inputs = sorted(source for given in inputs for source in expand_pattern(given))
    found = find_inputs(inputs, split, root=root, keep_going=keep_going, scans=scans)
    if found.count is None:
        if shard is None:
            return InputPart(found)
        raise UsageError(
            "--shard takes meshes, folders and face sets, whose number is known beforehand; leave "
            "out standard input, pipes and arrays (.npy)",
            ErrorCode.OPTION_CONFLICT,
        )
    items = list(found.items)
    names = [item.name for item in items if item.name is not None]
    if shard is None:
        return InputPart(replace(found, items=items), names=names)
    chosen = items[shard.part(len(items))]
    mine = replace(found, items=chosen, count=len(chosen))
    return InputPart(mine, shard, [item.source for item in items], names)


@dataclass(frozen=True, eq=False)
class LatentPart:
    """Rows of a source of latents that belong to a shard, as of `LatentSource`."""

    label: str
    rows: Sequence[Latents]

    def blocks(
        self, sizes: tuple[int, int] | None = None, *, finite: bool = True
    ) -> Iterator[Latents]:
        """The rows, which have been read and divided already."""
        for rows in self.rows:
            if finite:
                with naming(self.label):
                    rows.check_finite()
            yield rows


class DividedLatents(NamedTuple):
    """A part of the rows of some sources.

    Attributes:
        parts: of each source.
        names: of all rows, also those of other parts.
    """

    parts: list[LatentPart]
    names: list[str]


def divide_latents(
    shard: Shard, sources: Sequence[LatentSource], sizes: tuple[int, int]
) -> DividedLatents:
    """A part of the rows of all sources, in their order; all are read.

    Args:
        shard: which part.
        sources: the latents.
        sizes: as of `LatentSource.blocks`.

    Raises:
        InputError: errors of `LatentSource.blocks`.
    """
    read = [list(source.blocks(sizes, finite=False)) for source in sources]
    names = [name for blocks in read for rows in blocks for name in rows.names]
    part = shard.part(len(names))
    found, before = [], 0
    for source, blocks in zip(sources, read, strict=True):
        mine = []
        for rows in blocks:
            mine.append(rows.take(slice(max(part.start - before, 0), max(part.stop - before, 0))))
            before += len(rows)
        found.append(LatentPart(source.label, mine))
    return DividedLatents(found, names)


def merge_latents(files: Sequence[str], output: str, *, force: bool = False) -> int:
    """Write the latents of all shards as one file, as one run would have; returns their number.

    Args:
        files: shards in order, as of `find_shards`.
        output: path or `-`; nothing is written if there is no row.
        force: replace a file.

    Raises what `open_latents`, `LatentSource.blocks` and `save_latents` do, and InputError where a
    file holds more than its shard.
    """

    def rows() -> Iterator[Latents]:
        for file in files:
            with open_latents(file) as source:
                left = source.first_rows  # a part is one array
                for block in source.blocks(may_be_empty=True):
                    left -= len(block)
                    if left < 0:
                        with naming(file):
                            raise more_than_a_part()
                    yield block

    return save_latents(output, rows(), force=force)


def _files(given: Sequence[str]) -> list[str]:
    files: list[str] = []
    for source in given:
        if is_folder(source):
            inside = [name for name in files_below(source) if name.endswith(".npy")]
            files += [f"{source.rstrip('/')}/{name}" for name in inside]
        else:
            files += expand_pattern(source)
    return list(dict.fromkeys(files))
