"""Medoids against all pairs; the centre of power 0.5 against SciPy's minimisation."""

import numpy as np
import pytest
from scipy.optimize import minimize

from facedis_core.geometry import centres
from facedis_core.geometry.centres import CENTRE_STEPS, POWER, SMOOTHING_MM, medoid, power_centre


def all_pairs_medoid(faces):
    """Number of the face with the least sum of distances, by two loops."""
    sums = [sum(np.linalg.norm(a - b, axis=1).mean() for b in faces) for a in faces]
    return int(np.argmin(sums))


class TestMedoid:
    @pytest.mark.parametrize("count", [1, 3, 7, 60])
    def test_all_pairs(self, count):
        for seed in range(5):
            rng = np.random.default_rng(seed)
            faces = rng.normal(size=(count, 1, 1)) * rng.normal(size=(9, 3))
            faces = (faces + rng.normal(0, 0.5, (count, 9, 3))).astype(np.float32)
            assert medoid(faces) == all_pairs_medoid(faces)

    def test_blocks(self, monkeypatch):
        faces = np.random.default_rng(1).normal(size=(20, 9, 3))
        expected = medoid(faces)
        monkeypatch.setattr(centres, "BLOCK_VALUES", 1)
        assert medoid(faces) == expected

    def test_first_of_ties(self):
        a, b = np.zeros((5, 3)), np.ones((5, 3))
        assert medoid(np.stack([a, b])) == 0
        assert medoid(np.stack([a, b, b, a])) == 0
        assert medoid(np.stack([a, b, b])) == 1


class TestPowerCentre:
    @pytest.fixture
    def faces(self):
        """Eight vertices that rest, but for 0.05 mm of noise, in six of ten faces."""
        rng = np.random.default_rng(3)
        faces = 50 + rng.normal(0, 0.05, (10, 8, 3))
        faces[6:] += rng.normal(2, 1, (4, 8, 3))
        return faces

    def test_minimum(self, faces):
        found = power_centre(faces)
        for vertex in range(8):

            def total(point, x=faces[:, vertex]):
                return ((((x - point) ** 2).sum(1) + SMOOTHING_MM**2) ** (POWER / 2)).sum()

            best = minimize(total, np.median(faces[:, vertex], axis=0), tol=1e-10)
            assert np.linalg.norm(found[vertex] - best.x) < 1e-3
            assert total(found[vertex]) <= total(best.x) + 1e-6
        assert np.abs(found - 50).max() < 0.1 < np.abs(faces.mean(axis=0) - 50).min()

    def test_no_step_increases_the_sum(self, faces, monkeypatch):
        faces = faces + np.random.default_rng(0).normal(0, 1, faces.shape)
        sums = []
        for steps in range(CENTRE_STEPS):
            monkeypatch.setattr(centres, "CENTRE_STEPS", steps)
            square = ((faces - power_centre(faces)) ** 2).sum(-1) + SMOOTHING_MM**2
            sums.append((square ** (POWER / 2)).sum())
        assert (np.diff(sums) <= 1e-9).all()

    def test_float32_in_blocks(self, faces, monkeypatch):
        expected = power_centre(faces)
        monkeypatch.setattr(centres, "BLOCK_VALUES", 90)  # three vertices
        found = power_centre(faces.astype(np.float32))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_one_face_and_equal_faces(self):
        face = np.random.default_rng(0).normal(0, 50, (7, 3))
        np.testing.assert_array_equal(power_centre(face[None]), face)
        np.testing.assert_allclose(power_centre(np.stack([face] * 4)), face, rtol=1e-12)
