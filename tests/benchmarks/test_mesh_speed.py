"""Our codecs beside meshio's on a mesh of 26,719 vertices.

    python -m pytest tests/benchmarks/test_mesh_speed.py -o addopts= --benchmark-group-by=group \
        --benchmark-columns=min,median,rounds

The figures in parentheses are the ratios, both sides timed in one run.  Writing goes to memory:
a file would add to either side the same time that the operating system takes to copy it.
"""

import io
from pathlib import Path

import meshio
import numpy as np
import pytest

from facedis_core.mesh.mesh import Mesh, read_mesh, write_mesh

VERTICES = 26719


def face_sized() -> Mesh:
    """A triangulated surface with the vertices of the ICT face and nothing special to it."""
    rows, columns = 164, 163
    row, column = np.divmod(np.arange(rows * columns)[:VERTICES], columns)
    height = np.random.default_rng(0).normal(size=VERTICES)
    vertices = np.stack((row * 1.7, column * 1.3, height), axis=1).astype(np.float32)
    corner = np.arange(VERTICES - columns - 1)
    corner = corner[corner % columns != columns - 1]
    lower = np.stack((corner, corner + 1, corner + columns), axis=1)
    upper = np.stack((corner + 1, corner + columns + 1, corner + columns), axis=1)
    return Mesh(vertices, np.concatenate((lower, upper)).astype(np.int32), "face")


@pytest.fixture(scope="module")
def mesh():
    return face_sized()


@pytest.fixture(scope="module")
def same_for_meshio(mesh):
    return meshio.Mesh(mesh.vertices, [("triangle", mesh.triangles)])


@pytest.mark.parametrize("reader", ["facedis", "meshio"])
@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_reading(benchmark, tmp_path, mesh, same_for_meshio, suffix, reader):
    benchmark.group = f"read {suffix}"
    path: Path = tmp_path / f"face{suffix}"
    same_for_meshio.write(path)
    result = benchmark({"facedis": read_mesh, "meshio": meshio.read}[reader], path)
    read = result.vertices if reader == "facedis" else result.points
    np.testing.assert_allclose(read, mesh.vertices)


@pytest.mark.parametrize("writer", ["facedis", "meshio"])
@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_writing(benchmark, mesh, same_for_meshio, suffix, writer):
    benchmark.group = f"write {suffix}"

    def ours() -> int:
        stream = io.BytesIO()
        write_mesh(stream, mesh, suffix)
        return stream.tell()

    def theirs() -> int:
        stream = io.StringIO() if suffix == ".obj" else io.BytesIO()
        meshio.write(stream, same_for_meshio, file_format=suffix[1:])
        return stream.tell()

    assert benchmark({"facedis": ours, "meshio": theirs}[writer]) > 0
