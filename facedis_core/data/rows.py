"""Rows that an index selects: of a face set or of latents."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, UsageError

Rows = int | slice | Sequence[int] | np.ndarray


def row_numbers(rows: Rows, count: int, what: str) -> NDArray[np.intp]:
    """The numbers of the selected rows, (n,).

    Args:
        rows: a number, a slice, numbers, or a mask (count,).
        count: number of rows in all.
        what: what has the rows, for the message.

    Raises:
        UsageError: an index of another type.
        IndexError: there is no such row.
    """
    numbers = np.arange(count)
    if isinstance(rows, slice):
        return numbers[rows]
    try:
        array = np.asarray(rows)
    except ValueError:  # of different lengths
        array = np.empty(1, object)
    if not array.size:
        return numbers[:0]
    if array.dtype.kind not in "iub" or array.ndim > 1:
        raise UsageError(
            f"an index of {what} is {type(rows).__name__}, expected a number, a slice, row numbers "
            "or a mask",
            ErrorCode.ARGUMENT_TYPE,
        )
    return np.atleast_1d(numbers[array])
