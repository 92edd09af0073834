"""Recordings of blendshape weights: CSV, a line a frame, as face trackers write them."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.csv_text import brief, brief_list, read_table

# Weights are from 0 to 1; trackers overshoot a little.
SMALLEST: Final = -0.5
LARGEST: Final = 2.0
# Columns that trackers write beside blendshapes, in lower case; ICT-FaceKit has no tongue.
BESIDE: Final = {
    *("name", "frame", "time", "timestamp", "timecode", "blendshapecount"),
    *("headyaw", "headpitch", "headroll", "lefteyeyaw", "lefteyepitch", "lefteyeroll"),
    *("righteyeyaw", "righteyepitch", "righteyeroll", "tongueout"),
}


def ict_places(shapes: Sequence[str]) -> dict[str, list[int]]:
    """Places in ICT-FaceKit's shapes by their own and ARKit's names in lower case.

    ARKit writes Left for `_L`, and has one shape for both sides of browInnerUp and cheekPuff.
    """
    places: dict[str, list[int]] = {}
    for place, shape in enumerate(shapes):
        stem, _, side = shape.rpartition("_") if shape[-2:] in ("_L", "_R") else (shape, "", "")
        arkit = stem + {"L": "Left", "R": "Right", "": ""}[side]
        for name in {shape, arkit}:
            places[name.lower()] = [place]
        if stem in ("browInnerUp", "cheekPuff"):
            places.setdefault(stem.lower(), []).append(place)
    return places


def read_recording(
    content: bytes,
    label: str,
    places: Mapping[str, Sequence[int]],
    count: int,
    warn: Callable[[str], None],
) -> NDArray[np.float64]:
    """Weights (K, count) of the frames of a recording.

    A column is a blendshape by its name, in any order and case, as Live Link Face writes them;
    other columns are left out, and blendshapes without a column stay at 0.

    Args:
        content: the CSV file.
        label: its name, for messages.
        places: where the weight of a column goes, by its name in lower case.
        count: number of weights of a frame.
        warn: called with a line about columns that are neither blendshapes nor of BESIDE.

    Raises:
        InputError: no CSV, no column is a blendshape, two are the same one, no frame, or a weight
            that is none.
    """
    columns: dict[str, Sequence[int]] = {}

    def check_header(header: Sequence[str]) -> None:
        for name in header:
            own = places.get(name.lower(), ())
            twin = next((other for other in columns if set(columns[other]) & set(own)), None)
            if twin:
                raise InputError(
                    f"{label} has two columns for one blendshape, {twin} and {name}; remove one",
                    ErrorCode.CSV_COLUMNS,
                )
            if own:
                columns[name] = own
        if not columns:
            raise InputError(
                f"{label} has no column of an ARKit blendshape; expected names such as jawOpen and "
                "mouthSmileLeft in the first line",
                ErrorCode.CSV_COLUMNS,
            )
        unknown = [name for name in header if name not in columns and name.lower() not in BESIDE]
        if unknown:
            alike = get_close_matches(unknown[0].lower(), places, 1)
            meant = f" (did you mean {alike[0]}?)" if alike else ""
            warn(
                f"{label}: columns that are no blendshape are left out: {brief_list(unknown)}"
                f"{meant}"
            )

    frames = []
    for row in read_table(content, label, check_header):
        frame = np.zeros(count)
        for name, own in columns.items():
            frame[list(own)] = _weight(row.values[name], f"{row.where}, column {name}")
        frames.append(frame)
    if not frames:
        raise InputError(f"{label} has no frame; expected a line a frame", ErrorCode.EMPTY)
    return np.stack(frames)


def _weight(text: str, where: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = np.nan
    if not SMALLEST <= weight <= LARGEST:
        raise InputError(
            f"{where} is {brief(text)}, expected a weight from 0 to 1", ErrorCode.CSV_VALUE
        )
    return weight
