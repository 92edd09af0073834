"""Wavefront OBJ: the `v` and `f` lines, every other statement passed over.

Vertices are those of the `v` lines in their order, whatever `vt` and `vn` there are: readers that
split a vertex wherever its texture coordinates differ lose the correspondence between faces.
"""

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.numerals import Indices, Tokens, decimals, integers, lines, spans, tokenize
from facedis_core.polygons import Polygons

_VERTEX_SIZES = (3, 4, 6, 7)  # x y z, x y z w, x y z r g b, x y z r g b a
_OF_FACES = (b"vt", b"vn", b"g", b"usemtl")
_ROWS_AT_ONCE = 8192  # keeps the formatted text, many times larger than its numbers, small


def read(stream: BinaryIO) -> Polygons:
    """Decode an OBJ: any of `v vt vn f`, n-gons, negative indices, continued lines.

    Raises InputError on text that is no OBJ.
    """
    tokens = tokenize(_logical_lines(stream.read()))
    first, counts = lines(tokens)
    keyword = tokens.text[tokens.starts[first]]
    keyword[tokens.ends[first] - tokens.starts[first] != 1] = 0  # vt, vn, fo, usemtl...
    is_vertex, is_face = keyword == ord("v"), keyword == ord("f")
    if not is_face.any():
        _check_no_surface(tokens, first[~is_vertex])

    sizes = counts[is_face] - 1
    corners = integers(tokens, spans(first[is_face] + 1, sizes), until_slash=True)
    if not corners.all():
        raise InputError("a face has vertex index 0; OBJ counts from 1, or from -1 backwards")
    backwards = np.flatnonzero(corners < 0)
    corners -= 1
    if backwards.size:
        # Such an index counts back from the vertices above its own line, not from the last one.
        vertices_above = np.repeat(np.cumsum(is_vertex)[is_face], sizes)
        corners[backwards] += vertices_above[backwards] + 1
    return Polygons(_vertices(tokens, first[is_vertex], counts[is_vertex] - 1), corners, sizes)


def write(
    stream: BinaryIO,
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    name: str,
    in_mm: bool,
) -> None:
    """Encode as `v` and `f` lines; nine significant digits bring every float32 back exactly."""
    _write_rows(stream, "v %.9g %.9g %.9g\n", vertices)
    _write_rows(stream, "f %d %d %d\n", triangles + 1)


def _logical_lines(data: bytes) -> bytes:
    """One newline a line, no comments, continued lines joined."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    # To look for single bytes first is far faster: most files have no backslash and few comments.
    first, *commented = data.split(b"#")
    if commented:
        data = first + b"".join(b"".join(part.partition(b"\n")[1:]) for part in commented)
    return data.replace(b"\\\n", b" ") if b"\\" in data else data


def _check_no_surface(tokens: Tokens, first: Indices) -> None:
    """Vertices alone are a point cloud; what belongs to faces promises some."""
    words = {tokens.word(index) for index in first}
    for word in _OF_FACES:
        if word in words:
            raise InputError(
                f"ends before its faces: it has lines {word.decode()} and none with f; "
                "fetch or export it again"
            )


def _vertices(tokens: Tokens, first: Indices, sizes: Indices) -> NDArray[np.float32]:
    good = np.isin(sizes, _VERTEX_SIZES)
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(f"vertex {row} has {sizes[row]} numbers; expected x y z [w] [r g b]")
    which = first[:, None] + np.arange(1, 4)
    return decimals(tokens, which.ravel()).reshape(-1, 3)


def _write_rows(stream: BinaryIO, line: str, rows: NDArray[np.generic]) -> None:
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[begin : begin + _ROWS_AT_ONCE]
        stream.write((line * len(block) % tuple(block.ravel().tolist())).encode("ascii"))
