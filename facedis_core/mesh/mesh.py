"""Meshes: the class, and reading and writing by the suffix of a file.

No reader or writer changes the order or the number of vertices, since correspondence between faces
is by vertex number; polygons become triangles in file order.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedis_core.errors import ErrorCode, InputError, UsageError, check_argument
from facedis_core.io.paths import files_below, is_file, is_folder
from facedis_core.io.streams import naming, open_input, open_output
from facedis_core.io.text import shown
from facedis_core.io.urls import is_url
from facedis_core.mesh import ply
from facedis_core.mesh.meshio_formats import (
    MESHIO_SUFFIXES,
    WRITTEN_SUFFIXES,
    read_with_meshio,
    write_with_meshio,
)
from facedis_core.mesh.surface_builder import SurfaceBuilder
from facedis_core.mesh.vertex_checks import check_finite


@dataclass(frozen=True, eq=False, repr=False)
class Mesh:
    """A triangulated surface.

    Attributes:
        vertices: float32 (V, 3), exactly as the file has them.
        triangles: int32 (F, 3).
        name: of the face.
        unit_mm: 1.0 where the file says that it is in millimetres, None where it does not say.
        warnings: lines about parts of the file that are passed over.

    Raises:
        InputError: vertices or triangles are no numbers (n, 3), or another unit.

    Example:
        >>> mesh = Mesh([[0, 0, 0], [90, 0, 0], [0, 90, 0]], [[0, 1, 2]], "corner", unit_mm=1.0)
        >>> mesh
        Mesh('corner', 3 vertices, 1 triangle, in mm)
        >>> mesh.vertices.dtype
        dtype('float32')
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    name: str = ""
    unit_mm: float | None = None
    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        vertices: ArrayLike,
        triangles: ArrayLike,
        name: str = "",
        unit_mm: float | None = None,
        warnings: tuple[str, ...] = (),
    ) -> None:
        if unit_mm not in (None, 1.0):
            raise InputError(
                f"unit_mm of a mesh is {unit_mm!r}, expected 1.0 for millimetres or None; convert "
                "the vertices, or say the unit where they are used, as units='cm'",
                ErrorCode.UNIT,
            )
        values = {
            "vertices": _rows_of_three(vertices, "vertices", np.float32),
            "triangles": _rows_of_three(triangles, "triangles", np.int32),
            "name": name,
            "unit_mm": unit_mm,
            "warnings": warnings,
        }
        self.__dict__.update(values)  # a frozen dataclass has no other way

    def __repr__(self) -> str:
        count = len(self.triangles)
        return (
            f"Mesh({self.name!r}, {len(self.vertices)} vertices, {count} triangle"
            f"{'s' * (count != 1)}, {'in mm' if self.unit_mm == 1.0 else 'unit unknown'})"
        )


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
    (
        0,
        b"\x93NUMPY",
        "a .npy array, expected a mesh; name vertices .npy, decode latents with fd-decode",
    ),
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

    Example:
        >>> read_mesh("weights/examples/bob_smile.ply")
        Mesh('bob_smile', 26719 vertices, 52220 triangles, in mm)
    """
    check_argument(source, (str, Path), "read_mesh: source", "a path")
    path = Path(source)
    suffix = path.suffix.lower() or ".ply"
    codec = _codec(suffix)
    if is_url(source):
        check_remote_mesh(str(source))
    with open_input(str(source)) as stream, naming(source):
        if suffix in _UNORDERED:
            raise InputError(f"{_UNORDERED[suffix]}; expected {_OWN}", ErrorCode.UNSUPPORTED)
        _check_beginning(stream)
        surface = codec.read(stream) if codec else read_with_meshio(path)
        name = path.stem if is_url(source) or is_file(path) else surface.name or "mesh1"
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


def write_mesh(target: str | Path | BinaryIO, mesh: Mesh, suffix: str | None = None) -> None:
    """Write a mesh by the suffix of its file, its vertices as they are.

    A PLY is binary and carries the name, and the unit where `unit_mm` is 1.0; the other formats
    have no place for them.

    Args:
        target: a path, whose file is written whole or not at all and replaces another one; or a
            binary stream.
        mesh: the mesh.
        suffix: the format; None = that of the path, `.ply` for a stream.

    Raises:
        UsageError: errors of `check_written_suffix`, or an argument of another type.
        InputError: a vertex is not finite, or a triangle refers to none.
        OutputError: the file cannot be written.

    Example:
        >>> mesh = read_mesh("weights/examples/bob_smile.ply")
        >>> write_mesh("bob.obj", mesh)
        >>> read_mesh("bob.obj")
        Mesh('bob', 26719 vertices, 52220 triangles, unit unknown)
    """
    check_argument(mesh, Mesh, "write_mesh: mesh", "a Mesh")
    with naming(mesh.name or "the mesh"):
        check_finite(mesh.vertices)
        first, last = mesh.triangles.min(initial=0), mesh.triangles.max(initial=-1)
        if first < 0 or last >= len(mesh.vertices):
            raise InputError(
                f"a triangle refers to vertex {first if first < 0 else last} (counted from 0), "
                f"there are {len(mesh.vertices)}; triangles are numbers of vertices",
                ErrorCode.VERTEX_INDEX,
            )
    if isinstance(target, str | Path):
        suffix = suffix or Path(target).suffix or ".ply"
        check_written_suffix(suffix)
        with open_output(str(target), force=True) as stream:
            write_mesh(stream, mesh, suffix)
        return
    if not hasattr(target, "write"):
        check_argument(target, (), "write_mesh: target", "a path or a binary stream")
    stream, suffix = target, (suffix or ".ply").lower()
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


def is_mesh_suffix(suffix: str) -> bool:
    """Whether files with this suffix are meshes whose vertices have an order."""
    return suffix.lower() in (*CODECS, *MESHIO_SUFFIXES, *WRITTEN_SUFFIXES)


def is_mesh_source(source: str) -> bool:
    """Whether a source is a folder, or a mesh by its suffix."""
    return is_folder(source) or is_mesh_suffix(Path(source).suffix)


def check_remote_mesh(url: str) -> None:
    """Raise InputError for a mesh by URL that is read by a package that knows only files."""
    if Path(url).suffix.lower() not in ("", *CODECS):
        raise InputError(
            f"{shown(url)} can only be read from a disk; copy it, or give {_OWN}, .npy or "
            ".safetensors",
            ErrorCode.UNSUPPORTED,
        )


def mesh_files(folder: Path, more: Iterable[str] = ()) -> list[Path]:
    """The files of `mesh_names`."""
    return [Path(folder, name) for name in mesh_names(folder, more)]


def mesh_names(folder: str | Path, more: Iterable[str] = ()) -> list[str]:
    """Every mesh in a folder, also by URL, and the folders below it; hidden ones are left out.

    They are paths below the folder, sorted by their parts. Files with one of the suffixes `more`
    count as meshes as well. Raises InputError where the folder cannot be read or has no mesh.
    """
    known = tuple(CODECS) if is_url(folder) else (*CODECS, *MESHIO_SUFFIXES, *more)
    # a broken link is a mesh that is missing, and is listed
    names = files_below(folder, broken_links=True)
    found = [name for name in names if Path(name).suffix.lower() in known]
    if not found:
        raise InputError(
            f"{shown(folder)} has no mesh; expected files {' '.join(known)}", ErrorCode.EMPTY
        )
    return sorted(found, key=lambda name: name.split("/"))


def _codec(suffix: str) -> Codec | None:
    """The codec of our own for a suffix."""
    if suffix not in CODECS:
        return None
    module = import_module(f"facedis_core.mesh.{CODECS[suffix]}")
    return Codec(module.read, module.write)


def _rows_of_three(values: ArrayLike, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """An array (n, 3) of this type; of the same memory where it has the type already."""
    if isinstance(values, np.ndarray) and values.dtype == dtype:
        array = values
    else:
        try:
            array = np.asarray(values)
        except (ValueError, TypeError):  # rows of different lengths
            array = np.empty(0, object)
        if array.dtype.kind not in ("fiu" if dtype is np.float32 else "iu"):
            wanted = "numbers" if dtype is np.float32 else "whole numbers"
            raise InputError(
                f"the {name} of a mesh are {array.dtype}, expected {wanted} (n, 3)",
                ErrorCode.ARRAY_SHAPE,
            )
        with np.errstate(over="ignore"):  # too large is inf, which is refused where it matters
            array = array.astype(dtype)
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(
            f"the {name} of a mesh have the shape {array.shape}, expected (n, 3)",
            ErrorCode.ARRAY_SHAPE,
        )
    return array


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
