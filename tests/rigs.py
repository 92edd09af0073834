"""Another rig whose truth is known: the skin of a bundled head, simplified, shuffled, turned."""

from functools import lru_cache

import numpy as np

from facedis_core.data.regions import ICT_SKIN
from facedis_core.data.topology_map import TopologyMap
from facedis_core.geometry.alignment import rotation_about
from facedis_core.geometry.simplification import vertex_map
from facedis_core.mesh.mesh import Mesh, read_mesh
from facedis_core.model.bundled import weights_folder
from facedis_core.model.model_file import load_model
from facedis_core.registration.mapping import make_map

MODEL = "ict-pointnet"  # the narrow face
TURN = rotation_about(np.array([1.0, 0, 0]), np.pi / 2)  # z up
SHIFT_CM = np.array([30.0, -20, 150])


def head(name: str) -> Mesh:
    """A bundled head, such as alice_smile."""
    return read_mesh(weights_folder() / "examples" / f"{name}.ply")


@lru_cache
def rows(triangles: int = 6000, vertices: int = ICT_SKIN) -> tuple[np.ndarray, np.ndarray]:
    """The vertices of a head that a rig has, and its triangles."""
    alice = head("alice_neutral")
    skin = alice.triangles[(alice.triangles < vertices).all(axis=1)]
    chosen, kept = vertex_map(alice.vertices[:vertices], skin, triangles)
    order = np.random.default_rng(0).permutation(len(chosen))
    return chosen[order], np.argsort(order)[kept].astype(np.int32)


def rig(name: str, **kept: int) -> Mesh:
    """A bundled head as a mesh of the rig; it says nothing about its unit."""
    chosen, triangles = rows(**kept)
    points = head(name).vertices[chosen].astype(np.float64) / 10
    return Mesh(points @ TURN.T + SHIFT_CM, triangles, name)


def pose() -> np.ndarray:
    """What takes heads in mm to the rig, (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = TURN / 10, SHIFT_CM
    return matrix


def prepared(name: str) -> Mesh:
    """A bundled head in the topology of the model."""
    model = load_model(MODEL)
    return Mesh(model.prepare(head(name)), model.triangles, name, unit_mm=1.0)


@lru_cache
def made_map() -> TopologyMap:
    """The map of the rig and the narrow face, made of alice at rest."""
    neutral = prepared("alice_neutral")
    return make_map(rig("alice_neutral"), neutral, model=load_model(MODEL), pose=pose())
