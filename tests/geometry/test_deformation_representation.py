"""The deformation representation against a slow twin, and what it must give for known motions."""

import numpy as np
import pytest
from scipy.linalg import expm, logm, polar
from scipy.spatial.transform import Rotation

from facedis_core.geometry.deformation_representation import (
    DeformationRepresentation,
    edge_weights,
)

COUNT = 9


@pytest.fixture(scope="module")
def surface():
    """A bumpy square of 9 x 9 vertices, and its triangles."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(COUNT), np.arange(COUNT))
    points = np.stack([x, y, rng.uniform(-1, 1, x.shape)], axis=-1).reshape(-1, 3) * 10.0
    corner = (np.arange(COUNT - 1)[:, None] * COUNT + np.arange(COUNT - 1)).ravel()
    lower = np.stack([corner, corner + 1, corner + COUNT], axis=1)
    upper = np.stack([corner + 1, corner + COUNT + 1, corner + COUNT], axis=1)
    return points, np.concatenate([lower, upper])


@pytest.fixture(scope="module")
def shape(surface):
    points, triangles = surface
    steadiness = np.linspace(1, 3, len(points))
    return DeformationRepresentation(points, *edge_weights(points, triangles), steadiness)


def bent(points):
    """A smooth deformation."""
    x, y, z = points.T
    return np.stack([x + 0.1 * y, y + 8 * np.sin(x / 25), 1.2 * z + 0.004 * x * y], axis=1)


def slow_weights(points, triangles):
    found = {}
    for triangle in triangles:
        for turn in range(3):
            i, j, k = np.roll(triangle, turn)
            u, v = points[i] - points[k], points[j] - points[k]
            cotangent = (u @ v) / np.linalg.norm(np.cross(u, v))
            key = (min(i, j), max(i, j))
            found[key] = found.get(key, 0) + cotangent / 2
    return {key: max(value, 0.05) for key, value in found.items()}


def slow_numbers(points, triangles, face):
    """By the definition, a vertex at a time; the pull is a hundredth of the edges' mean square."""
    weights, found = slow_weights(points, triangles), []
    for i in range(len(points)):
        left, right = np.zeros((2, 3, 3))
        for (a, b), weight in weights.items():
            if i in (a, b):
                j = a + b - i
                before, after = points[i] - points[j], face[i] - face[j]
                left += weight * np.outer(after, before)
                right += weight * np.outer(before, before)
        u, _, v = np.linalg.svd(left)
        best = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v  # Kabsch
        ridge = 0.01 * np.trace(right) / 3
        gradient = (left + ridge * best) @ np.linalg.inv(right + ridge * np.eye(3))
        rotation, stretch = polar(gradient)
        turn = logm(rotation).real
        found.append(
            [
                *(stretch - np.eye(3))[[0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]],
                *(turn[2, 1], turn[0, 2], turn[1, 0]),
            ]
        )
    return np.array(found)


def slow_face(points, triangles, numbers, steadiness):
    """The least squares solution, placed by the mean of the steady vertices."""
    rows, right = [], []
    gradients = []
    for s11, s12, s13, s22, s23, s33, *turn in numbers:
        stretch = np.array([[s11, s12, s13], [s12, s22, s23], [s13, s23, s33]]) + np.eye(3)
        x, y, z = turn
        gradients.append(expm(np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])) @ stretch)
    for (i, j), weight in slow_weights(points, triangles).items():
        for own in (i, j):
            row = np.zeros(len(points))
            row[i], row[j] = np.sqrt(weight), -np.sqrt(weight)
            rows.append(row)
            right.append(np.sqrt(weight) * gradients[own] @ (points[i] - points[j]))
    found = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    share = steadiness / steadiness.sum()
    return found + share @ (points - found)


def test_both_ways_against_a_slow_twin(surface, shape):
    points, triangles = surface
    face = bent(points)
    numbers = shape.features(face[None])
    np.testing.assert_allclose(numbers[0], slow_numbers(points, triangles, face), atol=1e-9)
    twin = slow_face(points, triangles, numbers[0], shape.steadiness)
    (found,) = shape.faces(numbers)
    np.testing.assert_allclose(found, twin, atol=2e-3)  # the weak pull of the steady vertices
    moved = face + shape.steadiness @ (points - face) / shape.steadiness.sum()
    error = np.linalg.norm(found - moved, axis=1).mean()
    assert error < 0.1 * np.linalg.norm(face - points, axis=1).mean()


def test_motions_are_told_and_undone(surface, shape):
    points, _ = surface
    turn = np.array([0.4, -1.1, 2.2])  # 143 degrees
    turned = points @ Rotation.from_rotvec(turn).as_matrix().T + [5.0, -80.0, 3.0]
    numbers = shape.features(np.stack([points, turned, 1.3 * points]))
    np.testing.assert_allclose(numbers[0], 0, atol=1e-12)
    np.testing.assert_allclose(numbers[1, :, :6], 0, atol=1e-9)
    np.testing.assert_allclose(numbers[1, :, 6:], np.tile(turn, (len(points), 1)), atol=1e-9)
    assert np.abs(numbers[2, :, [0, 3]].mean(axis=1) - 0.3).max() < 0.02  # but for the pull
    np.testing.assert_allclose(numbers[2, :, 6:], 0, atol=1e-9)
    np.testing.assert_allclose(shape.faces(numbers[:1])[0], points, atol=1e-9)
    share = shape.steadiness / shape.steadiness.sum()
    placed = turned + share @ (points - turned)
    np.testing.assert_allclose(shape.faces(numbers[1:2])[0], placed, atol=1e-3)


def test_what_is_turned_inside_out_comes_back(surface, shape):
    points, _ = surface
    face = points * [1, 1, -1]
    numbers = shape.features(face[None])
    assert np.isfinite(numbers).all()
    assert (numbers[0, :, [0, 3, 5]] < -1).any()  # a mirrored vertex
    found = shape.faces(numbers)[0]
    assert np.linalg.norm(found - face, axis=1).mean() < 1.0 < np.abs(points[:, 2]).mean() / 4


def test_every_part_and_every_loose_vertex_has_its_place(surface):
    points, triangles = surface
    two = np.concatenate([points, points + np.array([300.0, 0, 0]), [[7.0, 8.0, 9.0]]])
    both = np.concatenate([triangles, triangles + len(points)])
    shape = DeformationRepresentation(two, *edge_weights(two, both), np.ones(len(two)))
    face = two.copy()
    face[: len(points)] = bent(points)
    numbers = shape.features(face[None])
    np.testing.assert_array_equal(numbers[0, len(points) : -1].round(9), 0)
    np.testing.assert_array_equal(numbers[0, -1], 0)
    found = shape.faces(numbers)[0]
    np.testing.assert_allclose(found[len(points) :], two[len(points) :], atol=1e-6)
