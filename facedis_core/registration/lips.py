"""Closed lips: whether a scan fits a closed mouth as well as the open one that a fit found."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from facedis_core.registration.fit import Contacts, Fit, FitOptions, fit_face, placed_face
from facedis_core.registration.landmarks import Anchors
from facedis_core.registration.pairing import Surface, pair
from facedis_core.registration.prior import RegistrationPrior

OPEN_MM: Final = 0.5  # a median gap this much wider than that of the neutral face is an open mouth
SEAM_MM: Final = 5.0  # points of the scan this near to where lips touch tell whether they do
CAP_MM: Final = 2.0
FACING: Final = 0.3  # least cosine of normals
# Set on two real scans with closed mouths (-0.10 and 0.05 at most) and on simulated ones whose lips
# are open by 2 mm (0.10 and more) and by 1 mm (0.02 to 0.10).
TOLERANCE_MM: Final = 0.06
CLOSING: Final = FitOptions(
    iterations=6, contact_weight=0.02, residual_scale=(1.0, 0.5), reach=(4.0, 3.0)
)


def lip_gap(prior: RegistrationPrior, face: NDArray[np.float64]) -> float:
    """Median distance in mm of the places where the lips of the neutral face touch."""
    one, other = prior.contacts.T
    return float(np.median(np.linalg.norm(face[one] - face[other], axis=1)))


def closed_lips(prior: RegistrationPrior, face: NDArray[np.float64]) -> Contacts | None:
    """What holds the lips of a face together; None where they are open, or it has none."""
    if not len(prior.contacts):
        return None
    neutral = prior.face(prior.starts[0])
    if lip_gap(prior, face) >= lip_gap(prior, neutral) + OPEN_MM:
        return None
    return _touching(prior)


def _touching(prior: RegistrationPrior) -> Contacts:
    one, other = prior.contacts.T
    neutral = prior.face(prior.starts[0])
    return Contacts(prior.contacts, neutral[one] - neutral[other])


def with_closed_lips(
    prior: RegistrationPrior,
    scan: Surface,
    fit: Fit,
    data_weight: float,
    anchors: Anchors | None = None,
) -> Fit:
    """The fit with its lips held together, if that fits the scan near them as well; else the fit.

    A lip that a fit opens by a few mm changes the distances to the scan hardly at all: the insides
    of the lips have no counterpart in a scan of a closed mouth, and are not missed.
    """
    if not len(prior.contacts) or closed_lips(prior, prior.face(fit.coefficients)) is not None:
        return fit
    options = replace(CLOSING, data_weight=data_weight)
    closed = fit_face(prior, scan, fit, options, anchors, contacts=_touching(prior))
    faces = [placed_face(prior, each) for each in (fit, closed)]
    seams = cKDTree(np.concatenate([face.points[prior.contacts.ravel()] for face in faces]))
    distance, _ = seams.query(scan.points, distance_upper_bound=SEAM_MM)
    near = np.isfinite(distance)
    if not near.any():
        return fit
    points, normals = scan.points[near], scan.normals[near]
    open_mm, closed_mm = (_distance(prior, points, normals, face) for face in faces)
    return closed if closed_mm - open_mm < TOLERANCE_MM else fit


def _distance(
    prior: RegistrationPrior,
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    face: Surface,
) -> float:
    """Mean distance of points near the lips to the face along its normals, mm."""
    lips, along = face.points[prior.lips], face.normals[prior.lips]
    paired = pair(points, normals, Surface(lips, along, cKDTree(lips), 0.0))
    gap = np.minimum(np.abs(paired.height), CAP_MM)
    return float(np.where(paired.facing > FACING, gap, CAP_MM).mean())
