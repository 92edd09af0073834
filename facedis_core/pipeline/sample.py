"""Sampling of latents: new people and new expressions like those of given latents."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.latents import Latents, as_float32
from facedis_core.errors import ErrorCode, InputError, UsageError, check_argument

# Width of the kernels of expressions relative to their spread. Expressions come in clusters, which
# one Gaussian would fill up between.
WIDTH: Final = 0.3


def sample(
    latents: Latents,
    count: int = 1,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    of: Latents | None = None,
) -> Latents:
    """Draw new faces from the distribution of given latents.

    Identities come from a Gaussian with the mean and the covariance of the rows. Expressions come
    from a mixture of Gaussians about the rows, a smoothed bootstrap with their mean and covariance
    (Silverman 1986, section 6.4). The standard normal prior of the training means little here: its
    weight (KL) is tiny.

    Args:
        latents: at least two rows of one model, best of many people and expressions.
        count: number of faces; with `of` for each of its rows.
        seed: of the random numbers.
        temperature: factor on the distance from the mean face and the mean expression; 0 gives
            these, below 1 plainer faces, above 1 caricatures.
        of: people to give new expressions to; None = new people as well.

    Returns:
        rows named `sample0000`, ..., with `of` `<name>__sample0000`, ...

    Raises:
        InputError: fewer than two rows, of two models or sizes, or new expressions of latents
            without.
        UsageError: a count or temperature below zero, or an argument of another type.

    Example:
        >>> import numpy as np
        >>> z = np.random.default_rng(0).normal(size=(50, 4)).astype("f4")
        >>> known = Latents([f"face{k}" for k in range(50)], [""] * 50, z, z)
        >>> sample(known, 3, seed=1).names
        ['sample0000', 'sample0001', 'sample0002']
    """
    check_argument(latents, Latents, "sample: latents", "Latents")
    check_argument(count, (int, np.integer), "sample: count", "a whole number")
    if count < 0 or not 0 <= temperature < np.inf:
        raise UsageError(
            f"{count} samples at temperature {temperature:g}, expected finite numbers, none below "
            "zero",
            ErrorCode.OPTION_VALUE,
        )
    if len(latents) < 2:
        raise InputError(
            f"{len(latents)} row tells no distribution; give the latents of many faces",
            ErrorCode.TOO_FEW_FACES,
        )
    models = {model for part in (latents, of) if part is not None for model in part.models}
    if len(models - {""}) > 1 or (of is not None and of.sizes != latents.sizes):
        raise InputError(
            f"the latents are of several models ({', '.join(sorted(models))}); encode all faces "
            "with one",
            ErrorCode.WRONG_MODEL,
        )
    if of is not None:
        latents.check_part("expression")
    random = np.random.default_rng(seed)
    total = count * (1 if of is None else len(of))
    names = [f"sample{number:04d}" for number in range(count)]
    identity = _gaussian(latents.identity, total, random) * temperature
    identity += latents.identity.mean(axis=0, dtype=np.float64)
    if of is not None:
        identity = np.repeat(of.identity, count, axis=0)
        names = [f"{person}__{name}" for person in of.names for name in names]
    expressions = latents.expression.astype(np.float64)
    mean = expressions.mean(axis=0)
    rows = random.integers(len(latents), size=total)
    offset = np.sqrt(1 - WIDTH**2) * (expressions[rows] - mean)
    offset += WIDTH * _gaussian(expressions, total, random)
    model = next(iter(models - {""}), "")
    expression = mean + temperature * offset
    return Latents(names, [model] * total, as_float32(identity), as_float32(expression))


def _gaussian(
    rows: NDArray[np.floating], count: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Deviations (count, D) from the mean with the covariance of rows (n, D), of any rank."""
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    scale = singular / np.sqrt(len(rows) - 1)
    drawn: NDArray[np.float64] = random.standard_normal((count, len(scale))) * scale @ directions
    return drawn
