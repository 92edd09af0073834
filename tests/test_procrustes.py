"""Alignment of whole sets against loops over single faces."""

import tracemalloc

import numpy as np
import pytest
from synthetic import grid_mesh

from facedis_core.errors import InputError
from facedis_core.geometry import alignment
from facedis_core.geometry.alignment import (
    ALIGNMENT_ROUNDS,
    align_by_neutrals,
    align_to,
    mean_shape,
    rigid_alignment,
    rotation_between,
)

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


def spread(faces):
    """Mean distance mm of a vertex to its mean over the faces."""
    return np.linalg.norm(faces - faces.mean(0), axis=-1).mean()


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


def test_known_motions_are_undone(rng):
    faces = scattered(rng, 9, noise_mm=0)
    align_to(faces, SHAPE, STABLE, scale=False)
    np.testing.assert_allclose(faces, np.broadcast_to(SHAPE, faces.shape), atol=1e-3)
    larger = scattered(rng, 9, noise_mm=0, scale=True)
    align_to(larger, SHAPE, ALL, scale=True)
    np.testing.assert_allclose(larger, np.broadcast_to(SHAPE, faces.shape), atol=1e-3)


def test_alignment_to_their_mean_brings_faces_together(rng):
    faces = scattered(rng, 12, noise_mm=1)
    before = spread(faces)
    align_to(faces, mean_shape(faces, np.arange(12), ALL, scale=False), ALL, scale=False)
    assert before > 100
    assert spread(faces) < 2


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
