"""Weights of ARKit's blendshapes as CSV: a line a frame, as face trackers write them."""

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.csv_text import brief, read_table
from facedis_core.rig.blendshapes import ARKIT_NAMES


def read_weights(content: bytes, label: str) -> NDArray[np.float64]:
    """Weights (K, 52) of the frames of a recording, in the order of ARKIT_NAMES.

    A column is a blendshape by its name, in any order and case; other columns are ignored, and
    blendshapes without a column stay at 0.

    Args:
        content: the CSV file.
        label: its name, for messages.

    Raises:
        InputError: no CSV, no column is a blendshape, no frame, or a weight that is none.
    """
    known = {name.lower(): place for place, name in enumerate(ARKIT_NAMES)}
    columns: dict[str, int] = {}

    def check_header(header: Sequence[str]) -> None:
        columns.update({name: known[name.lower()] for name in header if name.lower() in known})
        if len(set(columns.values())) < len(columns):
            raise InputError(
                f"{label} has two columns for one blendshape; remove one", ErrorCode.CSV_COLUMNS
            )
        if not columns:
            raise InputError(
                f"{label} has no column of an ARKit blendshape; expected names such as jawOpen and "
                "mouthSmileLeft in the first line",
                ErrorCode.CSV_COLUMNS,
            )

    frames = []
    for row in read_table(content, label, check_header):
        frame = np.zeros(len(ARKIT_NAMES))
        for name, place in columns.items():
            frame[place] = _weight(row.values[name], f"{row.where}, column {name}")
        frames.append(frame)
    if not frames:
        raise InputError(f"{label} has no frame; expected a line a frame", ErrorCode.EMPTY)
    return np.stack(frames)


def _weight(text: str, where: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = np.nan
    if not np.isfinite(weight):
        raise InputError(
            f"{where} is {brief(text)}, expected a weight from 0 to 1", ErrorCode.CSV_VALUE
        )
    return weight


def encode_weights(names: Sequence[str], weights: NDArray[np.floating]) -> bytes:
    """A CSV of named frames (K,) and their weights (K, 52)."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", *ARKIT_NAMES])
    for name, row in zip(names, weights, strict=True):
        table.writerow([name, *(f"{weight:.4f}" for weight in row)])
    return text.getvalue().encode("utf-8", "surrogateescape")
