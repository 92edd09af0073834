"""Which faces stand for a set, by rules that see no picture: by their errors, or far apart."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from facedis_core.faceset import FaceSet


class Extremes(NamedTuple):
    """Places of faces in a list of errors: the least first, the nearest to the mean, the worst."""

    best: np.ndarray
    average: np.ndarray
    worst: np.ndarray


def find_extremes(errors: np.ndarray, count: int) -> Extremes:
    """`count` faces of each kind, none twice; fewer of each where there are fewer than thrice that.

    Args:
        errors: (n,); one that is not finite is of no face.
        count: at least 1.

    Ties are decided by the order of the list.
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
    """Up to `count` of the faces (n, V, 3), each the farthest from `start` (V, 3) and those before.

    The distance is the mean square one of the vertices. What is equal to one before is left out.
    """
    flat = faces.reshape(len(faces), -1).astype(np.float64)

    def from_face(face: np.ndarray) -> np.ndarray:
        return np.square(flat - face.reshape(-1)).mean(axis=1)

    chosen: list[int] = []
    nearest = from_face(start)
    while len(chosen) < min(count, len(faces)) and nearest.max() > 0:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, from_face(flat[chosen[-1]]))
    return chosen


def evenly_spaced(items: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` of the items, the first and the last among them, equally far apart."""
    count = min(count, len(items))
    return items[np.round(np.linspace(0, len(items) - 1, count)).astype(int)]


@dataclass(frozen=True, eq=False)
class TransferExamples:
    """Rows of a face set.

    Attributes:
        identities: a face of each of some people, the one nearest to neutral; the people are
            equally far apart in the order of the set.
        expressions: faces of somebody else, each as far as can be from those before it.
    """

    identities: list[int]
    expressions: list[int]


def choose_transfer_examples(
    faces: FaceSet, rows: np.ndarray, identities: int = 3, expressions: int = 5
) -> TransferExamples | None:
    """Choose among `rows`; None where they show fewer than two people or no expression.

    The expressions are those of whoever shows most of them, the first in the order of the set.
    """
    subject = np.asarray(faces.labels.subject)[rows]
    people = np.unique(subject)
    if len(people) < 2:
        return None
    shown = [len(np.unique(faces.labels.expression[rows[subject == p]])) for p in people]
    giver = people[int(np.argmax(shown))]
    own = rows[subject == giver]
    neutral, strongest = most_neutral(faces, own), _strongest(faces, own)
    candidates = strongest[strongest != neutral]
    if not len(candidates):
        return None
    start = faces.read(np.array([neutral]))[0]
    apart = farthest_faces(faces.read(candidates), expressions, start)
    if not apart:
        return None
    others = evenly_spaced(people[people != giver], identities)
    return TransferExamples(
        [most_neutral(faces, rows[subject == person]) for person in others],
        [int(candidates[place]) for place in apart],
    )


def most_neutral(faces: FaceSet, rows: np.ndarray) -> int:
    """The row of the lowest level, the first of several."""
    return int(rows[np.argmin(np.asarray(faces.labels.level)[rows])])


def same_expression(faces: FaceSet, rows: np.ndarray, identity: int, expression: int) -> int:
    """The row among `rows` in which the person of row `identity` shows what row `expression` shows.

    Of several the one of the highest level; of a person who does not show it, simply that one.
    """
    subject, shown = np.asarray(faces.labels.subject), np.asarray(faces.labels.expression)
    own = rows[subject[rows] == subject[identity]]
    same = own[shown[own] == shown[expression]]
    candidates = same if len(same) else own
    return int(candidates[np.argmax(np.asarray(faces.labels.level)[candidates])])


def _strongest(faces: FaceSet, rows: np.ndarray) -> np.ndarray:
    """One row an expression, that of the highest level, in the order of the set."""
    shown, level = np.asarray(faces.labels.expression)[rows], np.asarray(faces.labels.level)[rows]
    chosen = [rows[shown == kind][np.argmax(level[shown == kind])] for kind in np.unique(shown)]
    return np.sort(np.array(chosen, int))
