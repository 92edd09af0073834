"""Reference mesh of a data set: the mesh that defines vertex count and triangles."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from facedis_core.errors import ErrorCode, InputError
from facedis_core.mesh.mesh import Mesh, read_mesh, topology_id

# Next step for a mesh that cannot be used.
NEXT_STEP: Final = "replace it, or skip such files with --keep-going"
# Meshes that are compared, so that a few broken ones are outvoted.
MOST_COMPARED: Final = 5
# Ratio of sizes beyond which a mesh is not a face, or in another unit.
LARGEST_SIZE_RATIO: Final = 3.0
# Most files that are opened to find them.
MOST_OPENED: Final = 50


class ReferenceMesh(NamedTuple):
    """The reference mesh and its file."""

    path: str
    mesh: Mesh

    @property
    def extent(self) -> float:
        """Largest extent along an axis, in the unit of the file."""
        vertices = self.mesh.vertices
        return float((vertices.max(axis=0) - vertices.min(axis=0)).max())


def find_reference_mesh(
    candidates: Sequence[str],
    expected_vertices: int | None,
    *,
    advice: str,
    keep_going: bool,
    warn: Callable[[str], None],
) -> ReferenceMesh:
    """Find the first candidate that has the topology and size of most of them.

    Args:
        candidates: paths or URLs, best first.
        expected_vertices: vertex count of the data set; None = that of most meshes.
        advice: next step for meshes of different topologies, for the error message.
        keep_going: skip meshes that cannot be read.
        warn: called with the warnings of the mesh, and if the meshes agree, but not with
            `expected_vertices`.

    Raises:
        InputError: a mesh cannot be read, or the meshes disagree.
    """
    readable: list[ReferenceMesh] = []
    errors: list[InputError] = []
    for path in candidates[:MOST_OPENED]:
        try:
            readable.append(ReferenceMesh(path, read_mesh(path)))
        except InputError as error:
            if not keep_going:
                raise InputError(f"{error}; {NEXT_STEP}", error.code) from error
            errors.append(error)
        if len(readable) == MOST_COMPARED:
            break
    readable, of_other_size = _of_one_size(readable)
    if of_other_size and not keep_going:
        raise InputError(f"{of_other_size[0]}; {NEXT_STEP}", of_other_size[0].code)
    errors += of_other_size
    if not readable:
        raise InputError(
            f"none of the first {len(errors)} meshes could be read: {errors[0]}"
            if errors
            else "there is no mesh to take as the reference; check --exclude",
            errors[0].code if errors else ErrorCode.EMPTY,
        )
    fitting = [r for r in readable if len(r.mesh.vertices) == expected_vertices]
    chosen = _most_alike(fitting or readable)
    for line in chosen.mesh.warnings:  # those of the others are alike, as the triangles must be
        warn(line)
    if not len(chosen.mesh.triangles):
        raise InputError(
            f"{chosen.path} has no triangles; a face set needs them", ErrorCode.NO_TRIANGLES
        )
    if expected_vertices is not None and not fitting:
        _check_agreement(readable, chosen, expected_vertices, advice)
        warn(
            f"{chosen.path} has {len(chosen.mesh.vertices)} vertices, this data set usually "
            f"{expected_vertices}; continuing, because the first meshes agree"
        )
    return chosen


def _of_one_size(found: list[ReferenceMesh]) -> tuple[list[ReferenceMesh], list[InputError]]:
    """Meshes of similar size, and errors about the others."""
    usual = float(np.median([r.extent for r in found])) if found else 0.0
    like = [
        r
        for r in found
        if r.extent > 0 and usual / LARGEST_SIZE_RATIO <= r.extent <= usual * LARGEST_SIZE_RATIO
    ]
    return like, [
        InputError(
            f"{r.path} is {r.extent:.3g} units high, meshes beside it {usual:.3g}",
            ErrorCode.OUTLIER,
        )
        for r in found
        if r not in like
    ]


def _most_alike(readable: Sequence[ReferenceMesh]) -> ReferenceMesh:
    """The first of the largest group with the same vertex count and triangles."""
    kinds = [(len(r.mesh.vertices), topology_id(r.mesh.triangles)) for r in readable]
    most = Counter(kinds).most_common(1)[0][0]
    return readable[kinds.index(most)]


def _check_agreement(
    readable: Sequence[ReferenceMesh], chosen: ReferenceMesh, expected: int, advice: str
) -> None:
    """Raise InputError unless most meshes share one vertex count."""
    count = len(chosen.mesh.vertices)
    alike = [r for r in readable if len(r.mesh.vertices) == count]
    if 2 * len(alike) <= len(readable):
        other = next((r for r in readable if len(r.mesh.vertices) != count), chosen)
        raise InputError(
            f"{chosen.path} has {count} vertices, {other.path} "
            f"{len(other.mesh.vertices)}, expected {expected}; {advice}",
            ErrorCode.VERTEX_COUNT,
        )
