"""Registration of a raw scan: its face in a model's topology, the way back, and how sure it is."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.units import UNITS_MM, Units
from facedis_core.errors import ErrorCode, UsageError, check_argument
from facedis_core.geometry.alignment import RigidTransform
from facedis_core.io.streams import naming
from facedis_core.mesh.mesh import Mesh
from facedis_core.model.model import Model
from facedis_core.model.model_file import load_model
from facedis_core.registration.completion import complete_head
from facedis_core.registration.prior import RegistrationPrior, match_prior, prior_of
from facedis_core.registration.search import Attempt, as_pose, find_attempt

if TYPE_CHECKING:
    from facedis_core.registration.fit import Fit
    from facedis_core.registration.landmarks import Anchors, Landmarks

Residual = Literal["none", "normal"]
Points = NDArray[np.float64]

# Lips that lie so far from a scan, and so much farther than the rest of the face does, are wrong in
# most simulated scans (docs/registration.md).
MOUTH_MM: Final = 0.4
MOUTH_RATIO: Final = 1.1
BESIDE_MM: Final = 1.0  # lips bend: farther beside a point its plane says nothing of them
OBSERVED_MM: Final = 3.0  # a vertex this near to the scan is observed


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
        mouth_mm: mean distance to the scan of the vertices near the lips that are observed, and
            beside a point of it; NaN where none is.
        mouth_is_doubtful: whether that is more than usual, and than of the rest of the face, beyond
            the roughness of the scan.
        roughness_mm: mean distance of the scan's points from the planes of their neighbors where
            the vertices meet it: the residual of a face without any error.
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
    mouth_is_doubtful: bool = False
    roughness_mm: float = 0.0

    def __repr__(self) -> str:
        doubt = f", doubtful: {self.problem}" if self.problem else ""
        return (
            f"Registration({self.mesh.name!r}, {self.scan_residual_mm:.2f} mm, "
            f"coverage {self.coverage:.2f}{doubt})"
        )

    def as_json(self) -> dict[str, Any]:
        """What a report says of it: everything but the values of each vertex."""
        return {
            "name": self.mesh.name,
            "unit": self.unit,
            "rotation": self.to_scan.rotation.round(9).tolist(),
            "translation": self.to_scan.translation.tolist(),
            "scale": self.to_scan.scale,
            "margin_mm": _rounded(self.margin_mm),
            "coverage": _rounded(self.coverage),
            "residual_mm": _rounded(self.residual_mm),
            "scan_residual_mm": _rounded(self.scan_residual_mm),
            "roughness_mm": _rounded(self.roughness_mm),
            "mouth_mm": _rounded(self.mouth_mm),
            "prior_distance": _rounded(self.prior_distance),
            "observed": _rounded(float(self.observed.mean())),
            "start": self.start,
            "problem": self.problem,
            "mouth_is_doubtful": self.mouth_is_doubtful,
            "seconds": round(self.seconds, 2),
            "landmark_mm": {name: round(mm, 2) for name, mm in self.landmark_mm.items()},
        }


def _rounded(value: float) -> float | None:
    """A number of JSON, which has none that are not finite."""
    return round(value, 4) if np.isfinite(value) else None


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
        mouth_is_doubtful=found.mouth_is_doubtful,
        roughness_mm=fit.roughness_mm,
    )


@dataclass(frozen=True, eq=False)
class FoundFace:
    """The face of a scan on the vertices of a prior.

    Attributes:
        face: (V, 3) mm, in the frame of the prior.
        observed, distance_mm, to_scan, unit, margin_mm, start, problem: as of `Registration`.
        fit: the fit, before any residual.
        landmark_mm, mouth_mm, mouth_is_doubtful: as of `Registration`.
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
    mouth_is_doubtful: bool = False


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


def finished(
    attempt: Attempt,
    prior: RegistrationPrior,
    residual: Residual,
    landmarks: "Anchors | None",
) -> FoundFace:
    """The face of an attempt, with what the scan shows of it."""
    from facedis_core.registration.fit import beyond_roughness
    from facedis_core.registration.pairing import pair
    from facedis_core.registration.refusal import doubt
    from facedis_core.registration.residual import normal_residual

    fit, near = attempt.fit, attempt.near
    assert fit is not None and near is not None and attempt.centre is not None  # checked before
    face = prior.face(fit.coefficients)
    if residual == "normal":
        height = normal_residual(prior, near, fit.place(face))
        face = face + height[:, None] * prior.normals(face)
    paired = pair(fit.place(face), prior.normals(face) @ fit.rotation.T, near)
    observed = paired.near(OBSERVED_MM, max(2.5 * near.spacing, OBSERVED_MM))
    lips = prior.lips[(observed & (paired.aside < BESIDE_MM))[prior.lips]]
    mouth_mm, mouth_is_doubtful = np.nan, False
    if len(lips):
        mouth_mm = float(np.abs(paired.height[lips]).mean())
        excess = beyond_roughness(mouth_mm, fit.roughness_mm)
        mouth_is_doubtful = excess > max(MOUTH_MM, MOUTH_RATIO * fit.excess_mm)
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
        problem=str(attempt.problem or doubt(fit, prior.limits)),
        fit=fit,
        landmark_mm=landmark_mm,
        mouth_mm=mouth_mm,
        mouth_is_doubtful=mouth_is_doubtful,
    )
