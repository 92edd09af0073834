"""How far faces are from true ones, for pictures: distances in mm, and their summary in words."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import InputError
from facedis_core.mesh import Mesh
from facedis_core.metrics import vertex_distances


def vertex_errors(meshes: Sequence[Mesh], truths: Iterable[Mesh]) -> list[NDArray[np.float64]]:
    """Distances (V,) of every mesh's vertices to those of the truth of its name.

    A single truth is that of every mesh, whatever their names.

    Raises:
        InputError: a mesh without a truth, two truths of a name, or other vertices or triangles.
    """
    known: dict[str, Mesh] = {}
    for truth in truths:
        if truth.name in known:
            raise InputError(f"two true meshes are named {truth.name!r}; expected one a name")
        known[truth.name] = truth
    if not known:
        raise InputError("no true meshes to compare with; expected one, or one a name")
    if len(known) == 1:
        (only,) = known.values()
        return [_distance(mesh, only) for mesh in meshes]
    missing = [mesh.name for mesh in meshes if mesh.name not in known]
    if missing:
        raise InputError(
            f"no true mesh is named {missing[0]!r}, which {len(missing)} of {len(meshes)} lack; a "
            f"name is the path below the folder without suffix, there is {next(iter(known))!r}"
        )
    return [_distance(mesh, known[mesh.name]) for mesh in meshes]


def _distance(mesh: Mesh, truth: Mesh) -> NDArray[np.float64]:
    if len(mesh.vertices) != len(truth.vertices):
        raise InputError(
            f"{mesh.name} has {len(mesh.vertices)} vertices and its truth {truth.name} "
            f"{len(truth.vertices)}; expected vertices that correspond"
        )
    if len(truth.triangles) and not np.array_equal(mesh.triangles, truth.triangles):
        raise InputError(
            f"{mesh.name} and its truth {truth.name} have other triangles; expected one topology"
        )
    return vertex_distances(mesh.vertices, truth.vertices)


def error_summary(distance: NDArray[np.float64]) -> str:
    """Mean and maximum of distances in mm (V,), as captions say it."""
    return f"mean {_digits(distance.mean())}, max {_digits(distance.max())} mm"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value >= 1 or not value else f"{value:.3f}"
