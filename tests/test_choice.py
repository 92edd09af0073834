"""Which faces stand for others, against slow twins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facedis_core.choice import evenly, extremes, far_apart

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
    found = extremes(np.array(errors), count)
    expected = slow_extremes(errors, count)
    for places, others in zip(found, expected, strict=True):
        assert [errors[p] for p in places] == [errors[p] for p in others]
    assert found.best.tolist() == expected[0]
    everyone = np.concatenate(found).tolist()
    assert len(set(everyone)) == len(everyone)


def test_extremes_of_a_known_list() -> None:
    found = extremes(np.array([5.0, np.nan, 1.0, 2.0, 9.0, 3.0, 4.0]), 1)
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
    found = far_apart(faces, count, faces[0])
    assert found == slow_far_apart(faces, count, faces[0])
    assert 0 not in found
    assert not {2, 4} <= set(found)


def test_evenly() -> None:
    assert evenly(np.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert evenly(np.arange(2), 4).tolist() == [0, 1]
    assert evenly(np.array([7]), 1).tolist() == [7]
