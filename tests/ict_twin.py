"""A made-up folder of ICT-FaceKit's layout, small enough for tests, and raw meshes of a folder."""

import numpy as np
from synthetic import grid_mesh

from facedis_core.data.face_set import face_set_writer
from facedis_core.data.preparation import Preparation
from facedis_core.datasets.ict import load_ict_faces, open_ict, read_generic
from facedis_core.datasets.ict_synthesis import expression_table
from facedis_core.mesh.mesh import Mesh, topology_id, write_mesh

SIZE = 6


def raw_neutral():
    """The generic neutral, (36, 3) cm, and its triangles."""
    vertices, triangles = grid_mesh(SIZE)
    return vertices / np.float32(10), triangles


def write_folder(folder, seed=0):
    """`generic_neutral_mesh.obj`, 100 identity modes, 55 shapes; two files that are not used."""
    rng = np.random.default_rng(seed)
    neutral, triangles = raw_neutral()
    names = [f"identity{k:03d}" for k in range(100)]
    names += [*expression_table().shapes, "PupilDilate_L", "PupilDilate_R"]
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "generic_neutral_mesh.obj", neutral, triangles)
    for name in names:
        spread = 0.03 if name.startswith("identity") else 0.3
        write(folder / f"{name}.obj", neutral + rng.normal(0, spread, neutral.shape), triangles)
    return folder


def write(path, vertices, triangles):
    """One OBJ."""
    with path.open("wb") as stream:
        write_mesh(stream, Mesh(vertices.astype(np.float32), triangles, path.stem), ".obj")


def preparation(chosen=None):
    """Some of the 36 vertices, with the triangles that have no other corner."""
    _, triangles = raw_neutral()
    chosen = np.arange(6, SIZE * SIZE, dtype=np.int32) if chosen is None else chosen
    inside = triangles[np.isin(triangles, chosen).all(axis=1)]
    return Preparation(
        triangles=np.searchsorted(chosen, inside).astype(np.int32),
        vertex_index=chosen,
        raw_vertices=SIZE * SIZE,
        raw_topology=topology_id(triangles),
        raw_unit_mm=10.0,
    )


def write_like(folder):
    """Write FaceXModel into `folder`, and beside it a set whose map others can follow: its path."""
    write_folder(folder / "FaceXModel")
    source = open_ict(folder / "FaceXModel", subjects=2)
    path = folder / "like.safetensors"
    known = preparation()
    with (
        path.open("w+b") as stream,
        face_set_writer(stream, source.labels, known, source="ict", protocol="") as out,
    ):
        out.vertices[...] = grid_mesh()[0][known.vertex_index]
    return path


def raw_meshes(root, seed, subject, expressions):
    """Full-resolution meshes in centimetres, named `0003_smile`, of the set with this seed."""
    known = list(expression_table().expressions)
    generic = read_generic(root)
    generator = load_ict_faces(root, generic)
    faces = generator.faces(seed, subject, [known.index(name) for name in expressions])
    for name, face in zip(expressions, faces, strict=True):
        yield Mesh(face / np.float32(10), generic.triangles, f"{subject:04d}_{name}")
