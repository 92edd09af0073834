"""Registration of a raw scan: its face in a model's topology, the way back, and how sure it is."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.preparation import Preparation
from facedis_core.data.units import UNITS_MM, Units, check_units
from facedis_core.errors import ErrorCode, InputError, UsageError, check_argument, missing_extra
from facedis_core.geometry.alignment import RigidTransform
from facedis_core.io.streams import naming
from facedis_core.mesh.mesh import Mesh
from facedis_core.mesh.vertex_checks import check_finite
from facedis_core.model.config import LinearConfig
from facedis_core.model.model import Model, load_model
from facedis_core.registration.completion import complete_head
from facedis_core.registration.prior import Limits, RegistrationPrior, prior_of

if TYPE_CHECKING:
    from facedis_core.registration.fit import Fit
    from facedis_core.registration.landmarks import Anchors, Landmarks
    from facedis_core.registration.pairing import Surface

Residual = Literal["none", "normal"]
Points = NDArray[np.float64]

NEAR_MM: Final = 30.0  # of the scan, about the face in its pose, is fitted
USUAL_RADIUS_MM: Final = 130.0  # of the middle 80 % of the points of a scan
RADIUS_MM: Final = (45.0, 400.0)  # of scans that are the size of a face or of a head with shoulders
KEPT_STARTS: Final = 5
NEUTRAL_MM: Final = 0.08  # a neutral start this much worse than another is fitted too
BETTER_MM: Final = 0.02  # and is kept unless the other ends better by this
DOUBTFUL_MM: Final = (
    0.28  # a fit that leaves more is compared with those of all starts, and continued
)
# Simulated scans whose lips lie so far from the scan, and so much farther than the rest of the face
# does, are the worst ones (docs/registration.md).
MOUTH_MM: Final = 0.4
MOUTH_RATIO: Final = 1.1
OBSERVED_MM: Final = 3.0  # a vertex this near to the scan is observed
MANY_POINTS: Final = 1 << 19  # enough to tell the size of a scan
FEWEST_VERTICES: Final = 200
FRAME_MM: Final = 10.0  # mean faces of one population and frame are nearer
RARE: Final = ("dm", "inch")
STIFF_WEIGHT: Final = 300.0  # of the data, where a fit ran away


@dataclass(frozen=True, eq=False, repr=False)
class Registration:
    """The face of a scan in a model's topology, and how sure it is.

    Example:
        >>> head = read_mesh("weights/examples/alice_neutral.ply")
        >>> triangles = head.triangles[(head.triangles < 6706).all(axis=1)]  # of the face's skin
        >>> found = register(Mesh(head.vertices, triangles, "alice_neutral", 1.0))
        >>> found.mesh
        Mesh('alice_neutral', 26719 vertices, 52220 triangles, in mm)
        >>> found.problem, bool(found.observed.sum() > 0.8 * 4601)  # of the narrow face
        ('', True)

    Attributes:
        mesh: the face in the model's topology and frame, mm.
        to_scan: takes the mesh to the scan, in the unit of the scan.
        unit: unit of the scan.
        observed: (V,) whether the scan shows the vertex; the others are what faces like it have.
        distance_mm: float32 (V,) distance of each vertex to the scan; NaN where not observed.
        margin_mm: how much worse the next pose fits; infinite where there is none.
        coverage: part of the vertices visible in the scan's views that it shows.
        residual_mm: mean distance of these vertices to the scan.
        scan_residual_mm: mean distance of the scan near the face to the fit, each at most 4 mm.
        prior_distance: root mean square of the coefficients, in standard deviations of the training
            faces.
        start: expression whose mean face the fit started from.
        problem: why the registration is doubtful; "" where it is not.
        seconds: time it took.
        landmark_mm: distance of each landmark to its vertex.
        mouth_mm: mean distance to the scan of the vertices near the lips that are observed; NaN
            where none is.
    """

    mesh: Mesh
    to_scan: RigidTransform
    unit: str
    observed: NDArray[np.bool_]
    distance_mm: NDArray[np.float32]
    margin_mm: float
    coverage: float
    residual_mm: float
    scan_residual_mm: float
    prior_distance: float
    start: str
    problem: str
    seconds: float
    landmark_mm: Mapping[str, float] = field(default_factory=dict)
    mouth_mm: float = np.nan

    def __repr__(self) -> str:
        doubt = f", doubtful: {self.problem}" if self.problem else ""
        return (
            f"Registration({self.mesh.name!r}, {self.scan_residual_mm:.2f} mm, "
            f"coverage {self.coverage:.2f}{doubt})"
        )

    @property
    def mouth_is_doubtful(self) -> bool:
        """Whether the lips fit worse than they usually do, and worse than the rest of the face."""
        return self.mouth_mm > max(MOUTH_MM, MOUTH_RATIO * self.residual_mm)

    def as_json(self) -> dict[str, Any]:
        """What a report says of it: everything but the values of each vertex."""
        return {
            "name": self.mesh.name,
            "unit": self.unit,
            "rotation": self.to_scan.rotation.round(9).tolist(),
            "translation": self.to_scan.translation.tolist(),
            "scale": self.to_scan.scale,
            "margin_mm": None if np.isinf(self.margin_mm) else round(self.margin_mm, 4),
            "coverage": round(self.coverage, 4),
            "residual_mm": round(self.residual_mm, 4),
            "scan_residual_mm": round(self.scan_residual_mm, 4),
            "mouth_mm": None if np.isnan(self.mouth_mm) else round(self.mouth_mm, 4),
            "prior_distance": round(self.prior_distance, 4),
            "observed": round(float(self.observed.mean()), 4),
            "start": self.start,
            "problem": self.problem,
            "seconds": round(self.seconds, 2),
            "landmark_mm": {name: round(mm, 2) for name, mm in self.landmark_mm.items()},
        }


def register(
    scan: Mesh,
    model: Model | None = None,
    *,
    prior: RegistrationPrior | None = None,
    units: Units = "auto",
    residual: Residual = "none",
    force: bool = False,
    seed: int = 0,
    landmarks: "Landmarks | None" = None,
    pose: RigidTransform | NDArray[Any] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Registration:
    """Find the face of a raw scan, in the topology of a model.

    The scan is a mesh of any triangulation or a point cloud, in any pose, with holes, hair and
    shoulders; no landmarks are needed. Where they are given, three or more, they fix the pose and
    draw the fit to them.

    Args:
        scan: the scan.
        model: whose topology the result has; None = the default model.
        prior: principal components of faces of this topology; None = the bundled ones.
        units: unit of a scan that does not declare one; `auto` = the one in which it has the size
            of a head.
        residual: `normal` moves the vertices along their normals to the scan after the fit, for
            the shape of people who are not in the span of the components.
        force: give a result that would be refused.
        seed: of random samples.
        landmarks: name (see `registration.landmarks.VERTICES`) or number of a vertex of the model
            -> point (3,) in the unit of the scan.
        pose: takes the face to the scan, in the unit of the scan, (4, 4) or as `to_scan` of another
            registration; the pose is not searched for.
        progress: called with the name of each step that begins.

    Raises:
        InputError: no face is found, its pose is ambiguous, or the fit is too far from the scan or
            from all faces (unless `force`); too few points, or the unit cannot be told; landmarks
            that are not those of the scan.
        UsageError: an argument of another type, or SciPy is not installed.

    Example:
        >>> head = read_mesh("weights/examples/bob_smile.ply")
        >>> triangles = head.triangles[(head.triangles < 6706).all(axis=1)]  # of the face's skin
        >>> scan = Mesh(head.vertices, triangles, "bob_smile", 1.0)
        >>> register(scan, load_model("ict-linear"))
        Registration('bob_smile', ...)
    """
    check_argument(scan, Mesh, "register: scan", "a Mesh of read_mesh")
    if residual not in get_args(Residual):
        raise UsageError(
            f"residual is {residual!r}, expected one of {', '.join(get_args(Residual))}",
            ErrorCode.OPTION_VALUE,
        )
    model = load_model() if model is None else model
    prior = prior_of(model.preparation) if prior is None else prior
    chosen = match_prior(model, prior)
    started = time.monotonic()
    anchors = None
    if landmarks is not None:
        from facedis_core.registration.landmarks import find_anchors

        with naming(scan.name or "the scan"):
            anchors = find_anchors(landmarks, prior, chosen)
    found = find_face(
        scan,
        prior,
        units=units,
        residual=residual,
        force=force,
        seed=seed,
        anchors=anchors,
        pose=None if pose is None else as_pose(pose),
        progress=progress,
    )
    return registration_of(scan, model, found, chosen, time.monotonic() - started)


def registration_of(
    scan: Mesh, model: Model, found: "FoundFace", chosen: NDArray[np.intp], seconds: float
) -> Registration:
    """The registration of a face that was found; `chosen` as of `match_prior`."""
    known = chosen >= 0
    fit, face = found.fit, complete_head(model, known, found.face[chosen])
    return Registration(
        mesh=Mesh(face, model.triangles, scan.name, unit_mm=1.0),
        to_scan=found.to_scan,
        unit=found.unit,
        observed=found.observed[chosen] & known,
        distance_mm=np.where(known, found.distance_mm[chosen], np.float32(np.nan)),
        margin_mm=found.margin_mm,
        coverage=fit.coverage,
        residual_mm=fit.residual_mm,
        scan_residual_mm=fit.scan_residual_mm,
        prior_distance=fit.prior_distance,
        start=found.start,
        problem=found.problem,
        seconds=seconds,
        landmark_mm=found.landmark_mm,
        mouth_mm=found.mouth_mm,
    )


@dataclass(frozen=True, eq=False)
class FoundFace:
    """The face of a scan on the vertices of a prior.

    Attributes:
        face: (V, 3) mm, in the frame of the prior.
        observed, distance_mm, to_scan, unit, margin_mm, start, problem: as of `Registration`.
        fit: the fit, before any residual.
        landmark_mm, mouth_mm: as of `Registration`.
    """

    face: Points
    observed: NDArray[np.bool_]
    distance_mm: NDArray[np.float32]
    to_scan: RigidTransform
    unit: str
    margin_mm: float
    start: str
    problem: str
    fit: "Fit"
    landmark_mm: Mapping[str, float] = field(default_factory=dict)
    mouth_mm: float = np.nan


def find_face(
    scan: Mesh,
    prior: RegistrationPrior,
    *,
    units: Units = "auto",
    residual: Residual = "none",
    force: bool = False,
    seed: int = 0,
    anchors: "Anchors | None" = None,
    pose: RigidTransform | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> FoundFace:
    """The face of a scan on the vertices of a prior; arguments and errors as of `register`.

    `anchors` are landmarks in the unit of the scan.
    """
    attempt = find_attempt(
        scan,
        prior,
        units=units,
        force=force,
        seed=seed,
        anchors=anchors,
        pose=pose,
        progress=progress,
    )
    return finished(attempt, prior, residual, anchors)


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
        attempts.append(_attempt(unit, scan, prior, seed, anchors, pose, progress))
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

    unit: str
    problem: InputError | None
    fit: "Fit | None" = None
    near: "Surface | None" = None
    centre: Points | None = None
    margin_mm: float = 0.0
    start: str = ""


def _attempt(
    unit: str,
    mesh: Mesh,
    prior: RegistrationPrior,
    seed: int,
    landmarks: "Anchors | None",
    known_pose: RigidTransform | None,
    progress: Callable[[str], None],
) -> Attempt:
    """Pose, starts, fit, and what is wrong with them."""
    from facedis_core.registration.fit import QUICK, SCREEN, FitOptions, fit_face
    from facedis_core.registration.landmarks import anchored_pose
    from facedis_core.registration.lips import with_closed_lips
    from facedis_core.registration.pose import checked_pose, find_poses
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
    if not poses:
        none = "no face was found in it; check what it shows and --units"
        return Attempt(unit, InputError(none, ErrorCode.NO_FACE))
    pose = poses[0]
    margin = poses[1].cost - pose.cost if len(poses) > 1 else np.inf
    progress("expression")
    near = scan.near(pose.place(prior.mean), NEAR_MM)
    if len(near.points) < FEWEST_POINTS:  # of a wrong pose that was given
        away = "there is next to nothing of it where the pose puts the face; check the pose"
        return Attempt(unit, InputError(away, ErrorCode.NO_FACE))
    starts = [replace(pose, coefficients=start) for start in prior.starts]
    screened = [fit_face(prior, scan.coarse, start, SCREEN, anchors) for start in starts]
    best = sorted(range(len(starts)), key=lambda k: screened[k].cost)[:KEPT_STARTS]
    quick = {k: fit_face(prior, scan.coarse, screened[k], QUICK, anchors) for k in {0, *best}}
    chosen = [min(quick, key=lambda k: quick[k].cost)]
    if chosen != [0] and quick[0].cost < quick[chosen[0]].cost + NEUTRAL_MM:
        chosen.append(0)
    progress("fit")
    options = FitOptions()
    fits = {k: fit_face(prior, near, quick[k], options, anchors) for k in chosen}
    if min(fit.residual_mm for fit in fits.values()) > DOUBTFUL_MM:
        fits |= {
            k: fit_face(prior, near, quick[k], options, anchors) for k in quick if k not in fits
        }
    start = min(fits, key=lambda k: fits[k].cost + BETTER_MM * (k > 0))
    if fits[start].residual_mm > DOUBTFUL_MM:
        # the pose of a small fit may have been so far off that the steps did not suffice
        again = fit_face(prior, near, fits[start], options, anchors)
        fits[start] = min(fits[start], again, key=lambda fit: fit.cost)
    fits[start] = with_closed_lips(prior, near, fits[start], options.data_weight, anchors)
    problem = refusal(fits[start], margin, prior.limits)
    if problem is not None and problem.code != ErrorCode.POSE_AMBIGUOUS:
        stiff = fit_face(
            prior, near, quick[start], replace(options, data_weight=STIFF_WEIGHT), anchors
        )
        if refusal(stiff, margin, prior.limits) is None:
            fits[start], problem = stiff, None
    return Attempt(unit, problem, fits[start], near, scan.centre, margin, prior.expressions[start])


def refusal(fit: "Fit", margin_mm: float, limits: Limits) -> InputError | None:
    """The error of a fit that is no face, or in a doubtful pose; None where it is one."""
    if fit.coverage < limits.coverage:
        return InputError(
            f"only {fit.coverage:.0%} of the face is there, expected {limits.coverage:.0%}; check "
            "what the scan shows",
            ErrorCode.NO_FACE,
        )
    for distance, limit in (
        (fit.residual_mm, limits.residual_mm),
        (fit.scan_residual_mm, limits.scan_residual_mm),
    ):
        if distance > limit:
            return InputError(
                f"the best fit lies {distance:.2f} mm from it, expected at most {limit:g}; check "
                "what the scan shows and --units",
                ErrorCode.NO_FACE,
            )
    if fit.prior_distance > limits.prior_distance:
        return InputError(
            f"the best fit is {fit.prior_distance:.2f} standard deviations from the faces known, "
            f"expected at most {limits.prior_distance:g}; check what the scan shows",
            ErrorCode.FAR_FACE,
        )
    if margin_mm < limits.margin_mm:
        return InputError(
            f"two poses fit alike, the second {margin_mm:.2f} mm worse, expected at least "
            f"{limits.margin_mm:g}; leave one face in the scan",
            ErrorCode.POSE_AMBIGUOUS,
        )
    return None


def finished(
    attempt: Attempt,
    prior: RegistrationPrior,
    residual: Residual,
    landmarks: "Anchors | None",
) -> FoundFace:
    """The face of an attempt, with what the scan shows of it."""
    from facedis_core.registration.pairing import pair
    from facedis_core.registration.residual import normal_residual

    fit, near = attempt.fit, attempt.near
    assert fit is not None and near is not None and attempt.centre is not None  # checked before
    face = prior.face(fit.coefficients)
    if residual == "normal":
        height = normal_residual(prior, near, fit.place(face))
        face = face + height[:, None] * prior.normals(face)
    paired = pair(fit.place(face), prior.normals(face) @ fit.rotation.T, near)
    observed = paired.near(OBSERVED_MM, max(2.5 * near.spacing, OBSERVED_MM))
    lips = prior.lips[observed[prior.lips]]
    unit_mm = UNITS_MM[attempt.unit]
    landmark_mm = {}
    if landmarks is not None:
        anchors = landmarks.scaled(unit_mm, attempt.centre)
        missed = np.linalg.norm(fit.place(face)[anchors.vertex] - anchors.points, axis=1)
        landmark_mm = dict(zip(anchors.names, missed.tolist(), strict=True))
    return FoundFace(
        face=face,
        observed=observed,
        distance_mm=np.where(observed, np.abs(paired.height), np.nan).astype(np.float32),
        to_scan=RigidTransform(
            fit.rotation, (fit.translation + attempt.centre) / unit_mm, 1 / unit_mm
        ),
        unit=attempt.unit,
        margin_mm=attempt.margin_mm,
        start=attempt.start,
        problem=str(attempt.problem or ""),
        fit=fit,
        landmark_mm=landmark_mm,
        mouth_mm=float(np.abs(paired.height[lips]).mean()) if len(lips) else np.nan,
    )


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


def _unit_of(pose: RigidTransform) -> str:
    """The unit of the scan that a pose takes a face in mm to."""
    name, mm = min(UNITS_MM.items(), key=lambda unit: abs(np.log(pose.scale * unit[1])))
    if abs(np.log(pose.scale * mm)) > np.log(1.1):
        raise InputError(
            f"the pose has the scale {pose.scale:.4g}, expected 1 for a scan in mm, 0.1 in cm, "
            "0.001 in m; it takes the face, in mm, to the scan",
            ErrorCode.UNIT,
        )
    return name


def vertices_of(
    own: Preparation, prior: RegistrationPrior, *, partly: bool = False
) -> NDArray[np.intp]:
    """Which vertex of the prior each vertex of prepared faces is; -1 = none, if `partly`.

    Raises:
        InputError: the prior is of another topology, or lacks vertices (all, if `partly`).
    """
    known = prior.preparation
    if own.raw_topology != known.raw_topology:
        raise InputError(
            f"the registration prior {prior.source} is for raw meshes of topology "
            f"{known.raw_topology}, the model for {own.raw_topology}; give the prior of its face "
            "set with --prior",
            ErrorCode.TOPOLOGY,
        )
    order = np.argsort(known.vertex_index)
    place = np.searchsorted(known.vertex_index, own.vertex_index, sorter=order)
    found = order[np.minimum(place, len(order) - 1)]
    is_missing = known.vertex_index[found] != own.vertex_index
    if is_missing.all() or (is_missing.any() and not partly):
        raise InputError(
            f"the model has {is_missing.sum()} vertices that the registration prior "
            f"{prior.source} lacks; make one of its face set with fd-register --make-prior SET",
            ErrorCode.TOPOLOGY,
        )
    return np.where(is_missing, -1, found)


def require_scipy() -> None:
    """Raise UsageError where SciPy is not installed, before the work begins."""
    try:
        import scipy  # noqa: F401
    except ModuleNotFoundError:
        raise missing_extra("registration", "register") from None


def match_prior(model: Model, prior: RegistrationPrior) -> NDArray[np.intp]:
    """Which vertex of the prior each vertex of a model is; -1 = none, where the model completes it.

    Raises:
        InputError: errors of `vertices_of`, or the prior's faces lie elsewhere than the model's.
    """
    # a linear model has the components to complete what the prior lacks
    chosen = vertices_of(model.preparation, prior, partly=isinstance(model.config, LinearConfig))
    known = chosen >= 0
    offset = prior.mean[chosen[known]] - model.mean_face[known]
    distance = float(np.linalg.norm(offset, axis=1).mean())
    if distance > FRAME_MM:
        raise InputError(
            f"the mean face of the registration prior {prior.source} lies {distance:.3g} mm from "
            f"that of the model {model.source}, expected at most {FRAME_MM:g}; make a prior of the "
            "model's face set with fd-register --make-prior SET",
            ErrorCode.FAR_FACE,
        )
    return chosen


def unit_candidates(scan: Mesh, units: Units) -> list[str]:
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
