"""Pictures of a head of 26,719 vertices, beside the time that reading it takes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facedis_core.mesh.mesh import read_mesh
from facedis_core.render.camera import Camera
from facedis_core.render.shading import render_mesh

PATH = Path(__file__).parents[2] / "weights" / "examples" / "bob_smile.ply"
FACE = read_mesh(PATH)


@pytest.mark.parametrize("size", [256, 512, 1024])
@pytest.mark.benchmark(group="picture")
def test_a_picture_of_a_face(benchmark, size):
    camera = Camera.framing([FACE.vertices], size)
    picture = benchmark(render_mesh, FACE, camera)
    assert picture.shape[0] == size


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.benchmark(group="picture")
def test_a_picture_of_it_with_vertices_in_another_order(benchmark, size):
    order = np.random.default_rng(0).permutation(len(FACE.vertices))
    scrambled = replace(FACE, vertices=FACE.vertices[order])
    camera = Camera.framing([FACE.vertices], size)
    picture = benchmark(render_mesh, scrambled, camera)
    assert picture.shape[0] == size


@pytest.mark.benchmark(group="picture")
def test_reading_it(benchmark):
    mesh = benchmark(read_mesh, PATH)
    assert len(mesh.vertices) == 26719
