"""Choice of example faces for a report: best, average and worst, or farthest apart."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from facedis_core.data.face_set import FaceSet


class Extremes(NamedTuple):
    """Indices of the faces with the lowest, the most average and the highest errors."""

    best: np.ndarray
    average: np.ndarray
    worst: np.ndarray


def find_extremes(errors: np.ndarray, count: int) -> Extremes:
    """`count` faces of each kind, none twice; fewer where there are not three times as many.

    Average faces are those with errors nearest to the mean. Ties go to the earlier face.

    Args:
        errors: (n,); faces with an error that is not finite are left out.
        count: at least 1.
    """
    order = np.argsort(errors, kind="stable")
    order = order[np.isfinite(errors[order])]
    count = min(count, max(len(order) // 3, 1))
    best, rest = order[:count], order[count:]
    worst, rest = rest[-count:][::-1], rest[:-count]
    apart = np.abs(errors[rest] - errors[order].mean()) if len(order) else rest
    nearest = rest[np.argsort(apart, kind="stable")[:count]]
    return Extremes(best, nearest[np.argsort(errors[nearest], kind="stable")], worst)


def farthest_faces(faces: np.ndarray, count: int, start: np.ndarray) -> list[int]:
    """Up to `count` of the faces (n, V, 3), by farthest-point sampling from `start` (V, 3).

    The distance is the mean square distance of the vertices. Duplicates are left out.
    """
    flat = faces.reshape(len(faces), -1).astype(np.float64)

    def distances_to(face: np.ndarray) -> np.ndarray:
        return np.square(flat - face.reshape(-1)).mean(axis=1)

    chosen: list[int] = []
    nearest = distances_to(start)
    while len(chosen) < min(count, len(faces)) and nearest.max() > 0:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, distances_to(flat[chosen[-1]]))
    return chosen


def evenly_spaced(items: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` evenly spaced items, including the first and the last."""
    count = min(count, len(items))
    return items[np.round(np.linspace(0, len(items) - 1, count)).astype(int)]


@dataclass(frozen=True, eq=False)
class TransferExamples:
    """Rows of a face set, to transfer expressions between.

    Attributes:
        identities: the most neutral face of each of some people, evenly spaced in the set.
        expressions: expressions of one other person, as different as possible.
    """

    identities: list[int]
    expressions: list[int]


def choose_transfer_examples(
    faces: FaceSet, rows: np.ndarray, identities: int = 3, expressions: int = 5
) -> TransferExamples | None:
    """Choose among `rows`; None where they show fewer than two people or no expression.

    The expressions are of the person with the most expressions, the first of several.
    """
    subject = np.asarray(faces.labels.subject)[rows]
    people = np.unique(subject)
    if len(people) < 2:
        return None
    shown = [len(np.unique(faces.labels.expression[rows[subject == p]])) for p in people]
    source = people[int(np.argmax(shown))]
    own = rows[subject == source]
    neutral, strongest = most_neutral(faces, own), _strongest(faces, own)
    candidates = strongest[strongest != neutral]
    if not len(candidates):
        return None
    start = faces.read(np.array([neutral]))[0]
    apart = farthest_faces(faces.read(candidates), expressions, start)
    if not apart:
        return None
    others = evenly_spaced(people[people != source], identities)
    return TransferExamples(
        [most_neutral(faces, rows[subject == person]) for person in others],
        [int(candidates[place]) for place in apart],
    )


def most_neutral(faces: FaceSet, rows: np.ndarray) -> int:
    """The row with the lowest level of expression, the first of several."""
    return int(rows[np.argmin(np.asarray(faces.labels.level)[rows])])


def same_expression(faces: FaceSet, rows: np.ndarray, identity: int, expression: int) -> int:
    """The row of the person of row `identity` with the expression of row `expression`.

    Of several, the one with the highest level; without any, the person's row of the highest level.
    """
    subject, shown = np.asarray(faces.labels.subject), np.asarray(faces.labels.expression)
    own = rows[subject[rows] == subject[identity]]
    same = own[shown[own] == shown[expression]]
    candidates = same if len(same) else own
    return int(candidates[np.argmax(np.asarray(faces.labels.level)[candidates])])


def _strongest(faces: FaceSet, rows: np.ndarray) -> np.ndarray:
    """The row with the highest level of each expression, in the order of the set."""
    shown, level = np.asarray(faces.labels.expression)[rows], np.asarray(faces.labels.level)[rows]
    chosen = [rows[shown == kind][np.argmax(level[shown == kind])] for kind in np.unique(shown)]
    return np.sort(np.array(chosen, int))
