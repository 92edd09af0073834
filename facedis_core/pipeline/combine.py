"""Combination of latents from two sources: pairs of rows, expression transfer, interpolation."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Final, Literal, get_args

import numpy as np

from facedis_core.data.latents import Latents, LatentSource, as_float32, concatenate
from facedis_core.errors import ErrorCode, InputError, UsageError, check_argument
from facedis_core.io.streams import open_input
from facedis_core.io.text import shown

Varied = Literal["both", "identity", "expression"]
Pairs = Iterator[tuple[Latents, Latents]]  # blocks of equally many rows

_PAIR_ROWS: Final = 1024  # most rows of a block of pairs
_INTERPOLATED_ROWS: Final = 4096  # most rows of a block of interpolations


class PeekableLatents:
    """Blocks of latents, whose first rows can be looked at in advance.

    Attributes:
        label: its name in messages.
        may_wait: whether the next row may still have to be made, as in a pipe.
    """

    def __init__(self, blocks: Iterator[Latents], label: str, *, may_wait: bool = False) -> None:
        self.label, self.may_wait = label, may_wait
        self._blocks = blocks
        self._read: list[Latents] = []

    def only(self) -> Latents | None:
        """The only row; None where there are more."""
        while sum(map(len, self._read)) < 2:
            block = next(self._blocks, None)
            if block is None:
                return concatenate(self._read)
            self._read.append(block)
        return None

    def blocks(self) -> Iterator[Latents]:
        """All rows, in blocks of up to _PAIR_ROWS."""
        for block in chain(self._read, self._blocks):
            for start in range(0, len(block), _PAIR_ROWS):
                yield block.take(slice(start, start + _PAIR_ROWS))


@contextmanager
def open_pair(
    first: str, second: str, encode: Callable[[str], Latents | None] | None = None
) -> Iterator[tuple[PeekableLatents, PeekableLatents]]:
    """Open two sources of latents; one may be `-`, one may be a plain array.

    Args:
        first: a file of latents, or what `encode` takes.
        second: likewise.
        encode: gives the latents of a mesh, None of anything else; None = there is no mesh.

    Raises:
        UsageError: both are standard input, or both are plain arrays.
        InputError: errors of `LatentSource` or `encode`.
    """
    if first == second == "-":
        raise UsageError(
            f"{shown('-')} (-) is named twice; give a file for one of the two",
            ErrorCode.SAME_FILE,
        )
    with ExitStack() as stack:
        opened: dict[int, LatentSource | Latents] = {}
        streams = {}
        for side, source in enumerate((first, second)):
            latents = encode(source) if encode else None
            if latents is None:
                streams[side] = source, stack.enter_context(open_input(source))
            else:
                opened[side] = latents
        # files first: their errors show without waiting for the pipe
        for side, (source, stream) in sorted(streams.items(), key=lambda item: item[1][0] == "-"):
            opened[side] = LatentSource(stream, source)
        sizes = opened[0].sizes or opened[1].sizes
        if sizes is None:
            raise UsageError(
                f"{shown(first)} and {shown(second)} are plain arrays, which do not say where "
                "identity ends and expression begins; give one of them as fd-encode writes it",
                ErrorCode.OPTION_CONFLICT,
            )
        yield _rows_of(opened[0], first, sizes), _rows_of(opened[1], second, sizes)


def _rows_of(source: LatentSource | Latents, name: str, sizes: tuple[int, int]) -> PeekableLatents:
    if isinstance(source, Latents):
        return PeekableLatents(iter([source]), name)
    return PeekableLatents(source.blocks(sizes), source.label, may_wait=not source.is_file)


def pair_rows(one: PeekableLatents, other: PeekableLatents, *, all_pairs: bool = False) -> Pairs:
    """Pairs of rows: one with many, many with one, or row by row.

    No more rows are read in advance than needed to tell these cases apart, so that endless sources
    can be paired.

    Args:
        one: at least one row.
        other: at least one row.
        all_pairs: pair every row of the first with every row of the second, which is then kept in
            memory.

    Raises:
        UsageError: different numbers of rows, neither of them 1.
    """
    if all_pairs and (one.may_wait or one.only() is None):
        return _all_pairs(one, other)
    if one.may_wait and not other.may_wait:
        return ((a, b) for b, a in _side_by_side(other, one))
    return _side_by_side(one, other)


def pairs_of_model(pairs: Pairs, model_id: str, label: str) -> Pairs:
    """The same pairs; InputError where a row is known to be of another model than `label`."""
    for pair in pairs:
        for rows in pair:
            rows.check_model(model_id, label)
        yield pair


def transfer(
    identity: Latents, expression: Latents, *, all_pairs: bool = False, scale: float = 1.0
) -> Latents:
    """Expression transfer: rows with the identity of the first and the expression of the second.

    Args:
        identity: 1 or N rows.
        expression: 1 or N rows.
        all_pairs: every identity with every expression, identities in the outer loop.
        scale: factor of the expression latents.

    Returns:
        N rows named `<identity>__<expression>`.

    Raises:
        UsageError: different numbers of rows, a scale that makes latents infinite or NaN, or an
            argument of another type.
        InputError: two paired rows are of different models or sizes, or lack what is transferred.

    Example:
        >>> import numpy as np
        >>> ann = Latents(["ann"], [""], np.zeros((1, 2), "f4"), np.zeros((1, 2), "f4"))
        >>> smile = Latents(["bob_smile"], [""], np.ones((1, 2), "f4"), np.ones((1, 2), "f4"))
        >>> mixed = transfer(ann, smile, scale=1.5)
        >>> mixed.names, mixed.identity, mixed.expression
        (['ann__bob_smile'], array([[0., 0.]], dtype=float32), array([[1.5, 1.5]], dtype=float32))
    """
    check_argument(identity, Latents, "transfer: identity", "Latents")
    check_argument(expression, Latents, "transfer: expression", "Latents")
    check_argument(scale, (int, float, np.number), "transfer: scale", "a number")
    pairs = _pairs_of(identity, expression, ("identity", "expression"), all_pairs)
    return concatenate(list(transfer_blocks(pairs, scale)))


def interpolate(
    first: Latents,
    second: Latents,
    steps: int = 5,
    part: Varied = "both",
    *,
    all_pairs: bool = False,
) -> Latents:
    """Linear interpolation in latent space between the rows of each pair (section III-D).

    Args:
        first: 1 or N rows.
        second: 1 or N rows.
        steps: rows per pair, both ends included, at least 2.
        part: the latents to interpolate; the other ones stay those of the first row.
        all_pairs: from every row of the first to every row of the second.

    Returns:
        N steps rows, pair by pair, named `<first>__<second>/<step>`.

    Raises:
        UsageError: different numbers of rows, fewer than 2 steps, another part, or an argument of
            another type.
        InputError: two paired rows are of different models or sizes, or lack the part.

    Example:
        >>> import numpy as np
        >>> ann = Latents(["ann"], [""], np.zeros((1, 2), "f4"), np.zeros((1, 2), "f4"))
        >>> bob = Latents(["bob"], [""], np.ones((1, 2), "f4"), np.ones((1, 2), "f4"))
        >>> between = interpolate(ann, bob, steps=3)
        >>> between.names
        ['ann__bob/0', 'ann__bob/1', 'ann__bob/2']
        >>> between.identity[1]
        array([0.5, 0.5], dtype=float32)
    """
    check_argument(first, Latents, "interpolate: first", "Latents")
    check_argument(second, Latents, "interpolate: second", "Latents")
    check_argument(steps, (int, np.integer), "interpolate: steps", "a whole number")
    pairs = _pairs_of(first, second, ("the first", "the second"), all_pairs)
    return concatenate(list(interpolate_blocks(pairs, steps, part)))


def _pairs_of(one: Latents, other: Latents, labels: tuple[str, str], all_pairs: bool) -> Pairs:
    """Pairs of rows of latents in memory; UsageError if one has no rows."""
    for latents, label in zip((one, other), labels, strict=True):
        if not len(latents):
            raise UsageError(f"{label} has no rows, expected at least one", ErrorCode.ROW_COUNT)
    sources = [PeekableLatents(iter([one]), labels[0]), PeekableLatents(iter([other]), labels[1])]
    return pair_rows(*sources, all_pairs=all_pairs)


def transfer_blocks(pairs: Pairs, scale: float = 1.0) -> Iterator[Latents]:
    """Expression transfer block by block, from pairs of identity and expression; as `transfer`."""
    for identity, expression in pairs:
        identity.check_part("identity")
        expression.check_part("expression")
        models = _common_models(identity, expression)
        scaled = as_float32(expression.expression * np.float64(scale))
        if not np.isfinite(scaled).all():
            raise UsageError(
                f"the scale {scale:g} makes latents that are not finite; give a smaller one",
                ErrorCode.OPTION_VALUE,
            )
        yield Latents(pair_names(identity, expression), models, identity.identity, scaled)


def interpolate_blocks(pairs: Pairs, steps: int, part: Varied = "both") -> Iterator[Latents]:
    """Linear interpolation in latent space between the rows of each pair (section III-D).

    Args:
        pairs: first and last rows.
        steps: rows per pair, both ends included, at least 2.
        part: the latents to interpolate; the other ones stay those of the first row.

    Returns:
        Blocks of rows, pair by pair, named `<first>__<second>/<step>`.

    Raises:
        UsageError: fewer than 2 steps, or another part.
        InputError: two paired rows are of different models or sizes, or lack the part.
    """
    if steps < 2:
        raise UsageError(f"{steps} steps, expected at least 2: both ends", ErrorCode.OPTION_VALUE)
    if part not in get_args(Varied):
        raise UsageError(
            f"part {part!r}, expected one of {', '.join(get_args(Varied))}", ErrorCode.OPTION_VALUE
        )
    shares = np.linspace(0, 1, steps)[:, None]
    part_shares = {name: shares * (part in ("both", name)) for name in ("identity", "expression")}
    digits = len(str(steps - 1))
    size = max(1, _INTERPOLATED_ROWS // steps)
    for first_block, second_block in pairs:
        if part != "both":
            first_block.check_part(part)
        for start in range(0, len(first_block), size):
            rows = slice(start, start + size)
            first, second = first_block.take(rows), second_block.take(rows)
            models = _common_models(first, second)
            identity = blend(first.identity, second.identity, part_shares["identity"])
            expression = blend(first.expression, second.expression, part_shares["expression"])
            yield Latents(
                [
                    f"{name}/{step:0{digits}}"
                    for name in pair_names(first, second)
                    for step in range(steps)
                ],
                [model for model in models for _ in range(steps)],
                as_float32(identity),
                as_float32(expression),
            )


def blend(first: np.ndarray, second: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(1 - s) first + s second for each of S shares s, exact at 0 and 1.

    Args:
        first: (N, D).
        second: (N, D).
        shares: (S, 1), from 0 to 1.

    Returns:
        float64 (N S, D), the shares in the inner loop.
    """
    start, end = first[:, None].astype(np.float64), second[:, None].astype(np.float64)
    blended: np.ndarray = (1 - shares) * start + shares * end  # (N, S, D)
    return blended.reshape(len(first) * len(shares), first.shape[1])


def pair_names(first: Latents, second: Latents) -> list[str]:
    """The name `<first>__<second>` of each pair of rows."""
    return [f"{one}__{other}" for one, other in zip(first.names, second.names, strict=True)]


def _side_by_side(one: PeekableLatents, other: PeekableLatents) -> Pairs:
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


def _equal_counts(first: PeekableLatents, second: PeekableLatents) -> Pairs:
    first_blocks, second_blocks = first.blocks(), second.blocks()
    one, other = next(first_blocks, None), next(second_blocks, None)
    paired = 0
    while one is not None and other is not None:
        count = min(len(one), len(other))
        yield one.take(slice(count)), other.take(slice(count))
        paired += count
        one = one.take(slice(count, None)) if len(one) > count else next(first_blocks, None)
        other = other.take(slice(count, None)) if len(other) > count else next(second_blocks, None)
    if one is not None or other is not None:
        ended, longer = (first, second) if one is None else (second, first)
        raise UsageError(
            f"{ended.label} has {paired} rows and {longer.label} more, which do not pair up; give "
            "one of either, equally many of both, or --all-pairs",
            ErrorCode.ROW_COUNT,
        )


def _all_pairs(one: PeekableLatents, other: PeekableLatents) -> Pairs:
    inner = concatenate(list(other.blocks()))
    for block in one.blocks():
        for row in range(len(block)):
            for start in range(0, len(inner), _PAIR_ROWS):
                part = inner.take(slice(start, start + _PAIR_ROWS))
                yield _repeated(block.take([row]), len(part)), part


def _repeated(row: Latents, count: int) -> Latents:
    return row.take(np.zeros(count, np.intp))


def _common_models(first: Latents, second: Latents) -> list[str]:
    """The model of each pair of rows; an unknown model counts as that of the other row.

    Raises:
        InputError: different models, or latents of different sizes.
    """
    models = []
    for i, (one, other) in enumerate(zip(first.models, second.models, strict=True)):
        if one and other and one != other:
            raise InputError(
                f"{first.names[i]!r} was encoded with model {one}, {second.names[i]!r} with model "
                f"{other}; encode both with one model",
                ErrorCode.WRONG_MODEL,
            )
        models.append(one or other)
    if first.sizes != second.sizes:
        raise InputError(
            f"the latents of {first.names[0]!r} have the sizes {first.sizes}, those of "
            f"{second.names[0]!r} {second.sizes}; encode both with one model",
            ErrorCode.LATENT_SIZE,
        )
    return models
