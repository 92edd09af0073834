"""What the benchmarks of registration measure with: points carried from face to face."""

import numpy as np
import yardsticks
from synthetic import grid_mesh

from facedis_core.mesh.mesh import Mesh


def test_points_are_carried_at_their_places_in_triangles():
    vertices, triangles = grid_mesh()
    rng = np.random.default_rng(0)
    other = vertices * 1.1 + rng.normal(0, 0.01, vertices.shape)
    np.testing.assert_allclose(
        yardsticks.carry(vertices, vertices, other, triangles), other, atol=1e-4
    )
    weights = rng.dirichlet(np.ones(3), len(triangles))[:, :, None]
    points = (weights * vertices[triangles]).sum(axis=1)
    carried = yardsticks.carry(points, vertices, other, triangles)
    np.testing.assert_allclose(carried, (weights * other[triangles]).sum(axis=1), atol=1e-4)


def test_points_of_a_cloud_have_planes_around_them():
    plane = np.random.default_rng(0).uniform(-20, 20, (3000, 3)) * [1, 1, 0]
    cloud = Mesh(plane.astype(np.float32), np.empty((0, 3), np.int32), "plane")
    points = np.array([[0.0, 0, 2], [3, 1, -0.5], [1, 2, 0]])
    np.testing.assert_allclose(yardsticks.to_surface(points, cloud), [2, 0.5, 0], atol=1e-4)
