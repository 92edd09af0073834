"""Vertex errors against true meshes, matched by name."""

import numpy as np
import pytest
from raising import raises

from facedis_core.mesh.mesh import Mesh
from facedis_core.render.error_map import error_summary, vertex_errors

TRIANGLES = np.array([[0, 1, 2]], np.int32)


def mesh(name: str, shift: float = 0.0, vertices: int = 3) -> Mesh:
    corners = np.zeros((vertices, 3), np.float32)
    corners[:, 0] = np.arange(vertices)
    corners[:, 2] = shift
    return Mesh(corners, TRIANGLES, name)


def test_by_name_whatever_the_order() -> None:
    found = vertex_errors([mesh("a", 1), mesh("b", 5)], [mesh("b", 2), mesh("a"), mesh("c", 9)])
    assert [of_face.tolist() for of_face in found] == [[1, 1, 1], [3, 3, 3]]


def test_one_truth_for_all() -> None:
    found = vertex_errors([mesh("a", 1), mesh("b", 5)], [mesh("whoever", 2)])
    assert [of_face.tolist() for of_face in found] == [[1, 1, 1], [3, 3, 3]]


def test_distances_are_euclidean() -> None:
    moved = Mesh(mesh("a").vertices + np.float32([3, 4, 0]), TRIANGLES, "a")
    (found,) = vertex_errors([moved], [mesh("a")])
    assert found.tolist() == [5, 5, 5]
    assert error_summary(found) == "mean 5.00, max 5.00 mm"


@pytest.mark.parametrize(
    ("meshes", "truths", "error"),
    [
        ([mesh("a"), mesh("d")], [mesh("a"), mesh("b")], "partner-missing: 'd'"),
        ([mesh("a")], [mesh("b"), mesh("b")], "name-duplicate: 'b'"),
        ([mesh("a")], [], "partner-missing: no true meshes"),
        ([mesh("a")], [mesh("a", vertices=4)], "vertex-count: 3 vertices and its truth a 4"),
        (
            [mesh("a")],
            [Mesh(mesh("a").vertices, TRIANGLES[:, ::-1].copy(), "a")],
            "topology",
        ),
    ],
)
def test_what_does_not_correspond(meshes: list[Mesh], truths: list[Mesh], error: str) -> None:
    with raises(error):
        vertex_errors(meshes, truths)
