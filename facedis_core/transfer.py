"""Transfer: rows with the identity of some faces and the expression of others."""

import numpy as np

from facedis_core.errors import InputError, UsageError
from facedis_core.latents import Latents, as_float32


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
    scaled = as_float32(expression.expression * np.float64(scale))
    if not np.isfinite(scaled).all():
        raise UsageError(
            f"the scale {scale:g} makes latents that are not finite; give a smaller one"
        )
    first, second = _pairs(len(identity), len(expression), all_pairs)
    models = []
    for i, j in zip(first, second, strict=True):
        one, other = identity.models[i], expression.models[j]
        if one and other and one != other:
            raise InputError(
                f"{identity.names[i]!r} is of model {one}, {expression.names[j]!r} of model "
                f"{other}; encode both with one model"
            )
        models.append(one or other)
    return Latents(
        names=[
            f"{identity.names[i]}__{expression.names[j]}"
            for i, j in zip(first, second, strict=True)
        ],
        models=models,
        identity=identity.identity[first],
        expression=scaled[second],
    )


def _pairs(n: int, m: int, all_pairs: bool) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that meet: all of n x m, or 1 x m, n x 1, n with n."""
    if all_pairs:
        return np.repeat(np.arange(n), m), np.tile(np.arange(m), n)
    if n != m and 1 not in (n, m):
        raise UsageError(
            f"{n} identities and {m} expressions do not pair up; give one of either, equally "
            "many of both, or --all-pairs"
        )
    rows = np.arange(max(n, m))
    return rows % n, rows % m
