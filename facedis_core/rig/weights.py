"""Weights of ARKit's blendshapes as CSV: a line a frame, as face trackers write them."""

import csv
import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.recordings import read_recording
from facedis_core.rig.blendshapes import ARKIT_NAMES


def read_weights(
    content: bytes, label: str, warn: Callable[[str], None] = lambda line: None
) -> NDArray[np.float64]:
    """Weights (K, 52) of the frames of a recording, in the order of ARKIT_NAMES.

    Args:
        content: the CSV file.
        label: its name, for messages.
        warn: called with a line about unknown columns.

    Raises:
        InputError: errors of `read_recording`.
    """
    places = {name.lower(): [place] for place, name in enumerate(ARKIT_NAMES)}
    return read_recording(content, label, places, len(ARKIT_NAMES), warn)


def encode_weights(names: Sequence[str], weights: NDArray[np.floating]) -> bytes:
    """A CSV of named frames (K,) and their weights (K, 52)."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", *ARKIT_NAMES])
    for name, row in zip(names, weights, strict=True):
        table.writerow([name, *(f"{weight:.4f}" for weight in row)])
    return text.getvalue().encode("utf-8", "surrogateescape")
