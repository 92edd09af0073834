"""Wavefront OBJ reader and writer: `v` and `f` lines.

Points, lines, curves, normals, texture coordinates, groups and materials make no triangles and are
passed over; a statement that would make some is an error.

Vertices are those of the `v` lines in their order, whatever `vt` and `vn` there are: readers that
split a vertex wherever its texture coordinates differ lose the correspondence between faces.
"""

import re
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.text import quoted
from facedis_core.mesh.surface_builder import SurfaceBuilder
from facedis_core.mesh.text_numbers import (
    LONGEST_LINE,
    Indices,
    Tokens,
    decimals,
    integers,
    line_blocks,
    lines,
    spans,
    tokenize,
    write_rows,
)

_VERTEX_SIZES = (3, 4, 6, 7)  # x y z, x y z w, x y z r g b, x y z r g b a
_OF_FACES = (b"vt", b"vn", b"g", b"usemtl")
# Within a word # is a part of it, as in `-1.#IND`, which some programs write for NaN. To look for
# the byte first is far faster than to look for what is before it.
_COMMENT = re.compile(rb"#(?<![^\x00-\x20]#)[^\n]*")
_CONTINUATION = re.compile(rb"\\[ \t]*(?:\n|\Z)")
# Statements that make triangles but `f`, or may.
_SURFACES = {
    **dict.fromkeys((b"surf", b"bzp", b"bsp", b"cdp"), "a free-form surface"),
    **dict.fromkeys((b"call", b"csh"), "the content of other files"),
    **dict.fromkeys((b"V", b"F"), "a statement in upper case"),
}
_MOST_IDLE = 1 << 24  # of text without v, vt, vn or f, which no OBJ has


def read(stream: BinaryIO) -> SurfaceBuilder:
    """Decode an OBJ: any of `v vt vn f`, n-gons, negative indices, continued lines.

    Faces of fewer than three corners are passed over with a warning.
    Raises InputError on text that is no OBJ, and on a statement that makes triangles but `f`.
    """
    surface = SurfaceBuilder()
    promise = b""
    faces = small = idle = 0
    for block in line_blocks(stream, "an OBJ", _end_of_lines):
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
        outline = (initial == ord("f")) & (length == 2)
        if outline.any():  # fo, as faces were called once
            is_face |= outline & (tokens.text[tokens.starts[first] + 1] == ord("o"))
        frequent = (initial == ord("v")) & (length == 2)  # vt, vn, vp
        _check_others(tokens, first[~(is_vertex | is_face | frequent)])
        before = surface.vertex_count
        if is_vertex.any():
            surface.add_vertices(_vertices(tokens, first[is_vertex], counts[is_vertex] - 1, before))
        if is_face.any():
            sizes = counts[is_face] - 1
            vertices_above = before + np.cumsum(is_vertex)[is_face]
            whole = sizes >= 3
            starts, faces = first[is_face], faces + len(sizes)
            if not whole.all():
                small += len(sizes) - int(whole.sum())
                starts, sizes, vertices_above = starts[whole], sizes[whole], vertices_above[whole]
            corners = _corners(tokens, starts, sizes, vertices_above)
            surface.add_polygons(corners, sizes, len(block))
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
    if small:
        surface.warnings.append(
            f"{small} of {faces} faces (f) are left out: fewer than three corners"
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


def _end_of_lines(text: bytes) -> int:
    """End of the last line that the next one does not continue."""
    end = text.rfind(b"\n")
    while end > 0 and len(text) - end <= LONGEST_LINE:
        before = text.rfind(b"\n", 0, end)
        if not text[before + 1 : end].rstrip(b" \t").endswith(b"\\"):
            break
        end = before
    return end + 1


def _without_comments(data: bytes) -> bytes:
    """The lines without comments, continued ones joined."""
    # To look for single bytes first is far faster: most files have no backslash and few comments.
    if b"#" in data:
        data = _COMMENT.sub(b"", data)
    return _CONTINUATION.sub(b" ", data) if b"\\" in data else data


def _check_others(tokens: Tokens, first: Indices) -> None:
    """Raise InputError for a statement, by its first word, that makes or may make a surface."""
    # Many lines have few words: those of other first eight bytes.
    eights = np.ndarray(len(tokens.text) - 7, "<u8", tokens.text, strides=(1,))
    starts, sizes = tokens.starts[first], tokens.ends[first] - tokens.starts[first]
    behind = np.maximum(8 - sizes, 0).astype(np.uint64) * np.uint64(8)
    for index in first[np.unique(eights[starts] << behind, return_index=True)[1]]:
        word = tokens.word(int(index))
        if word in _SURFACES:
            raise InputError(
                f"has {_SURFACES[word]} ({word.decode()}); expected vertices (v) and polygons (f)",
                ErrorCode.UNSUPPORTED,
            )
        if word[0] in b"+-.0123456789" or not word.isascii():
            raise InputError(
                f"has a line that begins with {quoted(word)}; expected a statement such as v or f, "
                "or a backslash at the end of the line before",
                ErrorCode.MESH_SYNTAX,
            )


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
    weighted = np.flatnonzero(sizes == 4)
    if weighted.size:
        weights = decimals(tokens, first[weighted] + 4, lambda k: before + int(weighted[k]))
        wrong = np.flatnonzero(weights != 1)
        if wrong.size:
            raise InputError(
                f"vertex {before + weighted[wrong[0]]} has the weight {weights[wrong[0]]:g}; "
                "expected x y z with no weight or 1",
                ErrorCode.UNSUPPORTED,
            )
    which = first[:, None] + np.arange(1, 4)
    return decimals(tokens, which.ravel(), lambda k: before + k // 3).reshape(-1, 3)
