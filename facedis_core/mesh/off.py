"""OFF reader and writer: text with a vertex a line, then a polygon a line.

Colors, normals and texture coordinates behind the coordinates (COFF, NOFF, STOFF and combinations
of them) and colors behind the corners of a polygon are passed over.
"""

import re
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.text import quoted
from facedis_core.mesh.surface_builder import SurfaceBuilder
from facedis_core.mesh.text_numbers import (
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

# Some files have the number of vertices right behind it, as in OFF490.
_MAGIC = re.compile(rb"(?:ST)?C?N?(4?n?)OFF(\d*)")
_BINARY = re.compile(rb"\s*\w*OFF[ \t]+BINARY\b")
_COMMENT = re.compile(rb"#(?<![^\x00-\x20]#)[^\n]*")
_LARGEST_COUNT = 2**31 - 1


def read(stream: BinaryIO) -> SurfaceBuilder:
    """Decode an OFF.

    Raises InputError on text that is none, on binary OFF and on vertices of other dimensions.
    """
    surface = SurfaceBuilder()
    header: list[bytes] = []  # words up to the counts
    left: list[int] | None = None  # vertices, polygons
    for text in line_blocks(stream, "an OFF"):
        block = _COMMENT.sub(b"", text) if b"#" in text else text
        if left is None and _BINARY.match(block):
            raise InputError("is binary OFF; convert it to an OFF of text", ErrorCode.UNSUPPORTED)
        tokens = tokenize(block)
        first, counts = lines(tokens)
        row = 0
        while left is None and row < len(first):
            header += map(tokens.word, range(first[row], first[row] + min(counts[row], 6)))
            left = _counts(header)
            row += 1
        if left is None:
            continue
        many = slice(row, row + left[0])
        surface.add_vertices(_vertices(tokens, first[many], counts[many], surface.vertex_count))
        row += len(first[many])
        left[0] -= len(first[many])
        many = slice(row, row + left[1])
        corners, sizes = _polygons(tokens, first[many], counts[many])
        surface.add_polygons(corners, sizes, len(block))
        left[1] -= len(sizes)
        if row + len(sizes) < len(first):
            raise InputError(
                "goes on after the polygons that its header counts; expected one OFF",
                ErrorCode.MESH_SYNTAX,
            )
    if left is None:
        raise InputError(
            "is truncated: it does not say how many vertices it has", ErrorCode.TRUNCATED
        )
    if any(left):
        what = f"{left[0]} vertices" if left[0] else f"{left[1]} polygons"
        raise InputError(
            f"is truncated: it has {what} fewer than its header says", ErrorCode.TRUNCATED
        )
    return surface


def write(
    stream: BinaryIO,
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    name: str,
    in_mm: bool,
) -> None:
    """Encode as plain OFF; nine significant digits bring every float32 back exactly."""
    stream.write(b"OFF\n%d %d 0\n" % (len(vertices), len(triangles)))
    write_rows(stream, "%.9g %.9g %.9g\n", vertices)
    write_rows(stream, "3 %d %d %d\n", triangles)


def _counts(header: list[bytes]) -> list[int] | None:
    """Numbers of vertices and polygons in the first words; None where they are still to come."""
    magic = _MAGIC.fullmatch(header[0])
    if magic is None:
        raise InputError(
            f"begins with {quoted(header[0])}; expected an OFF, which begins with 'OFF'",
            ErrorCode.WRONG_KIND,
        )
    dimensions, behind = magic.groups()
    words = [behind, *header[1:]] if behind else header[1:]
    if dimensions:
        raise InputError(
            f"is {header[0].decode()}, vertices of other dimensions; expected an OFF with x y z",
            ErrorCode.UNSUPPORTED,
        )
    if not words:
        return None
    if len(words) > 3 or len(words) < 2 or not all(word.isdigit() for word in words):
        raise InputError(
            f"has {quoted(b' '.join(words))} where the numbers of vertices, polygons and edges "
            "were expected",
            ErrorCode.MESH_SYNTAX,
        )
    if any(len(word) > 10 or int(word) > _LARGEST_COUNT for word in words):
        raise InputError("promises more vertices or polygons than a mesh has", ErrorCode.TOO_LARGE)
    return [int(word) for word in words[:2]]


def _vertices(tokens: Tokens, first: Indices, sizes: Indices, before: int) -> NDArray[np.float32]:
    if not (sizes >= 3).all():
        row = int(np.argmin(sizes >= 3))
        raise InputError(
            f"vertex {before + row} has {sizes[row]} numbers on its line; expected x y z",
            ErrorCode.MESH_SYNTAX,
        )
    which = first[:, None] + np.arange(3)
    return decimals(tokens, which.ravel(), lambda word: before + word // 3).reshape(-1, 3)


def _polygons(tokens: Tokens, first: Indices, words: Indices) -> tuple[Indices, Indices]:
    """Corners of all polygons, and how many each has."""
    sizes = integers(tokens, first)
    short = (sizes < 0) | (sizes >= words)
    if short.any():
        row = int(np.argmax(short))
        raise InputError(
            f"a polygon of {sizes[row]} corners has {words[row] - 1} numbers behind that",
            ErrorCode.MESH_SYNTAX,
        )
    return integers(tokens, spans(first + 1, sizes)), sizes
