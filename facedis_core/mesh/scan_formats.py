"""Formats of raw scans alone: STL, whose triangles share no vertices, and lists of points (XYZ).

They have no order of vertices that could be a registration, so that `read_mesh` refuses them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.streams import naming, read_all
from facedis_core.mesh.mesh import Mesh, read_mesh
from facedis_core.mesh.vertex_checks import check_finite

_MOST_BYTES: Final = 1 << 31
_STL_HEADER: Final = 84  # bytes, with the number of triangles
_STL_ROW: Final = np.dtype([("numbers", "<f4", (4, 3)), ("attribute", "<u2")])
_FEWEST_COLUMNS: Final = 3


def read_scan(path: str | Path) -> Mesh:
    """Read a raw scan: what `read_mesh` reads, STL (.stl) and points (.xyz); errors likewise."""
    decode = SCAN_FORMATS.get(Path(path).suffix.lower())
    if decode is None:
        return read_mesh(path)
    return decode(read_all(str(path), _MOST_BYTES, "a scan"), path)


def decode_stl(content: bytes, source: str | Path) -> Mesh:
    """The triangles of an STL, binary or text, as a mesh whose triangles share no vertices.

    Args:
        content: bytes of the file.
        source: its name.

    Raises:
        InputError: cut short, or without triangles.
    """
    with naming(source):
        if not content:
            raise InputError("is empty; expected a scan", ErrorCode.EMPTY)
        count = int.from_bytes(content[80:_STL_HEADER], "little")
        size = _STL_HEADER + count * _STL_ROW.itemsize
        # binary files may begin with `solid` as well: their size tells
        if len(content) >= _STL_HEADER and (size == len(content) or content[:5] != b"solid"):
            if len(content) < size:
                raise InputError(
                    f"ends after {len(content)} bytes; its {count} triangles take {size}",
                    ErrorCode.TRUNCATED,
                )
            rows = np.frombuffer(content, _STL_ROW, count, _STL_HEADER)
            corners = rows["numbers"][:, 1:].reshape(-1, 3)
        else:
            words = np.array(content.split())
            keys = np.flatnonzero(words == b"vertex")
            if not len(keys) or len(keys) % 3 or keys[-1] + 3 >= len(words):
                raise InputError(
                    "is no whole STL; expected triangles of three vertices", ErrorCode.MESH_SYNTAX
                )
            corners = _numbers(words[keys[:, None] + [1, 2, 3]])
        if not len(corners):
            raise InputError("has no triangles; expected a scan", ErrorCode.EMPTY)
        check_finite(corners)
    triangles = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    return Mesh(np.ascontiguousarray(corners, np.float32), triangles, Path(source).stem)


def decode_points(content: bytes, source: str | Path) -> Mesh:
    """The points of a text with x y z and perhaps more numbers a line, without triangles.

    Lines that begin with # or // and a first line of one number, the number of points, are passed
    over; numbers may be separated by blanks, commas or semicolons.

    Args:
        content: bytes of the file.
        source: its name.

    Raises:
        InputError: a line has fewer than three numbers.
    """
    lines = content.replace(b",", b" ").replace(b";", b" ").splitlines()
    with naming(source):
        rows = [line.split() for line in lines]
        rows = [row[:3] for row in rows if row and not row[0].startswith((b"#", b"//"))]
        if len(rows) > 1 and len(rows[0]) == 1:
            del rows[0]
        short = next((k for k, row in enumerate(rows) if len(row) < _FEWEST_COLUMNS), None)
        if short is not None:
            raise InputError(
                f"point {short} has {len(rows[short])} numbers, expected x y z",
                ErrorCode.MESH_SYNTAX,
            )
        if not rows:
            raise InputError("has no points; expected a scan", ErrorCode.EMPTY)
        points = _numbers(np.array(rows))
        check_finite(points)
    return Mesh(points, np.empty((0, 3), np.int32), Path(source).stem)


SCAN_FORMATS: Final[Mapping[str, Callable[[bytes, str | Path], Mesh]]] = {
    ".stl": decode_stl,
    ".xyz": decode_points,
}


def _numbers(words: NDArray[np.bytes_]) -> NDArray[np.float32]:
    try:
        return words.astype(np.float32)
    except ValueError as error:
        raise InputError(
            f"has a word where a number is due: {error}", ErrorCode.MESH_SYNTAX
        ) from None
