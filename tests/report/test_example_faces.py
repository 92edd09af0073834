"""Choice of example faces, against slow implementations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import face_set

from facedis_core.report.example_faces import (
    choose_transfer_examples,
    evenly_spaced,
    farthest_faces,
    find_extremes,
    most_neutral,
    same_expression,
)

ERRORS = st.lists(st.one_of(st.just(float("nan")), st.integers(0, 9).map(float)), max_size=12)


def slow_extremes(errors: list[float], count: int) -> tuple[list[int], list[int], list[int]]:
    known = [place for place, error in enumerate(errors) if error == error]
    count = min(count, max(len(known) // 3, 1))
    ranked = sorted(known, key=lambda place: (errors[place], place))
    best, rest = ranked[:count], ranked[count:]
    worst = [rest.pop() for _ in range(min(count, len(rest)))]
    mean = sum(errors[place] for place in known) / max(len(known), 1)
    nearest = sorted(rest, key=lambda p: (abs(errors[p] - mean), errors[p], p))[:count]
    return best, sorted(nearest, key=lambda place: (errors[place], place)), worst


@given(ERRORS, st.integers(1, 4))
def test_extremes_are_those_of_a_slow_twin(errors: list[float], count: int) -> None:
    found = find_extremes(np.array(errors), count)
    expected = slow_extremes(errors, count)
    for places, others in zip(found, expected, strict=True):
        assert [errors[p] for p in places] == [errors[p] for p in others]
    assert found.best.tolist() == expected[0]
    everyone = np.concatenate(found).tolist()
    assert len(set(everyone)) == len(everyone)


def test_extremes_of_a_known_list() -> None:
    found = find_extremes(np.array([5.0, np.nan, 1.0, 2.0, 9.0, 3.0, 4.0]), 1)
    assert [places.tolist() for places in found] == [[2], [6], [4]]  # the mean is 4


def slow_far_apart(faces: np.ndarray, count: int, start: np.ndarray) -> list[int]:
    chosen: list[int] = []
    for _ in range(count):
        distances = [
            min(((face - other) ** 2).mean() for other in [start, *faces[chosen]]) for face in faces
        ]
        if max(distances) == 0:
            break
        chosen.append(int(np.argmax(distances)))
    return chosen


@pytest.mark.parametrize("count", [1, 3, 7, 20])
def test_far_apart_is_that_of_a_slow_twin(count: int) -> None:
    faces = np.random.default_rng(count).normal(size=(9, 5, 3))
    faces[4] = faces[2]
    found = farthest_faces(faces, count, faces[0])
    assert found == slow_far_apart(faces, count, faces[0])
    assert 0 not in found
    assert not {2, 4} <= set(found)


def test_evenly() -> None:
    assert evenly_spaced(np.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert evenly_spaced(np.arange(2), 4).tolist() == [0, 1]
    assert evenly_spaced(np.array([7]), 1).tolist() == [7]


def test_a_cast_has_several_people_and_somebody_elses_expressions() -> None:
    faces = face_set(subjects=12, test=6, expressions=5)
    rows = faces.rows(1)
    found = choose_transfer_examples(faces, rows, identities=3, expressions=2)
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
    neutral = faces.vertices[most_neutral(faces, own)]
    apart = [float(np.square(faces.vertices[row] - neutral).mean()) for row in own]
    assert found.expressions[0] == own[int(np.argmax(apart))]


def test_whoever_shows_most_gives_the_expressions() -> None:
    faces = face_set(subjects=6, test=3, expressions=4)
    rows = np.array([row for row in faces.rows(1) if faces.labels.subject[row] != 3 or row % 4 < 2])
    found = choose_transfer_examples(faces, rows)
    assert found is not None
    assert {int(faces.labels.subject[row]) for row in found.expressions} == {4}


def test_there_may_be_nobody_to_show() -> None:
    faces = face_set()
    one_person = np.flatnonzero(faces.labels.subject == 8)
    at_rest = np.flatnonzero(faces.labels.level == 0)
    assert choose_transfer_examples(faces, one_person) is None
    assert choose_transfer_examples(faces, at_rest) is None


def test_like_finds_the_same_expression_or_another_of_the_same_person() -> None:
    faces = face_set()
    rows = np.arange(40)
    assert same_expression(faces, rows, 4, 39) == 7  # person 1, expression 3
    without = rows[rows != 7]
    found = same_expression(faces, without, 4, 39)
    assert faces.labels.subject[found] == 1
    assert faces.labels.level[found] == 1
