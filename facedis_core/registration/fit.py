"""Robust fit of principal components and pose to a scan, from both sides."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from scipy.spatial import cKDTree

from facedis_core.geometry.alignment import rotation_about
from facedis_core.geometry.surface import unit_vectors
from facedis_core.registration.landmarks import Anchors
from facedis_core.registration.pairing import Pairing, Surface, pair
from facedis_core.registration.prior import RegistrationPrior

Points = NDArray[np.float64]

ROUGHEST_MM: Final = 0.6  # roughness that explains a distance; more is no scan of a face
CAP_MM: Final = 4.0  # residuals of the measures are at most this
PRIOR_MM: Final = 0.1  # cost of a face at a distance of 1 from the training faces
ANCHOR_MM: Final = 1.5  # standard deviation of a landmark along each axis
NOISE_MM: Final = 0.5  # standard deviation of a residual of weight 1
CANDIDATE_MM: Final = 30.0  # points of the scan this near to the face at the start are fitted
LOOKED_AT: Final = 8  # times the points to fit, of which those near the face are taken
ASIDE_MM: Final = 2.0  # a vertex this far beside the nearest point has a quarter of the weight
REACH_MM: Final = 25.0  # points of the scan that the face may explain


def beyond_roughness(distance_mm: float, roughness_mm: float) -> float:
    """The part of a mean distance that the roughness of a scan does not explain, mm.

    Noise and error add up as squares.
    """
    return float(np.sqrt(max(distance_mm**2 - min(roughness_mm, ROUGHEST_MM) ** 2, 0.0)))


@dataclass(frozen=True, eq=False)
class Fit:
    """A face in its pose: scan = rotation @ face + translation.

    Attributes:
        coefficients: (k,) of the first k components of the prior.
        rotation: (3, 3).
        translation: (3,) mm.
        residual_mm: mean distance to the scan of the vertices that it shows.
        roughness_mm: mean roughness of the scan there; 0 where not measured.
        scan_residual_mm: mean distance of the points of the scan near the face to it, likewise.
        coverage: part of the visible vertices that the scan shows.
        prior_distance: root mean square of the coefficients, in standard deviations.
    """

    coefficients: Points
    rotation: Points
    translation: Points
    residual_mm: float = CAP_MM
    roughness_mm: float = 0.0
    scan_residual_mm: float = CAP_MM
    coverage: float = 0.0
    prior_distance: float = 0.0

    @property
    def cost(self) -> float:
        """Residuals both ways in mm; a visible vertex that the scan does not show counts CAP_MM."""
        shown = self.coverage * self.residual_mm + (1 - self.coverage) * CAP_MM
        return shown + self.scan_residual_mm

    @property
    def score(self) -> float:
        """What fits are compared by: the cost, and PRIOR_MM a squared standard deviation.

        A wrong fit that lies on the scan all the same is an unlikely face.
        """
        return self.cost + PRIOR_MM * self.prior_distance**2

    @property
    def excess_mm(self) -> float:
        """The part of `residual_mm` that the roughness of the scan does not explain."""
        return beyond_roughness(self.residual_mm, self.roughness_mm)

    @property
    def scan_excess_mm(self) -> float:
        """The part of `scan_residual_mm` that the roughness of the scan does not explain."""
        return beyond_roughness(self.scan_residual_mm, self.roughness_mm)

    def place(self, points: Points) -> Points:
        """Points (n, 3) of the model's frame in the frame of the scan."""
        return points @ self.rotation.T + self.translation


@dataclass(frozen=True, eq=False)
class Belief:
    """What is known of coefficients before a scan is seen: a normal distribution.

    Attributes:
        mean: (K,).
        precision: (K, K), the inverse of the covariance.
    """

    mean: Points
    precision: Points


@dataclass(frozen=True, eq=False)
class Contacts:
    """Vertices that are to touch, such as those of closed lips.

    Attributes:
        pairs: (n, 2) vertices.
        offset: (n, 3) mm, from the second of each pair to the first.
    """

    pairs: NDArray[np.intp]
    offset: Points


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit; lengths in mm go from the first to the second value over the iterations.

    Attributes:
        iterations: Gauss-Newton steps.
        components: of the prior.
        vertices: number of evenly spread vertices to fit; None = all.
        scan_points: number of points of the scan to fit.
        residual_scale: width of the robust weight 1 / (1 + (r / s)^2)^2.
        reach: residuals beyond this have weight 0.
        data_weight: number of independent residuals that all pairs together count as.
        coarse: fit the evenly spread vertices of the prior alone, unless there are landmarks.
        contact_weight: part of the weight of the data with which contacts are held together.
    """

    iterations: int = 15
    components: int | None = None
    vertices: int | None = None
    scan_points: int = 2500
    residual_scale: tuple[float, float] = (3.0, 0.5)
    reach: tuple[float, float] = (12.0, 3.0)
    data_weight: float = 3000.0
    contact_weight: float = 0.0
    coarse: bool = False


QUICK: Final = FitOptions(
    iterations=7,
    components=60,
    vertices=600,
    scan_points=800,
    residual_scale=(5.0, 1.5),
    reach=(20.0, 6.0),
    data_weight=200.0,
    coarse=True,
)
SCREEN: Final = replace(QUICK, iterations=3, vertices=300, scan_points=400)
FULL: Final = FitOptions(iterations=6, residual_scale=(1.5, 0.5), reach=(6.0, 3.0))  # after QUICK


def fit_face(
    prior: RegistrationPrior,
    scan: Surface,
    start: Fit,
    options: FitOptions = FitOptions(),
    anchors: Anchors | None = None,
    belief: Belief | None = None,
    contacts: Contacts | None = None,
) -> Fit:
    """Fit the face and its pose to a scan.

    Minimises sum w r^2 / NOISE_MM^2 + |c|^2 by Gauss-Newton steps with robust weights w: r are
    distances of vertices to the scan and of points of the scan to the face, along the mean of both
    normals (Rusinkiewicz 2019, "A symmetric objective function for ICP"). Landmarks add their
    squared distances / ANCHOR_MM^2.

    Args:
        prior: the faces.
        scan: in mm; the pose of `start` is about right.
        start: pose and coefficients to start with; missing coefficients are 0.
        options: numbers of steps and points, weights.
        anchors: landmarks in mm, in the frame of the scan.
        belief: distribution of all coefficients; None = standard normal, as those of the prior.
        contacts: vertices that are held together with `contact_weight`.
    """
    if options.coarse and anchors is None:
        prior = prior.coarse
    count = options.components or prior.basis.shape[2]
    basis = prior.basis[:, :, :count]
    spread = np.arange(len(prior.mean)) if options.vertices is None else prior.spread
    if options.vertices is not None:
        spread = spread[:: max(1, len(spread) // options.vertices)]
    coefficients = np.zeros(count)
    given = min(count, len(start.coefficients))
    coefficients[:given] = start.coefficients[:given]
    fit = replace(start, coefficients=coefficients)
    tree = cKDTree(fit.place(prior.face(coefficients))[prior.spread])
    random = np.random.default_rng(0)
    candidates = np.arange(len(scan.points))
    if len(candidates) > LOOKED_AT * options.scan_points:
        candidates = random.choice(candidates, LOOKED_AT * options.scan_points, replace=False)
    distance, _ = tree.query(scan.points[candidates], distance_upper_bound=CANDIDATE_MM)
    candidates = np.sort(candidates[np.isfinite(distance)])
    if len(candidates) > options.scan_points:
        candidates = np.sort(random.choice(candidates, options.scan_points, replace=False))
    size = 6 + count
    for step in range(options.iterations):
        part = step / max(1, options.iterations - 1)
        width, reach = (
            low * (high / low) ** part for low, high in (options.residual_scale, options.reach)
        )
        pairs = _weighted_pairs(prior, scan, fit, spread, candidates, width, reach)
        matrix, right = np.zeros((size, size)), np.zeros(size)
        factors = [options.data_weight / len(pairs) / NOISE_MM**2] * len(pairs)
        if anchors is not None:
            pairs.append(_anchor_pairs(prior, fit, anchors))
            factors.append(1 / ANCHOR_MM**2)
        for each, factor in zip(pairs, factors, strict=True):
            jacobian = _jacobian(each, fit, basis)
            weight = np.sqrt(each.weight * factor)
            scaled = jacobian * weight.astype(np.float32)[:, None]
            matrix += scaled.T @ scaled
            right += scaled.T @ (weight * each.residual)
        if contacts is not None:
            one, other = contacts.pairs.T
            stiffness = options.contact_weight * options.data_weight / len(one) / NOISE_MM**2
            apart = (basis[:, one] - basis[:, other]).reshape(-1, count).astype(np.float64)
            face = prior.face(fit.coefficients)
            gap = face[one] - face[other] - contacts.offset
            matrix[6:, 6:] += stiffness * apart.T @ apart
            right[6:] -= stiffness * apart.T @ gap.T.ravel()
        if belief is None:
            matrix[range(6, size), range(6, size)] += 1.0
            right[6:] -= fit.coefficients
        else:
            matrix[6:, 6:] += belief.precision
            right[6:] -= belief.precision @ (fit.coefficients - belief.mean)
        matrix[range(6), range(6)] += 1e-8 * np.trace(matrix[:6, :6]) + 1e-3
        fit = moved(fit, solve(matrix, right, assume_a="pos"))
    return measured(prior, scan, fit, candidates, options)


def moved(fit: Fit, change: Points) -> Fit:
    """A fit after a step: rotation vector, translation, coefficients."""
    angle = float(np.linalg.norm(change[:3]))
    turn = rotation_about(change[:3] / max(angle, 1e-12), min(angle, 0.3))
    return replace(
        fit,
        rotation=turn @ fit.rotation,
        translation=fit.translation + change[3:6],
        coefficients=fit.coefficients + change[6:],
    )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of vertices and points of the scan.

    Attributes:
        vertex: (n,).
        offset: (n, 3) mm, vertices from the origin of the face, in the frame of the scan.
        normal: (n, 3) along which the residual is measured.
        residual: (n,) mm.
        weight: (n,), not 0; their sum is 1, but for landmarks.
    """

    vertex: NDArray[np.intp]
    offset: Points
    normal: Points
    residual: Points
    weight: Points


def placed_face(prior: RegistrationPrior, fit: Fit) -> Surface:
    """The face of a fit as a surface in the frame of the scan."""
    face = prior.face(fit.coefficients)
    placed = fit.place(face)
    return Surface(placed, prior.normals(face) @ fit.rotation.T, cKDTree(placed), 0.0)


def _shown(paired: Pairing, scan: Surface, reach: float) -> NDArray[np.bool_]:
    """Whether the scan shows each of some vertices, paired with it."""
    return paired.near(reach, max(2.5 * scan.spacing, 0.7 * reach))


def _explained(paired: Pairing, reach: float) -> NDArray[np.bool_]:
    """Whether the face explains each of some points of the scan, paired with it."""
    distance = np.sqrt((paired.gap**2).sum(axis=1))
    return paired.near(reach, np.inf) & (distance < 1.2 * reach + 3)


def _weighted_pairs(
    prior: RegistrationPrior,
    scan: Surface,
    fit: Fit,
    spread: NDArray[Any],
    candidates: NDArray[np.intp],
    width: float,
    reach: float,
) -> list[_Pairs]:
    """Pairs of vertices with the scan, and of points of the scan with the face."""
    face = placed_face(prior, fit)

    def weighted(
        paired: Pairing,
        trust: NDArray[Any],
        vertex: NDArray[Any],
        point: NDArray[np.intp],
        sign: float,
    ) -> _Pairs:
        weight = trust / (1 + (paired.height / width) ** 2) ** 2
        weight /= max(weight.sum(), 1.0)
        kept = np.flatnonzero(weight)
        vertex, point = vertex[kept], point[kept]
        normal = unit_vectors(face.normals[vertex] + scan.normals[point])
        return _Pairs(
            vertex,
            face.points[vertex] - fit.translation,
            normal,
            sign * np.einsum("nk,nk->n", paired.gap[kept], normal),
            weight[kept],
        )

    to_scan = pair(face.points[spread], face.normals[spread], scan)
    # between the points of a sparse scan the plane of the nearest is not the surface
    trust = _shown(to_scan, scan, reach) / (1 + (to_scan.aside / ASIDE_MM) ** 2) ** 2
    found = [weighted(to_scan, trust, spread, to_scan.index, 1.0)]
    if len(candidates):
        to_face = pair(scan.points[candidates], scan.normals[candidates], face)
        good = _explained(to_face, reach) & ~prior.rim[to_face.index]
        found.append(weighted(to_face, good, to_face.index, candidates, -1.0))
    return found


def _anchor_pairs(prior: RegistrationPrior, fit: Fit, anchors: Anchors) -> _Pairs:
    """Landmarks and their vertices, along each axis."""
    turned = prior.face(fit.coefficients)[anchors.vertex] @ fit.rotation.T
    gap = anchors.points - fit.translation - turned
    count = len(gap)
    return _Pairs(
        np.repeat(anchors.vertex, 3),
        np.repeat(turned, 3, axis=0),
        np.tile(np.eye(3), (count, 1)),
        gap.ravel(),
        np.ones(3 * count),
    )


def _jacobian(each: _Pairs, fit: Fit, basis: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 6 + k): change of the distance along the normals with the parameters."""
    turned = (each.normal @ fit.rotation).astype(np.float32)
    jacobian = np.empty((len(turned), 6 + basis.shape[2]), np.float32)
    jacobian[:, :3] = np.cross(each.offset, each.normal)
    jacobian[:, 3:6] = each.normal
    shape = jacobian[:, 6:]
    np.multiply(turned[:, :1], basis[0, each.vertex], out=shape)
    shape += turned[:, 1:2] * basis[1, each.vertex]
    shape += turned[:, 2:] * basis[2, each.vertex]
    return jacobian


def measured(
    prior: RegistrationPrior,
    scan: Surface,
    fit: Fit,
    candidates: NDArray[np.intp],
    options: FitOptions,
) -> Fit:
    """The fit with its measures of quality."""
    vertices = np.arange(len(prior.mean)) if options.vertices is None else prior.spread
    face, reach = placed_face(prior, fit), options.reach[1]
    seen = vertices[visible(face.normals[vertices], scan.normals[candidates])]
    to_scan = pair(face.points[seen], face.normals[seen], scan)
    good = _shown(to_scan, scan, reach)
    distance = np.minimum(np.abs(to_scan.height[good]), CAP_MM)
    residual = float(distance.mean()) if good.any() else CAP_MM
    roughness = 0.0
    if good.any() and not options.coarse:
        roughness = float(scan.roughness(to_scan.index[good]).mean())
    coverage = float(good.mean()) if len(seen) else 0.0
    scan_residual = CAP_MM
    if len(candidates):
        to_face = pair(scan.points[candidates], scan.normals[candidates], face)
        capped = np.minimum(np.abs(to_face.height), CAP_MM)
        capped[~_explained(to_face, reach)] = CAP_MM
        counted = (np.sqrt((to_face.gap**2).sum(axis=1)) < REACH_MM) & ~prior.rim[to_face.index]
        if counted.any():
            scan_residual = float(capped[counted].mean())
    return replace(
        fit,
        residual_mm=residual,
        roughness_mm=roughness,
        scan_residual_mm=scan_residual,
        coverage=coverage,
        prior_distance=float(np.sqrt((fit.coefficients**2).mean())),
    )


def visible(normals: Points, scan_normals: Points) -> NDArray[np.bool_]:
    """Whether normals (n, 3) are turned no farther away than all normals of the scan.

    A scan of one view shows nothing of the far side: what cannot be seen says nothing about a fit.
    """
    middle = unit_vectors(scan_normals.sum(axis=0)) if len(scan_normals) else np.zeros(3)
    least = np.quantile(scan_normals @ middle, 0.05) if len(scan_normals) else -1.0
    seen: NDArray[np.bool_] = normals @ middle >= min(float(least), 0.3)
    return seen
