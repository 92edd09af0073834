"""Meshes in the formats that meshio reads and writes: VTK, VTU and others."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError, UsageError, output_error
from facedis_core.io.atomic import temporary_folder
from facedis_core.io.text import on_one_line
from facedis_core.mesh.surface_builder import SurfaceBuilder

MESHIO_SUFFIXES: Final = (".vtk", ".vtu")
"""Formats that are looked for in a folder; a file named by itself may have any meshio format."""

WRITTEN_SUFFIXES: Final = (
    *(".avs", ".bdf", ".dat", ".dato", ".fem", ".inp", ".mdpa", ".mesh", ".meshb", ".nas", ".post"),
    *(".tec", ".vol", ".vtk", ".vtu"),
)
"""Formats whose files meshio reads back with the same vertices and triangles in the same order.

Found by trying all; tests/mesh/test_meshio_formats.py does so.
"""

# Formats that meshio reads otherwise, not to an end, or not at all.
_NOT_READ: Final = {
    **dict.fromkeys((".ele", ".node"), "TetGen files hold tetrahedra"),
    ".svg": "SVG is a drawing",
    ".vtp": "is VTK PolyData in XML, which ParaView saves as .ply or as legacy .vtk",
}

_WARNING: Final = re.compile(r"^Warning:", re.MULTILINE)
_MOST_WARNINGS: Final = 3


def read_with_meshio(path: Path) -> SurfaceBuilder:
    """Read a file by its suffix.

    Raises InputError where meshio cannot read it, or it is no surface of polygons.
    """
    suffix = path.suffix.lower()
    if suffix in _NOT_READ:
        raise InputError(
            f"{_NOT_READ[suffix]}; expected .ply .obj .wrl .off", ErrorCode.UNSUPPORTED
        )
    file_format = None
    if suffix in (".msh", ".vtk"):
        from facedis_core.mesh.vtk import read_polydata

        with path.open("rb") as stream:
            if suffix == ".vtk" and (polydata := read_polydata(stream)):
                return polydata
            if suffix == ".msh" and stream.read(11) != b"$MeshFormat":
                raise InputError(
                    "is a .msh file but none of Gmsh; convert it to .ply or .obj",
                    ErrorCode.UNSUPPORTED,
                )
        file_format = "gmsh" if suffix == ".msh" else None
    import meshio

    words = io.StringIO()
    try:
        with _diverted(words):
            mesh = meshio.read(path.absolute(), file_format)  # some look for files beside it
    except (Exception, SystemExit) as error:  # it raises whatever comes, and may exit
        raise InputError(
            f"meshio could not read it ({_reason(error, words, path)}); "
            "expected .ply .obj .wrl .off or a format of meshio's",
            ErrorCode.UNSUPPORTED,
        ) from error
    if mesh.points.ndim != 2 or mesh.points.shape[1] != 3:
        raise InputError(
            f"has vertices of shape {mesh.points.shape}; expected x y z each", ErrorCode.UNSUPPORTED
        )
    surface = SurfaceBuilder()
    surface.warnings += _warnings(words.getvalue())
    with np.errstate(over="ignore"):  # too large for float32 is inf, which is refused
        surface.add_vertices(mesh.points.astype(np.float32))
    for block in mesh.cells:
        if block.type in ("vertex", "line") or not len(block.data):
            continue
        if block.type not in ("triangle", "quad", "polygon") or np.ndim(block.data) != 2:
            raise InputError(
                f"has {block.type} cells; expected a surface of polygons", ErrorCode.UNSUPPORTED
            )
        corners = np.asarray(block.data, np.int64)
        counts = np.full(len(corners), corners.shape[1])
        surface.add_polygons(corners.ravel(), counts, corners.nbytes)
    return surface


def write_with_meshio(
    vertices: NDArray[np.float32], triangles: NDArray[np.int32], suffix: str
) -> bytes:
    """Encode a mesh by the suffix of its file, one of WRITTEN_SUFFIXES.

    Raises UsageError for a mesh without triangles, OutputError where there is no room.
    """
    if not len(triangles):
        raise UsageError(
            f"cannot write a mesh without triangles as {suffix}; expected .ply .obj .wrl .off",
            ErrorCode.OUTPUT_SUFFIX,
        )
    import meshio

    words = io.StringIO()
    # Several of its writers need a file that they can seek in, or that has a name.
    with temporary_folder() as folder:
        path = folder / f"mesh{suffix}"
        try:
            with _diverted(words):
                meshio.write_points_cells(path, vertices, [("triangle", triangles)])
        except OSError as error:
            message = f"a {suffix} mesh could not be written ({error.strerror})"
            raise output_error(message, error) from error
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"cannot write this mesh as {suffix} ({_reason(error, words, path)}); "
                "expected .ply .obj .wrl .off",
                ErrorCode.OUTPUT_SUFFIX,
            ) from error
        return path.read_bytes()


def moved_with_meshio(
    path: Path,
    vertices: NDArray[np.floating[Any]],
    change: Callable[[str, NDArray[Any]], NDArray[Any] | None],
) -> bytes:
    """A file written anew with other vertices (V, 3), and all else that meshio reads of it.

    Args:
        path: the file.
        vertices: in the order of the file.
        change: from the name and the values (V, ...) of data of the vertices to new values; None
            leaves them out.

    Raises InputError where meshio cannot read or write it.
    """
    import meshio

    words = io.StringIO()
    with temporary_folder() as folder:
        written = folder / f"mesh{path.suffix}"
        try:
            with _diverted(words):
                content = meshio.read(path.absolute())
                content.points = vertices.astype(content.points.dtype)
                changed = {name: change(name, data) for name, data in content.point_data.items()}
                content.point_data = {k: data for k, data in changed.items() if data is not None}
                content.write(written)
        except (Exception, SystemExit) as error:  # as in read_with_meshio
            raise InputError(
                f"meshio could not write it with other vertices ({_reason(error, words, path)}); "
                "save it again as .obj or .ply",
                ErrorCode.UNSUPPORTED,
            ) from error
        return written.read_bytes()


@contextmanager
def _diverted(words: io.StringIO) -> Iterator[None]:
    """Collect what meshio prints, for an error: standard output is for data."""
    with redirect_stdout(words), redirect_stderr(words):
        yield


def _warnings(text: str) -> list[str]:
    """Different warnings that meshio has printed, over several lines each; of many the first."""
    found = (" ".join(part.split()) for part in _WARNING.split(text)[1:])
    return [on_one_line(line[:160]) for line in dict.fromkeys(found)][:_MOST_WARNINGS]


def _reason(error: BaseException, words: io.StringIO, path: Path) -> str:
    """What meshio has raised, or printed where it exits: its own reason first."""
    if isinstance(error, SystemExit):
        text = words.getvalue().partition("Error: Couldn't read file")[0]
    else:
        text = str(error) or type(error).__name__
    for name in (str(path.absolute()), str(path)):
        text = text.replace(name, path.name)
    return on_one_line(" ".join(text.split())[:160]) or "it gives no reason"
