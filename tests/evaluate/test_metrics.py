"""Metrics against cases worked out by hand and against slow loops."""

import math

import numpy as np
import pytest

from facedis_core.evaluate import metrics


@pytest.fixture
def faces():
    """Five faces of seven vertices, float32 mm."""
    return np.random.default_rng(3).normal(0, 10, (5, 7, 3)).astype(np.float32)


def slow_distances(a, b):
    return [math.dist(map(float, p), map(float, q)) for p, q in zip(a, b, strict=True)]


def slow_spread_distances(faces):
    mean = [
        [sum(float(face[v][i]) for face in faces) / len(faces) for i in range(3)]
        for v in range(faces.shape[1])
    ]
    return [distance for face in faces for distance in slow_distances(face, mean)]


def slow_std(values):
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def test_distance_of_two_faces_by_hand():
    a = np.zeros((2, 3), np.float32)
    b = np.array([[3, 4, 0], [0, 0, 1]], np.float32)  # distances 5 and 1
    assert metrics.vertex_distance(a, b) == 3.0


def test_distance_like_a_loop_and_in_float64(faces):
    got = metrics.reconstruction_error(faces[:2], faces[3:])
    slow = [np.mean(slow_distances(a, b)) for a, b in zip(faces[:2], faces[3:], strict=True)]
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, slow, rtol=1e-14)


def test_neutral_error_is_against_one_face(faces):
    slow = [np.mean(slow_distances(face, faces[0])) for face in faces]
    np.testing.assert_allclose(metrics.neutral_error(faces, faces[0]), slow, rtol=1e-14)


def test_large_coordinates_lose_nothing():
    a = np.full((1, 3), 1e6, np.float32)
    b = a.copy()
    b[0, 0] += 1
    assert metrics.vertex_distance(a, b) == 1.0


def test_constant_distance_scores_zero_only_in_the_papers_formula():
    # two faces, every vertex of both 1.5 mm from the mean face
    faces = np.zeros((2, 4, 3))
    faces[1, :, 0] = 3.0
    assert metrics.FaceSpread.of(faces).std() == 0.0
    assert metrics.FaceSpread.of(faces).jiang() == 1.5
    assert metrics.FaceSpread.of(faces).mean_distance() == 1.5


def test_spread_by_hand():
    # one vertex stays, one moves by 2 mm either way: distances 0 0 2 2, mean 1, std 1
    faces = np.zeros((2, 2, 3))
    faces[0, 1, 2], faces[1, 1, 2] = 2.0, -2.0
    assert metrics.FaceSpread.of(faces).std() == 1.0
    assert metrics.FaceSpread.of(faces).mean_distance() == 1.0
    assert metrics.FaceSpread.of(faces).jiang() == 1.0


def test_spreads_like_loops(faces):
    distances = slow_spread_distances(faces)
    np.testing.assert_allclose(metrics.FaceSpread.of(faces).std(), slow_std(distances))
    np.testing.assert_allclose(metrics.FaceSpread.of(faces).mean_distance(), np.mean(distances))
    jiang = [
        math.hypot(*(slow_std([float(face[v][i]) for face in faces]) for i in range(3)))
        for v in range(faces.shape[1])
    ]
    np.testing.assert_allclose(metrics.FaceSpread.of(faces).jiang(), np.mean(jiang))


def test_contributions_average_to_the_spread(faces):
    spread = metrics.FaceSpread.of(faces)
    for value, contributions in (
        (spread.std(), spread.std_contributions()),
        (spread.jiang(), spread.jiang_contributions()),
        (spread.mean_distance(), spread.mean_distance_contributions()),
    ):
        assert contributions.shape == (len(faces),)
        assert contributions.mean() == pytest.approx(value, rel=1e-12)
    still = metrics.FaceSpread(np.zeros((3, 4)))
    assert not still.std_contributions().any()
    assert not still.jiang_contributions().any()


def test_one_face_has_no_spread(faces):
    with pytest.raises(ValueError, match="at least 2"):
        metrics.FaceSpread.of(faces[:1])


def test_summary():
    summary = metrics.summarize([1.0, 2.0, 6.0])
    assert summary == (3.0, pytest.approx(slow_std([1, 2, 6])), 2.0, 3)
    with pytest.raises(ValueError, match="no values"):
        metrics.summarize([])


def test_cosine_ignores_length():
    gallery = np.array([[1.0, 0.0], [0.0, 1.0]])
    probes = np.array([[9.0, 1.0], [1.0, 9.0], [-1.0, 0.1]])
    np.testing.assert_array_equal(
        metrics.recognized_by_cosine(probes, 0, gallery), [True, False, False]
    )


@pytest.mark.parametrize("latent", [[0.3, 0.7], [0.0, 0.0]])
def test_one_latent_for_everybody_recognizes_nobody(latent):
    gallery = np.tile(latent, (4, 1))
    assert not metrics.recognized_by_cosine(gallery[:2], 0, gallery).any()


def test_one_face_for_everybody_recognizes_nobody(faces):
    gallery = np.repeat(faces[:1], 4, axis=0)
    assert not metrics.recognized_by_vertex_distance(faces, 0, gallery).any()


@pytest.mark.parametrize("vertices", [1, 15, 16, 50])
@pytest.mark.parametrize("noise", [0.1, 3.0, 30.0])
def test_recognition_by_distance_like_trying_everybody(vertices, noise):
    rng = np.random.default_rng(vertices)
    gallery = rng.normal(0, 3, (9, vertices, 3)).astype(np.float32)
    for own in range(len(gallery)):
        probes = gallery[own] + rng.normal(0, noise, (6, vertices, 3)).astype(np.float32)
        slow = [
            np.argmin([np.mean(slow_distances(probe, known)) for known in gallery]) == own
            for probe in probes
        ]
        got = metrics.recognized_by_vertex_distance(probes, own, gallery)
        np.testing.assert_array_equal(got, slow)
