"""Which latents meet which: rows of two sources side by side, block by block."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Literal, get_args

import numpy as np

from facedis_core.data.latents import Latents, LatentSource, as_float32, concatenate
from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.streams import open_input, shown

_PAIR_ROWS = 1024  # rows that a pair of blocks has at most


class RowSource:
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
            for start in range(0, len(block), _PAIR_ROWS):
                yield block.take(slice(start, start + _PAIR_ROWS))


Pairs = Iterator[tuple[Latents, Latents]]


@contextmanager
def open_pair(first: str, second: str) -> Iterator[tuple[RowSource, RowSource]]:
    """Two sources of latents, of which one may be `-` and one plain arrays.

    Raises:
        UsageError: both are standard input, or nothing but plain arrays.
        InputError: as of `open_latents`.
    """
    if first == second == "-":
        raise UsageError(
            f"{shown('-')} (-) is named twice; give a file for one of the two", ErrorCode.SAME_FILE
        )
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
                "identity ends and expression begins; give one of them as fd-encode writes it",
                ErrorCode.OPTION_CONFLICT,
            )
        one, other = (
            RowSource(source.blocks(sizes), source.label, awaited=not source.is_file)
            for source in (opened[0], opened[1])
        )
        yield one, other


def pair_rows(one: RowSource, other: RowSource, *, all_pairs: bool = False) -> Pairs:
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
        return _all_pairs(one, other)
    if one.awaited and not other.awaited:
        return ((a, b) for b, a in _side_by_side(other, one))
    return _side_by_side(one, other)


def _repeated(row: Latents, count: int) -> Latents:
    return row.take(np.zeros(count, np.intp))


def _side_by_side(one: RowSource, other: RowSource) -> Pairs:
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
    yield from _equal_counts(one, other)


def _equal_counts(first: RowSource, second: RowSource) -> Pairs:
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
            "one of either, equally many of both, or --all-pairs",
            ErrorCode.ROW_COUNT,
        )


def _all_pairs(one: RowSource, other: RowSource) -> Pairs:
    whole = concatenate(list(other.blocks()))
    for block in one.blocks():
        for row in range(len(block)):
            for start in range(0, len(whole), _PAIR_ROWS):
                part = whole.take(slice(start, start + _PAIR_ROWS))
                yield _repeated(block.take([row]), len(part)), part


Varied = Literal["both", "identity", "expression"]

_BLOCK_ROWS = 4096  # that interpolation makes at once


def transfer(
    identity: Latents, expression: Latents, *, all_pairs: bool = False, scale: float = 1.0
) -> Latents:
    """Rows with the identity of the first and the expression of the second.

    Args:
        identity: 1 or N rows.
        expression: 1 or N rows.
        all_pairs: every identity with every expression, identities in the outer loop.
        scale: multiplies the expression latents.

    Returns:
        N rows named `<identity>__<expression>`.

    Raises:
        UsageError: the counts do not pair up, or the scale is not finite or makes latents so.
        InputError: two rows that meet are of different models.
    """
    met = pair_rows(
        RowSource(iter([identity]), "identity"),
        RowSource(iter([expression]), "expression"),
        all_pairs=all_pairs,
    )
    return concatenate(list(transfer_blocks(met, scale)))


def transfer_blocks(pairs: Pairs, scale: float = 1.0) -> Iterator[Latents]:
    """The same of pairs of identity and expression as they come, block by block."""
    for identity, expression in pairs:
        models = _common_models(identity, expression)
        scaled = as_float32(expression.expression * np.float64(scale))
        if not np.isfinite(scaled).all():
            raise UsageError(
                f"the scale {scale:g} makes latents that are not finite; give a smaller one",
                ErrorCode.OPTION_VALUE,
            )
        yield Latents(pair_names(identity, expression), models, identity.identity, scaled)


def interpolate_blocks(pairs: Pairs, steps: int, part: Varied = "both") -> Iterator[Latents]:
    """Rows on the way from the first of each pair to the second, linear in latent space (III-D).

    Args:
        pairs: where the ways begin and end, block by block.
        steps: rows a pair, both ends among them, at least 2.
        part: what changes on the way; the other part stays that of the beginning.

    Returns:
        Blocks of rows, pair after pair, named `<first>__<second>/<step>`.

    Raises:
        UsageError: fewer steps, or another part.
        InputError: two rows that meet are of different models.
    """
    if steps < 2:
        raise UsageError(
            f"{steps} steps, expected 2 at least: the beginning and the end", ErrorCode.OPTION_VALUE
        )
    if part not in get_args(Varied):
        raise UsageError(
            f"part {part!r}, expected one of {', '.join(get_args(Varied))}", ErrorCode.OPTION_VALUE
        )
    shares = np.linspace(0, 1, steps)[:, None]
    moving = {z: shares * (part in ("both", z)) for z in ("identity", "expression")}
    digits = len(str(steps - 1))
    together = max(1, _BLOCK_ROWS // steps)
    for firsts, seconds in pairs:
        for start in range(0, len(firsts), together):
            rows = slice(start, start + together)
            first, second = firsts.take(rows), seconds.take(rows)
            models = _common_models(first, second)
            names = pair_names(first, second)
            yield Latents(
                [f"{name}/{step:0{digits}}" for name in names for step in range(steps)],
                [model for model in models for _ in range(steps)],
                as_float32(interpolate(first.identity, second.identity, moving["identity"])),
                as_float32(interpolate(first.expression, second.expression, moving["expression"])),
            )


def interpolate(first: np.ndarray, second: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(N, D), (N, D), (S, 1) -> float64 (N S, D), linear; at 0 and 1 exactly the rows given."""
    start, end = first[:, None].astype(np.float64), second[:, None].astype(np.float64)
    return ((1 - shares) * start + shares * end).reshape(-1, first.shape[1])


def pair_names(first: Latents, second: Latents) -> list[str]:
    """What is made of each two rows is called `<first>__<second>`."""
    return [f"{one}__{other}" for one, other in zip(first.names, second.names, strict=True)]


def _common_models(first: Latents, second: Latents) -> list[str]:
    """The model of each pair of rows, which must be one; an unknown one takes the known one."""
    models = []
    for i, (one, other) in enumerate(zip(first.models, second.models, strict=True)):
        if one and other and one != other:
            raise InputError(
                f"{first.names[i]!r} was encoded with model {one}, {second.names[i]!r} with model "
                f"{other}; encode both with one model",
                ErrorCode.WRONG_MODEL,
            )
        models.append(one or other)
    return models
