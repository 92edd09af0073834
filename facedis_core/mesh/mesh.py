"""Meshes: the class, and reading and writing by the suffix of a file.

No reader or writer changes the order or the number of vertices, since correspondence between faces
is by vertex number; polygons become triangles in file order.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError, UsageError
from facedis_core.io.paths import files_below, is_file
from facedis_core.io.streams import naming, open_input, shown
from facedis_core.mesh import ply
from facedis_core.mesh.meshio_formats import (
    MESHIO_SUFFIXES,
    WRITTEN_SUFFIXES,
    read_with_meshio,
    write_with_meshio,
)
from facedis_core.mesh.surface_builder import SurfaceBuilder


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangulated surface: vertices (V, 3) exactly as the file has them, triangles (F, 3).

    `unit_mm` is 1.0 where the file says that it is in millimetres, None where it does not say.
    `warnings` are lines about parts of the file that are passed over.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    name: str = ""
    unit_mm: float | None = None
    warnings: tuple[str, ...] = ()


class Codec(NamedTuple):
    """Decoder and encoder of one format."""

    read: Callable[[BinaryIO], SurfaceBuilder]
    write: Callable[[BinaryIO, NDArray[np.float32], NDArray[np.int32], str, bool], None]


# Suffix -> module with `read` and `write`, imported when a file has the suffix.
CODECS = {".ply": "ply", ".obj": "obj", ".wrl": "vrml", ".off": "off"}

_OWN = " ".join(CODECS)

_UNORDERED = {
    suffix: f"{suffix[1:].upper()} has triangles without an order of vertices"
    for suffix in (".stl", ".wkt")
}

# First bytes of files that are no mesh, and what to do with them instead.
_MISTAKEN = (
    (0, b"\x1f\x8b", "gzip-compressed data; unpack it with gunzip"),
    (0, b"\x93NUMPY", "a .npy array (latents or vertices), expected a mesh; name an array .npy"),
    (6, b"\0\0{", "a face set or a model, expected a mesh; give a face set as a .safetensors file"),
)


def topology_id(triangles: NDArray[np.integer]) -> str:
    """First 12 hex digits of the SHA-256 of the triangles (F, 3) as little-endian int32."""
    content = np.ascontiguousarray(triangles, "<i4").reshape(-1).view(np.uint8)
    return hashlib.sha256(content.data).hexdigest()[:12]


def read_mesh(source: str | Path) -> Mesh:
    """Read one mesh, by the suffix of its file; a file without one, and `-`, must be a PLY.

    The name is the stem of a regular file; a mesh from a pipe has the name its PLY carries, else
    `mesh1`.  Raises InputError on a file that is missing, empty, truncated, of an unknown kind,
    without vertices, not finite, or whose polygons refer to vertices it does not have.
    """
    path = Path(source)
    suffix = path.suffix.lower() or ".ply"
    codec = _codec(suffix)
    with open_input(str(source)) as stream, naming(source):
        if suffix in _UNORDERED:
            raise InputError(f"{_UNORDERED[suffix]}; expected {_OWN}", ErrorCode.UNSUPPORTED)
        _check_beginning(stream)
        surface = codec.read(stream) if codec else read_with_meshio(path)
        name = path.stem if is_file(path) else surface.name or "mesh1"
        return _mesh(surface, name, source)


def decode_mesh(stream: BinaryIO, source: str) -> Mesh:
    """Read one mesh from the bytes of a file that is not here, by the suffix of its name.

    Raises what `read_mesh` does, also for formats that need a file: all that meshio reads.
    """
    path = Path(source)
    codec = _codec(path.suffix.lower())
    with naming(source):
        if codec is None:
            reason = _UNORDERED.get(path.suffix.lower(), "only a file by itself can be of its kind")
            raise InputError(f"{reason}; expected {_OWN}", ErrorCode.UNSUPPORTED)
        _check_beginning(stream)
        return _mesh(codec.read(stream), path.stem, source)


def read_meshes(stream: BinaryIO, source: str = "standard input") -> Iterator[Mesh]:
    """Read PLY after PLY, binary and ASCII, up to the end, one mesh in memory at a time.

    The stream need not seek, and nothing beyond a mesh is read before that mesh is handed out.
    A mesh that carries no name is called `mesh1`, `mesh2`, ... after its place.
    Raises InputError where a mesh is broken, and where there is none at all.
    """
    count = 0
    with naming(source):
        _check_beginning(stream)
    while True:
        with naming(f"{source}, mesh {count + 1}"):
            surface = ply.read_next(stream)
            if surface is None:
                break
            mesh = _mesh(surface, surface.name or f"mesh{count + 1}", source)
        count += 1
        yield mesh
    if count == 0:
        raise InputError(
            f"{shown(source)} is empty; expected one or more PLY meshes", ErrorCode.EMPTY
        )


def write_mesh(stream: BinaryIO, mesh: Mesh, suffix: str = ".ply") -> None:
    """Encode a mesh by the suffix of its file, its vertices as they are.

    A PLY is binary and carries the name, and the unit where `unit_mm` is 1.0; the other formats
    have no place for them.
    Raises UsageError for errors of `check_written_suffix`.
    """
    suffix = suffix.lower()
    check_written_suffix(suffix)
    codec = _codec(suffix)
    if codec:
        codec.write(stream, mesh.vertices, mesh.triangles, mesh.name, mesh.unit_mm == 1.0)
    else:
        stream.write(write_with_meshio(mesh.vertices, mesh.triangles, suffix))


def check_written_suffix(suffix: str) -> None:
    """Raise UsageError for a format that cannot be written such that it is read back alike."""
    suffix = suffix.lower()
    if suffix not in CODECS and suffix not in WRITTEN_SUFFIXES:
        reason = _UNORDERED.get(suffix, "no writer keeps the vertices and triangles in order")
        raise UsageError(
            f"cannot write {suffix or 'a mesh without suffix'}: {reason}; "
            f"expected {_OWN} {' '.join(WRITTEN_SUFFIXES)}",
            ErrorCode.OUTPUT_SUFFIX,
        )


def mesh_files(folder: Path) -> list[Path]:
    """Every mesh in a folder and the folders below it, sorted by path; hidden ones are left out.

    Raises InputError where the folder cannot be read or has no mesh.
    """
    known = (*CODECS, *MESHIO_SUFFIXES)
    # a broken link is a mesh that is missing, and is listed
    names = files_below(folder, broken_links=True)
    found = [Path(folder, name) for name in names if Path(name).suffix.lower() in known]
    if not found:
        raise InputError(
            f"{shown(folder)} has no mesh; expected files {' '.join(known)}", ErrorCode.EMPTY
        )
    return sorted(found)


def _codec(suffix: str) -> Codec | None:
    """The codec of our own for a suffix."""
    if suffix not in CODECS:
        return None
    module = import_module(f"facedis_core.mesh.{CODECS[suffix]}")
    return Codec(module.read, module.write)


def _check_beginning(stream: BinaryIO) -> None:
    """Refuse other files of ours by their first bytes, which stay unread."""
    beginning = stream.peek(16) if isinstance(stream, io.BufferedReader) else b""
    for offset, magic, what in _MISTAKEN:
        if beginning[offset : offset + len(magic)] == magic:
            raise InputError(f"holds {what}", ErrorCode.WRONG_KIND)


def _mesh(surface: SurfaceBuilder, name: str, source: str | Path) -> Mesh:
    vertices, triangles = surface.finish()
    warnings = tuple(f"{shown(source)}: {line}" for line in surface.warnings)
    return Mesh(vertices, triangles, name, surface.unit_mm, warnings)
