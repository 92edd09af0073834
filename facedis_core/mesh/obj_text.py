"""The text of an OBJ: places of its statements, and everything that its faces say.

The reader of meshes (`mesh/obj.py`) is many times faster and reads vertices of polygons alone.
"""

import re
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Text of OBJ without comments. A statement begins a line that the line before does not continue.
GAP: Final = rb"(?:[^\S\r\n]|\\[ \t]*\r?\n)+"
BEGIN: Final = rb"(?:\A(?:\xef\xbb\xbf)?|(?<=[\r\n])(?<!\\\n)(?<!\\\r\n))[ \t]*"
REST: Final = rb"((?:[^\r\n\\]|\\[ \t]*\r?\n|\\)*)"
_NUMBER: Final = GAP + rb"([^\s\\]+)"
VERTEX: Final = re.compile(BEGIN + rb"v" + _NUMBER * 3)
COLORED_VERTEX: Final = re.compile(
    BEGIN + rb"v" + _NUMBER * 6 + rb"(?:" + GAP + rb"[^\s\\]+)?[^\S\r\n]*(?=[\r\n]|\Z)"
)
POLYPAINT: Final = re.compile(rb"(?m)^#MRGB ((?:[0-9A-Fa-f]{8})+)")  # of ZBrush
NORMAL: Final = re.compile(BEGIN + rb"vn" + _NUMBER * 3)
TEXTURE: Final = re.compile(BEGIN + rb"vt" + _NUMBER + rb"(?:" + _NUMBER + rb")?")
LIBRARY: Final = re.compile(BEGIN + rb"mtllib" + GAP + REST)
_COUNTED: Final = re.compile(BEGIN + rb"(v[nt]?|fo?|usemtl)" + GAP + REST)
_MOST: Final = 1 << 62  # of a place
_COMMENT: Final = re.compile(rb"(?<![^\s])#[^\r\n]*")


class ObjFaces(NamedTuple):
    """The faces of an OBJ with three corners or more, one after another.

    Attributes:
        vertex, texture, normal: (C,) of each corner, counted from 0; -1 = none, -2 = before the
            first.
        first: (F,) place of the first corner of each face.
        material: (F,) place in `materials`.
        materials: names, in the order of their first use; "" = none.
    """

    vertex: NDArray[np.intp]
    texture: NDArray[np.intp]
    normal: NDArray[np.intp]
    first: NDArray[np.intp]
    material: NDArray[np.intp]
    materials: tuple[str, ...]


def without_comments(data: bytes) -> bytes:
    """The text with comments as blanks: what is in them is no statement, and all places stay."""
    return _COMMENT.sub(lambda comment: b" " * len(comment[0]), data) if b"#" in data else data


def decoded_name(raw: bytes) -> str:
    """A name in a text file, in UTF-8 or else in Latin-1, as older programs write it."""
    try:
        return raw.strip().decode()
    except UnicodeDecodeError:
        return raw.strip().decode("latin-1")


def statements(
    text: bytes, pattern: re.Pattern[bytes]
) -> tuple[list[re.Match[bytes]], NDArray[np.float64]]:
    """The statements that match, and their numbers (n, groups); NaN for other words, 0 for none."""
    found = list(pattern.finditer(text))
    values = [[_number(word) for word in match.groups(b"0")] for match in found]
    return found, np.array(values).reshape(-1, pattern.groups)


def read_faces(text: bytes) -> ObjFaces:
    """The faces of an OBJ without comments."""
    corners: tuple[list[int], ...] = ([], [], [])
    first: list[int] = []
    material: list[int] = []
    materials: dict[str, int] = {}
    name = ""
    counts = {b"v": 0, b"vt": 0, b"vn": 0}
    for match in _COUNTED.finditer(text):
        if match[1] in counts:
            counts[match[1]] += 1
        elif match[1] == b"usemtl":
            name = decoded_name(match[2])
        else:
            words = match[2].replace(b"\\", b" ").split()
            if len(words) < 3:
                continue
            first.append(len(corners[0]))
            material.append(materials.setdefault(name, len(materials)))
            for word in words:
                numbers = [*word.split(b"/"), b"", b""]
                for column, number, count in zip(corners, numbers, counts.values(), strict=False):
                    column.append(_place(number, count))
    vertex, texture, normal = (np.array(column, np.intp) for column in corners)
    starts, names = np.array(first, np.intp), tuple(materials)
    return ObjFaces(vertex, texture, normal, starts, np.array(material, np.intp), names)


def _number(word: bytes) -> float:
    try:
        return float(word)
    except ValueError:  # such as -1.#IND
        return np.nan


def _place(number: bytes, count: int) -> int:
    """The place of a number of OBJ, which counts from 1, or backwards from the last of `count`.

    -1 = no number, or 0; -2 = before the first.
    """
    try:
        value = int(number)
    except ValueError:
        return -1
    if value < 0:
        return max(count + value, 0) - 2 * (value < -count)
    return min(value - 1, _MOST)
