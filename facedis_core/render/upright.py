"""Heads that stand otherwise, such as with z up, turned upright where their topology is known."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedis_core.geometry.alignment import right_angles, rigid_alignment
from facedis_core.mesh.mesh import Mesh, topology_id
from facedis_core.model.bundled import bundled_topologies
from facedis_core.model.model import load_model


def upright(mesh: Mesh) -> Mesh:
    """A mesh turned by right angles so that y is up, as of a rig of fd-export.

    Only where it has the topology of a bundled model; a face that looks aside stays as it is.

    Args:
        mesh: V vertices in any unit.
    """
    known = _mean_face(topology_id(mesh.triangles))
    if known is None or known.shape != mesh.vertices.shape:
        return mesh
    turn = right_angles(rigid_alignment(mesh.vertices, known).rotation)
    if turn[1, 1] > 0:  # y is up
        return mesh
    return replace(mesh, vertices=(mesh.vertices @ turn.T).astype(mesh.vertices.dtype))


@cache
def _mean_face(topology: str) -> NDArray[Any] | None:
    """The mean face of a bundled model of a topology; None = there is none."""
    names = (name for name, known in bundled_topologies().items() if known == topology)
    name = next(names, None)
    return None if name is None else np.asarray(load_model(name).mean_face)
