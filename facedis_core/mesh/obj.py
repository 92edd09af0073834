"""Wavefront OBJ reader and writer: `v` and `f` lines; other statements are ignored.

Vertices are those of the `v` lines in their order, whatever `vt` and `vn` there are: readers that
split a vertex wherever its texture coordinates differ lose the correspondence between faces.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.mesh.surface_builder import SurfaceBuilder
from facedis_core.mesh.text_numbers import (
    LONGEST_LINE,
    Indices,
    Tokens,
    decimals,
    integers,
    lines,
    spans,
    tokenize,
    write_rows,
)

_VERTEX_SIZES = (3, 4, 6, 7)  # x y z, x y z w, x y z r g b, x y z r g b a
_OF_FACES = (b"vt", b"vn", b"g", b"usemtl")
_COMMENT = re.compile(rb"#[^\n]*")
_READ_AT_ONCE = 1 << 18
_MOST_IDLE = 1 << 24  # of text without v, vt, vn or f, which no OBJ has


def read(stream: BinaryIO) -> SurfaceBuilder:
    """Decode an OBJ: any of `v vt vn f`, n-gons, negative indices, continued lines.

    Raises InputError on text that is no OBJ.
    """
    surface = SurfaceBuilder()
    promise = b""
    faces = idle = 0
    for block in _blocks(stream):
        idle += len(block)
        if idle > _MOST_IDLE:
            raise InputError(
                f"has no line v or f in {idle >> 20} MB of text; expected an OBJ",
                ErrorCode.MESH_SYNTAX,
            )
        if block.isspace():
            continue
        tokens = tokenize(_without_comments(block))
        first, counts = lines(tokens)
        initial, length = tokens.text[tokens.starts[first]], (tokens.ends - tokens.starts)[first]
        keyword = np.where(length == 1, initial, np.uint8(0))
        is_vertex, is_face = keyword == ord("v"), keyword == ord("f")
        before = surface.vertex_count
        if is_vertex.any():
            surface.add_vertices(_vertices(tokens, first[is_vertex], counts[is_vertex] - 1, before))
        if is_face.any():
            sizes = counts[is_face] - 1
            vertices_above = before + np.cumsum(is_vertex)[is_face]
            corners = _corners(tokens, first[is_face], sizes, vertices_above)
            surface.add_polygons(corners, sizes, len(block))
            faces += len(sizes)
        elif not (faces or promise):
            promise = _promise(tokens, first[~is_vertex])
        if is_face.any() or ((initial == ord("v")) & (length <= 2)).any():
            idle = 0
    if promise and not faces:
        raise InputError(
            f"ends before its faces: it has lines {promise.decode()} and none with f; "
            "fetch or export it again",
            ErrorCode.TRUNCATED,
        )
    return surface


def write(
    stream: BinaryIO,
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    name: str,
    in_mm: bool,
) -> None:
    """Encode as `v` and `f` lines; nine significant digits bring every float32 back exactly."""
    write_rows(stream, "v %.9g %.9g %.9g\n", vertices)
    write_rows(stream, "f %d %d %d\n", triangles + 1)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Blocks of whole lines, with continued lines in one piece; one newline per line."""
    left = stream.read(3).removeprefix(b"\xef\xbb\xbf")
    more = True
    while more:
        piece = stream.read(_READ_AT_ONCE)
        more = bool(piece)
        if left.endswith(b"\r") and piece.startswith(b"\n"):
            left = left[:-1]
        left += piece
        if b"\r" in left:
            tail = b"\r" if left.endswith(b"\r") and more else b""
            left = left.removesuffix(tail).replace(b"\r\n", b"\n").replace(b"\r", b"\n") + tail
        end = _end_of_lines(left) if more else len(left)
        yield left[:end]
        left = left[end:]
        if len(left) > LONGEST_LINE:
            raise InputError(
                f"has a line of more than {LONGEST_LINE} bytes; expected an OBJ",
                ErrorCode.TOO_LARGE,
            )


def _end_of_lines(text: bytes) -> int:
    """End of the last line that the next one does not continue."""
    end = text.rfind(b"\n")
    while end > 0 and text[end - 1] == ord("\\") and len(text) - end <= LONGEST_LINE:
        end = text.rfind(b"\n", 0, end)
    return end + 1


def _without_comments(data: bytes) -> bytes:
    """The lines without comments, continued ones joined."""
    # To look for single bytes first is far faster: most files have no backslash and few comments.
    if b"#" in data:
        data = _COMMENT.sub(b"", data)
    return data.replace(b"\\\n", b" ") if b"\\" in data else data


def _promise(tokens: Tokens, first: Indices) -> bytes:
    """A statement that belongs to faces, where there is one.

    Vertices alone are a point cloud; where there are such lines as well, faces are missing.
    """
    starts, sizes = tokens.starts[first], tokens.ends[first] - tokens.starts[first]
    for word in _OF_FACES:
        alike = starts[sizes == len(word)]
        for place, byte in enumerate(word):
            alike = alike[tokens.text[alike + place] == byte]
        if alike.size:
            return word
    return b""


def _corners(tokens: Tokens, first: Indices, sizes: Indices, vertices_above: Indices) -> Indices:
    """Corners of all faces, counted from 0."""
    corners = integers(tokens, spans(first + 1, sizes), until_slash=True)
    if not corners.all():
        raise InputError(
            "a face has vertex index 0; OBJ counts from 1, or from -1 backwards",
            ErrorCode.VERTEX_INDEX,
        )
    backwards = np.flatnonzero(corners < 0)
    corners -= 1
    if backwards.size:
        # Such an index counts back from the vertices above its own line, not from the last one.
        corners[backwards] += np.repeat(vertices_above, sizes)[backwards] + 1
    return corners


def _vertices(tokens: Tokens, first: Indices, sizes: Indices, before: int) -> NDArray[np.float32]:
    good = np.isin(sizes, _VERTEX_SIZES)
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(
            f"vertex {before + row} has {sizes[row]} numbers; expected x y z [w] [r g b]",
            ErrorCode.MESH_SYNTAX,
        )
    which = first[:, None] + np.arange(1, 4)
    return decimals(tokens, which.ravel()).reshape(-1, 3)
