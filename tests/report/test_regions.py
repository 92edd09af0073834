"""Regions of a face in any topology."""

import numpy as np
from synthetic import grid_mesh

from facedis_core.report.regions import RIM_RINGS, find_regions, near_rim

SIZE = 9


def test_thirds_and_sides_share_the_face_out() -> None:
    vertices, triangles = grid_mesh(SIZE)
    found = find_regions(vertices, triangles, None)
    thirds = [found[f"{name} third"] for name in ("upper", "middle", "lower")]
    assert (np.sum(thirds, axis=0) == 1).all()
    assert vertices[thirds[0], 1].min() > vertices[thirds[1], 1].max()
    assert vertices[thirds[1], 1].min() > vertices[thirds[2], 1].max()
    assert (found["midline"] ^ found["sides"]).all()
    assert np.abs(vertices[found["midline"], 0]).max() <= 100 / 6
    assert (found["rim"] ^ found["inside"]).all()
    assert "moves most" not in found


def test_the_rim_of_a_sheet_is_so_many_rings_wide() -> None:
    _, triangles = grid_mesh(SIZE)
    rows, columns = np.divmod(np.arange(SIZE * SIZE), SIZE)
    ring = np.minimum.reduce([rows, columns, SIZE - 1 - rows, SIZE - 1 - columns])
    assert np.array_equal(near_rim(SIZE * SIZE, triangles), ring <= RIM_RINGS)


def test_a_closed_surface_has_no_rim() -> None:
    tetrahedron = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    assert not near_rim(4, tetrahedron).any()
    corners = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]], float)
    assert "rim" not in find_regions(corners, tetrahedron, None)


def test_what_moves_most_and_least_are_tenths() -> None:
    vertices, triangles = grid_mesh(SIZE)
    motion = np.random.default_rng(0).permutation(len(vertices)).astype(float)
    found = find_regions(vertices, triangles, motion)
    most, least = found["moves most"], found["moves least"]
    assert most.sum() == least.sum() == 8
    assert motion[most].min() == len(vertices) - 8
    assert motion[least].max() == 7
    assert "moves most" not in find_regions(vertices, triangles, np.zeros(len(vertices)))


def test_parts_of_the_face_of_a_head_are_found_on_the_face() -> None:
    vertices, triangles = grid_mesh(SIZE)
    face = (np.abs(vertices[:, 0]) < 40) & (vertices[:, 1] > -20)
    motion = np.arange(len(vertices), dtype=float)
    found = find_regions(vertices, triangles, motion, face)
    assert np.array_equal(found["face"], face)
    assert np.array_equal(found["rest of the head"], ~face)
    for name, inside in found.items():
        assert (inside <= face).all() or name == "rest of the head"
    assert vertices[found["lower third"], 1].min() == vertices[face, 1].min()
    assert found["moves most"].sum() == round(face.sum() / 10)
    assert "face" not in find_regions(vertices, triangles, motion, np.ones(len(vertices), bool))
