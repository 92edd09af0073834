"""Closed lids: whether a scan shows closed eyes where a fit found open ones."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from facedis_core.geometry.rims import find_rims
from facedis_core.registration.fit import Contacts, Fit, FitOptions, fit_face
from facedis_core.registration.landmarks import Anchors
from facedis_core.registration.lips import closed_lips
from facedis_core.registration.pairing import Surface
from facedis_core.registration.prior import RegistrationPrior

Points = NDArray[np.float64]

CLOSING: Final = 0.5  # an expression that narrows an opening to this part of the neutral closes it
OPEN_MM: Final = 1.0  # lids nearer to each other are closed
NEAR_MM: Final = 9.0  # vertices this near to a rim tell which way the eyes look
# The margins of the lids, where the skin folds inwards, are looked for so near to a rim, in columns
# across the eye: how many, half of their width, and how far out to the corners of the eye.
MARGIN_MM: Final = 5.0
COLUMNS: Final = 9
COLUMN_MM: Final = 1.2
COLUMNS_TO: Final = 0.5
# An eyeball between open lids is a pit: the scan lies below chords of up to PIT_WINDOW_MM to both
# sides, by 0.54 mm and more about open lids or above closed ones. Over closed eyes it bends evenly,
# and lies 0.1 to 0.5 mm below both (docs/registration.md).
PIT_MM: Final = 0.5
PIT_WINDOW_MM: Final = 6.0
PIT_FROM_MM: Final = 1.0  # above the middle of the opening
PIT_TO_MM: Final = 10.0
STEP_MM: Final = 0.5  # of a profile
SMOOTHING_MM: Final = 0.8
FEWEST_POINTS: Final = 2.0  # sum of the weights of the points of the scan behind a height
OPENING_MM: Final = 3.0  # the scan is to show so much below and above the middle of each eye,
FEWEST_SHOWN: Final = 0.5  # but for a part: there may be no eyeball in an opening
DEPTH_MM: Final = 15.0
HIDDEN_MM: Final = 0.8  # points farther below the others are of what lies behind the skin
REFIT: Final = FitOptions(
    iterations=6, contact_weight=0.02, residual_scale=(1.0, 0.5), reach=(4.0, 3.0)
)


@dataclass(frozen=True, eq=False)
class Eyes:
    """The lids in the faces of a prior.

    Attributes:
        axes: (3, 3) rows: along the eyes, from the lower lid to the upper one, and outwards.
        margins: (n, 2) vertices of upper and lower lids, opposite each other, eye by eye.
        eye: (n,) number of the eye of each.
        contacts: the margins held together.
    """

    axes: Points
    margins: NDArray[np.intp]
    eye: NDArray[np.intp]
    contacts: Contacts


def lid_gap(prior: RegistrationPrior, face: Points) -> float:
    """Mean height in mm of the openings between the lids; below 0 where they overlap.

    NaN without eyes.
    """
    eyes = find_eyes(prior)
    return np.nan if eyes is None else _gap(face, eyes.margins, eyes.axes[1])


@lru_cache(maxsize=4)
def find_eyes(prior: RegistrationPrior) -> Eyes | None:
    """The lids: about rims whose opening an expression closes, but for that of the mouth.

    Closed they are as far as this expression, extended, makes their margins meet. None where the
    faces have no such rim, or no expression closes all.
    """
    neutral, *others = (prior.face(start) for start in prior.starts)
    found = find_rims(prior.triangles, len(neutral))
    rims, margins, ups, closings = [], [], [], set()
    for number in np.unique(found.rim):
        rim = np.unique(found.edges[found.rim == number])
        pairs = _margins(neutral, rim)
        if not others or not len(pairs) or np.isin(rim, prior.lips).any():
            continue
        apart = (neutral[pairs[:, 0]] - neutral[pairs[:, 1]]).mean(axis=0)
        up = apart / np.linalg.norm(apart)
        gaps = [_gap(face, pairs, up) for face in others]
        opening = _gap(neutral, pairs, up)
        if opening < 2 * OPEN_MM or min(gaps) > CLOSING * opening:
            continue
        best = int(np.argmin(gaps))
        moved = np.linalg.norm((others[best] - neutral)[pairs].mean(axis=0), axis=1)
        if moved[0] < moved[1]:  # the upper lid is the one that moves
            pairs, up = pairs[:, ::-1], -up
        rims.append(rim)
        margins.append(pairs)
        ups.append(up)
        closings.add(best)
    if len(closings) != 1:
        return None
    pairs, up = np.concatenate(margins), np.mean(ups, axis=0)
    distance, _ = cKDTree(neutral[np.concatenate(rims)]).query(neutral)
    out = prior.normals(neutral)[distance < NEAR_MM].mean(axis=0)
    up -= up @ out * out / (out @ out)
    axes = np.stack([np.cross(up, out), up, out])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    closing = others[closings.pop()] - neutral
    opening = _gap(neutral, pairs, axes[1])
    closed = neutral + closing * opening / (opening - _gap(neutral + closing, pairs, axes[1]))
    return Eyes(
        axes=axes,
        margins=pairs,
        eye=np.repeat(np.arange(len(margins)), [len(each) for each in margins]),
        contacts=Contacts(pairs, closed[pairs[:, 0]] - closed[pairs[:, 1]]),
    )


def _margins(face: Points, rim: NDArray[np.intp]) -> NDArray[np.intp]:
    """Pairs (n, 2) of vertices near a rim that reach farthest into its opening, column by column.

    The rim itself is the inner edge of the lids: it hardly moves when they close.
    """
    middle = face[rim].mean(axis=0)
    axes = np.linalg.svd(face[rim] - middle, full_matrices=False)[2]
    distance, _ = cKDTree(face[rim]).query(face)
    near = np.flatnonzero(distance < MARGIN_MM)
    along, across, _ = axes @ (face[near] - middle).T
    length = np.abs((face[rim] - middle) @ axes[0]).max()
    pairs = []
    for place in np.linspace(-COLUMNS_TO, COLUMNS_TO, COLUMNS) * length:
        column = np.abs(along - place) < COLUMN_MM
        one, other = np.flatnonzero(column & (across > 0)), np.flatnonzero(column & (across <= 0))
        if len(one) and len(other):
            pairs.append((near[one[across[one].argmin()]], near[other[across[other].argmax()]]))
    return np.array(pairs, np.intp).reshape(-1, 2)


def _gap(face: Points, pairs: NDArray[np.intp], up: Points) -> float:
    return float((face[pairs[:, 0]] - face[pairs[:, 1]]).mean(axis=0) @ up)


def with_closed_lids(
    prior: RegistrationPrior,
    scan: Surface,
    fit: Fit,
    data_weight: float,
    anchors: Anchors | None = None,
) -> Fit:
    """The fit with its lids closed, if the scan shows no eyeball between them; else the fit.

    Points in an opening have no counterpart in the face, whether they are of an eyeball or of a
    lid, so that the distances to the scan do not tell.
    """
    eyes, face = find_eyes(prior), prior.face(fit.coefficients)
    if eyes is None or _gap(face, eyes.margins, eyes.axes[1]) < OPEN_MM:
        return fit
    if not _pit(prior, eyes, scan, fit) < PIT_MM:
        return fit
    options, contacts = replace(REFIT, data_weight=data_weight), eyes.contacts
    lips = closed_lips(prior, face)
    if lips is not None:  # another fit would open them again
        options = replace(options, contact_weight=2 * options.contact_weight)
        contacts = Contacts(
            np.concatenate([contacts.pairs, lips.pairs]),
            np.concatenate([contacts.offset, lips.offset]),
        )
    closed = fit_face(prior, scan, fit, options, anchors, contacts=contacts)
    # once more, now that the seam is known
    return closed if _pit(prior, eyes, scan, closed) < PIT_MM else fit


def _pit(prior: RegistrationPrior, eyes: Eyes, scan: Surface, fit: Fit) -> float:
    """How deep the scan lies below chords across it above the middle of the eyes, mean in mm.

    The median of all columns at each height. NaN where the scan does not show both eyes.
    """
    turn = eyes.axes @ fit.rotation.T
    points, facing = (scan.points - fit.translation) @ turn.T, scan.normals @ turn[2]
    seams = (prior.face(fit.coefficients) @ eyes.axes.T)[eyes.margins].mean(axis=1)
    reach = PIT_WINDOW_MM
    heights = np.arange(PIT_FROM_MM - reach, PIT_TO_MM + reach + STEP_MM / 2, STEP_MM)
    around = (facing > 0) & (np.abs(points[:, 2] - seams[:, 2].mean()) < 2 * DEPTH_MM)
    around &= np.abs(points[:, 1] - seams[:, 1].mean()) < 2 * heights[-1]
    profiles = np.array([_profile(points[around] - seam, heights) for seam in seams])
    steps = round(reach / STEP_MM)
    away = np.arange(1, steps + 1)
    window = sliding_window_view(profiles, 2 * steps + 1, axis=1)
    below, above = window[..., :steps][..., ::-1, None], window[..., None, steps + 1 :]
    chords = (below * away + above * away[:, None]) / (away + away[:, None])
    depth = np.maximum(np.fmax.reduce(chords, axis=(-2, -1)) - window[..., steps], 0)
    shown = np.isfinite(profiles[:, np.abs(heights) < OPENING_MM]).mean(axis=1)
    if any(shown[eyes.eye == eye].mean() < FEWEST_SHOWN for eye in np.unique(eyes.eye)):
        return np.nan
    depth = depth[:, np.isfinite(depth).any(axis=0)]
    return float(np.nanmedian(depth, axis=0).mean()) if depth.size else np.nan


def _profile(points: Points, heights: Points) -> Points:
    """Depth of points (n, 3) about a column, smoothed, at heights (m,); NaN where there are few."""
    aside, height, depth = points[np.abs(points[:, 2]) < DEPTH_MM].T
    near = np.abs(aside) < 2 * SMOOTHING_MM
    away, depth = height[near] - heights[:, None], depth[near]
    weight = np.exp(-((away / SMOOTHING_MM) ** 2) / 2) * (np.abs(away) < 2 * SMOOTHING_MM)
    profile = np.full(len(heights), np.nan)
    for _ in range(2):  # the value at 0 of the line of least squares
        moments = [(weight * away**power).sum(axis=1) for power in range(3)]
        first, second = (weight * depth).sum(axis=1), (weight * away * depth).sum(axis=1)
        spread = moments[0] * moments[2] - moments[1] ** 2
        is_shown = (moments[0] > FEWEST_POINTS) & (spread > 0.1 * moments[0] ** 2)
        value = moments[2] * first - moments[1] * second
        profile = np.divide(value, spread, out=np.full(len(heights), np.nan), where=is_shown)
        weight = weight * (depth > profile[:, None] - HIDDEN_MM)
    return profile
