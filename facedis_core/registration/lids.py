"""Closed lids: whether a scan shows closed eyes where a fit found open ones."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from facedis_core.geometry.rims import find_rims
from facedis_core.registration.fit import Contacts, Fit, FitOptions, fit_face, placed_face
from facedis_core.registration.landmarks import Anchors
from facedis_core.registration.pairing import Surface, pair
from facedis_core.registration.prior import RegistrationPrior
from facedis_core.registration.refusal import is_doubtful

Points = NDArray[np.float64]

CLOSING: Final = 0.75  # an expression that narrows a rim to this part of the neutral one closes it
OPEN_MM: Final = 2.0  # mean distance of the lids of an open eye, at least
# What shows in the opening of a fit stands out before its rim, by the 90 % quantile within
# OPENING_MM of the middle: 3.3 to 5.9 mm if it is an eyeball, 6.3 to 8.2 if it is most closed lids.
BULGE_MM: Final = 6.1
OPENING_MM: Final = 5.0
FEWEST_POINTS: Final = 6  # of the scan in an opening
DEPTH_MM: Final = 15.0
# Vertices so near to a rim, and points of a scan so near to one of these vertices, tell whether
# closed lids fit better.
NEAR_MM: Final = 9.0
POINTS_MM: Final = 12.0
CAP_MM: Final = 3.0
ASIDE_MM: Final = 1.8  # a point farther beside the rim shows through the opening
FACING: Final = 0.3  # least cosine of normals
REFIT: Final = FitOptions(iterations=6, residual_scale=(1.0, 0.5), reach=(4.0, 3.0))
CONTACT_WEIGHT: Final = 0.02


@dataclass(frozen=True, eq=False)
class Eyes:
    """The rims of the lids in the faces of a prior.

    Attributes:
        rims: the vertices of each, (n,).
        near: (n,) vertices within NEAR_MM of one.
        contacts: the lids held together.
        opposite: (n, 2) pairs of vertices of upper and lower lids, in the middle of the eyes.
    """

    rims: tuple[NDArray[np.intp], ...]
    near: NDArray[np.intp]
    contacts: Contacts
    opposite: NDArray[np.intp]


def lid_gap(prior: RegistrationPrior, face: Points) -> float:
    """Mean distance in mm of opposite lids in the middle of the eyes; NaN without eyes."""
    eyes = find_eyes(prior)
    return np.nan if eyes is None else _gap(face, eyes.opposite)


@lru_cache(maxsize=4)
def find_eyes(prior: RegistrationPrior) -> Eyes | None:
    """The lids: inner rims that an expression narrows, but for that of the mouth.

    Closed they are as far as this expression, extended, brings them together. None where the faces
    have no such rim, or no expression closes it.
    """
    neutral = prior.face(prior.starts[0])
    found = find_rims(prior.triangles, len(neutral))
    rims, pairs, expressions = [], [], []
    for number in np.unique(found.rim):
        rim = np.unique(found.edges[found.rim == number])
        opposite = _opposite(neutral, rim)
        if not len(opposite) or np.isin(rim, prior.lips).any():
            continue
        gaps = [_gap(prior.face(start), opposite) for start in prior.starts]
        if min(gaps) < CLOSING * gaps[0]:
            rims.append(rim)
            pairs.append(opposite)
            expressions.append(int(np.argmin(gaps)))
    if not rims or len(set(expressions)) > 1:
        return None
    opposite = np.concatenate(pairs)
    step = prior.starts[expressions[0]] - prior.starts[0]
    narrowed = _gap(prior.face(prior.starts[0] + step), opposite) / _gap(neutral, opposite)
    closed = prior.face(prior.starts[0] + step / (1 - narrowed))
    one, other = np.concatenate([_opposite(neutral, rim, closed) for rim in rims]).T
    distance, _ = cKDTree(neutral[np.concatenate(rims)]).query(neutral)
    return Eyes(
        rims=tuple(rims),
        near=np.flatnonzero(distance < NEAR_MM),
        contacts=Contacts(np.stack([one, other], axis=1), closed[one] - closed[other]),
        opposite=opposite,
    )


def _opposite(
    face: Points, rim: NDArray[np.intp], closed: Points | None = None
) -> NDArray[np.intp]:
    """Pairs (n, 2) of vertices on both sides of the longest axis of a rim.

    In the middle half of it, or where a closed face is given each vertex with its nearest there.
    """
    offset = face[rim] - face[rim].mean(axis=0)
    along, across, _ = np.linalg.svd(offset, full_matrices=False)[2] @ offset.T
    up, low = np.flatnonzero(across > 0), np.flatnonzero(across <= 0)
    if closed is not None:
        _, nearest = cKDTree(closed[rim[low]]).query(closed[rim[up]])
        return np.stack([rim[up], rim[low[nearest]]], axis=1)
    up = up[np.abs(along[up]) < np.abs(along).max() / 2]
    nearest = np.abs(along[up, None] - along[low]).argmin(axis=1)
    return np.stack([rim[up], rim[low[nearest]]], axis=1)


def _gap(face: Points, pairs: NDArray[np.intp]) -> float:
    return float(np.linalg.norm(face[pairs[:, 0]] - face[pairs[:, 1]], axis=1).mean())


def with_closed_lids(
    prior: RegistrationPrior,
    scan: Surface,
    fit: Fit,
    data_weight: float,
    anchors: Anchors | None = None,
) -> Fit:
    """The fit with its lids closed, if the scan shows lids in their openings; else the fit.

    Points in an opening have no counterpart in the face, whether they are of an eyeball or of a
    lid. Where they stand out more than an eyeball does, a fit with closed lids is tried, and kept
    if it comes nearer to the scan around the eyes. Of a doubtful fit that says nothing: a noisy
    cloud of a wide-open mouth had its open eyes closed.
    """
    eyes = find_eyes(prior)
    face = prior.face(fit.coefficients)
    if eyes is None or is_doubtful(fit) or _gap(face, eyes.opposite) < OPEN_MM:
        return fit
    if not _bulge(eyes, face, scan, fit) > BULGE_MM:
        return fit
    options = replace(REFIT, data_weight=data_weight)
    opened = fit_face(prior, scan, fit, options, anchors)
    options = replace(options, contact_weight=CONTACT_WEIGHT)
    closed = fit_face(prior, scan, fit, options, anchors, contacts=eyes.contacts)
    return (
        closed
        if _distance(prior, eyes, scan, closed) < _distance(prior, eyes, scan, opened)
        else fit
    )


def _bulge(eyes: Eyes, face: Points, scan: Surface, fit: Fit) -> float:
    """How far the scan stands out in the openings of the eyes, mm, the mean of both.

    NaN where one is not shown.
    """
    points, normals = (scan.points - fit.translation) @ fit.rotation, scan.normals @ fit.rotation
    found = []
    for rim in eyes.rims:
        offset = points - face[rim].mean(axis=0)
        inside = np.linalg.norm(offset[:, :2], axis=1) < OPENING_MM
        inside &= (np.abs(offset[:, 2]) < DEPTH_MM) & (normals[:, 2] > 0)
        if inside.sum() < FEWEST_POINTS:
            return np.nan
        found.append(np.quantile(offset[inside, 2], 0.9))
    return float(np.mean(found))


def _distance(prior: RegistrationPrior, eyes: Eyes, scan: Surface, fit: Fit) -> float:
    """Mean distance of the scan near the eyes to the face, but for what shows in openings, mm."""
    face = placed_face(prior, fit)
    distance, _ = cKDTree(face.points[eyes.near]).query(scan.points, distance_upper_bound=POINTS_MM)
    near = np.isfinite(distance)
    paired = pair(scan.points[near], scan.normals[near], face)
    opening = (paired.aside > ASIDE_MM) & np.isin(paired.index, np.concatenate(eyes.rims))
    skin = ~opening & (paired.facing > FACING)
    return float(np.minimum(np.abs(paired.height[skin]), CAP_MM).mean()) if skin.any() else CAP_MM
