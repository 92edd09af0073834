"""Training logs beside models, for the training curves of a report."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from facedis_core.io.paths import is_file
from facedis_core.model.model import Model

# Key of a curve -> its title and its value in a record of a log; None = the record has none.
CURVES: Final[Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Any]]]] = {
    "reconstruction": ("Reconstruction loss in training", lambda record: record["reconstruction"]),
    "e_rec": ("E_rec on test faces, mm", lambda record: record["test"]["e_rec"]["mean"]),
    "avd_neu": ("AVD_neu on test faces, mm", lambda record: record["test"]["avd_neu"]["mean"]),
}


_LARGEST: Final = float(np.finfo(np.float64).max)


class Curve(NamedTuple):
    """A value in the course of a training: steps (n,) and values (n,), all positive."""

    label: str
    steps: np.ndarray
    values: np.ndarray


def read_log(model: Model) -> list[dict[str, Any]]:
    """The records of the log beside a model's file; none where there is no log.

    Lines that are no record are left out: a log is an extra, and may be that of another program.
    """
    path = Path(f"{model.source.removesuffix('.safetensors')}.jsonl")
    content = b""
    with suppress(OSError):
        content = path.read_bytes() if is_file(path) else b""
    records = []
    for line in content.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def curve(label: str, records: list[dict[str, Any]], key: str) -> Curve | None:
    """A curve of CURVES from the records of a log; None with fewer than two values."""
    points = []
    for record in records:
        try:
            point = record["step"], CURVES[key][1](record)
        except (KeyError, TypeError):
            continue
        # Python's whole numbers may be too large for a float
        if all(isinstance(part, int | float) and 0 < part <= _LARGEST for part in point):
            points.append(point)
    if len(points) < 2:
        return None
    steps, values = np.array(points, np.float64).T
    return Curve(label, steps, values)
