"""Bootstrap intervals over subjects and paired differences, against slow twins and known truths."""

import numpy as np
import pytest

from facedis_core.evaluate.metrics import FaceSpread
from facedis_core.evaluate.uncertainty import (
    RESAMPLES,
    SEED,
    Interval,
    SubjectSums,
    paired_difference,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def draws(subjects):
    """The subjects of each resample (RESAMPLES, subjects)."""
    return np.random.default_rng(SEED).integers(subjects, size=(RESAMPLES, subjects))


def test_interval_of_faces_like_resampling_people_with_all_their_faces():
    subject = np.repeat(np.arange(9), [1, 5, 2, 2, 7, 3, 4, 4, 1])
    values = normal(len(subject)) + subject
    values[3] = np.nan
    values[subject == 6] = np.nan  # nothing is known of this person
    found = SubjectSums.of_values(values, subject, 9)
    assert found.mean() == pytest.approx(np.nanmean(values))
    people = [p for p in range(9) if p != 6]
    means = [
        np.nanmean(np.concatenate([values[subject == people[i]] for i in drawn]))
        for drawn in draws(8)
    ]
    assert found.interval() == pytest.approx(np.quantile(means, [0.025, 0.975]))


def test_interval_of_groups_like_resampling_people():
    table = normal(7, 3) + 4
    table[2, 1] = np.nan
    found = SubjectSums.of_table(table)
    assert found.mean() == pytest.approx(np.nanmean(table, axis=0).mean())
    means = [np.nanmean(table[drawn], axis=0).mean() for drawn in draws(7)]
    assert found.interval() == pytest.approx(np.quantile(means, [0.025, 0.975]))


@pytest.mark.parametrize("formula", ["std", "jiang", "mean_distance"])
def test_contributions_stand_in_for_recomputed_spreads(formula):
    """E_exp of every resample, recomputed from its faces, has nearly the same interval."""
    faces = (
        normal(40, 25, 3) * np.linspace(0.5, 3, 25)[:, None] * (1 + normal(40, 1, 1, seed=1) / 4)
    )
    spread = FaceSpread.of(faces)
    shares = getattr(spread, f"{formula}_contributions")()
    found = SubjectSums.of_table(shares[:, None]).interval()
    again = [getattr(FaceSpread.of(faces[drawn]), formula)() for drawn in draws(40)[:400]]
    low, high = np.quantile(again, [0.025, 0.975])
    assert found.high - found.low == pytest.approx(high - low, rel=0.15)
    assert found.low == pytest.approx(low, rel=0.04)


def test_coverage_on_normal_data():
    """Of 300 samples of 40 people about 95 % of the intervals hold the truth."""
    table = normal(300, 40) + 5
    inside = 0
    for people in table:
        low, high = SubjectSums.of_table(people[:, None]).interval()
        inside += low <= 5 <= high
    assert 0.91 <= inside / 300 <= 0.975


def test_one_person_has_no_interval():
    one = SubjectSums.of_table(np.array([[1.0], [np.nan]]))
    assert one.interval() is None
    assert paired_difference(one, one) is None


def test_difference_like_a_slow_twin():
    first, other = normal(6, 1), normal(6, 1, seed=1) + 0.5
    found = paired_difference(SubjectSums.of_table(first), SubjectSums.of_table(other))
    paired = (other - first)[:, 0]
    assert found.mean == pytest.approx(paired.mean())
    means = [paired[drawn].mean() for drawn in draws(6)]
    assert Interval(found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    exact = np.mean(np.abs(paired @ signs) >= abs(paired.sum()) - 1e-12)
    assert found.p == exact
    assert found.subjects == 6


def test_a_known_difference_is_found_and_a_missing_one_is_not():
    people = normal(50, 1) * 3
    first = SubjectSums.of_table(people + 0.3 * normal(50, 1, seed=1))
    worse = paired_difference(
        first, SubjectSums.of_table(people + 0.2 + 0.3 * normal(50, 1, seed=2))
    )
    assert 0 < worse.low < 0.2 < worse.high < 0.5
    assert worse.p < 0.01
    same = paired_difference(first, SubjectSums.of_table(people + 0.3 * normal(50, 1, seed=3)))
    assert same.none
    assert same.p > 0.05
    rounded = paired_difference(first, SubjectSums.of_table(first.sums + 1e-6))
    assert (rounded.low > 0, rounded.none) == (True, True)
    twin = paired_difference(first, first)
    assert (twin.mean, twin.low, twin.high, twin.p, twin.none) == (0, 0, 0, 1, True)


def test_p_values_are_uniform_without_a_difference():
    values = [
        paired_difference(
            SubjectSums.of_table(normal(20, 1, seed=2 * k)),
            SubjectSums.of_table(normal(20, 1, seed=2 * k + 1)),
        ).p
        for k in range(200)
    ]
    assert 0.01 <= np.mean(np.array(values) < 0.05) <= 0.1
    assert np.mean(values) == pytest.approx(0.5, abs=0.07)


def test_values_of_other_faces_do_not_pair():
    with pytest.raises(ValueError, match="same faces"):
        paired_difference(
            SubjectSums.of_table(np.array([[1.0], [np.nan]])), SubjectSums.of_table(normal(2, 1))
        )


@pytest.mark.parametrize(("people", "none"), [(4, True), (5, True), (6, False), (20, False)])
def test_few_people_show_no_difference(people, none):
    first = normal(people, 1)
    found = paired_difference(
        SubjectSums.of_table(first),
        SubjectSums.of_table(first + 1 + 0.1 * normal(people, 1, seed=1)),
    )
    assert found.low > 0  # of every resample
    assert found.p == pytest.approx(max(2 / 2**people, 1 / 5000), abs=1e-3)
    assert found.none == none
