"""Meshes of every format: exact round trips, names, memory; folders of them."""

import os
import threading
import tracemalloc

import numpy as np
import pytest
from mesh_files import (
    TRIANGLES,
    V9,
    blocks_of,
    check_mesh,
    check_refused,
    encoded,
    nine,
    read_bytes,
)
from raising import raises

from facedis_core.mesh.mesh import Mesh, mesh_files, read_mesh, topology_id


@pytest.mark.parametrize(
    ("suffix", "triangles"),
    [
        *((suffix, TRIANGLES) for suffix in (".ply", ".obj", ".wrl", ".off", ".vtk", ".vtu")),
        *((suffix, []) for suffix in (".ply", ".obj", ".wrl")),
    ],
)
def test_round_trips_are_exact(tmp_path, suffix, triangles):
    extremes = np.array([[3e38, -1e-45, 1.17549435e-38], [-0.0, 16777217, 1 / 3]], np.float32)
    vertices = np.concatenate((V9, extremes)) if suffix in (".ply", ".obj", ".wrl") else V9
    mesh = Mesh(vertices, np.array(triangles, np.int32).reshape(-1, 3), "face", unit_mm=1.0)
    read = read_bytes(tmp_path, encoded(mesh, suffix), suffix)
    check_mesh(read, mesh.vertices, mesh.triangles)
    assert read.vertices.tobytes() == vertices.tobytes()  # -0.0 too
    assert read.unit_mm == (1.0 if suffix == ".ply" else None)
    assert encoded(read, ".obj") == encoded(mesh, ".obj")


def test_topology_id_is_that_of_little_endian_int32():
    assert topology_id(np.array([[0, 1, 2]], np.int64)) == topology_id(np.array([[0, 1, 2]], ">i4"))
    assert topology_id(np.array([[0, 1, 2]])) != topology_id(np.array([[0, 2, 1]]))
    assert len(topology_id(np.zeros((0, 3), np.int32))) == 12


def test_a_file_is_called_by_its_stem_and_a_pipe_by_its_comment(tmp_path):
    data = encoded(nine("carried"))
    assert read_bytes(tmp_path, data, ".ply").name == "mesh"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(data,))
    writer.start()
    assert read_mesh(fifo).name == "carried"
    writer.join()


@pytest.mark.parametrize(
    ("suffix", "data", "error"),
    [
        ("", b"what", "wrong-kind: expected a PLY"),
        (".npy", b"\x93NUMPY\x01\x00v\x00", "wrong-kind: holds a .npy array"),
        (
            "",
            (90).to_bytes(8, "little") + b'{"__metadata__"',
            "wrong-kind: a face set or a model, expected a mesh; .* a .safetensors file",
        ),
        (".ply", b"\x1f\x8b\x08\x00", "wrong-kind: unpack it with gunzip"),
    ],
)
def test_what_is_no_mesh(tmp_path, suffix, data, error):
    check_refused(tmp_path, data, suffix, error)


def test_what_is_no_file(tmp_path):
    for path, error in (
        (tmp_path / "none.obj", "file-missing"),
        (tmp_path, "not-a-file"),
        ("a" * 300, "file-unreadable: File name too long"),
    ):
        with raises(error):
            read_mesh(path)


def test_mesh_files_are_sorted_and_hidden_ones_left_out(tmp_path):
    for name in ("b.obj", "a/c.PLY", "a.wrl", "a/.hidden.ply", ".x/y.ply", "n.txt", ".t.ply.tmp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [str(path.relative_to(tmp_path)) for path in mesh_files(tmp_path)]
    assert found == ["a/c.PLY", "a.wrl", "b.obj"]


def test_mesh_files_of_nothing(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, error in (
        ("empty", r"empty: expected files \.ply"),
        ("none", "file-unreadable: No such file"),
        ("file", "file-unreadable: Not a directory"),
    ):
        with raises(error):
            mesh_files(tmp_path / name)


N = 100_000
PLY = (
    "ply\nformat {} 1.0\nelement vertex {}\nproperty {} x\nproperty {} y\nproperty {} z\n"
    "element face {}\nproperty list uchar {} vertex_indices\nend_header\n"
)
LARGE = {
    "obj": (b"v 0 0 0\nf 1 1 1\n" * N, ".obj"),
    "quads": (b"v 0 0 0\n" + b"f 1 1 1 1\n" * N, ".obj"),
    "ascii": (
        PLY.format("ascii", N, *["float"] * 3, N, "int").encode()
        + b"0 0 0\n" * N
        + b"3 0 0 0\n" * N,
        ".ply",
    ),
    "wrl": (
        b"#VRML V2.0 utf8\nShape { geometry IndexedFaceSet { coord Coordinate { point ["
        + b"0 0 0," * N
        + b"] } coordIndex ["
        + b"0 0 0 -1," * N
        + b"] } }",
        ".wrl",
    ),
    "bytes": (
        PLY.format("binary_little_endian", 4 * N, *["uchar"] * 3, 2 * N, "uchar").encode()
        + bytes(12 * N)
        + b"\3\0\0\0" * 2 * N,
        ".ply",
    ),
    "triangles and quads": (
        PLY.format("binary_big_endian", N, *["double"] * 3, N, "int").encode()
        + bytes(24 * N)
        + (b"\3" + bytes(12) + b"\4" + bytes(16)) * (N // 2),
        ".ply",
    ),
}


@pytest.mark.parametrize("case", LARGE)
def test_memory_follows_the_file(tmp_path, case):
    """The smallest lines there can be, in blocks small beside the file."""
    data, suffix = LARGE[case]
    path = tmp_path / f"mesh{suffix}"
    path.write_bytes(data)
    with blocks_of(1 << 14):
        tracemalloc.start()
        try:
            mesh = read_mesh(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(mesh.triangles) >= N
    assert peak < 4 * len(data) + (1 << 21)
