"""Faces in NumPy arrays: vertices of many in one, or latents that become faces."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from facedis_core.errors import InputError
from facedis_core.mesh import Mesh
from facedis_core.npy import MAGIC, ArrayHeader, NpyReader
from facedis_core.paths import is_file
from facedis_core.streams import naming, read_ahead

# Makes meshes of the latents in a stream of that name.
Decode = Callable[[BinaryIO, str], Iterator[Mesh]]

_NO_TRIANGLES: Final = np.empty((0, 3), np.int32)
_MISTAKEN: Final = ((0, b"ply", "a PLY mesh; name it .ply"),)
# In the header of latents: the fields of a structured array, or rows of anything but x, y, z.
_LATENTS: Final = re.compile(rb"'descr': \[|'shape': \(\d+, (?!3\))\d+\)")
HEADER: Final = 128  # bytes that every array has before its numbers, enough to tell


def faces_of_arrays(stream: BinaryIO, source: str, decode: Decode | None) -> Iterator[Mesh]:
    """Faces of vertex arrays, or of latents where there is something to decode them.

    Raises:
        InputError: neither, or latents without `decode`.
    """
    beginning, stream = read_ahead(stream, HEADER)
    if decode is not None and are_latents(beginning):
        return decode(stream, source)
    return _vertex_arrays(stream, source)


def are_latents(beginning: bytes) -> bool:
    """Whether an array that begins so, with HEADER bytes of it, holds latents, not vertices."""
    return beginning.startswith(MAGIC) and _LATENTS.search(beginning[:HEADER]) is not None


def _vertex_arrays(stream: BinaryIO, source: str) -> Iterator[Mesh]:
    """Faces of float arrays (N, V, 3), named by file and row, or (V, 3), named by file.

    Arrays know neither triangles nor units.
    """
    named = is_file(source)
    stem = f"{Path(source).stem}_" if named else "row"
    reader = NpyReader(stream, "vertices (N, V, 3)", _MISTAKEN)
    count = 0
    with naming(source):
        while (header := reader.header()) is not None:
            _check_vertices(header)
            for block in reader.blocks(header):
                single = len(header.shape) == 2
                for vertices in [block] if single else block:
                    name = Path(source).stem if single and named else f"{stem}{count:04d}"
                    with np.errstate(over="ignore"):  # too large is inf, which is refused later
                        yield Mesh(np.ascontiguousarray(vertices, np.float32), _NO_TRIANGLES, name)
                    count += 1
        if not count:
            raise InputError("holds no faces; expected vertices (N, V, 3)")


def _check_vertices(header: ArrayHeader) -> None:
    if header.dtype.names is not None:
        raise InputError("holds latents, which are encoded already; expected a mesh")
    dtype, shape, _ = header
    if dtype.kind != "f" or len(shape) not in (2, 3) or shape[-1] != 3 or not shape[-2]:
        raise InputError(
            f"is an array {dtype} {shape}, expected float vertices (N, V, 3) or (V, 3)"
        )
