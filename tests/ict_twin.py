"""A made-up folder of ICT-FaceKit's layout, small enough for tests, and a slow way to its faces."""

from functools import cache

import numpy as np
from synthetic import grid_mesh

from facedis_core.data.face_set import face_set_writer
from facedis_core.data.preparation import Preparation
from facedis_core.datasets.ict import load_ict_faces, open_ict, read_generic
from facedis_core.datasets.ict_synthesis import draw_subject, expression_table
from facedis_core.datasets.protocols import MESH_STREAM, random_stream
from facedis_core.mesh.mesh import Mesh, read_mesh, topology_id, write_mesh

SIZE = 6
RESTING = slice(0, SIZE)  # vertices that no expression shape moves


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
        offset = rng.normal(0, 0.03, neutral.shape)
        if not name.startswith("identity"):
            offset *= 10
            offset[RESTING] = 0
        write(folder / f"{name}.obj", neutral + offset, triangles)
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


def slow_face(folder, seed, number, apex, expression, noise_mm=0.05):
    """The chosen vertices (V, 3) mm of one mesh, vertex by vertex.

    `apex` are weights {shape: w} at the apex of what the mesh shows, the expression of that number.
    """
    generic = read_generic(folder)
    neutral, triangles = generic.vertices.astype(float) * 10, generic.triangles
    table, subject = expression_table(), draw_subject(seed, number)

    def offset(name):
        return millimetres(folder / f"{name}.obj") - neutral

    random = random_stream(seed, MESH_STREAM, number, expression)
    weights = dict.fromkeys(table.shapes, 0.0)
    if apex:
        gain = np.exp(random.normal(0, 0.1))
        background = np.abs(random.normal(0, 0.03, len(table.shapes)))
        for k, shape in enumerate(table.shapes):
            weights[shape] = apex.get(shape, 0.0) * subject.gains[k] * gain
            weights[shape] += background[k] * (not shape.startswith("eyeLook"))
    noise = random.standard_normal(neutral.shape, dtype=np.float32)
    identity = neutral + sum(w * offset(f"identity{k:03d}") for k, w in enumerate(subject.identity))
    face = identity + noise_mm * noise
    used = {shape: weight for shape, weight in weights.items() if weight}
    moved = slow_transfers(neutral, identity, triangles, map(offset, used), RESTING)
    face += sum(weight * one for weight, one in zip(used.values(), moved, strict=True))
    return face[preparation().vertex_index]


@cache  # many faces are made of the same shapes
def millimetres(path):
    """Vertices (V, 3) of a file in cm."""
    return read_mesh(path).vertices.astype(float) * 10


def slow_transfers(source, target, triangles, offsets, fixed):
    """Deformation transfer of each of the `offsets` (V, 3), as dense least squares."""
    rows, before, planes = [], [], []
    for corners in triangles:
        a, b, c = target[corners]
        normal = np.cross(b - a, c - a)
        area = np.linalg.norm(normal) / 2
        # gradient of a linear function on the triangle from its values at the corners
        gradient = np.linalg.pinv(np.stack([b - a, c - a])) @ [[-1, 1, 0], [-1, 0, 1]]
        row = np.zeros((3, len(source)))
        row[:, corners] = gradient
        rows.append(np.sqrt(area) * row)
        before.append(np.linalg.inv(frame(source[corners])))
        flat = np.eye(3) - np.outer(normal, normal) / (normal @ normal)
        planes.append(np.sqrt(area) * flat)
    free = np.ones(len(source), bool)
    free[fixed] = False
    system = np.vstack(rows)[:, free]
    for offset in offsets:
        after = (frame((source + offset)[corners]) for corners in triangles)
        wanted = [
            ((changed @ was - np.eye(3)) @ plane).T
            for changed, was, plane in zip(after, before, planes, strict=True)
        ]
        moved = np.zeros_like(source)
        moved[free] = np.linalg.lstsq(system, np.vstack(wanted), rcond=None)[0]
        yield moved


def frame(corners):
    """Two edges and the normal over the root of its length, as columns."""
    a, b, c = corners
    normal = np.cross(b - a, c - a)
    return np.stack([b - a, c - a, normal / np.sqrt(np.linalg.norm(normal))], axis=1)
