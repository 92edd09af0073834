"""The neutral face of each person of a set, by which the person is known to others."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from facedis_core.faceset import FaceSet


class Neutral(NamedTuple):
    """One person's neutral.

    Attributes:
        subject: whose.
        row: which face of the set it is; -1 where it is none.
        vertices: (V, 3) mm.
    """

    subject: int
    row: int
    vertices: np.ndarray


def neutral_faces(face_set: FaceSet, people: Iterable[int]) -> Iterator[Neutral]:
    """The neutral of each of these people: the first face of level 0, else the neutral mesh.

    People without either are left out.

    Raises:
        InputError: a face is not finite.
    """
    labels = face_set.labels
    for person in people:
        faces = np.flatnonzero((labels.subject == person) & (labels.level == 0))
        if len(faces):
            yield Neutral(int(person), int(faces[0]), face_set.read(faces[:1])[0])
        elif np.isfinite(face_set.neutrals_eval[person]).all():
            yield Neutral(int(person), -1, np.asarray(face_set.neutrals_eval[person]))
