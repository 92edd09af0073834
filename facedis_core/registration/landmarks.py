"""Landmarks of a scan: their names, their vertices, the pose that they give, and mistakes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facedis_core.errors import ErrorCode, InputError
from facedis_core.geometry.alignment import RigidTransform, rigid_alignment
from facedis_core.registration.pairing import Surface, pair
from facedis_core.registration.prior import RegistrationPrior

Points = NDArray[np.float64]
# A name, or the number of a vertex of the model's faces -> a point (3,) in the unit of the scan.
Landmarks = Mapping[str | int, Sequence[float]]

# Raw topology -> name -> vertex of the raw mesh. Left and right are the person's own.
VERTICES: Final[Mapping[str, Mapping[str, int]]] = {
    "8ab3c6fcb4f9": {  # ICT-FaceKit
        "nose_tip": 4857,
        "nose_root": 978,
        "nose_base": 1147,
        "right_eye_outer": 1507,
        "right_eye_inner": 621,
        "left_eye_inner": 2862,
        "left_eye_outer": 3721,
        "right_mouth_corner": 5681,
        "left_mouth_corner": 6186,
        "upper_lip": 2,
        "lower_lip": 5518,
        "chin": 966,
    }
}
FEWEST: Final = 3
OFF_SCAN_MM: Final = 25.0  # median distance of landmarks to the scan
MISFIT_MM: Final = 12.0  # root mean square of landmarks on the nearest mean face of an expression
BACKWARDS: Final = 0.4  # mean cosine of normals by which a face turned round is worse
NARROWEST_MM: Final = 8.0  # extent of landmarks across their longest direction
_SYNONYMS: Final[Mapping[str, Sequence[str]]] = {
    "l": ("left",),
    "r": ("right",),
    "pronasale": ("nose",),
    "prn": ("nose",),
    "nosetip": ("nose",),
    "nasion": ("nose", "root"),
    "sellion": ("nose", "root"),
    "bridge": ("root",),
    "subnasale": ("nose", "base"),
    "exocanthion": ("eye", "outer"),
    "endocanthion": ("eye", "inner"),
    "ex": ("eye", "outer"),
    "en": ("eye", "inner"),
    "lateral": ("outer",),
    "medial": ("inner",),
    "outside": ("outer",),
    "inside": ("inner",),
    "cheilion": ("mouth",),
    "ch": ("mouth",),
    "lips": ("mouth",),
    "top": ("upper",),
    "bottom": ("lower",),
    "pogonion": ("chin",),
}
_FILLERS: Final = {"corner", "of", "the", "tip", "point", "canthus", "centre", "center", "middle"}


@dataclass(frozen=True, eq=False)
class Anchors:
    """Points that vertices of the prior are to lie at.

    Attributes:
        names: (L,).
        vertex: (L,) of the prior.
        points: (L, 3).
    """

    names: tuple[str, ...]
    vertex: NDArray[np.intp]
    points: Points

    def scaled(self, factor: float, centre: Points) -> "Anchors":
        """The anchors in mm about the middle of a scan."""
        return Anchors(self.names, self.vertex, self.points * factor - centre)


def find_anchors(
    landmarks: Landmarks, prior: RegistrationPrior, chosen: NDArray[np.intp]
) -> Anchors:
    """The vertices of landmarks; names of other places are left out.

    Args:
        landmarks: name or number of a vertex of the model's faces -> point in the scan's unit.
        prior: the faces.
        chosen: vertex of the prior for each vertex of the model's faces; -1 = none.

    Raises:
        InputError: fewer than three that are known, on a line, or not finite.
    """
    raw = prior.preparation.vertex_index
    known = VERTICES.get(prior.preparation.raw_topology, {})
    place = {_words(name): int(np.flatnonzero(raw == vertex)[0]) for name, vertex in known.items()}
    found: dict[int, tuple[str, Sequence[float]]] = {}
    for name, point in landmarks.items():
        text = str(name).strip()
        if text.isdecimal():
            if int(text) >= len(chosen) or chosen[int(text)] < 0:
                raise InputError(
                    f"landmark {text} is no vertex of the face; the model has {len(chosen)}, of "
                    f"which {(chosen >= 0).sum()} are of the face",
                    ErrorCode.NAME_UNKNOWN,
                )
            found[int(chosen[int(text)])] = text, point
        elif _words(text) in place:
            found[place[_words(text)]] = text, point
    if len(found) < FEWEST:
        raise InputError(
            f"there are {len(found)} known landmarks among {len(landmarks)}, expected at least "
            f"{FEWEST} of {', '.join(known) or 'vertex numbers of the model'}",
            ErrorCode.NAME_UNKNOWN,
        )
    points = np.array([point for _, point in found.values()], np.float64)
    if points.shape != (len(found), 3) or not np.isfinite(points).all():
        raise InputError("a landmark is no point of three numbers", ErrorCode.ARRAY_SHAPE)
    return Anchors(
        tuple(name for name, _ in found.values()), np.array(list(found), np.intp), points
    )


def anchored_pose(anchors: Anchors, prior: RegistrationPrior, scan: Surface) -> RigidTransform:
    """The pose of the mean face, of any expression, that landmarks (in mm) give.

    Raises:
        InputError: they do not lie on the scan, are on a line, have left and right swapped, or are
            not those of a face.
    """
    distance, _ = scan.tree.query(anchors.points)
    if (off := float(np.median(distance))) > OFF_SCAN_MM:
        raise InputError(
            f"the landmarks lie {off:.3g} mm from the scan, expected on it; give them in its unit "
            "and frame",
            ErrorCode.OUTLIER,
        )
    spread = np.linalg.svd(anchors.points - anchors.points.mean(axis=0), compute_uv=False)
    if spread[1] < NARROWEST_MM:
        raise InputError(
            "the landmarks lie on a line, which gives no pose; add one aside", ErrorCode.OUTLIER
        )
    pose, missed = _aligned(anchors.points, anchors.vertex, prior)
    other = _mirrored(anchors, prior)
    if other is not None:
        turned, off = _aligned(anchors.points, other, prior)
        if off < 0.7 * missed or (
            off < MISFIT_MM
            and _facing(turned, prior, scan) > _facing(pose, prior, scan) + BACKWARDS
        ):
            raise InputError(
                "left and right landmarks are swapped; left is the person's own left",
                ErrorCode.OUTLIER,
            )
    if missed > MISFIT_MM:
        raise InputError(
            f"the landmarks lie {missed:.3g} mm from those of a face in any pose, expected at most "
            f"{MISFIT_MM:g}; check their names and places",
            ErrorCode.OUTLIER,
        )
    return pose


def _words(name: str) -> frozenset[str]:
    """The words that matter of a name such as left_eye_outer, LeftMouthCorner or mouth.left."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = re.findall(r"[a-z]+", spaced)
    return frozenset(
        meant for word in words if word not in _FILLERS for meant in _SYNONYMS.get(word, (word,))
    ) - ({"mouth"} if {"upper", "lower", "lip"} & {*words} else set())


def _aligned(
    points: Points, vertex: NDArray[np.intp], prior: RegistrationPrior
) -> tuple[RigidTransform, float]:
    """The pose of the mean face of the expression that fits points best, and the distance, mm."""
    best: tuple[RigidTransform, float] | None = None
    for start in prior.starts:
        face = prior.face(start)[vertex]
        pose = rigid_alignment(face, points)
        missed = float(np.sqrt(((pose.apply(face) - points) ** 2).sum(axis=1).mean()))
        if best is None or missed < best[1]:
            best = pose, missed
    assert best is not None  # a prior has at least one expression
    return best


def _mirrored(anchors: Anchors, prior: RegistrationPrior) -> NDArray[np.intp] | None:
    """The vertices with left and right exchanged; None where no landmark has a side."""
    known = VERTICES.get(prior.preparation.raw_topology, {})
    raw = prior.preparation.vertex_index
    names = {vertex: name for name, vertex in known.items()}
    vertices = []
    for vertex in anchors.vertex:
        name = names.get(int(raw[vertex]), "")
        side, _, rest = name.partition("_")
        other = {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)
        vertices.append(int(np.flatnonzero(raw == known[other])[0]) if other else int(vertex))
    mirrored = np.array(vertices, np.intp)
    return None if (mirrored == anchors.vertex).all() else mirrored


def _facing(pose: RigidTransform, prior: RegistrationPrior, scan: Surface) -> float:
    """Mean cosine of the normals of the mean face and of the scan near it."""
    points = pose.apply(prior.mean[prior.spread])
    normals = prior.normals(prior.mean)[prior.spread] @ pose.rotation.T
    return float(pair(points, normals, scan).facing.mean())
