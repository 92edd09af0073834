"""Checks of vertices that the readers of meshes, arrays and commands share."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError

_LARGEST: Final = 1e9  # in any unit far more than a face; squares and products have room


def check_finite(vertices: NDArray[np.float32], first: int = 0) -> None:
    """Raise InputError naming the first vertex (n, 3) that is not finite; `first` is its number.

    Coordinates beyond float32 have become infinite.
    """
    finite = np.isfinite(vertices)
    if not finite.all():
        row = int(np.argmin(finite.all(axis=1)))
        raise InputError(
            f"vertex {first + row} is not finite: {vertices[row].tolist()}; repair the mesh",
            ErrorCode.NOT_FINITE,
        )


def check_extent(vertices: NDArray[np.float32]) -> None:
    """Raise InputError naming the first vertex (n, 3) that is too far away to draw or to align."""
    near = np.abs(vertices) <= _LARGEST
    if not near.all():
        row = int(np.argmin(near.all(axis=1)))
        raise InputError(
            f"vertex {row} is at {[float(f'{value:.6g}') for value in vertices[row]]}; "
            f"expected coordinates up to {_LARGEST:g}, repair the file",
            ErrorCode.TOO_LARGE,
        )
