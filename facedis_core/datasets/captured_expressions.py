"""Captured expressions: frames of a recording of ARKit weights (CSV) as a table of expressions."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.datasets.ict_synthesis import ExpressionTable, expression_table
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.surface import farthest_points
from facedis_core.io.csv_text import brief, read_table

FRAMES: Final = 19  # with the neutral as many faces a person as of the 20 expressions
# Weights are from 0 to 1; trackers overshoot a little.
SMALLEST: Final = -0.5
LARGEST: Final = 2.0


def read_captured(content: bytes, label: str) -> ExpressionTable:
    """The neutral, and the FRAMES frames of a recording that differ most (farthest-point sampling).

    A column is a shape under its ARKit name, in any order and case, as Live Link Face writes them;
    other columns are ignored, shapes without a column stay at 0. Expressions are called
    `frame0042`, counted from 0. All frames of a short recording are taken.

    Args:
        content: the CSV file.
        label: its name, for messages.

    Raises:
        InputError: no CSV, no column is a shape, no frame, or a weight that is none.
    """
    shapes = list(expression_table().shapes)
    columns: dict[str, Sequence[str]] = {}

    def check_header(header: Sequence[str]) -> None:
        known = _arkit_names(shapes)
        for name in header:
            moved = known.get(name.lower(), ())
            twin = next((other for other in columns if set(columns[other]) & set(moved)), None)
            if twin:
                raise InputError(
                    f"{label} has two columns for one shape, {twin} and {name}; remove one",
                    ErrorCode.CSV_COLUMNS,
                )
            if moved:
                columns[name] = moved
        if not columns:
            raise InputError(
                f"{label} has no column of an ARKit shape; expected names such as jawOpen and "
                "mouthSmileLeft in the first line",
                ErrorCode.CSV_COLUMNS,
            )

    frames = []
    for row in read_table(content, label, check_header):
        frame = np.zeros(len(shapes))
        for column, moved in columns.items():
            weight = _weight(row.values[column], f"{row.where}, column {column}")
            frame[[shapes.index(name) for name in moved]] = weight
        frames.append(frame)
    moving = [k for k, frame in enumerate(frames) if frame.any()]
    if not moving:
        raise InputError(
            f"{label} has no frame with an expression; expected a line a frame", ErrorCode.EMPTY
        )
    stack = np.stack([frames[k] for k in moving])
    kept = farthest_points(stack, min(FRAMES, len(stack)))
    expressions: dict[str, Mapping[str, float]] = {"neutral": {}}
    for k in kept:
        used: NDArray[Any] = stack[k]
        expressions[f"frame{moving[k]:04d}"] = {
            name: float(weight) for name, weight in zip(shapes, used, strict=True) if weight
        }
    return ExpressionTable(shapes, expressions)


def _arkit_names(shapes: Sequence[str]) -> dict[str, list[str]]:
    """ARKit name in lower case -> the ICT shapes that it moves; ICT's own names are known too.

    ARKit writes Left for `_L`, and has one shape for both sides of browInnerUp and cheekPuff.
    """
    names: dict[str, list[str]] = {}
    for shape in shapes:
        stem, _, side = shape.rpartition("_") if shape[-2:] in ("_L", "_R") else (shape, "", "")
        arkit = stem + {"L": "Left", "R": "Right", "": ""}[side]
        for name in {shape, arkit}:
            names[name.lower()] = [shape]
        if stem in ("browInnerUp", "cheekPuff"):
            names.setdefault(stem.lower(), []).append(shape)
    return names


def _weight(text: str, where: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not SMALLEST <= weight <= LARGEST:
        raise InputError(
            f"{where} is {brief(text)}, expected a weight from 0 to 1", ErrorCode.CSV_VALUE
        )
    return weight
