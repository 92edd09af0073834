"""Who stands for a set in pictures of transfer and interpolation, by rules that see no picture."""

from dataclasses import dataclass

import numpy as np

from facedis_core.choice import evenly, far_apart
from facedis_core.faceset import FaceSet


@dataclass(frozen=True, eq=False)
class Cast:
    """Rows of a face set.

    Attributes:
        identities: a face of each of some people, the one nearest to neutral; the people are
            equally far apart in the order of the set.
        expressions: faces of somebody else, each as far as can be from those before it.
    """

    identities: list[int]
    expressions: list[int]


def cast(
    faces: FaceSet, rows: np.ndarray, identities: int = 3, expressions: int = 5
) -> Cast | None:
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
    neutral, strongest = resting(faces, own), _strongest(faces, own)
    candidates = strongest[strongest != neutral]
    if not len(candidates):
        return None
    start = faces.read(np.array([neutral]))[0]
    apart = far_apart(faces.read(candidates), expressions, start)
    if not apart:
        return None
    others = evenly(people[people != giver], identities)
    return Cast(
        [resting(faces, rows[subject == person]) for person in others],
        [int(candidates[place]) for place in apart],
    )


def resting(faces: FaceSet, rows: np.ndarray) -> int:
    """The row of the lowest level, the first of several."""
    return int(rows[np.argmin(np.asarray(faces.labels.level)[rows])])


def like(faces: FaceSet, rows: np.ndarray, identity: int, expression: int) -> int:
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
