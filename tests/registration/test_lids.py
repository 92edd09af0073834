"""Closed lids of scans that a fit with open ones is the start of."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from scipy.spatial import cKDTree

from facedis_core.geometry.surface import triangle_normals, unit_vectors
from facedis_core.registration import lids
from facedis_core.registration.fit import Fit
from facedis_core.registration.lids import find_eyes, lid_gap, with_closed_lids
from facedis_core.registration.lips import lip_gap
from facedis_core.registration.pairing import Surface

EYEBALL_MM = 12.0
SPACING_MM = 1.1


@pytest.fixture(scope="module")
def closed_face(prior):
    """The neutral face with its lids closed, (V, 3)."""
    step = prior.starts[prior.expressions.index("eye_closed")] - prior.starts[0]
    gaps = [lid_gap(prior, prior.face(prior.starts[0] + amount * step)) for amount in (0, 1)]
    return prior.face(prior.starts[0] + step * gaps[0] / (gaps[0] - gaps[1]))


@pytest.fixture(scope="module")
def open_fit(prior):
    """A fit of the neutral face."""
    return Fit(prior.starts[0], np.eye(3), np.zeros(3), 0.2, 0.0, 0.2, 0.9, 1.0)


def test_the_margins_of_lids(prior, closed_face):
    eyes = find_eyes(prior)
    assert np.allclose(eyes.axes, np.eye(3), atol=0.1)
    neutral = prior.face(prior.starts[0])
    middles = np.array([neutral[eyes.margins[eyes.eye == eye]].mean(axis=(0, 1)) for eye in (0, 1)])
    assert sorted(np.sign(middles[:, 0])) == [-1, 1]
    assert np.ptp(middles[:, 1]) < 1 and (np.abs(middles[:, 0]) > 25).all()
    assert 8 < lid_gap(prior, neutral) < 10  # mm, 12.6 from rim to rim
    closing = prior.face(prior.starts[prior.expressions.index("eye_closed")])
    assert 0.5 < lid_gap(prior, closing) < 2
    one, other = eyes.contacts.pairs.T
    assert np.allclose(eyes.contacts.offset, closed_face[one] - closed_face[other], atol=1e-6)
    assert np.linalg.norm(eyes.contacts.offset, axis=1).mean() < 2


def test_faces_without_eyes(prior):
    sheet = replace(prior, starts=prior.starts[:1])  # nothing closes its rims
    assert find_eyes(sheet) is None and np.isnan(lid_gap(sheet, sheet.mean))
    fit = Fit(np.zeros(1), np.eye(3), np.zeros(3))
    assert (
        with_closed_lids(sheet, Surface(np.zeros((0, 3)), np.zeros((0, 3)), None, 1), fit, 1) is fit
    )


def eyes_set_back(prior, face, depth_mm):
    """A face with eyes farther in its head than those of the prior."""
    eyes = find_eyes(prior)
    moved = face.copy()
    for eye in (0, 1):
        middle = prior.face(prior.starts[0])[eyes.margins[eyes.eye == eye]].mean(axis=(0, 1))
        away = np.linalg.norm((face - middle)[:, :2], axis=1)
        moved[:, 2] -= depth_mm * np.exp(-((away / 20) ** 2))
    return moved


def scan_of(prior, face, eyeball_mm=None, noise_mm=0.1, spacing_mm=SPACING_MM):
    """Points of a face, with eyeballs that reach so far before the margins of the lids."""
    rng = np.random.default_rng(0)
    corners = face[prior.triangles]
    area = np.linalg.norm(np.cross(*(corners[:, 1:] - corners[:, :1]).swapaxes(0, 1)), axis=1) / 2
    count = round(area.sum() / spacing_mm**2)
    chosen = rng.choice(len(area), count, p=area / area.sum())
    points = np.einsum("nk,nkd->nd", rng.dirichlet(np.ones(3), count), corners[chosen])
    normals = unit_vectors(triangle_normals(face, prior.triangles))[chosen]
    if eyeball_mm is not None:
        eyes = find_eyes(prior)
        for eye in (0, 1):
            turn = unit_vectors(rng.standard_normal((round(2000 / spacing_mm**2), 3)))
            middle = face[eyes.margins[eyes.eye == eye]].mean(axis=(0, 1))
            middle[2] += eyeball_mm - EYEBALL_MM
            inside = (np.linalg.norm(turn[:, :2] * [0.6, 1], axis=1) < 0.5) & (turn[:, 2] > 0)
            points = np.concatenate([points, middle + EYEBALL_MM * turn[inside]])
            normals = np.concatenate([normals, turn[inside]])
    points = points + rng.normal(0, noise_mm, points.shape)
    return Surface(points, normals, cKDTree(points), spacing_mm)


def closed_lids(prior, scan, fit):
    few = replace(lids.REFIT, iterations=4, vertices=600, scan_points=1200)
    with mock.patch.object(lids, "REFIT", few):
        return with_closed_lids(prior, scan, fit, 3000.0)


@pytest.mark.parametrize("set_back_mm", [-2.0, 2.0])
def test_lids_are_closed_where_the_scan_shows_lids(prior, closed_face, open_fit, set_back_mm):
    true = eyes_set_back(prior, closed_face, set_back_mm)
    found = closed_lids(prior, scan_of(prior, true), open_fit)
    face = prior.face(found.coefficients)
    assert abs(lid_gap(prior, face)) < 0.3  # mm; 8.7 before
    assert lip_gap(prior, face) < lip_gap(prior, true) + 0.5
    upper = find_eyes(prior).margins[:, 0]
    assert np.abs(face - true)[upper, 1].mean() < 1.5  # 8 before


@pytest.mark.parametrize(("set_back_mm", "eyeball_mm"), [(0.0, None), (0.0, 1.0), (3.0, -1.0)])
def test_open_eyes_stay_open(prior, open_fit, set_back_mm, eyeball_mm):
    true = eyes_set_back(prior, prior.face(prior.starts[0]), set_back_mm)
    assert closed_lids(prior, scan_of(prior, true, eyeball_mm), open_fit) is open_fit


def test_lids_stay_where_the_scan_does_not_tell(prior, closed_face, open_fit):
    for unclear in ({"noise_mm": 1.0}, {"spacing_mm": 4.0}):
        assert closed_lids(prior, scan_of(prior, closed_face, **unclear), open_fit) is open_fit
