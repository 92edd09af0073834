"""Who is shown, by rule."""

import numpy as np
from synthetic import face_set

from facedis_core.choice import cast, like, resting


def test_a_cast_has_several_people_and_somebody_elses_expressions() -> None:
    faces = face_set(subjects=12, test=6, expressions=5)
    rows = faces.rows(1)
    found = cast(faces, rows, identities=3, expressions=2)
    assert found is not None
    labels = faces.labels
    givers = {int(labels.subject[row]) for row in found.expressions}
    people = [int(labels.subject[row]) for row in found.identities]
    assert len(givers) == 1
    assert people == sorted(set(people) - givers)
    assert len(people) == 3
    assert all(labels.level[row] == 0 for row in found.identities)
    assert all(labels.level[row] == 1 for row in found.expressions)
    assert {*found.identities, *found.expressions} <= set(rows.tolist())
    giver = givers.pop()
    own = rows[labels.subject[rows] == giver]
    neutral = faces.vertices[resting(faces, own)]
    apart = [float(np.square(faces.vertices[row] - neutral).mean()) for row in own]
    assert found.expressions[0] == own[int(np.argmax(apart))]


def test_whoever_shows_most_gives_the_expressions() -> None:
    faces = face_set(subjects=6, test=3, expressions=4)
    rows = np.array([row for row in faces.rows(1) if faces.labels.subject[row] != 3 or row % 4 < 2])
    found = cast(faces, rows)
    assert found is not None
    assert {int(faces.labels.subject[row]) for row in found.expressions} == {4}


def test_there_may_be_nobody_to_show() -> None:
    faces = face_set()
    one_person = np.flatnonzero(faces.labels.subject == 8)
    at_rest = np.flatnonzero(faces.labels.level == 0)
    assert cast(faces, one_person) is None
    assert cast(faces, at_rest) is None


def test_like_finds_the_same_expression_or_another_of_the_same_person() -> None:
    faces = face_set()
    rows = np.arange(40)
    assert like(faces, rows, 4, 39) == 7  # person 1, expression 3
    without = rows[rows != 7]
    found = like(faces, without, 4, 39)
    assert faces.labels.subject[found] == 1
    assert faces.labels.level[found] == 1
