"""Heads that stand otherwise, such as with z up, turned upright."""

from dataclasses import replace
from functools import cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from facedis_core.geometry.alignment import right_angles, rigid_alignment
from facedis_core.mesh.mesh import Mesh, topology_id
from facedis_core.model.bundled import bundled_topologies
from facedis_core.model.model_file import load_model

Up = Literal["auto", "y", "z"]

# from z up and the face towards -y, as in Blender, to y up and the face towards z
_FROM_Z_UP: Final = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])


def upright(mesh: Mesh, up: Up = "auto") -> Mesh:
    """A mesh turned by right angles so that y is up, as of a rig of fd-export.

    Args:
        mesh: V vertices in any unit.
        up: axis that is up; `auto` finds it in the topology of a bundled model, where a face that
            looks aside stays so, and is y in others.
    """
    if up == "z":
        return replace(mesh, vertices=(mesh.vertices @ _FROM_Z_UP.T).astype(mesh.vertices.dtype))
    if up == "y":
        return mesh
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
