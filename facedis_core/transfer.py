"""Transfer and interpolation: new rows from the latents of two faces."""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from facedis_core.errors import InputError, UsageError
from facedis_core.latents import Latents, as_float32, concatenate
from facedis_core.pairing import Pairs, Rows, paired

Varied = Literal["both", "identity", "expression"]

_ROWS_TOGETHER = 4096  # that interpolation makes at once


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
    met = paired(
        Rows(iter([identity]), "identity"),
        Rows(iter([expression]), "expression"),
        all_pairs=all_pairs,
    )
    return concatenate(list(transferred(met, scale)))


def transferred(pairs: Pairs, scale: float = 1.0) -> Iterator[Latents]:
    """The same of pairs of identity and expression as they come, block by block."""
    for identity, expression in pairs:
        models = _common_models(identity, expression)
        scaled = as_float32(expression.expression * np.float64(scale))
        if not np.isfinite(scaled).all():
            raise UsageError(
                f"the scale {scale:g} makes latents that are not finite; give a smaller one"
            )
        yield Latents(joined_names(identity, expression), models, identity.identity, scaled)


def interpolated(pairs: Pairs, steps: int, part: Varied = "both") -> Iterator[Latents]:
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
        raise UsageError(f"{steps} steps, expected 2 at least: the beginning and the end")
    if part not in get_args(Varied):
        raise UsageError(f"part {part!r}, expected one of {', '.join(get_args(Varied))}")
    shares = np.linspace(0, 1, steps)[:, None]
    moving = {z: shares * (part in ("both", z)) for z in ("identity", "expression")}
    digits = len(str(steps - 1))
    together = max(1, _ROWS_TOGETHER // steps)
    for firsts, seconds in pairs:
        for start in range(0, len(firsts), together):
            rows = slice(start, start + together)
            first, second = firsts.take(rows), seconds.take(rows)
            models = _common_models(first, second)
            names = joined_names(first, second)
            yield Latents(
                [f"{name}/{step:0{digits}}" for name in names for step in range(steps)],
                [model for model in models for _ in range(steps)],
                as_float32(between(first.identity, second.identity, moving["identity"])),
                as_float32(between(first.expression, second.expression, moving["expression"])),
            )


def between(first: np.ndarray, second: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(N, D), (N, D), (S, 1) -> float64 (N S, D), linear; at 0 and 1 exactly the rows given."""
    start, end = first[:, None].astype(np.float64), second[:, None].astype(np.float64)
    return ((1 - shares) * start + shares * end).reshape(-1, first.shape[1])


def joined_names(first: Latents, second: Latents) -> list[str]:
    """What is made of each two rows is called `<first>__<second>`."""
    return [f"{one}__{other}" for one, other in zip(first.names, second.names, strict=True)]


def _common_models(first: Latents, second: Latents) -> list[str]:
    """The model of each pair of rows, which must be one; an unknown one takes the known one."""
    models = []
    for i, (one, other) in enumerate(zip(first.models, second.models, strict=True)):
        if one and other and one != other:
            raise InputError(
                f"{first.names[i]!r} was encoded with model {one}, {second.names[i]!r} with model "
                f"{other}; encode both with one model"
            )
        models.append(one or other)
    return models
