"""Which latents meet which: rows of two sources side by side, block by block."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import numpy as np

from facedis_core.errors import UsageError
from facedis_core.latents import Latents, LatentSource, concatenate
from facedis_core.streams import open_input, shown

_TOGETHER = 1024  # rows that a pair of blocks has at most


class Rows:
    """Rows to be taken in any number, and of which one can be looked ahead to.

    Attributes:
        label: what messages call them.
        awaited: whether looking ahead may have to wait for whoever makes them.
    """

    def __init__(self, blocks: Iterator[Latents], label: str, *, awaited: bool = False) -> None:
        self.label, self.awaited = label, awaited
        self._blocks = blocks
        self._seen: list[Latents] = []

    def only(self) -> Latents | None:
        """The only row; None where there are more."""
        while sum(map(len, self._seen)) < 2:
            block = next(self._blocks, None)
            if block is None:
                return concatenate(self._seen)
            self._seen.append(block)
        return None

    def blocks(self) -> Iterator[Latents]:
        """All of them, as they come."""
        for block in chain(self._seen, self._blocks):
            for start in range(0, len(block), _TOGETHER):
                yield block.take(slice(start, start + _TOGETHER))


Pairs = Iterator[tuple[Latents, Latents]]


@contextmanager
def open_pair(first: str, second: str) -> Iterator[tuple[Rows, Rows]]:
    """Two sources of latents, of which one may be `-` and one plain arrays.

    Raises:
        UsageError: both are standard input, or nothing but plain arrays.
        InputError: as of `open_latents`.
    """
    if first == second == "-":
        raise UsageError(f"{shown('-')} (-) is named twice; give a file for one of the two")
    with ExitStack() as stack:
        streams = [stack.enter_context(open_input(source)) for source in (first, second)]
        # a file first: what is wrong with it is known before the pipe has anything
        opened = {
            side: LatentSource(streams[side], (first, second)[side])
            for side in sorted((0, 1), key=lambda side: (first, second)[side] == "-")
        }
        sizes = opened[0].sizes or opened[1].sizes
        if sizes is None:
            raise UsageError(
                f"{shown(first)} and {shown(second)} are plain arrays, which do not say where "
                "identity ends and expression begins; give one of them as fd-encode writes it"
            )
        one, other = (
            Rows(source.blocks(sizes), source.label, awaited=not source.is_file)
            for source in (opened[0], opened[1])
        )
        yield one, other


def paired(one: Rows, other: Rows, *, all_pairs: bool = False) -> Pairs:
    """Blocks of equally many rows that meet: one with many, many with one, as many with as many.

    Nothing is awaited that is not needed to know how they meet, so that rows which come without
    an end can be paired.

    Args:
        one: at least one row.
        other: likewise.
        all_pairs: every row of the first with every one of the second, which is then held whole.

    Raises:
        UsageError: the counts do not pair up.
    """
    if all_pairs and (one.awaited or one.only() is None):
        return _every_pair(one, other)
    if one.awaited and not other.awaited:
        return ((a, b) for b, a in _side_by_side(other, one))
    return _side_by_side(one, other)


def _repeated(row: Latents, count: int) -> Latents:
    return row.take(np.zeros(count, np.intp))


def _side_by_side(one: Rows, other: Rows) -> Pairs:
    single = one.only()
    if single is not None:
        for block in other.blocks():
            yield _repeated(single, len(block)), block
        return
    single = other.only()
    if single is not None:
        for block in one.blocks():
            yield block, _repeated(single, len(block))
        return
    yield from _in_step(one, other)


def _in_step(first: Rows, second: Rows) -> Pairs:
    ones, others = first.blocks(), second.blocks()
    one, other = next(ones, None), next(others, None)
    met = 0
    while one is not None and other is not None:
        count = min(len(one), len(other))
        yield one.take(slice(count)), other.take(slice(count))
        met += count
        one = one.take(slice(count, None)) if len(one) > count else next(ones, None)
        other = other.take(slice(count, None)) if len(other) > count else next(others, None)
    if one is not None or other is not None:
        ended, longer = (first, second) if one is None else (second, first)
        raise UsageError(
            f"{ended.label} has {met} rows and {longer.label} more, which do not pair up; give "
            "one of either, equally many of both, or --all-pairs"
        )


def _every_pair(one: Rows, other: Rows) -> Pairs:
    whole = concatenate(list(other.blocks()))
    for block in one.blocks():
        for row in range(len(block)):
            for start in range(0, len(whole), _TOGETHER):
                part = whole.take(slice(start, start + _TOGETHER))
                yield _repeated(block.take([row]), len(part)), part
