"""Regions of faces by position."""

import numpy as np
import pytest
from synthetic import grid_mesh

from facedis_core.geometry.face_regions import face_regions
from facedis_core.model.model_file import load_model


@pytest.fixture(scope="module")
def mean_face():
    return load_model("ict-pointnet").mean_face


@pytest.fixture(scope="module")
def mean_head():
    return load_model("ict-linear").mean_face


def test_every_vertex_is_in_one_region(mean_face, mean_head):
    for vertices in (mean_face, mean_head, grid_mesh()[0], mean_face[:1]):
        regions = face_regions(vertices)
        assert (np.sum(list(regions.values()), axis=0) == 1).all()
        assert all(inside.any() for inside in regions.values())


@pytest.mark.parametrize(
    ("name", "vertex"),
    # corners of eyes and mouth, tip of the nose, chin, brow, in the order of ict-pointnet
    [("eyes", 940), ("lips", 3999), ("nose", 3318), ("chin", 590), ("brows", 1252), ("jaw", 1067)],
)
def test_landmarks_are_where_people_would_look_for_them(mean_face, mean_head, name, vertex):
    assert face_regions(mean_face)[name][vertex]
    in_head = load_model("ict-pointnet").preparation.vertex_index[vertex]
    assert face_regions(mean_head)[name][in_head]


def test_where_a_face_lies_makes_no_difference(mean_face):
    moved = face_regions(mean_face + np.array([30.0, -200.0, 1000.0], np.float32))
    assert {name: inside.sum() for name, inside in moved.items()} == {
        name: inside.sum() for name, inside in face_regions(mean_face).items()
    }


def test_without_a_nose_in_front_regions_are_thirds(mean_face):
    x, y, z = mean_face.T
    lying = np.stack([x, -z, y], axis=1)
    for vertices in (lying, -mean_face, grid_mesh()[0]):
        assert "nose" not in face_regions(vertices)
    regions = face_regions(grid_mesh()[0])
    vertices = grid_mesh()[0]
    assert regions["upper left"][np.argmax(vertices[:, 1] - vertices[:, 0])]
    assert regions["lower right"][np.argmin(vertices[:, 1] - vertices[:, 0])]
