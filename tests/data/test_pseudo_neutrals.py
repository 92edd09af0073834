"""Pseudo-neutrals of made-up sets, with the neutrals among the faces and without."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic
from raising import raises

from facedis_core.data.pseudo_neutrals import concentration, pseudo_neutrals
from facedis_core.geometry.centres import medoid, power_centre


def sparse_set(people=16, kinds=8, noise=0.02):
    """People with a neutral and expressions that move a part of the vertices each."""
    faces = synthetic.face_set(subjects=people, expressions=kinds, test=0, size=10)
    rng = np.random.default_rng(7)
    labels = faces.labels
    moved = rng.random((kinds, 100, 1)) < 0.4
    offset = moved * rng.normal(0, 2, (kinds, 100, 3))
    offset[0] = 0
    vertices = faces.neutrals[labels.subject] + offset[labels.expression]
    # small movements of everything, as in the faces of living people, but not in a neutral
    slight = rng.normal(0, 0.3, (len(vertices), 1, 1)) * rng.normal(0, 1, (100, 3))
    vertices = vertices + slight * (labels.level > 0)[:, None, None]
    vertices += rng.normal(0, noise, vertices.shape)
    return replace(faces, vertices=vertices.astype(np.float32))


def error(faces, found):
    """Mean vertex distance to the true neutrals, mm."""
    return np.linalg.norm(found.faces - faces.neutrals_eval, axis=-1).mean()


@pytest.mark.parametrize(
    ("rows_of", "kind"), [("with neutrals", "medoid"), ("without neutrals", "centre")]
)
def test_nearer_estimate_is_chosen(rows_of, kind):
    faces = sparse_set()
    rows = np.arange(len(faces))
    if rows_of == "without neutrals":
        rows = rows[faces.labels.level > 0]
    found = pseudo_neutrals(faces, rows)
    other = pseudo_neutrals(faces, rows, "centre" if kind == "medoid" else "medoid")
    assert found.kind == kind
    assert found.statistics.people == 16
    assert other.statistics is None
    assert error(faces, found) < error(faces, other)


def test_noise_speaks_for_the_centre():
    rows = np.arange(16 * 8)
    ratios = [concentration(sparse_set(noise=noise), rows).ratio for noise in (0.02, 1.5)]
    assert concentration(sparse_set(noise=1.5), rows).kind == "centre"
    assert ratios[0] < ratios[1]


def test_a_medoid_that_is_a_weak_expression_is_corrected_by_the_other_people():
    faces = sparse_set()
    subject, expression = faces.labels.subject, faces.labels.expression
    vertices = faces.vertices.copy()
    for person in range(16):  # all have a face between the neutral and the mean, some a weaker one
        own = np.flatnonzero(subject == person)
        neutral, weak = (own[expression[own] == kind][0] for kind in (0, 5))
        strength = 0.3 if person < 3 else 0.9
        offset = vertices[own].mean(axis=0) - vertices[neutral]
        vertices[weak] = vertices[neutral] + strength * offset
        assert person > 2 or own[medoid(vertices[own])] == weak
    found = pseudo_neutrals(replace(faces, vertices=vertices), np.arange(16 * 8), "medoid").faces
    np.testing.assert_array_equal(found, vertices[expression == 0])


def test_people_and_rows():
    faces = synthetic.face_set(subjects=5, expressions=4, test=2)
    rows = faces.rows("train")[::-1]
    for kind in ("medoid", "centre"):
        found = pseudo_neutrals(faces, rows, kind).faces
        assert found.dtype == np.float32
        assert np.isfinite(found[:3]).all()
        assert np.isnan(found[3:]).all()
        own = faces.read(rows[faces.labels.subject[rows] == 1])
        expected = own[medoid(own)] if kind == "medoid" else power_centre(own)
        np.testing.assert_array_equal(found[1], expected)


def test_region_decides_on_the_medoid():
    faces = synthetic.face_set(subjects=1, expressions=3, test=0)
    vertices = np.zeros_like(faces.vertices)
    vertices[:, :10, 0] = np.array([0, 1, 5])[:, None]
    vertices[:, 10:, 0] = np.array([30, 0, 20])[:, None]
    region = np.arange(vertices.shape[1]) < 10
    faces = replace(faces, vertices=vertices)
    everything = pseudo_neutrals(faces, np.arange(3), "medoid").faces[0]
    within = pseudo_neutrals(replace(faces, region=region), np.arange(3), "medoid").faces[0]
    np.testing.assert_array_equal(everything, vertices[2])
    np.testing.assert_array_equal(within, vertices[1])


def test_few_faces():
    faces = synthetic.face_set(subjects=3, expressions=2, test=0)
    found = pseudo_neutrals(faces, np.arange(6))
    assert found.kind == "centre"  # the middle of two faces
    assert found.statistics.people == 0
    alone = pseudo_neutrals(faces, np.arange(0, 6, 2), "medoid")
    np.testing.assert_array_equal(alone.faces, faces.vertices[::2])


def test_unknown_kind():
    with raises("option-value"):
        pseudo_neutrals(synthetic.face_set(), np.arange(3), "mean")
