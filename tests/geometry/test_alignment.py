"""Alignment of faces against SciPy's, and of whole sets against loops over single faces."""

import tracemalloc

import numpy as np
import pytest
from raising import raises
from scipy.spatial.transform import Rotation
from synthetic import grid_mesh

from facedis_core.geometry import alignment
from facedis_core.geometry.alignment import (
    ALIGNMENT_ROUNDS,
    align_by_neutrals,
    align_to,
    mean_shape,
    right_angles,
    rigid_alignment,
    rigid_alignments,
    robust_alignment,
    rotation_about,
)
from facedis_core.geometry.surface import unit_vectors

SHAPE, _ = grid_mesh()
V = len(SHAPE)
ALL = np.arange(V)
STABLE = np.array([0, 3, 8, 14, 22, 29, 35])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def scattered(rng, count, noise_mm=1.0, scale=False):
    """Faces (count, V, 3) of one shape, noisy and anywhere."""
    shapes = SHAPE + rng.normal(0, noise_mm, (count, V, 3))
    turns = Rotation.random(count, random_state=rng.integers(1000)).as_matrix()
    factors = rng.uniform(0.6, 1.6, (count, 1, 1)) if scale else 1.0
    moved = factors * np.einsum("nij,nvj->nvi", turns, shapes) + rng.normal(0, 300, (count, 1, 3))
    return moved.astype(np.float32)


class TestRotations:
    @pytest.mark.parametrize("angle", [0.0, 1e-4, -0.7, 2.5, 3.14, 7.0])
    def test_about_an_axis(self, rng, angle):
        for axis in unit_vectors(rng.normal(size=(5, 3))):
            expected = Rotation.from_rotvec(angle * axis).as_matrix()
            np.testing.assert_allclose(rotation_about(axis, angle), expected, atol=1e-12)


def crowd(rng, kind):
    """Faces (4, V, 3), or worse."""
    faces = scattered(rng, 4, noise_mm=2, scale=True).astype(float)
    if kind == "mirrored":
        faces[::2, :, 0] *= -1
    elif kind == "planar":
        faces[::2, :, 2] = 0
    elif kind == "mirrored and planar":
        faces[:, :, 0] *= -1
        faces[:, :, 2] = 300
    return faces


@pytest.mark.parametrize("kind", ["whole", "mirrored", "planar", "mirrored and planar"])
@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("one_target", [False, True])
def test_alignments_are_those_of_scipy(rng, kind, scale, one_target):
    sources = crowd(rng, kind)
    goals = SHAPE if one_target else crowd(rng, "whole")
    if one_target:
        sources = sources.astype(np.float32)
    found = rigid_alignments(sources, goals, scale=scale)
    assert found.rotation.dtype == np.float64
    moved = found.apply(sources[:, :9])  # other vertices than those looked at may move along
    assert moved.dtype == sources.dtype
    targets = np.broadcast_to(goals, sources.shape)
    for i, (source, goal) in enumerate(zip(sources, targets, strict=True)):
        centre, goal_centre = source.mean(0, dtype=float), goal.mean(0, dtype=float)
        a, b = source - centre, goal - goal_centre
        rotation = Rotation.align_vectors(b, a)[0].as_matrix()
        factor = np.trace(rotation.T @ b.T @ a) / (a**2).sum() if scale else 1.0
        np.testing.assert_allclose(found.rotation[i], rotation, atol=1e-8)
        assert found.scale[i] == pytest.approx(factor, rel=1e-9)
        expected = factor * a[:9] @ rotation.T + goal_centre
        np.testing.assert_allclose(moved[i], expected, atol=1e-3 if one_target else 1e-6)
        alone = rigid_alignment(source, goal, scale=scale)
        np.testing.assert_array_equal(found.rotation[i], alone.rotation)
        np.testing.assert_array_equal(found.translation[i], alone.translation)
        assert found.scale[i] == alone.scale
        np.testing.assert_allclose(alone.apply(source[:9]), moved[i], atol=1e-4)


# 0.1 has no exact mean: what centring leaves of it are rounding errors, not a shape.
@pytest.mark.parametrize("place", [0.0, 0.1, -1234.56])
def test_coinciding_points_are_only_shifted(place):
    points = np.stack([np.full(SHAPE.shape, place), SHAPE.astype(float)])
    found = rigid_alignments(points, SHAPE, scale=True)
    np.testing.assert_array_equal(found.rotation[0], np.eye(3))
    assert found.scale[0] == 1
    np.testing.assert_allclose(found.rotation[1], np.eye(3), atol=1e-12)
    centre = np.broadcast_to(SHAPE.mean(0, dtype=float), SHAPE.shape)
    np.testing.assert_allclose(found.apply(points)[0], centre, atol=1e-6)


def test_a_far_but_small_shape_is_no_point():
    small = SHAPE.astype(float) * 1e-3 + 1e4
    found = rigid_alignments(small[None], SHAPE, scale=True)
    assert found.scale[0] == pytest.approx(1e3)
    np.testing.assert_allclose(found.apply(small[None])[0], SHAPE, atol=1e-4)


def test_no_faces_have_no_alignments():
    found = rigid_alignments(np.zeros((0, V, 3)), SHAPE, scale=True)
    assert found.rotation.shape == (0, 3, 3)
    assert found.apply(np.zeros((0, 5, 3), np.float32)).shape == (0, 5, 3)


@pytest.mark.parametrize("shape", [(V, 3), (4, V - 1, 3), (3, V, 3), (V, 2)])
def test_alignments_refuse_other_shapes(shape):
    sources = np.zeros((4, *SHAPE.shape))
    with pytest.raises(ValueError, match=r"\(N, V, 3\)"):
        rigid_alignments(sources if shape != (V, 3) else SHAPE, np.zeros(shape))
    with pytest.raises(ValueError, match=r"\(36, 3\) and \(35, 3\)"):
        rigid_alignment(SHAPE, SHAPE[1:])


def aligned(face, target, chosen, scale=False):
    """One face, (V, 3) float32."""
    return rigid_alignment(face[chosen], target[chosen], scale=scale).apply(face)


def root_mean_square(face):
    centre = sum(face.astype(float)) / V
    return np.sqrt(sum(((vertex - centre) ** 2).sum() for vertex in face) / V)


def slow_mean(faces, rows, chosen, scale):
    """Generalised Procrustes, face by face."""
    target = faces[rows[0]].astype(float)
    size = np.mean([root_mean_square(faces[row]) for row in rows])
    for _ in range(ALIGNMENT_ROUNDS):
        target = np.mean(
            [aligned(faces[row], target, chosen, scale).astype(float) for row in rows], axis=0
        )
        if scale:
            centre = target.mean(0)
            target = centre + (target - centre) * size / root_mean_square(target)
    return target


@pytest.fixture(params=[1, 3, 1000], ids="{} at a time".format)
def blocks(request, monkeypatch):
    """Blocks of so many faces."""
    monkeypatch.setattr(alignment, "BLOCK_BYTES", request.param * SHAPE.nbytes)


@pytest.mark.parametrize(("scale", "chosen"), [(False, STABLE), (True, ALL)])
def test_the_mean_is_that_of_the_loop(rng, blocks, scale, chosen):
    faces = scattered(rng, 11, scale=scale)
    faces[0] = np.nan
    faces[4, 7, 1] = np.inf
    rows = np.array([2, 3, 5, 6, 7, 10])
    before = faces.copy()
    found = mean_shape(faces, np.array([0, 2, 3, 4, 5, 6, 7, 10]), chosen, scale=scale)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, slow_mean(faces, rows, chosen, scale), atol=1e-4)
    np.testing.assert_array_equal(faces, before)


@pytest.mark.parametrize("rows", [[], [0, 1]])
def test_a_mean_needs_a_face(rows):
    faces = np.full((2, V, 3), np.nan, np.float32)
    with raises("split-empty"):
        mean_shape(faces, np.array(rows, np.intp), ALL, scale=False)


@pytest.mark.parametrize(
    ("scale", "chosen", "rows"), [(False, STABLE, None), (True, ALL, np.array([7, 2, 3]))]
)
def test_faces_are_aligned_as_by_the_loop(rng, blocks, scale, chosen, rows):
    faces = scattered(rng, 8, scale=scale)
    faces[5] = np.nan
    faces[6, 2, 2] = np.nan
    expected = faces.copy()
    for row in {0, 1, 2, 3, 4, 7} if rows is None else rows:
        expected[row] = aligned(faces[row], SHAPE, chosen, scale)
    align_to(faces, SHAPE, chosen, scale=scale, rows=rows)
    np.testing.assert_allclose(faces, expected, atol=1e-4)


# Two subjects with a neutral that is not first, one without any, one whose neutral is NaN, one
# whose neutral lacks a vertex that is not stable, a second neutral face, which is one of the rest,
# and a neutral alone, in the row that -1 would take.
NEUTRAL_ROW = np.array([2, 2, 2, -1, -1, 6, 6, 6, 9, 9, 11, 11, 6, 13])


def test_faces_follow_their_neutral(rng, blocks):
    faces = scattered(rng, len(NEUTRAL_ROW))
    faces[9] = np.nan
    faces[11, 1] = np.nan
    assert 1 not in STABLE
    expected = faces.copy()
    for row in (2, 6, 13):
        expected[row] = aligned(faces[row], SHAPE, ALL)
    for row in (0, 1, 5, 7, 12):
        expected[row] = aligned(faces[row], expected[NEUTRAL_ROW[row]], STABLE)
    for row in (3, 4, 8, 10):
        expected[row] = aligned(faces[row], SHAPE, STABLE)
    align_by_neutrals(faces, NEUTRAL_ROW, SHAPE, STABLE)
    np.testing.assert_allclose(faces, expected, atol=1e-4)
    assert np.isnan(faces[9]).all() and np.isnan(faces[11]).sum() == 3


def test_a_neutral_has_no_other_neutral(rng):
    with pytest.raises(ValueError, match="its own neutral"):
        align_by_neutrals(scattered(rng, 3), np.array([1, 2, 2]), SHAPE, STABLE)


def test_blocks_do_not_show_in_the_bytes(rng, monkeypatch, tmp_path):
    # Sizes at which BLAS takes other paths, and a memory map, whose start is aligned otherwise.
    template = np.random.default_rng(1).normal(0, 60, (1501, 3)).astype(np.float32)
    start = np.stack([template + rng.normal(0, 2, template.shape) for _ in range(17)])
    start = start.astype(np.float32)
    start[4] = np.nan
    everything = np.arange(len(template))
    own = np.where(np.arange(17) % 5 == 0, np.arange(17), np.arange(17) // 5 * 5)
    results = []
    for faces_at_a_time in (1, 2, 7, 100):
        monkeypatch.setattr(alignment, "BLOCK_BYTES", faces_at_a_time * template.nbytes)
        faces = np.memmap(tmp_path / "faces", np.float32, "w+", 4, start.shape)
        faces[...] = start
        target = mean_shape(faces, everything[:17], everything, scale=True)
        align_to(faces, target, everything[::3], scale=True)
        align_by_neutrals(faces, own, target, everything[5:60:7])
        results.append(target.tobytes() + faces.tobytes())
    assert len(set(results)) == 1
    assert not np.array_equal(faces, start, equal_nan=True)


def test_a_set_is_not_held_in_memory(tmp_path, monkeypatch):
    count, vertices = 200, 2_000  # 4.8 MB
    monkeypatch.setattr(alignment, "BLOCK_BYTES", 100_000)
    faces = np.memmap(tmp_path / "faces", np.float32, "w+", 0, (count, vertices, 3))
    shape = np.random.default_rng(0).normal(0, 50, (vertices, 3))
    for row in range(count):
        faces[row] = shape + row
    everything = np.arange(vertices)
    tracemalloc.start()
    try:
        target = mean_shape(faces, np.arange(count), everything, scale=True)
        align_to(faces, target, everything, scale=True)
        align_by_neutrals(faces, np.arange(count) // 4 * 4, target, everything[:13])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_500_000


def test_vertices_that_move_hardly_turn_a_robust_alignment(rng):
    points = rng.normal(0, 50, (300, 3))
    rotation, shift = rotation_about(np.array([0, 0.6, 0.8]), 0.3), np.array([5, -80, 2.0])
    target = points @ rotation.T + shift + rng.normal(0, 0.05, points.shape)
    moved = points.copy()
    moved[:60] += [0, -12, 4]  # a jaw
    plain = rigid_alignment(moved, target)
    found = robust_alignment(moved, target)
    error = {a: np.abs(a.apply(points) - target).mean() for a in (plain, found)}
    assert error[found] < 0.1
    assert error[plain] > 0.5


def test_right_angles():
    """Every right angle of turns by thirds of one, and turns of the 24 themselves."""
    quarter = rotation_about(np.array([1.0, 0, 0]), np.pi / 2)
    np.testing.assert_array_equal(right_angles(np.eye(3)), np.eye(3))
    np.testing.assert_allclose(right_angles(quarter), quarter, atol=1e-15)
    for angle, wanted in ((0.7, 0), (0.9, 1), (2.2, 1), (2.5, 2), (-0.9, 3)):
        found = right_angles(rotation_about(np.array([1.0, 0, 0]), angle))
        np.testing.assert_allclose(found, np.linalg.matrix_power(quarter, wanted), atol=1e-15)
