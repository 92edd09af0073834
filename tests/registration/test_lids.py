"""Closed lids of scans that a fit with open ones is the start of."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from scipy.spatial import cKDTree

from facedis_core.registration import lids
from facedis_core.registration.fit import Fit
from facedis_core.registration.lids import find_eyes, lid_gap, with_closed_lids
from facedis_core.registration.pairing import Surface

EYEBALL_MM = 12.0


def test_the_rims_of_lids(prior):
    eyes = find_eyes(prior)
    middles = np.array([prior.mean[rim].mean(axis=0) for rim in eyes.rims])
    assert sorted(np.sign(middles[:, 0])) == [-1, 1]
    assert np.ptp(middles[:, 1]) < 1 and (np.abs(middles[:, 0]) > 25).all()
    neutral, closing = (
        lid_gap(prior, prior.face(prior.starts[prior.expressions.index(name)]))
        for name in ("neutral", "eye_closed")
    )
    assert closing < 0.7 * neutral
    assert not np.isin(prior.lips, eyes.near).any()


def test_faces_without_eyes(prior):
    sheet = replace(prior, starts=prior.starts[:1])  # nothing closes its rims
    assert find_eyes(sheet) is None and np.isnan(lid_gap(sheet, sheet.mean))
    fit = Fit(np.zeros(1), np.eye(3), np.zeros(3))
    assert (
        with_closed_lids(sheet, Surface(np.zeros((0, 3)), np.zeros((0, 3)), None, 1), fit, 1) is fit
    )


@pytest.mark.parametrize("is_open", [False, True])
def test_lids_are_closed_where_the_scan_shows_lids(prior, is_open):
    eyes = find_eyes(prior)
    closing = prior.starts[prior.expressions.index("eye_closed")] - prior.starts[0]
    opened, shut = (prior.face(prior.starts[0] + amount * closing) for amount in (0, 2.5))
    assert lid_gap(prior, shut) < 3 < lid_gap(prior, opened) - 8
    points, normals = (opened, prior.normals(opened)) if is_open else (shut, prior.normals(shut))
    if is_open:  # eyeballs
        turn = np.random.default_rng(0).standard_normal((4000, 3))
        turn /= np.linalg.norm(turn, axis=1, keepdims=True)
        for rim in eyes.rims:
            middle = opened[rim].mean(axis=0) - [0, 0, EYEBALL_MM - 4]
            ball = middle + EYEBALL_MM * turn
            inside = (np.linalg.norm((ball - middle)[:, :2], axis=1) < 7) & (turn[:, 2] > 0)
            points = np.concatenate([points, ball[inside]])
            normals = np.concatenate([normals, turn[inside]])
    scan = Surface(points, normals, cKDTree(points), 1.0)
    fit = Fit(prior.starts[0], np.eye(3), np.zeros(3), 0.2, 0.0, 0.2, 0.9, 1.0)
    few = replace(lids.REFIT, iterations=3, vertices=600, scan_points=1500)
    with mock.patch.object(lids, "REFIT", few):
        found = with_closed_lids(prior, scan, fit, 3000.0)
    if is_open:
        assert found is fit
        # and where they stand out for another reason the fit near them decides
        with mock.patch.multiple(lids, REFIT=few, BULGE_MM=0.0):
            assert with_closed_lids(prior, scan, fit, 3000.0) is fit
    else:
        doubtful = replace(fit, residual_mm=0.5)
        assert with_closed_lids(prior, scan, doubtful, 3000.0) is doubtful
        assert lid_gap(prior, prior.face(found.coefficients)) < 4
