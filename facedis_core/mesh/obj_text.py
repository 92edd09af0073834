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
_COMMENT: Final = re.compile(rb"(?<![^\s])(?:#[^\r\n]*|(usemtl[^\r\n]*))")


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
    """The text with comments as blanks: what is in them is no statement, and all places stay.

    What follows `usemtl` stays, for the names of materials may have a word that begins with #.
    """
    if b"#" not in data:
        return data
    return _COMMENT.sub(lambda found: found[1] or b" " * len(found[0]), data)


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
    words: list[bytes] = []
    first: list[int] = []
    above: list[tuple[int, ...]] = []
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
            corners = match[2].replace(b"\\", b" ").split()
            if len(corners) < 3:
                continue
            first.append(len(words))
            above.append(tuple(counts.values()))
            material.append(materials.setdefault(name, len(materials)))
            words += corners
    starts, names = np.array(first, np.intp), tuple(materials)
    sizes = np.diff(np.append(starts, len(words)))
    before = np.repeat(np.array(above, np.int64).reshape(-1, 3), sizes, axis=0)
    vertex, texture, normal = _places(_corner_numbers(words), before).T
    return ObjFaces(vertex, texture, normal, starts, np.array(material, np.intp), names)


def _corner_numbers(words: list[bytes]) -> NDArray[np.int64]:
    """The numbers (n, 3) of corners such as `1/2/3`; 0 = none."""
    columns = words[0].count(b"/") + 1 if words else 1
    # corners are all alike in nearly all files, and then read at once
    if columns <= 3 and all(word.count(b"/") == columns - 1 for word in words):
        text = b" ".join(words).replace(b"//", b"/0/").replace(b"/", b" ")
        try:
            found = np.array(text.split(), np.int64)
        except (ValueError, OverflowError):
            found = np.empty(0, np.int64)
        if len(found) == columns * len(words) and np.abs(found).max(initial=0) <= _MOST:
            padded = np.zeros((len(words), 3), np.int64)
            padded[:, :columns] = found.reshape(-1, columns)
            return padded
    rows = ([*word.split(b"/"), b"", b""][:3] for word in words)
    return np.array([[_whole(number) for number in row] for row in rows], np.int64).reshape(-1, 3)


def _places(numbers: NDArray[np.int64], above: NDArray[np.int64]) -> NDArray[np.intp]:
    """The places of numbers of OBJ, which count from 1, or backwards from the last of `above`.

    -1 = no number, or 0; -2 = before the first.
    """
    backwards = np.maximum(above + numbers, 0) - 2 * (numbers < -above)
    return np.where(numbers < 0, backwards, numbers - 1)


def _number(word: bytes) -> float:
    try:
        return float(word)
    except ValueError:  # such as -1.#IND
        return np.nan


def _whole(number: bytes) -> int:
    try:
        return max(min(int(number), _MOST), -_MOST)
    except ValueError:
        return 0
