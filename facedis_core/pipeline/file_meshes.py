"""The meshes of a file or stream: one, PLY after PLY, or arrays of vertices or latents."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from facedis_core.data.latents import array_kind
from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.npy import ArrayHeader, NpyReader, peek_header
from facedis_core.io.paths import is_file
from facedis_core.io.streams import naming, open_input
from facedis_core.mesh.mesh import Mesh, decode_mesh, read_mesh, read_meshes

# A stream of latents and its name -> the decoded meshes.
DecodeLatents = Callable[[BinaryIO, str], Iterator[Mesh]]

_NO_TRIANGLES: Final = np.empty((0, 3), np.int32)
# What a .npy file may hold by mistake: offset, bytes there, words.
_MISTAKEN_ARRAYS: Final = ((0, b"ply", "a PLY mesh; name it .ply"),)


def read_file_meshes(source: str, name: str | None = None) -> Iterator[Mesh]:
    """The mesh of a file, or the meshes of a file with PLY after PLY.

    Args:
        source: path.
        name: name of a single mesh; None = stem of the path. Several have the names in the file.

    Raises:
        InputError: errors of `read_mesh`.
    """
    name = name or Path(source).stem
    if Path(source).suffix.lower() not in ("", ".ply"):
        yield replace(read_mesh(source), name=name)
        return
    with open_input(source) as stream:
        yield from _ply_meshes(stream, source, name)


def decode_file_meshes(content: bytes, source: str, name: str | None = None) -> Iterator[Mesh]:
    """The meshes of `read_file_meshes` from the content of a file.

    Args:
        content: bytes of the file.
        source: its path.
        name: of a single mesh; None = stem of the path.

    Raises:
        InputError: errors of `decode_mesh`.
    """
    stream: Any = io.BytesIO(content)
    stream = io.BufferedReader(stream)  # readers peek
    name = name or Path(source).stem
    if Path(source).suffix.lower() in ("", ".ply"):
        yield from _ply_meshes(stream, source, name)
    else:
        yield replace(decode_mesh(stream, source), name=name)


def array_meshes(stream: BinaryIO, source: str, decode: DecodeLatents | None) -> Iterator[Mesh]:
    with naming(source):
        header, stream = peek_header(stream)
        if decode is None or header is None or array_kind(header) == "vertices":
            return _vertex_arrays(stream, source)
    return decode(stream, source)


def _vertex_arrays(stream: BinaryIO, source: str) -> Iterator[Mesh]:
    """Faces without triangles and units, from float arrays (N, V, 3) or (V, 3).

    They are named by file and row; of an array (V, 3) by file. Whether they are finite is checked
    item by item: one row that is not does not end the reading.
    """
    is_named = is_file(source)
    stem = f"{Path(source).stem}_" if is_named else "row"
    reader = NpyReader(stream, "vertices (N, V, 3)", _MISTAKEN_ARRAYS)
    count = 0
    with naming(source):
        while (header := reader.header()) is not None:
            _check_vertex_array(header)
            for block in reader.blocks(header):
                single = len(header.shape) == 2
                for vertices in [block] if single else block:
                    name = Path(source).stem if single and is_named else f"{stem}{count:04d}"
                    with np.errstate(over="ignore"):  # too large is inf, which is refused later
                        yield Mesh(np.ascontiguousarray(vertices, np.float32), _NO_TRIANGLES, name)
                    count += 1
        if not count:
            raise InputError("holds no faces; expected vertices (N, V, 3)", ErrorCode.EMPTY)


def _check_vertex_array(header: ArrayHeader) -> None:
    if header.dtype.names is not None:
        raise InputError(
            "holds latents, which are encoded already; expected a mesh", ErrorCode.WRONG_KIND
        )
    dtype, shape, _ = header
    if array_kind(header) != "vertices":
        raise InputError(
            f"is an array {dtype} {shape}, expected float vertices (N, V, 3) or (V, 3)",
            ErrorCode.ARRAY_SHAPE,
        )


def _ply_meshes(stream: BinaryIO, source: str, name: str) -> Iterator[Mesh]:
    """The meshes of PLY after PLY; a single one is called `name`."""
    meshes = read_meshes(stream, source)
    first, second = next(meshes), next(meshes, None)
    if second is None:
        yield replace(first, name=name)
        return
    yield from (first, second)
    yield from meshes
