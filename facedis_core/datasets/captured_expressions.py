"""Captured expressions: frames of a recording of ARKit weights (CSV) as a table of expressions."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.recordings import ict_places, read_recording
from facedis_core.datasets.ict_synthesis import ExpressionTable, expression_table
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.surface import farthest_points

FRAMES: Final = 19  # with the neutral as many faces a person as of the 20 expressions


def read_captured(
    content: bytes, label: str, warn: Callable[[str], None] = lambda line: None
) -> ExpressionTable:
    """The neutral, and the FRAMES frames of a recording that differ most (farthest-point sampling).

    Expressions are called `frame0042`, counted from 0. All frames of a short recording are taken.

    Args:
        content: the CSV file.
        label: its name, for messages.
        warn: called with a line about unknown columns.

    Raises:
        InputError: errors of `read_recording`, or no frame with an expression.
    """
    shapes = list(expression_table().shapes)
    frames = read_recording(content, label, ict_places(shapes), len(shapes), warn)
    moving = np.flatnonzero(frames.any(axis=1))
    if not len(moving):
        raise InputError(
            f"{label} has no frame with an expression; expected a line a frame", ErrorCode.EMPTY
        )
    stack = frames[moving]
    kept = farthest_points(stack, min(FRAMES, len(stack)))
    expressions: dict[str, Mapping[str, float]] = {"neutral": {}}
    for k in kept:
        used: NDArray[Any] = stack[k]
        expressions[f"frame{moving[k]:04d}"] = {
            name: float(weight) for name, weight in zip(shapes, used, strict=True) if weight
        }
    return ExpressionTable(shapes, expressions)
