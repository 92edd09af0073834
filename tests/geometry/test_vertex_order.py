"""Sound meshes raise no doubt about the order of their vertices; others do."""

from pathlib import Path

import numpy as np
import pytest
from conftest import save_mesh
from synthetic import grid_mesh

from facedis_core.geometry.vertex_order import describe_order, relative_edge_length
from facedis_core.mesh.mesh import read_mesh
from facedis_core.model.model_file import load_model

EXAMPLES = sorted((Path(__file__).parents[2] / "weights" / "examples").glob("*.ply"))
FACE = read_mesh(EXAMPLES[0])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_faces_are_sound(path):
    mesh = read_mesh(path)
    assert 1 < relative_edge_length(mesh.vertices, mesh.triangles) < 1.6


def test_exaggerated_faces_are_sound():
    model, rng = load_model("ict-linear"), np.random.default_rng(0)
    sizes = (model.config.identity, model.config.expression)
    latents = (rng.normal(0, 3, (20, size)).astype(np.float32) for size in sizes)
    for vertices in model.decode_vectors(*latents):
        assert relative_edge_length(vertices, model.triangles) < 2


@pytest.mark.parametrize("stretch", [(1, 1, 1), (1, 0.02, 0), (3, 1, 5)])
@pytest.mark.parametrize("size", [2, 6, 40])
def test_stretched_sheets_are_sound(size, stretch):
    vertices, triangles = grid_mesh(size)
    assert describe_order("a", vertices * np.array(stretch), triangles) == ""


@pytest.mark.parametrize(
    "order",
    [
        np.random.default_rng(0).permutation(len(FACE.vertices)),
        np.argsort(FACE.vertices[:, 1]),
        np.arange(len(FACE.vertices))[::-1],
        np.roll(np.arange(len(FACE.vertices)), 1),
    ],
    ids=["random", "by height", "reversed", "one off"],
)
def test_another_order_is_doubted(order):
    line = describe_order("scan", FACE.vertices[order], FACE.triangles)
    assert line.startswith("the triangles of scan are ")
    assert "times longer" in line and "another order" in line


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 0])
def test_odd_numbers_raise_no_doubt_and_no_warning(value):
    assert describe_order("", np.full((3, 3), value, np.float32), np.array([[0, 1, 2]])) == ""
    assert describe_order("", np.full((3, 3), value, np.float32), np.empty((0, 3), int)) == ""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("fd-render b.ply a.ply -o p.png --size 32", 0),
        ("fd-info b.ply a.ply", 0),
        ("fd-encode a.ply -m ict-linear -o l.npy", 3),
        ("fd-encode a.ply -m ict-linear -o l.npy --force-encode", 0),
    ],
)
def test_commands_say_so_once(call, tmp_path, command, code):
    order = np.random.default_rng(0).permutation(len(FACE.vertices))
    save_mesh(tmp_path / "a.ply", FACE.vertices[order], FACE.triangles)
    save_mesh(tmp_path / "b.ply", FACE.vertices, FACE.triangles)
    done = call(command)
    assert done.code == code
    (line,) = done.err.splitlines()
    assert "the triangles of a are" in line and "another order?" in line
