"""Vertex errors of faces against true meshes, in mm, and their summary as text."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.units import check_one_size
from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.distances import vertex_distances
from facedis_core.mesh.mesh import Mesh


def vertex_errors(meshes: Sequence[Mesh], truths: Iterable[Mesh]) -> list[NDArray[np.float64]]:
    """Distances (V,) in mm of each mesh's vertices to those of the truth with its name.

    A single truth is compared with every mesh, whatever the names.

    Raises:
        InputError: a mesh without a truth, two truths of one name, or another topology.
    """
    known: dict[str, Mesh] = {}
    for truth in truths:
        if truth.name in known:
            raise InputError(
                f"two true meshes are named {truth.name!r}; expected different names",
                ErrorCode.NAME_DUPLICATE,
            )
        known[truth.name] = truth
    if not known:
        raise InputError(
            "no true meshes to compare with; expected one, or one for each name",
            ErrorCode.PARTNER_MISSING,
        )
    if len(known) == 1:
        (only,) = known.values()
        return [_distance(mesh, only) for mesh in meshes]
    missing = [mesh.name for mesh in meshes if mesh.name not in known]
    if missing:
        raise InputError(
            f"no true mesh is named {missing[0]!r} ({len(missing)} of {len(meshes)} faces have no "
            f"truth); names are paths below the folder without suffix, e.g. {next(iter(known))!r}",
            ErrorCode.PARTNER_MISSING,
        )
    return [_distance(mesh, known[mesh.name]) for mesh in meshes]


def _distance(mesh: Mesh, truth: Mesh) -> NDArray[np.float64]:
    if len(mesh.vertices) != len(truth.vertices):
        raise InputError(
            f"{mesh.name} has {len(mesh.vertices)} vertices and its truth {truth.name} "
            f"{len(truth.vertices)}; expected one topology",
            ErrorCode.VERTEX_COUNT,
        )
    if len(truth.triangles) and not np.array_equal(mesh.triangles, truth.triangles):
        raise InputError(
            f"{mesh.name} and its truth {truth.name} have other triangles; expected one topology",
            ErrorCode.TOPOLOGY,
        )
    check_one_size(mesh.vertices, truth.vertices, mesh.name, f"its truth {truth.name}")
    return vertex_distances(mesh.vertices, truth.vertices)


def error_summary(errors: NDArray[np.float64]) -> str:
    """Mean and maximum of vertex errors (V,) mm, for captions."""
    return f"mean {_digits(errors.mean())}, max {_digits(errors.max())} mm"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value >= 1 or not value else f"{value:.3f}"
