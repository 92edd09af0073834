"""Alignment of single faces against SciPy, of whole sets against loops over single faces."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from synthetic import grid_mesh

from facedis_core.errors import InputError
from facedis_core.geometry import alignment
from facedis_core.geometry.alignment import (
    ALIGNMENT_ROUNDS,
    align_by_neutrals,
    align_to,
    mean_shape,
    rigid_alignment,
    rigid_alignments,
    rotation_about,
    rotation_between,
)
from facedis_core.geometry.surface import unit_vectors

SHAPE, _ = grid_mesh()
V = len(SHAPE)
ALL = np.arange(V)
STABLE = np.array([0, 3, 8, 14, 22, 29, 35])


RANDOM = np.random.default_rng(0)
NOISY = np.vstack([SHAPE[:25] + RANDOM.normal(0, 3, (25, 3)), [[9, 9, 9]]]).astype(np.float32)


def turn(angle, axis):
    return Rotation.from_rotvec(angle * unit_vectors(np.asarray(axis, float))).as_matrix()


@pytest.mark.parametrize("angle", [0.0, 1e-4, -0.7, 2.5, 3.14, 7.0])
def test_rotation_about_an_axis(angle):
    for axis in unit_vectors(RANDOM.normal(size=(20, 3))):
        found = rotation_about(axis, angle)
        np.testing.assert_allclose(found, turn(angle, axis), atol=1e-12)
        np.testing.assert_allclose(found @ axis, axis, atol=1e-12)


@pytest.mark.parametrize("scale", [False, True])
def test_alignment_recovers_a_known_motion(scale):
    rotation, translation = turn(2.5, [1, -2, 0.5]), np.array([10.0, -20, 5])
    factor = 1.7 if scale else 1.0
    moved = factor * NOISY.astype(float) @ rotation.T + translation
    found = rigid_alignment(NOISY, moved, scale=scale)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-9)
    np.testing.assert_allclose(found.translation, translation, atol=1e-6)
    assert found.scale == pytest.approx(factor)
    aligned = found.apply(NOISY)
    assert aligned.dtype == np.float32
    np.testing.assert_allclose(aligned, moved, atol=1e-4)


def test_alignment_refuses_different_shapes():
    with pytest.raises(ValueError, match=r"\(26, 3\) and \(25, 3\)"):
        rigid_alignment(NOISY, NOISY[1:])


def by_scipy(source, target, scale):
    """Rotation by SciPy's Kabsch algorithm, scale and translation by least squares."""
    a, b = source.astype(float), target.astype(float)
    centred = a - a.mean(0), b - b.mean(0)
    rotation = Rotation.align_vectors(centred[1], centred[0])[0].as_matrix()
    turned = centred[0] @ rotation.T
    factor = (turned * centred[1]).sum() / (turned**2).sum() if scale else 1.0
    return rotation, b.mean(0) - factor * rotation @ a.mean(0), factor


def crowd(kind, count=7):
    """Faces (count, V, 3) that are moved, scaled and noisy copies of NOISY, or worse."""
    faces = np.stack(
        [
            RANDOM.uniform(0.5, 2) * NOISY @ turn(RANDOM.uniform(0, 3), RANDOM.normal(size=3)).T
            + RANDOM.normal(0, 200, 3)
            + RANDOM.normal(0, 2, NOISY.shape)
            for _ in range(count)
        ]
    )
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
@pytest.mark.parametrize("targets", ["one", "each its own"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_alignments_are_those_of_each_face_alone(kind, scale, targets, dtype):
    sources = crowd(kind).astype(dtype)
    goals = (NOISY if targets == "one" else crowd("whole")).astype(dtype)
    found = rigid_alignments(sources, goals, scale=scale)
    assert found.rotation.dtype == np.float64
    for i, (source, goal) in enumerate(
        zip(sources, np.broadcast_to(goals, sources.shape), strict=True)
    ):
        rotation, translation, factor = by_scipy(source, goal, scale)
        np.testing.assert_allclose(found.rotation[i], rotation, atol=1e-9)
        np.testing.assert_allclose(found.translation[i], translation, atol=1e-6)
        np.testing.assert_allclose(found.scale[i], factor, rtol=1e-9)
        alone = rigid_alignment(source, goal, scale=scale)
        np.testing.assert_array_equal(found.rotation[i], alone.rotation)
        np.testing.assert_array_equal(found.translation[i], alone.translation)
        assert found.scale[i] == alone.scale


def test_each_face_is_moved_by_its_own_motion():
    faces = crowd("whole").astype(np.float32)
    found = rigid_alignments(faces, NOISY, scale=True)
    halves = found.apply(faces[:, :9])  # other vertices than those looked at may move along
    assert halves.dtype == np.float32
    for i, face in enumerate(faces):
        moved = found.scale[i] * found.rotation[i] @ face[:9].T.astype(float)
        np.testing.assert_allclose(halves[i], moved.T + found.translation[i], atol=1e-4)


# 0.1 has no exact mean: what centring leaves of it are rounding errors, not a shape.
@pytest.mark.parametrize("place", [0.0, 0.1, -1234.56])
@pytest.mark.parametrize("scale", [False, True])
def test_coinciding_points_are_only_shifted(place, scale):
    points = np.stack([np.full(NOISY.shape, place), NOISY.astype(float)])
    found = rigid_alignments(points, NOISY, scale=scale)
    np.testing.assert_array_equal(found.rotation[0], np.eye(3))
    assert found.scale[0] == 1
    np.testing.assert_allclose(found.rotation[1], np.eye(3), atol=1e-12)
    centre = np.broadcast_to(NOISY.mean(0, dtype=float), NOISY.shape)
    np.testing.assert_allclose(found.apply(points)[0], centre, atol=1e-6)


def test_a_far_but_small_shape_is_no_point():
    small = NOISY.astype(float) * 1e-3 + 1e4
    found = rigid_alignments(small[None], NOISY, scale=True)
    assert found.scale[0] == pytest.approx(1e3)
    np.testing.assert_allclose(found.apply(small[None])[0], NOISY, atol=1e-4)


def test_no_faces_have_no_alignments():
    found = rigid_alignments(np.zeros((0, 26, 3)), NOISY, scale=True)
    assert found.rotation.shape == (0, 3, 3)
    assert found.apply(np.zeros((0, 5, 3), np.float32)).shape == (0, 5, 3)


@pytest.mark.parametrize("shape", [(26, 3), (4, 25, 3), (3, 26, 3), (26, 2)])
def test_alignments_refuse_other_shapes(shape):
    sources = np.zeros((4, *NOISY.shape))
    with pytest.raises(ValueError, match=r"\(N, V, 3\)"):
        rigid_alignments(sources if shape != (26, 3) else NOISY, np.zeros(shape))


def test_rotation_between():
    a, b = unit_vectors(RANDOM.normal(size=(2, 4, 5, 3)))
    found = rotation_between(a, b)
    for i in np.ndindex(4, 5):
        expected, _ = Rotation.align_vectors(b[i], a[i])
        np.testing.assert_allclose(found[i], expected.as_matrix(), atol=1e-9)


def test_rotation_between_equal_and_missing_directions_is_the_identity():
    a = unit_vectors(RANDOM.normal(size=(6, 3)))
    expected = np.broadcast_to(np.eye(3), (6, 3, 3))
    np.testing.assert_allclose(rotation_between(a, a), expected, atol=1e-14)
    np.testing.assert_array_equal(rotation_between(np.zeros(3), a[0]), np.eye(3))
    np.testing.assert_array_equal(rotation_between(a[0], np.zeros(3)), np.eye(3))


@given(
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    st.sampled_from([0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3]),
    st.sampled_from(["f4", "f8"]),
)
@settings(max_examples=60)
def test_rotation_between_nearly_opposite_directions(direction, bend, kind):
    a = unit_vectors(np.array(direction, kind))
    b = unit_vectors(-a + np.array([bend, -bend / 2, bend / 3], kind))
    found = rotation_between(a, b)
    assert found.dtype == kind
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-6 if kind == "f4" else 1e-12)
    assert np.linalg.det(found) == pytest.approx(1, abs=1e-5)
    # The bisector of nearly opposite vectors keeps few of their digits.
    np.testing.assert_allclose(found @ a, b, atol=2e-6)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def scattered(rng, count, noise_mm=1.0, scale=False):
    """Faces (count, V, 3) of one shape, noisy and anywhere."""
    shapes = SHAPE + rng.normal(0, noise_mm, (count, V, 3))
    turns = rotation_between(rng.normal(size=(count, 3)), rng.normal(size=(count, 3)))
    factors = rng.uniform(0.6, 1.6, (count, 1, 1)) if scale else 1.0
    moved = factors * np.einsum("nij,nvj->nvi", turns, shapes) + rng.normal(0, 300, (count, 1, 3))
    return moved.astype(np.float32)


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


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("chosen", [ALL, STABLE], ids=["all", "stable"])
def test_the_mean_is_that_of_the_loop(rng, blocks, scale, chosen):
    faces = scattered(rng, 11, scale=scale)
    rows = np.array([2, 3, 5, 6, 7, 10])
    before = faces.copy()
    found = mean_shape(faces, rows, chosen, scale=scale)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, slow_mean(faces, rows, chosen, scale), atol=1e-4)
    np.testing.assert_array_equal(faces, before)


def test_the_mean_of_one_shape_is_that_shape_where_the_first_lies(rng):
    faces = scattered(rng, 6, noise_mm=0)
    rows = np.array([4, 0, 1, 2, 3, 5])
    np.testing.assert_allclose(mean_shape(faces, rows, ALL, scale=False), faces[4], atol=1e-3)


def test_the_mean_of_similar_shapes_keeps_their_mean_size(rng):
    faces = scattered(rng, 40, noise_mm=3, scale=True)
    found = mean_shape(faces, np.arange(40), ALL, scale=True)
    sizes = [root_mean_square(face) for face in faces]
    assert root_mean_square(found) == pytest.approx(np.mean(sizes))
    assert max(sizes) / min(sizes) > 1.5


def test_the_mean_leaves_out_what_is_not_finite(rng):
    faces = scattered(rng, 6)
    faces[0] = np.nan
    faces[3, 7, 1] = np.inf
    whole = np.array([1, 2, 4, 5])
    expected = mean_shape(faces, whole, ALL, scale=True)
    np.testing.assert_array_equal(mean_shape(faces, np.arange(6), ALL, scale=True), expected)


@pytest.mark.parametrize("rows", [[], [0, 1]])
def test_a_mean_needs_a_face(rows):
    faces = np.full((2, V, 3), np.nan, np.float32)
    with pytest.raises(InputError, match="no face to find the mean face from"):
        mean_shape(faces, np.array(rows, np.intp), ALL, scale=False)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("chosen", [ALL, STABLE], ids=["all", "stable"])
@pytest.mark.parametrize("rows", [None, np.array([7, 2, 3])])
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


def with_neutrals(rng):
    faces = scattered(rng, len(NEUTRAL_ROW))
    faces[9] = np.nan
    faces[11, 1] = np.nan
    assert 1 not in STABLE
    return faces


def test_faces_follow_their_neutral(rng, blocks):
    faces = with_neutrals(rng)
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


def test_an_expression_away_from_the_stable_vertices_stays_as_it_is(rng):
    neutral = SHAPE + rng.normal(0, 2, SHAPE.shape)
    opened = neutral.copy()
    free = np.setdiff1d(ALL, STABLE)
    opened[free[:9], 1] -= 20
    turn = rotation_between(np.array([1.0, 0, 0]), np.array([0.6, 0.8, 0]))
    faces = np.stack([opened @ turn.T + 70, neutral]).astype(np.float32)
    align_by_neutrals(faces, np.array([1, 1]), SHAPE, STABLE)
    motion = rigid_alignment(neutral, SHAPE)
    np.testing.assert_allclose(faces[1], motion.apply(neutral), atol=1e-3)
    np.testing.assert_allclose(faces[0], motion.apply(opened), atol=1e-3)


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


@pytest.mark.parametrize("vertices", [5_000, 26_317])
def test_a_set_is_not_held_in_memory(tmp_path, vertices):
    count = 24_000_000 // (vertices * 12)
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
    assert peak < 20_000_000
