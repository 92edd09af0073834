"""The one mesh of a data set that says what all of them are like."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from facedis_core.errors import InputError
from facedis_core.mesh.mesh import Mesh, read_mesh, topology_id

# What to do about a mesh that cannot be used.
WAYS_OUT: Final = "replace it, or leave such files out with --keep-going"
# Meshes to compare: enough that a few broken ones are outvoted, few enough to be read at once.
COMPARED: Final = 5
# Times smaller or larger than the others: no face, or one in another unit.
WILD: Final = 3.0
# Meshes to open at most in search of those.
SEARCHED: Final = 50


class Reference(NamedTuple):
    """The mesh that decides vertex count, triangles and the choice of vertices, and its file."""

    path: Path
    mesh: Mesh

    @property
    def extent(self) -> float:
        """Its largest extent along an axis, in the unit of the file."""
        vertices = self.mesh.vertices
        return float((vertices.max(axis=0) - vertices.min(axis=0)).max())


def find_reference(
    candidates: Sequence[Path],
    expected_vertices: int | None,
    *,
    advice: str,
    keep_going: bool,
    warn: Callable[[str], None],
) -> Reference:
    """The first of the candidates that is like most of them.

    Args:
        candidates: paths, the best first.
        expected_vertices: of the data set; None = whatever most have.
        advice: what to do where meshes are of different registrations.
        keep_going: pass over meshes that cannot be read.
        warn: called where the meshes agree, but not with what is expected.

    Raises:
        InputError: a mesh cannot be read, or no two of them are alike.
    """
    readable: list[Reference] = []
    errors: list[InputError] = []
    for path in candidates[:SEARCHED]:
        try:
            readable.append(Reference(path, read_mesh(path)))
        except InputError as error:
            if not keep_going:
                raise InputError(f"{error}; {WAYS_OUT}") from error
            errors.append(error)
        if len(readable) == COMPARED:
            break
    readable, wild = _of_one_size(readable)
    if wild and not keep_going:
        raise InputError(f"{wild[0]}; {WAYS_OUT}")
    errors += wild
    if not readable:
        raise InputError(
            f"none of the first {len(errors)} meshes could be read: {errors[0]}"
            if errors
            else "there is no mesh to take as the reference; check --exclude"
        )
    fitting = [r for r in readable if len(r.mesh.vertices) == expected_vertices]
    chosen = _most_alike(fitting or readable)
    if not len(chosen.mesh.triangles):
        raise InputError(f"{chosen.path} has no triangles; a face set needs them")
    if expected_vertices is not None and not fitting:
        _check_agreement(readable, chosen, expected_vertices, advice)
        warn(
            f"{chosen.path} has {len(chosen.mesh.vertices)} vertices, this data set usually "
            f"{expected_vertices}; going on, as the first meshes are alike"
        )
    return chosen


def _of_one_size(found: list[Reference]) -> tuple[list[Reference], list[InputError]]:
    """Those whose extent is like most, and what is wrong with the others."""
    usual = float(np.median([r.extent for r in found])) if found else 0.0
    like = [r for r in found if r.extent > 0 and usual / WILD <= r.extent <= usual * WILD]
    return like, [
        InputError(f"{r.path} is {r.extent:.3g} units high, meshes beside it {usual:.3g}")
        for r in found
        if r not in like
    ]


def _most_alike(readable: Sequence[Reference]) -> Reference:
    """The first of the largest group with the same vertex count and triangles."""
    kinds = [(len(r.mesh.vertices), topology_id(r.mesh.triangles)) for r in readable]
    most = Counter(kinds).most_common(1)[0][0]
    return readable[kinds.index(most)]


def _check_agreement(
    readable: Sequence[Reference], chosen: Reference, expected: int, advice: str
) -> None:
    """Meshes of another count than expected must at least be of one kind."""
    count = len(chosen.mesh.vertices)
    alike = [r for r in readable if len(r.mesh.vertices) == count]
    if 2 * len(alike) <= len(readable):
        other = next((r for r in readable if len(r.mesh.vertices) != count), chosen)
        raise InputError(
            f"{chosen.path} has {count} vertices, {other.path} "
            f"{len(other.mesh.vertices)}, expected {expected}; {advice}"
        )
