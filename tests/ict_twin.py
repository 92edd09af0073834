"""A made-up folder of ICT-FaceKit's layout, small enough for tests, and a slow way to its faces."""

import numpy as np
from synthetic import grid_mesh

from facedis_core.data.face_set import face_set_writer
from facedis_core.data.preparation import Preparation
from facedis_core.datasets.ict import load_ict_faces, open_ict, read_generic
from facedis_core.datasets.ict_synthesis import draw_subject, expression_table
from facedis_core.datasets.protocols import MESH_STREAM, random_stream
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


def slow_face(folder, seed, number, apex, expression, noise_mm=0.05):
    """The chosen vertices (V, 3) mm of one mesh, vertex by vertex.

    `apex` are weights {shape: w} at the apex of what the mesh shows, the expression of that number.
    """
    whole = load_ict_faces(folder, read_generic(folder))
    table, subject = expression_table(), draw_subject(seed, number)
    random = random_stream(seed, MESH_STREAM, number, expression)
    weights = dict.fromkeys(table.shapes, 0.0)
    if apex:
        gain = np.exp(random.normal(0, 0.1))
        background = np.abs(random.normal(0, 0.03, len(table.shapes)))
        for k, shape in enumerate(table.shapes):
            weights[shape] = apex.get(shape, 0.0) * subject.gains[k] * gain
            weights[shape] += background[k] * (not shape.startswith("eyeLook"))
    noise = random.standard_normal((len(whole.neutral), 3), dtype=np.float32)
    neutral, triangles = whole.neutral.astype(float), read_generic(folder).triangles
    identity = neutral + sum(w * m for w, m in zip(subject.identity, whole.modes, strict=True))
    face = []
    for v in preparation().vertex_index:
        offset = sum(w * shape[v] for w, shape in zip(weights.values(), whole.shapes, strict=True))
        ratio = mean_edge(identity, triangles, v) / mean_edge(neutral, triangles, v)
        normals = (vertex_normal(x, triangles, v) for x in (neutral, identity))
        turned = turn(offset, *normals) * min(max(ratio, 0.5), 2)
        face.append(identity[v] + turned + noise_mm * noise[v])
    return np.array(face)


def vertex_normal(vertices, triangles, vertex):
    total = np.zeros(3)
    for i, j, k in triangles:
        if vertex in (i, j, k):
            total += np.cross(vertices[j] - vertices[i], vertices[k] - vertices[i])
    return total / np.linalg.norm(total)


def mean_edge(vertices, triangles, vertex):
    around = {int(j) for t in triangles if vertex in t for j in t} - {vertex}
    return np.mean([np.linalg.norm(vertices[vertex] - vertices[j]) for j in around])


def turn(offset, a, b):
    """Rodrigues' formula for the rotation from a to b, on one vector."""
    axis, cosine = np.cross(a, b), a @ b
    return offset * cosine + np.cross(axis, offset) + axis * (axis @ offset) / (1 + cosine)
