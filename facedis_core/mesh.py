"""Meshes: the triangulated surfaces that every command reads and writes.

Correspondence is everything here: no reader or writer ever changes the order or the number of
vertices, and polygons become triangles in file order.
"""

import hashlib
import io
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedis_core import obj, ply, vrml
from facedis_core.errors import InputError, OutputError, UsageError
from facedis_core.paths import files_below, is_file
from facedis_core.polygons import Surface
from facedis_core.streams import open_input, shown


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangulated surface: vertices (V, 3) exactly as the file has them, triangles (F, 3).

    `unit_mm` is 1.0 where the file says that it is in millimetres, None where it does not say.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    name: str = ""
    unit_mm: float | None = None


class Codec(NamedTuple):
    """How one format is decoded and encoded."""

    read: Callable[[BinaryIO], Surface]
    write: Callable[[BinaryIO, NDArray[np.float32], NDArray[np.int32], str, bool], None]


CODECS = {
    ".ply": Codec(ply.read, ply.write),
    ".obj": Codec(obj.read, obj.write),
    ".wrl": Codec(vrml.read, vrml.write),
}

_OWN = " ".join(CODECS)

MESHIO_SUFFIXES = (".off", ".vtk", ".vtu")
"""What a folder of meshes may hold besides; one named by itself may be all that meshio knows."""

# A parser of XML looks at a name that never ends again and again.
_MARKUP = (".vtu", ".xdmf", ".xmf", ".xml")
_LONGEST_TAG = 1 << 20
_MOST_TAGS = 10_000
_RAW_DATA = re.compile(rb"<AppendedData[^>]{0,99}raw")

_UNORDERED = {".stl": "STL has triangles without an order of vertices"}

# First bytes of what is no mesh, and what to do with it instead.
_MISTAKEN = (
    (0, b"\x1f\x8b", "gzip-compressed data; unpack it with gunzip"),
    (0, b"\x93NUMPY", "latents, which are encoded already; expected a mesh"),
    (6, b"\0\0{", "a face set or a model, expected a mesh; give a face set as a .safetensors file"),
)


def topology_id(triangles: NDArray[np.integer]) -> str:
    """First 12 hex digits of the SHA-256 of the triangles (F, 3) as little-endian int32."""
    content = np.ascontiguousarray(triangles, "<i4").reshape(-1).view(np.uint8)
    return hashlib.sha256(content.data).hexdigest()[:12]


def read_mesh(source: str | Path) -> Mesh:
    """Read one mesh, by the suffix of its file; a file without one, and `-`, must be a PLY.

    The name is the stem of a regular file; what comes out of a pipe has the name its PLY carries,
    else `mesh1`.  Raises InputError on a file that is missing, empty, truncated, of an unknown
    kind, without vertices, not finite, or whose polygons refer to vertices it does not have.
    """
    path = Path(source)
    suffix = path.suffix.lower() or ".ply"
    codec = CODECS.get(suffix)
    with open_input(str(source)) as stream, _blamed_on(source):
        if suffix in _UNORDERED:
            raise InputError(f"{_UNORDERED[suffix]}; expected {_OWN}")
        _check_beginning(stream)
        surface = codec.read(stream) if codec else _read_by_meshio(path)
        name = path.stem if is_file(path) else surface.name or "mesh1"
        return _mesh(surface, name)


def decode_mesh(stream: BinaryIO, source: str) -> Mesh:
    """Read one mesh from the bytes of a file that is not here, by the suffix it is called by.

    Raises what `read_mesh` does, also for formats that need a file: all but our own.
    """
    path = Path(source)
    codec = CODECS.get(path.suffix.lower())
    with _blamed_on(source):
        if codec is None:
            reason = _UNORDERED.get(path.suffix.lower(), "only a file by itself can be of its kind")
            raise InputError(f"{reason}; expected {_OWN}")
        _check_beginning(stream)
        return _mesh(codec.read(stream), path.stem)


def read_meshes(stream: BinaryIO, source: str = "standard input") -> Iterator[Mesh]:
    """Read PLY after PLY, binary and ASCII, up to the end, one mesh in memory at a time.

    The stream need not seek, and nothing beyond a mesh is read before that mesh is handed out.
    A mesh that carries no name is called `mesh1`, `mesh2`, ... after its place.
    Raises InputError where a mesh is broken, and where there is none at all.
    """
    count = 0
    with _blamed_on(source):
        _check_beginning(stream)
    while True:
        with _blamed_on(f"{source}, mesh {count + 1}"):
            surface = ply.read_next(stream)
            if surface is None:
                break
            mesh = _mesh(surface, surface.name or f"mesh{count + 1}")
        count += 1
        yield mesh
    if count == 0:
        raise InputError(f"{shown(source)} is empty; expected one or more PLY meshes")


def write_mesh(stream: BinaryIO, mesh: Mesh, suffix: str = ".ply") -> None:
    """Encode a mesh by the suffix of its file, its vertices as they are.

    A PLY is binary and carries the name, and the unit where `unit_mm` is 1.0; the other formats
    have no place for them.
    Raises UsageError where nothing can write the suffix, or the format loses the vertex order.
    """
    suffix = suffix.lower()
    codec = CODECS.get(suffix)
    if codec:
        codec.write(stream, mesh.vertices, mesh.triangles, mesh.name, mesh.unit_mm == 1.0)
    elif suffix in _UNORDERED:
        raise UsageError(f"cannot write {suffix}: {_UNORDERED[suffix]}; expected {_OWN}")
    else:
        stream.write(_encode_by_meshio(mesh, suffix))


def mesh_files(folder: Path) -> list[Path]:
    """Every mesh in a folder and the folders below it, sorted by path; hidden ones are left out.

    Raises InputError where the folder cannot be read or has no mesh.
    """
    known = (*CODECS, *MESHIO_SUFFIXES)
    # a link that leads nowhere is a mesh that is missing, not one that never was
    names = files_below(folder, broken_links=True)
    found = [Path(folder, name) for name in names if Path(name).suffix.lower() in known]
    if not found:
        raise InputError(f"{shown(folder)} has no mesh; expected files {' '.join(known)}")
    return sorted(found)


@contextmanager
def _blamed_on(source: str | Path) -> Iterator[None]:
    """Say of which source a codec speaks, and put what the machine refuses in the same words."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{shown(source)}: {error}") from error
    except OSError as error:
        raise InputError(f"{shown(source)}: could not be read ({error.strerror})") from error
    except MemoryError as error:
        raise InputError(f"{shown(source)}: does not fit into memory; expected a mesh") from error


def _check_beginning(stream: BinaryIO) -> None:
    """Refuse other files of ours by their first bytes, which stay unread."""
    beginning = stream.peek(16) if isinstance(stream, io.BufferedReader) else b""
    for offset, magic, what in _MISTAKEN:
        if beginning[offset : offset + len(magic)] == magic:
            raise InputError(f"holds {what}")


def _mesh(surface: Surface, name: str) -> Mesh:
    vertices, triangles = surface.finish()
    return Mesh(vertices, triangles, name, surface.unit_mm)


def _read_by_meshio(path: Path) -> Surface:
    if path.suffix.lower() in _MARKUP:
        _check_markup(path)
    if path.suffix.lower() == ".off":
        _check_off(path)
    import meshio

    try:
        with _silence():
            mesh = meshio.read(path)
    except (Exception, SystemExit) as error:  # it raises whatever comes, and may exit
        raise InputError(
            f"meshio could not read it ({_reason(error, path)}); "
            f"expected {_OWN} or a format of meshio's"
        ) from error
    if mesh.points.ndim != 2 or mesh.points.shape[1] != 3:
        raise InputError(f"has vertices of shape {mesh.points.shape}; expected x y z each")
    surface = Surface()
    with np.errstate(over="ignore"):  # too large for float32 is inf, which is refused
        surface.add_vertices(mesh.points.astype(np.float32))
    for block in mesh.cells:
        if block.type in ("vertex", "line"):
            continue
        if block.type not in ("triangle", "quad", "polygon"):
            raise InputError(f"has {block.type} cells; expected a surface of polygons")
        corners = np.asarray(block.data, np.int64)
        counts = np.full(len(corners), corners.shape[1])
        surface.add_polygons(corners.ravel(), counts, corners.nbytes)
    return surface


def _check_off(path: Path) -> None:
    """Raise InputError where the line is missing that meshio would look for without an end."""
    with path.open("rb") as stream:
        first, *lines = map(bytes.strip, stream.read(_LONGEST_TAG).split(b"\n"))
    if first == b"OFF" and all(line[:1] in (b"", b"#") for line in lines):
        raise InputError("is truncated: it does not say how many vertices it has")


def _check_markup(path: Path) -> None:
    """Raise InputError unless this begins as XML does and its tags and entities end."""
    opened = {b"<": -1, b"&": -1}  # where the last one is that has not ended
    with path.open("rb") as stream:
        beginning = stream.read(_LONGEST_TAG)
        if not beginning.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            raise InputError("does not begin with '<'; expected XML")
        start, piece, tags = 0, beginning, 0
        while piece and not _RAW_DATA.search(piece):  # what follows is no text
            tags += piece.count(b"<")
            if tags > _MOST_TAGS:
                raise InputError(f"has more than {_MOST_TAGS} tags; expected a mesh")
            for mark, end in ((b"<", b">"), (b"&", b";")):
                last = piece.rfind(end)
                if last >= 0:
                    opened[mark] = -1
                following = piece.find(mark, last + 1)
                if following >= 0 and opened[mark] < 0:
                    opened[mark] = start + following
                if opened[mark] >= 0 and start + len(piece) - opened[mark] > _LONGEST_TAG:
                    raise InputError(f"has a tag of more than {_LONGEST_TAG} bytes; expected XML")
            start += len(piece)
            piece = stream.read(_LONGEST_TAG)


def _encode_by_meshio(mesh: Mesh, suffix: str) -> bytes:
    import meshio

    # Several of its writers need a file that they can seek in, or that has a name.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"mesh{suffix}")
        try:
            with _silence():
                meshio.write_points_cells(path, mesh.vertices, [("triangle", mesh.triangles)])
        except OSError as error:
            raise OutputError(f"a {suffix} mesh could not be written ({error.strerror})") from error
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"cannot write {suffix or 'a mesh without suffix'} ({_reason(error, path)}); "
                f"expected {_OWN} or a format of meshio's"
            ) from error
        if len(list(Path(folder).iterdir())) != 1:
            raise UsageError(f"cannot write {suffix}, which takes several files; expected {_OWN}")
        return path.read_bytes()


@contextmanager
def _silence() -> Iterator[None]:
    """Let nothing through: meshio prints what it then raises; standard output is for data."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def _reason(error: BaseException, path: Path) -> str:
    text = " ".join(str(error).replace(str(path), path.name).split())
    return f"{type(error).__name__}: {text[:120]}"
