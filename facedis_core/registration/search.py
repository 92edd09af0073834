"""Search for the face of a scan: its unit, its pose, the expression to start from, and the fit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.units import UNITS_MM, Units, check_units
from facedis_core.errors import ErrorCode, InputError, missing_extra
from facedis_core.geometry.alignment import RigidTransform
from facedis_core.mesh.mesh import Mesh
from facedis_core.mesh.vertex_checks import check_finite
from facedis_core.registration.prior import RegistrationPrior
from facedis_core.registration.refusal import ambiguity, is_doubtful, refusal

if TYPE_CHECKING:
    from facedis_core.registration.fit import Fit
    from facedis_core.registration.landmarks import Anchors
    from facedis_core.registration.pairing import Surface
    from facedis_core.registration.scan import RawScan

Points = NDArray[np.float64]

NEAR_MM: Final = 30.0  # of the scan, about the face in its pose, is fitted
USUAL_RADIUS_MM: Final = 130.0  # of the middle 80 % of the points of a scan
RADIUS_MM: Final = (45.0, 400.0)  # of scans that are the size of a face or of a head with shoulders
KEPT_STARTS: Final = 5
ALIKE_MM: Final = 1.0  # small fits nearer to each other end alike, others 2 mm apart and more
NO_FACE_MM: Final = 4.0  # cost of a pose that shows too little of a face, or none
ALIKE_POSES_MM: Final = 2.2  # of poses that are alike because a ball is, from all sides
TIED_MM: Final = 0.25  # poses whose costs differ by less are both fitted
NEUTRAL_MM: Final = 0.08  # a neutral start this much worse than another is fitted too
BETTER_MM: Final = 0.02  # and is kept unless the other ends better by this
PROMISING_MM: Final = 0.1  # gain of a round for which a fit that would be refused is continued
MANY_POINTS: Final = 1 << 19  # enough to tell the size of a scan
FEWEST_VERTICES: Final = 200
RARE: Final = ("dm", "inch")
ROUNDS: Final = 3  # in which fits that are all doubtful are continued
STIFF_WEIGHT: Final = 300.0  # of the data, where a fit ran away


@dataclass(frozen=True, eq=False)
class Attempt:
    """A scan registered in one unit.

    Attributes:
        unit: the unit.
        problem: why it is refused; None where it is not.
        fit: None where there is no pose.
        near: the scan near the face.
        centre: (3,) mm, what was subtracted from the scan.
        margin_mm: how much worse the next pose fits.
        start: expression the fit started from.
    """

    unit: Units
    problem: InputError | None
    fit: "Fit | None" = None
    near: "Surface | None" = None
    centre: Points | None = None
    margin_mm: float = 0.0
    start: str = ""


def find_attempt(
    scan: Mesh,
    prior: RegistrationPrior,
    *,
    units: Units = "auto",
    force: bool = False,
    seed: int = 0,
    anchors: "Anchors | None" = None,
    pose: RigidTransform | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> "Attempt":
    """The fit of a scan, which has one; arguments and errors as of `find_face`."""
    check_units(units)
    require_scipy()
    check_finite(scan.vertices)
    attempts = []
    candidates = unit_candidates(scan, units) if pose is None else [_unit_of(pose)]
    for unit in candidates:
        attempts.append(_attempt(unit, scan, prior, force, seed, anchors, pose, progress))
        if attempts[-1].problem is None:
            break
    best = attempts[-1] if attempts[-1].problem is None else attempts[0]
    if best.problem is not None and force:
        best = next((each for each in attempts if each.fit is not None), best)
    if best.problem is not None and (best.fit is None or not force):
        text = f"{scan.name or 'the scan'}: {best.problem}"
        if best.fit is not None:
            text += ", or pass --force-register"
        raise InputError(text, best.problem.code)
    return best


def _attempt(
    unit: Units,
    mesh: Mesh,
    prior: RegistrationPrior,
    force: bool,
    seed: int,
    landmarks: "Anchors | None",
    known_pose: RigidTransform | None,
    progress: Callable[[str], None],
) -> Attempt:
    """Pose, starts, fit, and what is wrong with them."""
    from facedis_core.registration.landmarks import anchored_pose
    from facedis_core.registration.pose import APART_MM, WRONG_POSE_MM, checked_pose, find_poses
    from facedis_core.registration.scan import FEWEST_POINTS, RawScan

    if len(mesh.vertices) < FEWEST_VERTICES:
        few = f"it has {len(mesh.vertices)} points, expected at least {FEWEST_VERTICES} of a face"
        return Attempt(unit, InputError(few, ErrorCode.NO_FACE))
    progress("preparing")
    scan = RawScan(mesh, UNITS_MM[unit], seed)
    progress("pose")
    enough = len(scan.coarse.points) >= FEWEST_POINTS
    unit_mm = UNITS_MM[unit]
    anchors = None if landmarks is None else landmarks.scaled(unit_mm, scan.centre)
    if known_pose is not None:
        rotation, shift = known_pose.rotation, known_pose.translation * unit_mm - scan.centre
        poses = [checked_pose(prior, scan.coarse, rotation, shift, anchors)] if enough else []
    elif anchors is not None and enough:
        try:
            given = anchored_pose(anchors, prior, scan.coarse)
        except InputError as error:
            return Attempt(unit, error)
        poses = [checked_pose(prior, scan.coarse, given.rotation, given.translation, anchors)]
    else:
        poses = find_poses(prior, scan, seed) if enough else []
    none = "no face was found in it; check what it shows and --units"
    if not poses:
        return Attempt(unit, InputError(none, ErrorCode.NO_FACE))
    pose = poses[0]
    margin = poses[1].cost - pose.cost if len(poses) > 1 else np.inf
    are_alike = pose.cost > ALIKE_POSES_MM and margin < prior.limits.margin_mm
    is_searched = known_pose is None and anchors is None
    if is_searched and not force and (pose.cost > NO_FACE_MM or are_alike):
        return Attempt(unit, InputError(none, ErrorCode.NO_FACE), pose)
    # a small fit of the side of a head may be as good as that of its face seen from the side, and a
    # scan may show two people
    rivals = [
        other
        for other in poses[1:]
        if other.cost - pose.cost < TIED_MM
        or (other.cost < WRONG_POSE_MM and _apart_mm(prior, pose, other) > APART_MM)
    ]
    tied = [pose, *rivals[:1]]
    attempts = [_fitted(unit, prior, scan, each, anchors, progress) for each in tied]

    def rank(attempt: Attempt) -> tuple[bool, float]:
        return attempt.problem is not None, attempt.fit.score if attempt.fit else np.inf

    best, *others = sorted(attempts, key=rank)
    if best.fit is None:
        return best
    problem = best.problem
    for other in others:
        if other.problem is not None or other.fit is None:  # no face; else there are two
            margin = other.fit.score - best.fit.score if other.fit else np.inf
        elif problem is None and (apart := _apart_mm(prior, best.fit, other.fit)) > APART_MM:
            two = f"it shows two faces, {apart:.0f} mm apart; cut it down to one"
            problem = InputError(two, ErrorCode.POSE_AMBIGUOUS)
    problem = problem or ambiguity(margin, prior.limits)
    return replace(best, margin_mm=margin, problem=problem)


def _apart_mm(prior: RegistrationPrior, one: "Fit", other: "Fit") -> float:
    """Distance between the middles of two faces."""
    middle = prior.mean.mean(axis=0, keepdims=True)
    return float(np.linalg.norm(one.place(middle) - other.place(middle)))


def _fitted(
    unit: Units,
    prior: RegistrationPrior,
    scan: "RawScan",
    pose: "Fit",
    anchors: "Anchors | None",
    progress: Callable[[str], None],
) -> Attempt:
    """The fit in a pose, and what is wrong with it."""
    from facedis_core.registration.fit import FitOptions, fit_face
    from facedis_core.registration.lids import with_closed_lids
    from facedis_core.registration.lips import with_closed_lips
    from facedis_core.registration.scan import FEWEST_POINTS

    progress("expression")
    near = scan.near(pose.place(prior.mean), NEAR_MM)
    if len(near.points) < FEWEST_POINTS:  # of a wrong pose that was given
        away = "there is next to nothing of it where the pose puts the face; check the pose"
        return Attempt(unit, InputError(away, ErrorCode.NO_FACE))
    small = _small_fits(prior, scan.coarse, pose, anchors)
    progress("fit")
    start, fit = _best_fit(prior, near, small, anchors)
    fit = with_closed_lips(prior, near, fit, FitOptions().data_weight, anchors)
    fit = with_closed_lids(prior, near, fit, FitOptions().data_weight, anchors)
    strict = replace(prior.limits, likely_mm=0.0, hidden_mm=0.0)
    if refusal(fit, np.inf, strict) is not None:
        stiff = fit_face(prior, near, small[start], FitOptions(data_weight=STIFF_WEIGHT), anchors)

        def rank(each: "Fit") -> tuple[bool, bool, float]:
            refused = (
                refusal(each, np.inf, limits) is not None for limits in (prior.limits, strict)
            )
            return next(refused), next(refused), each.score

        fit = min(fit, stiff, key=rank)
    problem = refusal(fit, np.inf, prior.limits)
    return Attempt(unit, problem, fit, near, scan.centre, start=prior.expressions[start])


def _small_fits(
    prior: RegistrationPrior, coarse: "Surface", pose: "Fit", anchors: "Anchors | None"
) -> dict[int, "Fit"]:
    """Small fits from the mean faces of the expressions that fit best, unlike each other.

    Best first, but for a neutral start that is hardly worse.
    """
    from facedis_core.registration.fit import QUICK, SCREEN, fit_face

    starts = enumerate(replace(pose, coefficients=start) for start in prior.starts)
    screened = {k: fit_face(prior, coarse, start, SCREEN, anchors) for k, start in starts}
    best = list(_unlike(prior, screened, NEUTRAL_MM).items())[:KEPT_STARTS]
    small = {k: fit_face(prior, coarse, fit, QUICK, anchors) for k, fit in best}
    return _unlike(prior, small, NEUTRAL_MM)


def _unlike(
    prior: RegistrationPrior, fits: dict[int, "Fit"], neutral_mm: float
) -> dict[int, "Fit"]:
    """The fits by their starts that differ from better ones, best first.

    The neutral start counts as better by `neutral_mm`.
    """
    from facedis_core.registration.pose import distinct

    order = sorted(fits, key=lambda k: fits[k].score - neutral_mm * (k == 0))
    kept = distinct(prior, [fits[k] for k in order], ALIKE_MM)
    return {k: fits[k] for k in order if fits[k] in kept}


def _best_fit(
    prior: RegistrationPrior,
    near: "Surface",
    small: dict[int, "Fit"],
    anchors: "Anchors | None",
) -> tuple[int, "Fit"]:
    """The expression that the best fit started from, and the fit."""
    from facedis_core.registration.fit import FULL, FitOptions, fit_face

    first = next(iter(small.values()))
    fits = {
        k: fit_face(prior, near, each, FULL, anchors)
        for k, each in small.items()
        if each.score <= first.score
    }
    if all(map(is_doubtful, fits.values())):
        options = FitOptions()
        fits |= {k: fit_face(prior, near, small[k], FULL, anchors) for k in small if k not in fits}
        for _ in range(ROUNDS):
            # a small fit may have been so far off that the steps did not suffice
            before = min(fit.score for fit in fits.values())
            fits = _unlike(prior, fits, BETTER_MM)
            for k, fit in fits.items():
                again = fit_face(prior, near, fit, options, anchors)
                fits[k] = min(fit, again, key=lambda fit: fit.score)
            nearest = min(fits.values(), key=lambda fit: fit.score)
            refused = refusal(nearest, np.inf, prior.limits) is not None
            if not is_doubtful(nearest) or before - nearest.score < (
                PROMISING_MM if refused else BETTER_MM
            ):
                break
    start, fit = next(iter(_unlike(prior, fits, BETTER_MM).items()))
    return start, fit


def unit_candidates(scan: Mesh, units: Units) -> list[Units]:
    """Units in which a scan is to be tried, the likeliest first.

    Raises:
        InputError: it has the size of a head in none.
    """
    if scan.unit_mm is not None:
        return ["mm"]
    if units != "auto":
        return [units]
    some = scan.vertices[:: 1 + len(scan.vertices) // MANY_POINTS].astype(np.float64)
    offset = some - np.median(some, axis=0)
    radius = float(np.quantile(np.linalg.norm(offset, axis=1), 0.8))
    sizes = {name: radius * mm for name, mm in UNITS_MM.items()}
    fitting = [name for name in sizes if RADIUS_MM[0] <= sizes[name] <= RADIUS_MM[1]]
    if not fitting:
        raise InputError(
            f"{scan.name or 'the scan'} has a radius of {radius:.3g} units, not the size of a head "
            f"in any of {', '.join(UNITS_MM)}; check the scan, or pass --units",
            ErrorCode.UNIT,
        )
    # inches and decimetres are rare
    return sorted(
        fitting, key=lambda name: (name in RARE, abs(np.log(sizes[name] / USUAL_RADIUS_MM)))
    )[:2]


def as_pose(pose: RigidTransform | NDArray[Any]) -> RigidTransform:
    """A pose (4, 4) as a rotation, a translation and a scale.

    Raises:
        InputError: it has another shape or is no similarity.
    """
    if isinstance(pose, RigidTransform):
        return pose
    matrix = np.asarray(pose, np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InputError(
            f"the pose is an array {matrix.shape}, expected (4, 4) finite numbers",
            ErrorCode.ARRAY_SHAPE,
        )
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    rotation = matrix[:3, :3] / scale if scale > 0 else np.zeros((3, 3))
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=0.02) or not np.allclose(
        matrix[3], [0, 0, 0, 1], atol=1e-6
    ):
        raise InputError(
            "the pose is no rotation, translation and scale; its last row is 0 0 0 1, and it takes "
            "the face to the scan",
            ErrorCode.ARRAY_SHAPE,
        )
    u, _, vt = np.linalg.svd(rotation)
    return RigidTransform(u @ vt, matrix[:3, 3], scale)


def _unit_of(pose: RigidTransform) -> Units:
    """The unit of the scan that a pose takes a face in mm to."""
    name, mm = min(UNITS_MM.items(), key=lambda unit: abs(np.log(pose.scale * unit[1])))
    if abs(np.log(pose.scale * mm)) > np.log(1.1):
        raise InputError(
            f"the pose has the scale {pose.scale:.4g}, expected 1 for a scan in mm, 0.1 in cm, "
            "0.001 in m; it takes the face, in mm, to the scan",
            ErrorCode.UNIT,
        )
    return name


def require_scipy() -> None:
    """Raise UsageError where SciPy is not installed, before the work begins."""
    try:
        import scipy  # noqa: F401
    except ModuleNotFoundError:
        raise missing_extra("registration", "register") from None
