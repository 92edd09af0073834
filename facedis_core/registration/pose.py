"""Initial pose of a scan: matched features, RANSAC, ICP, and a check by small fits."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from facedis_core.geometry.alignment import rigid_alignments, rotation_about
from facedis_core.registration.features import point_features
from facedis_core.registration.fit import QUICK, Fit, fit_face
from facedis_core.registration.landmarks import Anchors
from facedis_core.registration.pairing import Surface
from facedis_core.registration.prior import RegistrationPrior
from facedis_core.registration.scan import RawScan, voxel_means

Points = NDArray[np.float64]

VOXEL_MM: Final = 5.0  # of the points whose features are compared
CANDIDATES: Final = 3  # nearest in feature for each point of the face
FEATURES: Final = 64  # compared together, so that the distances stay in the processor's cache
MUTUAL_MM: Final = 12.0  # a match back may miss by this
TRIPLES: Final = 60000
EDGE_RATIO: Final = 0.87  # least ratio of the edges of two matched triangles
SHORTEST_MM: Final = 25.0  # edge of these triangles
INLIER_MM: Final = 15.0
KEPT: Final = 25  # poses after RANSAC
APART_MM: Final = 100.0  # of the faces of two people
ELSEWHERE: Final = 2  # further poses, each so far from all others
FEW_POSES: Final = 12 + ELSEWHERE  # where fewer are found, an open mouth is looked for as well
CHECK: Final = replace(QUICK, iterations=10, components=40, residual_scale=(6.0, 1.5))
SCREEN: Final = replace(CHECK, iterations=4, vertices=300, scan_points=400)
SCREENED: Final = 8
SAME_MM: Final = 3.0  # poses nearer to each other end alike
OTHER_MM: Final = 15.0  # poses farther from each other are told apart by their costs
_NEAR_MM: Final = 10.0  # of the scan, about a face whose pose is found
ATTEMPTS: Final = 3
# cost of a small fit: at most 1.8 mm in the right pose of simulated scans, at least 1.9 in others
WRONG_POSE_MM: Final = 1.9


@dataclass(frozen=True, eq=False)
class _Keypoints:
    """Points (n, 3), normals (n, 3) and features (n, 33)."""

    points: Points
    normals: Points
    features: NDArray[np.float32]


def _keypoints(points: Points, normals: Points, tree: cKDTree) -> _Keypoints:
    _, index = tree.query(voxel_means(points, VOXEL_MM))
    index = np.unique(index)
    points, normals = points[index], normals[index]
    return _Keypoints(points, normals, point_features(points, normals, cKDTree(points)))


@lru_cache(maxsize=4)
def _template(prior: RegistrationPrior, extreme: bool = False) -> _Keypoints:
    """Features of the mean face, or of that of the expression farthest from it: an open mouth."""
    face = prior.mean
    if extreme:
        faces = [prior.face(start) for start in prior.starts]
        face = max(faces, key=lambda each: float(((each - prior.mean) ** 2).sum()))
    return _keypoints(face, prior.normals(face), cKDTree(face))


def find_poses(prior: RegistrationPrior, scan: RawScan, seed: int = 0) -> list[Fit]:
    """Small fits in distinct poses, best first; empty where no pose is found.

    Triples are drawn at random: where the best pose fits as badly as wrong ones do, others are.
    """
    coarse = scan.coarse
    keypoints = _keypoints(coarse.points, coarse.normals, coarse.tree)
    points, normals = prior.mean[prior.spread], prior.normals(prior.mean)[prior.spread]
    random = np.random.default_rng(seed)
    checked: list[Fit] = []
    for _ in range(ATTEMPTS):
        rotations, translations = ransac_poses(_template(prior), keypoints, random)
        if len(rotations) < FEW_POSES:
            more = ransac_poses(_template(prior, extreme=True), keypoints, random)
            rotations = np.concatenate([rotations, more[0]])
            translations = np.concatenate([translations, more[1]])
        if not len(rotations):
            continue
        rotations, translations = icp(points, normals, coarse, rotations, translations)
        starts = [Fit(np.zeros(1), *pose) for pose in zip(rotations, translations, strict=True)]
        starts = distinct(prior, starts, SAME_MM)
        screened = [fit_face(prior, coarse, start, SCREEN) for start in starts]
        screened.sort(key=lambda fit: fit.cost)
        kept = distinct(prior, screened, OTHER_MM)[:SCREENED]
        checked += [fit_face(prior, coarse, fit, CHECK) for fit in kept]
        checked.sort(key=lambda fit: fit.cost)
        if checked[0].cost < WRONG_POSE_MM:
            break
    return distinct(prior, checked, OTHER_MM)


def checked_pose(
    prior: RegistrationPrior,
    scan: Surface,
    rotation: Points,
    translation: Points,
    anchors: Anchors | None,
) -> Fit:
    """The small fit from a pose that is known."""
    return fit_face(prior, scan, Fit(np.zeros(1), rotation, translation), CHECK, anchors)


def pose_of_registered(
    points: Points, normals: Points, scan: RawScan, seed: int = 0
) -> tuple[Points, Points, float]:
    """The pose of a face that a scan is known to show: rotation, translation, distance in mm.

    Args:
        points: (n, 3) mm, of the face, seen from outside.
        normals: (n, 3).
        scan: the scan, whose frame may be that of the face already.
        seed: of random samples.
    """
    coarse = scan.coarse
    known = _keypoints(points, normals, cKDTree(points))
    keypoints = _keypoints(coarse.points, coarse.normals, coarse.tree)
    rotations, translations = ransac_poses(known, keypoints, np.random.default_rng(seed))
    rotations = np.concatenate([np.eye(3)[None], rotations])
    translations = np.concatenate([-scan.centre[None], translations])
    rotations, translations = icp(points, normals, coarse, rotations, translations)
    away = []
    for rotation, translation in zip(rotations, translations, strict=True):
        distance, _ = coarse.tree.query(points[::10] @ rotation.T + translation)
        away.append(np.median(distance))
    best = int(np.argmin(away))
    near = scan.near(points @ rotations[best].T + translations[best], _NEAR_MM)
    found = icp(
        points,
        normals,
        near,
        rotations[best : best + 1],
        translations[best : best + 1],
        most=5000,
        iterations=15,
        trim=0.6,
    )
    distance, _ = near.tree.query(points @ found[0][0].T + found[1][0])
    return found[0][0], found[1][0] + scan.centre, float(np.median(distance))


def distinct(prior: RegistrationPrior, fits: list[Fit], least_mm: float) -> list[Fit]:
    """The fits whose faces lie more than `least_mm` from all better ones."""
    kept: list[Fit] = []
    places: list[Points] = []
    for fit in fits:
        place = fit.place(prior.coarse.face(fit.coefficients))
        if all(np.linalg.norm(place - other, axis=1).mean() > least_mm for other in places):
            kept.append(fit)
            places.append(place)
    return kept


def ransac_poses(
    face: _Keypoints, scan: _Keypoints, random: np.random.Generator
) -> tuple[Points, Points]:
    """Rotations (n, 3, 3) and translations (n, 3) that many matches of features agree with.

    Fischler and Bolles 1981, from triples of matches whose triangles are alike.
    """
    none = np.empty((0, 3, 3)), np.empty((0, 3))
    if len(scan.points) < 10:
        return none
    back = _nearest(scan.features, face.features, 1)[:, 0]
    nearest = _nearest(face.features, scan.features, CANDIDATES)
    own = np.repeat(np.arange(len(face.points)), CANDIDATES)
    other = nearest.ravel()
    missed = np.linalg.norm(face.points[back[other]] - face.points[own], axis=1)
    mutual = missed < MUTUAL_MM
    if mutual.sum() > 60:
        own, other = own[mutual], other[mutual]
    triple = random.integers(0, len(own), (TRIPLES, 3))
    x, y = face.points[own[triple]], scan.points[other[triple]]
    edge_x, edge_y = (np.linalg.norm(p - np.roll(p, 1, axis=1), axis=2) for p in (x, y))
    ratio = np.minimum(edge_x, edge_y) / np.maximum(np.maximum(edge_x, edge_y), 1e-9)
    good = (ratio > EDGE_RATIO).all(axis=1) & (edge_x.min(axis=1) > SHORTEST_MM)
    if not good.any():
        return none
    found = rigid_alignments(x[good], y[good])
    turned = face.normals[own[triple[good]]] @ np.swapaxes(found.rotation, 1, 2)
    agree = (turned * scan.normals[other[triple[good]]]).sum(axis=2).min(axis=1) > 0.6
    rotations, translations = found.rotation[agree], found.translation[agree]
    score = np.zeros(len(rotations))
    for first in range(0, len(rotations), 1000):
        part = slice(first, first + 1000)
        moved = face.points[own] @ np.swapaxes(rotations[part], 1, 2)
        moved += translations[part, None] - scan.points[other]
        gap = np.linalg.norm(moved, axis=2)
        score[part] = np.maximum(1 - gap / INLIER_MM, 0).sum(axis=1)
    kept: list[int] = []
    middle = face.points.mean(axis=0)
    centres = rotations @ middle + translations
    order = np.argsort(-score)
    for pose in order[:1000]:
        turn = np.einsum("kij,ij->k", rotations[kept], rotations[pose])
        near = np.linalg.norm(centres[kept] - centres[pose], axis=1) < 12
        if not (near & (turn > 1 + 2 * np.cos(np.radians(8)))).any():
            kept.append(int(pose))
            if len(kept) == KEPT:
                break
    # of two people one would take all places
    away = np.full(len(order), np.inf)
    for count in range(len(kept) + ELSEWHERE):
        if count >= len(kept):
            far = order[away[order] > APART_MM]
            if not len(far):
                break
            kept.append(int(far[0]))
        away = np.minimum(away, np.linalg.norm(centres - centres[kept[count]], axis=1))
    return rotations[kept], translations[kept]


def _nearest(
    features: NDArray[np.float32], others: NDArray[np.float32], count: int
) -> NDArray[np.intp]:
    """The others (m, 33) nearest to each feature (n, 33), by rank: (n, count)."""
    found = np.empty((len(features), count), np.intp)
    square, turned = (others**2).sum(axis=1), -2 * others.T
    for first in range(0, len(features), FEATURES):
        part = slice(first, first + FEATURES)
        distance = features[part] @ turned + square
        every = np.arange(len(distance))
        for rank in range(count):  # several times faster than a partition
            found[part, rank] = distance.argmin(axis=1)
            distance[every, found[part, rank]] = np.inf
    return found


def icp(
    points: Points,
    normals: Points,
    scan: Surface,
    rotations: Points,
    translations: Points,
    *,
    most: int = 200,
    iterations: int = 6,
    trim: float = 0.7,
) -> tuple[Points, Points]:
    """Poses after trimmed point-to-plane ICP of a face, all at once.

    Chen and Medioni 1992, "Object modelling by registration of multiple range images".

    Args:
        points: (n, 3) mm, of the face.
        normals: (n, 3).
        scan: in mm.
        rotations: (k, 3, 3) to start from.
        translations: (k, 3) mm.
        most: about the number of points to take.
        iterations: steps.
        trim: part of the points that counts.
    """
    every = max(1, len(points) // most)
    x, normals = points[::every], normals[::every]
    middle = x.mean(axis=0)
    rotations, translations = rotations.copy(), translations.copy()
    for _ in range(iterations):
        y = x @ np.swapaxes(rotations, 1, 2) + translations[:, None]
        distance, index = scan.tree.query(y)
        n = scan.normals[index]
        turned = normals @ np.swapaxes(rotations, 1, 2)
        good = (n * turned).sum(axis=2) > 0.3
        good &= distance <= np.maximum(np.quantile(distance, trim, axis=1), 3)[:, None]
        centre = rotations @ middle + translations
        rows = np.concatenate([np.cross(y - centre[:, None], n), n], axis=2)
        residual = ((scan.points[index] - y) * n).sum(axis=2)
        weighted = rows * good[:, :, None]
        matrix = np.swapaxes(weighted, 1, 2) @ rows
        damping = np.trace(matrix, axis1=1, axis2=2) * 1e-4 + 1e-6
        matrix += damping[:, None, None] * np.diag([1, 1, 1, 0.01, 0.01, 0.01])
        right = np.einsum("kmi,km->ki", weighted, residual)
        step = np.linalg.solve(matrix, right[:, :, None])[:, :, 0]
        for k, (turn, shift) in enumerate(zip(step[:, :3], step[:, 3:], strict=True)):
            angle, length = float(np.linalg.norm(turn)), float(np.linalg.norm(shift))
            rotation = rotation_about(turn / max(angle, 1e-12), min(angle, 0.35))
            shift = shift * min(1, 25 / max(length, 1e-9))
            translations[k] = rotation @ (translations[k] - centre[k]) + centre[k] + shift
            rotations[k] = rotation @ rotations[k]
    return rotations, translations
