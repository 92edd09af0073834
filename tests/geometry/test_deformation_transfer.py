"""Deformation transfer against dense least squares, and where it is known what comes out."""

import ict_twin
import numpy as np
import pytest
from synthetic import grid_mesh

from facedis_core.geometry.alignment import rotation_about
from facedis_core.geometry.deformation_transfer import DeformationTransfer, displacement_gradients

RESTING = ict_twin.RESTING


@pytest.fixture
def surface():
    """A bumpy grid (36, 3), its triangles, and offsets (3, 36, 3) that leave the first row."""
    vertices, triangles = grid_mesh(6)
    random = np.random.default_rng(0)
    offsets = random.normal(0, 2, (3, *vertices.shape))
    offsets[:, RESTING] = 0
    return vertices + random.normal(0, 1, vertices.shape), triangles, offsets


def carry(surface, target):
    source, triangles, offsets = surface
    fixed = np.zeros(len(source), bool)
    fixed[RESTING] = True
    gradients = displacement_gradients(source, triangles, offsets)
    return DeformationTransfer(triangles, fixed).displacements(target, gradients)


def test_against_dense_least_squares(surface):
    source, triangles, offsets = surface
    target = source * [1.2, 0.8, 1.5] + np.random.default_rng(1).normal(0, 1, source.shape)
    found = carry(surface, target)
    slow = ict_twin.slow_transfers(source, target, triangles, offsets, RESTING)
    for moved, expected in zip(found, slow, strict=True):
        np.testing.assert_allclose(moved, expected, atol=1e-5)
    assert not found[:, RESTING].any()


def test_on_the_source_itself_offsets_stay(surface):
    source, _, offsets = surface
    np.testing.assert_allclose(carry(surface, source), offsets, atol=1e-4)


def test_on_a_surface_twice_as_large_offsets_double(surface):
    source, _, offsets = surface
    np.testing.assert_allclose(carry(surface, 2 * source), 2 * offsets, atol=1e-4)


def test_a_moved_source_makes_no_difference(surface):
    source, triangles, offsets = surface
    target = source * [1.2, 0.8, 1.5]
    found = carry((source + 100, triangles, offsets), target - 50)
    np.testing.assert_allclose(found, carry(surface, target), atol=1e-4)


def test_gradients_add_up_with_weights(surface):
    source, triangles, offsets = surface
    target = source * [1.2, 0.8, 1.5]
    fixed = np.zeros(len(source), bool)
    fixed[RESTING] = True
    gradients = displacement_gradients(source, triangles, offsets)
    mixed = np.tensordot([[0.5, 2, -1]], gradients, 1)
    found = DeformationTransfer(triangles, fixed).displacements(target, mixed)[0]
    expected = np.tensordot([0.5, 2, -1], carry(surface, target), 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_gradients_of_a_turn(surface):
    """A surface that turns as a whole has the turn minus the identity as its gradient."""
    source, triangles, _ = surface
    turn = rotation_about(np.array([0.0, 0.0, 1.0]), 0.3)
    found = displacement_gradients(source, triangles, [source @ turn.T - source])
    np.testing.assert_allclose(
        found[0], np.broadcast_to(turn - np.eye(3), found[0].shape), atol=1e-5
    )
