"""Sequences: frames of one person, each registered from the last one, with the identity held."""

import time
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.units import UNITS_MM, Units
from facedis_core.errors import ErrorCode, InputError
from facedis_core.mesh.mesh import Mesh
from facedis_core.mesh.vertex_checks import check_finite
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model
from facedis_core.registration.fit import Belief, Fit, FitOptions, fit_face
from facedis_core.registration.prior import RegistrationPrior, match_prior, prior_of
from facedis_core.registration.refusal import refusal
from facedis_core.registration.registration import (
    Registration,
    Residual,
    finished,
    registration_of,
)
from facedis_core.registration.scan import FEWEST_POINTS, RawScan
from facedis_core.registration.search import FEWEST_VERTICES, NEAR_MM, Attempt, find_attempt

LAST: Final = "last frame"
OTHERWISE_STD: Final = 0.1  # of what expressions of a person change beside those known
FRAME_SPACING_MM: Final = 2.0
WORSE_MM: Final = 0.25  # a frame that fits so much worse than the first is lost
LARGE_STEP: Final = FitOptions(
    iterations=10, vertices=600, scan_points=800, residual_scale=(6.0, 1.5), reach=(25.0, 6.0)
)
FRAME: Final = FitOptions(
    iterations=7, vertices=1000, scan_points=2000, residual_scale=(3.0, 0.5), reach=(12.0, 3.0)
)


@dataclass(eq=False)
class FaceTracker:
    """Registers the frames of a person one after the other; arguments and errors as of `register`.

    The first frame is registered as any scan. Its coefficients, c0, are the identity that all later
    frames hold: their coefficients are believed to be normal about c0, with the differences between
    the mean faces of expressions as directions in which they are free, and OTHERWISE_STD in all
    others. Pose and coefficients start from those of the last frame; nothing is smoothed. A frame
    that this does not fit is searched for as the first one, and then fitted with the identity held.

    Example:
        >>> from facedis_core.registration.sequence import FaceTracker
        >>> track = FaceTracker()  # track(frame) is the registration of the next frame

    Attributes:
        model, prior, units, residual, force, seed: as of `register`.
        lost: whether the last frame was searched for, though others were before it.
        is_other: whether it then did not fit the identity either; later frames hold its own.
    """

    model: Model = field(default_factory=load_model)
    prior: RegistrationPrior | None = None
    units: Units = "auto"
    residual: Residual = "none"
    force: bool = False
    seed: int = 0
    lost: bool = field(default=False, init=False)
    is_other: bool = field(default=False, init=False)
    _identity: Belief | None = field(default=None, init=False)
    _last: Fit | None = field(default=None, init=False)
    _unit: Units = field(default="auto", init=False)
    _first_cost: float = field(default=0.0, init=False)
    _hides_some: bool | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._prior = prior_of(self.model.preparation) if self.prior is None else self.prior
        self._chosen = match_prior(self.model, self._prior)

    def __call__(self, frame: Mesh) -> Registration:
        """The face of the next frame."""
        started = time.monotonic()
        check_finite(frame.vertices)
        self.is_other = False
        attempt = self._tracked(frame)
        self.lost = attempt is not None and attempt.problem is not None
        if self.lost:
            self._hides_some = None
        if attempt is None or attempt.problem is not None:
            attempt = self._searched(frame)
        assert attempt.fit is not None and attempt.centre is not None  # refused otherwise
        # where the next frame begins: in mm, in the frame of the scanner
        self._last = replace(attempt.fit, translation=attempt.fit.translation + attempt.centre)
        found = finished(attempt, self._prior, self.residual, None)
        return registration_of(frame, self.model, found, self._chosen, time.monotonic() - started)

    def _tracked(self, frame: Mesh) -> Attempt | None:
        """The fit from the last frame; None where there is none."""
        if self._last is None or self._identity is None:
            return None
        # what one frame hides, the next one does
        scan = RawScan(frame, UNITS_MM[self._unit], self.seed, self._hides_some)
        self._hides_some = scan.hides_some
        start = replace(self._last, translation=self._last.translation - scan.centre)
        if len(frame.vertices) < FEWEST_VERTICES or len(scan.coarse.points) < FEWEST_POINTS:
            few = InputError("has too few points", ErrorCode.NO_FACE)
            return Attempt(self._unit, few)
        attempt = self._held(scan, start, LAST)
        if attempt.problem is not None:  # a large step
            wide = fit_face(self._prior, scan.coarse, start, LARGE_STEP, belief=self._identity)
            attempt = self._held(scan, wide, LAST)
        return attempt

    def _held(self, scan: RawScan, start: Fit, name: str) -> Attempt:
        near = scan.near(start.place(self._prior.mean), NEAR_MM, FRAME_SPACING_MM)
        if len(near.points) < FEWEST_POINTS:
            return Attempt(self._unit, InputError("the face has left", ErrorCode.NO_FACE))
        fit = fit_face(self._prior, near, start, FRAME, belief=self._identity)
        problem = refusal(fit, np.inf, self._prior.limits)
        if problem is None and fit.cost > self._first_cost + WORSE_MM:
            problem = InputError("it fits worse than the frames before it", ErrorCode.NO_FACE)
        return Attempt(self._unit, problem, fit, near, scan.centre, np.inf, name)

    def _searched(self, frame: Mesh) -> Attempt:
        attempt = find_attempt(
            frame,
            self._prior,
            units=self.units if self._unit == "auto" else self._unit,
            force=self.force,
            seed=self.seed,
        )
        assert attempt.fit is not None  # refused otherwise
        if self._identity is None:
            self._unit, self._first_cost = attempt.unit, attempt.fit.cost
            self._identity = identity_of(self._prior, attempt.fit.coefficients)
            return attempt
        scan = RawScan(frame, UNITS_MM[self._unit], self.seed)
        held = self._held(scan, attempt.fit, attempt.start)
        if held.problem is None:
            return held
        self.is_other = True  # another person, or a first frame that was not right
        self._first_cost = attempt.fit.cost
        self._identity = identity_of(self._prior, attempt.fit.coefficients)
        return attempt


def identity_of(prior: RegistrationPrior, coefficients: NDArray[np.float64]) -> Belief:
    """What the coefficients of a person's other faces are believed to be."""
    change = prior.starts[1:] - prior.starts[0]
    covariance = change.T @ change + OTHERWISE_STD**2 * np.eye(change.shape[1])
    return Belief(coefficients, np.linalg.inv(covariance))
