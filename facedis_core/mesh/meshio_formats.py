"""Meshes in the formats that meshio reads and writes: OFF, VTK, VTU and others."""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError, UsageError, output_error
from facedis_core.mesh.surface_builder import SurfaceBuilder

MESHIO_SUFFIXES = (".off", ".vtk", ".vtu")
"""Formats that are looked for in a folder; a file named by itself may have any meshio format."""

_LONGEST_PREAMBLE = 1 << 20


def read_with_meshio(path: Path) -> SurfaceBuilder:
    """Read a file by its suffix.

    Raises InputError where meshio cannot read it, or it is no surface of polygons.
    """
    if path.suffix.lower() == ".off":
        _check_off(path)
    import meshio

    try:
        with _silence():
            mesh = meshio.read(path)
    except (Exception, SystemExit) as error:  # it raises whatever comes, and may exit
        raise InputError(
            f"meshio could not read it ({_reason(error, path)}); "
            "expected .ply .obj .wrl or a format of meshio's",
            ErrorCode.UNSUPPORTED,
        ) from error
    if mesh.points.ndim != 2 or mesh.points.shape[1] != 3:
        raise InputError(
            f"has vertices of shape {mesh.points.shape}; expected x y z each", ErrorCode.UNSUPPORTED
        )
    surface = SurfaceBuilder()
    with np.errstate(over="ignore"):  # too large for float32 is inf, which is refused
        surface.add_vertices(mesh.points.astype(np.float32))
    for block in mesh.cells:
        if block.type in ("vertex", "line"):
            continue
        if block.type not in ("triangle", "quad", "polygon"):
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
    """Encode a mesh by the suffix of its file.

    Raises UsageError where meshio cannot write the suffix, OutputError where there is no room.
    """
    import meshio

    # Several of its writers need a file that they can seek in, or that has a name.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"mesh{suffix}")
        try:
            with _silence():
                meshio.write_points_cells(path, vertices, [("triangle", triangles)])
        except OSError as error:
            message = f"a {suffix} mesh could not be written ({error.strerror})"
            raise output_error(message, error) from error
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"cannot write {suffix or 'a mesh without suffix'} ({_reason(error, path)}); "
                "expected .ply .obj .wrl or a format of meshio's",
                ErrorCode.OUTPUT_SUFFIX,
            ) from error
        if len(list(Path(folder).iterdir())) != 1:
            raise UsageError(
                f"cannot write {suffix}, which takes several files; expected .ply .obj .wrl",
                ErrorCode.OUTPUT_SUFFIX,
            )
        return path.read_bytes()


def _check_off(path: Path) -> None:
    """Raise InputError where the line is missing that meshio would look for without an end."""
    with path.open("rb") as stream:
        first, *lines = map(bytes.strip, stream.read(_LONGEST_PREAMBLE).split(b"\n"))
    if first == b"OFF" and all(line[:1] in (b"", b"#") for line in lines):
        raise InputError(
            "is truncated: it does not say how many vertices it has", ErrorCode.TRUNCATED
        )


@contextmanager
def _silence() -> Iterator[None]:
    """Discard what meshio prints besides raising it: standard output is for data."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def _reason(error: BaseException, path: Path) -> str:
    text = " ".join(str(error).replace(str(path), path.name).split())
    return f"{type(error).__name__}: {text[:120]}"
