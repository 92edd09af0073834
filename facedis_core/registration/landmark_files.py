"""Files of landmarks (CSV, JSON, MeshLab's .pp) and of poses (4 x 4 matrices, JSON lines)."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.streams import naming, read_all

Landmarks = dict[str | int, tuple[float, float, float]]

_MOST_BYTES: Final = 1 << 26


def read_landmarks(path: str | Path) -> Landmarks:
    """Named points of a file: name -> x, y, z.

    CSV: `name,x,y,z` a line, with or without a header. JSON: an object of name -> [x, y, z], or a
    list of objects with a name (or id, label) and x, y, z (or position), also below
    `markups`/`controlPoints` as 3D Slicer writes them. `.pp`: picked points of MeshLab.

    Raises:
        InputError: unreadable, another kind of file, or a point without a name.

    Example:
        >>> from facedis_core.registration.landmark_files import read_landmarks
        >>> with open("points.csv", "w") as file:
        ...     print("nose_tip,1.5,20,80", file=file)
        >>> read_landmarks("points.csv")
        {'nose_tip': (1.5, 20.0, 80.0)}
    """
    reader = LANDMARK_FORMATS.get(Path(path).suffix.lower())
    if reader is None:
        raise InputError(
            f"{path} is no file of landmarks; expected {', '.join(LANDMARK_FORMATS)}",
            ErrorCode.UNSUPPORTED,
        )
    content = read_all(str(path), _MOST_BYTES, "landmarks")
    with naming(path):
        found: Landmarks = {}
        for name, point in reader(content):
            if not name:
                raise InputError(
                    "has a point without a name; expected name,x,y,z", ErrorCode.CSV_VALUE
                )
            if name in found:
                raise InputError(f"has two points {name!r}", ErrorCode.NAME_DUPLICATE)
            found[name] = _point(point)
        return found


def read_poses(path: str | Path) -> Mapping[str | None, NDArray[np.float64]]:
    """Poses (4, 4) by the name of their scan; that of a file with one matrix has the name None.

    A pose takes the face to the scan, in the unit of the scan. A file is a matrix of 16 numbers, or
    JSON lines with name, rotation, translation and scale, such as those of fd-register --report.

    Raises:
        InputError: unreadable, or another kind of file.
    """
    content = read_all(str(path), _MOST_BYTES, "poses")
    with naming(path):
        text = content.decode("utf-8-sig", "replace").strip()
        if not text.startswith("{"):
            numbers = re.sub(r"[\[\],;]", " ", text).split()
            try:
                return {None: np.array(numbers, np.float64).reshape(4, 4)}
            except ValueError:
                raise InputError(
                    f"has {len(numbers)} words, expected 16 numbers of a 4 x 4 matrix, or the JSON "
                    "lines of fd-register --report",
                    ErrorCode.WRONG_KIND,
                ) from None
        poses: dict[str | None, NDArray[np.float64]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            try:
                record = json.loads(line)
                pose = np.eye(4)
                pose[:3, :3] = record["scale"] * np.array(record["rotation"], np.float64)
                pose[:3, 3] = record["translation"]
                poses[str(record["name"])] = pose
            except (ValueError, KeyError, TypeError):
                raise InputError(
                    f"line {number} is no report of a registration; expected name, rotation, "
                    "translation and scale",
                    ErrorCode.WRONG_KIND,
                ) from None
        return poses


def _csv(content: bytes) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines()):
        fields = [field.strip().strip('"') for field in re.split(r"[,;\t]", line)]
        if not any(fields) or line.startswith("#"):
            continue
        if len(fields) != 4:
            raise InputError(
                f"line {number + 1} has {len(fields)} fields, expected name,x,y,z",
                ErrorCode.CSV_SYNTAX,
            )
        if not rows and not _is_number(fields[1]) and not _is_number(fields[3]):
            continue  # the header
        rows.append((fields[0], fields[1:]))
    return rows


def _json(content: bytes) -> list[tuple[str, Any]]:
    try:
        data = json.loads(content)
        if isinstance(data, dict) and "markups" in data:
            data = data["markups"][0]["controlPoints"]
        if isinstance(data, dict):
            return list(data.items())
        rows = []
        for row in data:
            name = next(str(row[key]) for key in ("name", "label", "id") if key in row)
            rows.append((name, row.get("position") or [row[key] for key in "xyz"]))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, StopIteration):
        raise InputError(
            "has no landmarks; expected an object of name: [x, y, z]", ErrorCode.WRONG_KIND
        ) from None
    return rows


def _picked_points(content: bytes) -> list[tuple[str, Any]]:
    if b"<!ENTITY" in content:
        raise InputError("has entities, which no list of picked points has", ErrorCode.UNSUPPORTED)
    try:
        points = ElementTree.fromstring(content).iter("point")
    except ElementTree.ParseError as error:
        raise InputError(f"is no list of picked points: {error}", ErrorCode.WRONG_KIND) from None
    return [
        (point.get("name", ""), [point.get(key) for key in "xyz"])
        for point in points
        if point.get("active", "1") == "1"
    ]


LANDMARK_FORMATS: Final[Mapping[str, Callable[[bytes], list[tuple[str, Any]]]]] = {
    ".csv": _csv,
    ".json": _json,
    ".pp": _picked_points,
}


def _point(values: Any) -> tuple[float, float, float]:
    try:
        x, y, z = (float(value) for value in values)
    except (ValueError, TypeError):
        raise InputError(
            f"has {values} where a point of three numbers is due", ErrorCode.CSV_VALUE
        ) from None
    return x, y, z


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
