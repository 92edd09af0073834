"""Lining of openings: which boundaries are openings, and where their linings lie."""

import numpy as np
from synthetic import grid_mesh

from facedis_core.geometry.rims import find_rims
from facedis_core.render.openings import line_openings

SIZE = 12


def sheet(*holes: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A flat sheet towards +z, without the two triangles of some squares (row, column)."""
    column, row = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    vertices = np.stack([column, row, np.zeros_like(row)], -1).reshape(-1, 3) * 10.0
    triangles = grid_mesh(SIZE)[1]
    cross = np.cross(*(vertices[triangles[:, k]] - vertices[triangles[:, 0]] for k in (1, 2)))
    triangles = np.where(cross[:, 2:] > 0, triangles, triangles[:, ::-1])
    corner = vertices[triangles].min(1)[:, 1::-1] / 10
    gone = [(corner == hole).all(1) for hole in holes]
    return vertices, triangles[~np.any(gone, axis=0)] if holes else triangles


def test_each_hole_is_lined_from_behind_and_the_outline_is_not() -> None:
    vertices, triangles = sheet((3, 2), (7, 8))
    centres, lining = line_openings(vertices, triangles)
    np.testing.assert_allclose(centres[:, :2], [[25, 35], [85, 75]])
    assert (centres[:, 2] < 0).all()
    assert len(lining) == 8
    everything = np.concatenate([vertices, centres])
    a, b, c = (everything[lining[:, k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()  # wound as the sheet


def test_each_separate_part_has_an_outline() -> None:
    vertices, triangles = sheet((3, 2))
    other = vertices * 0.2 + [0, 0, 50]
    both = np.concatenate([vertices, other]), np.concatenate([triangles, triangles + SIZE**2])
    assert len(find_rims(both[1], 2 * SIZE**2).part) == 4
    assert len(line_openings(*both)[0]) == 2


def test_a_mesh_without_a_boundary_or_with_one_has_no_lining() -> None:
    assert len(line_openings(*sheet())[1]) == 0
    corners = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]], float)
    closed = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    assert len(line_openings(corners, closed)[1]) == 0


def test_loose_triangles_have_no_lining() -> None:
    points = np.random.default_rng(0).normal(size=(30, 3))
    assert len(line_openings(points, np.arange(30).reshape(10, 3))[1]) == 0
