"""Pseudo-neutrals: an estimate of each person's neutral from faces nobody labelled as neutral.

Two estimates, one for all people of a set: the *medoid*, a face of the person, and the *centre* of
the faces, vertex by vertex (`facedis_core.geometry.centres`). Where the neutral is among a person's
faces, the medoid is mostly it; where it is not, or faces are noisy or moved, the centre is nearer.
One person's faces do not tell which case it is, those of all people do.

Medoids are corrected by all people: what most people's mean faces have added to their medoids is
taken from each person's mean face, and the face nearest to the rest replaces the medoid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

import numpy as np

from facedis_core.data.face_set import FaceSet
from facedis_core.errors import ErrorCode, UsageError
from facedis_core.geometry.centres import medoid, power_centre
from facedis_core.geometry.distances import vertex_distance

PseudoNeutralKind = Literal["medoid", "centre"]

# Mean ratio of distance sums (`Concentration`) below which the medoid is nearer to the neutral. On
# sets of the open benchmark it is 1.04 to 1.07 with neutrals among 3 to 20 faces a person, 1.08 to
# 1.12 without; 0.5 mm of noise adds 0.03, and then the centre is nearer in both cases. The wrong
# estimate is taken for 2 % of simulated sets of 140 people, 3 % of 35, 6 % of 12.
LARGEST_MEDOID_RATIO: Final = 1.075
LEAST_FACES: Final = 3  # of a person who counts for the ratio: of two faces both sums are alike
CORRECTIONS: Final = 5  # rounds; the second or third changes nothing more
SAMPLED_VERTICES: Final = 1000  # for the ratio


class Concentration(NamedTuple):
    """How much farther a person's faces are from their medoid than from their centre.

    Attributes:
        ratio: sum of distances of the faces to the medoid over that to the centre, the mean over
            people; NaN where no person has LEAST_FACES.
        people: number of people behind the mean.
    """

    ratio: float
    people: int

    @property
    def kind(self) -> PseudoNeutralKind:
        """The estimate that is nearer to the neutrals, judged by the ratio."""
        return "medoid" if self.ratio < LARGEST_MEDOID_RATIO else "centre"


@dataclass(frozen=True, eq=False)
class PseudoNeutrals:
    """An estimate of the neutral of each person.

    Attributes:
        faces: (S, V, 3) float32 mm by subject of the set, NaN for subjects without a row.
        kind: which estimate.
        statistics: by which it was chosen; None where it was asked for.
    """

    faces: np.ndarray
    kind: PseudoNeutralKind
    statistics: Concentration | None


def pseudo_neutrals(
    face_set: FaceSet, rows: np.ndarray, kind: Literal["auto", "medoid", "centre"] = "auto"
) -> PseudoNeutrals:
    """Estimate the neutral of each person from some rows of a face set, without labels.

    Memory: the faces of one person, and the result. Distances are those of the set's region.

    Args:
        face_set: labels other than `subject` are not used.
        rows: (n,) the faces to use.
        kind: which estimate; auto = one for all people by `concentration`.

    Raises:
        InputError: a face is not finite.
        UsageError: an unknown kind.

    Example:
        >>> faces = load_face_set("demo/faces.safetensors")
        >>> pseudo_neutrals(faces, faces.rows("train"), "medoid").faces.shape
        (3, 26719, 3)
    """
    known = ("auto", *get_args(PseudoNeutralKind))
    if kind not in known:
        raise UsageError(
            f"the kind of pseudo-neutrals is {kind!r}, expected {', '.join(known)}",
            ErrorCode.OPTION_VALUE,
        )
    statistics = concentration(face_set, rows) if kind == "auto" else None
    chosen = kind if statistics is None else statistics.kind
    region = slice(None) if face_set.region is None else face_set.region
    shape = len(face_set.labels.subjects), *face_set.vertices.shape[1:]
    found = np.full(shape, np.nan, np.float32)
    for person, own in _rows_of_people(face_set, rows):
        faces = face_set.read(own)
        if chosen == "medoid":
            found[person] = faces[medoid(faces[:, region])]
        else:
            found[person] = power_centre(faces)
    if chosen == "medoid":
        _correct_medoids(face_set, rows, found, region)
    return PseudoNeutrals(found, "medoid" if chosen == "medoid" else "centre", statistics)


def _correct_medoids(
    face_set: FaceSet, rows: np.ndarray, neutrals: np.ndarray, region: slice | np.ndarray
) -> None:
    """Replace medoids of people, (S, V, 3) mm, by those of their faces that fit the others' better.

    A wrong medoid is an expression, whose offset the median over people does not contain.
    """
    people = np.unique(np.asarray(face_set.labels.subject)[rows])
    means = np.stack(
        [face_set.read(own).mean(axis=0) for _, own in _rows_of_people(face_set, rows)]
    )
    for _ in range(CORRECTIONS):
        common = np.median(means - neutrals[people], axis=0)
        changed = False
        for (person, own), mean in zip(_rows_of_people(face_set, rows), means, strict=True):
            faces = face_set.read(own)
            expected = mean - common
            best = faces[int(vertex_distance(faces[:, region], expected[region]).argmin())]
            changed |= not np.array_equal(best, neutrals[person])
            neutrals[person] = best
        if not changed:
            break


def concentration(face_set: FaceSet, rows: np.ndarray) -> Concentration:
    """The concentration of people's faces, on SAMPLED_VERTICES of the region.

    Raises:
        InputError: a face is not finite.
    """
    count = face_set.vertices.shape[1]
    region = np.arange(count) if face_set.region is None else np.flatnonzero(face_set.region)
    sample = region[:: max(1, len(region) // SAMPLED_VERTICES)]
    ratios = []
    for _, own in _rows_of_people(face_set, rows):
        if len(own) < LEAST_FACES:
            continue
        faces = face_set.read(own)[:, sample]
        to_centre = vertex_distance(faces, power_centre(faces)).sum()
        if to_centre > 0:
            to_medoid = vertex_distance(faces, faces[medoid(faces)]).sum()
            ratios.append(float(to_medoid / to_centre))
    return Concentration(float(np.mean(ratios)) if ratios else float("nan"), len(ratios))


def _rows_of_people(face_set: FaceSet, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each subject of these rows, ascending, with its rows in their order."""
    subject = np.asarray(face_set.labels.subject)[rows]
    for person in np.unique(subject):
        yield int(person), np.asarray(rows)[subject == person]
