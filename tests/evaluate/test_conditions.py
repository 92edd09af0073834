"""Conditions of sets and models, and the strongest baseline of the same condition."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic

from facedis_core.evaluate.comparison import strongest_baselines
from facedis_core.evaluate.conditions import (
    is_fair,
    model_condition,
    training_condition,
    unlabelled_condition,
)


def with_levels(level):
    faces = synthetic.face_set(subjects=5, expressions=4, test=2)
    return replace(faces, labels=replace(faces.labels, level=np.array(level, np.float32)))


def test_condition_of_a_set():
    neutral, without = [0, 1, 1, 1], [0.5, 1, 1, 1]
    assert unlabelled_condition(with_levels(neutral * 5)) == "present"
    assert unlabelled_condition(with_levels([0.01, 1, 1, 1] * 5)) == "present"
    assert unlabelled_condition(with_levels(neutral * 2 + without * 3)) == "present"
    assert unlabelled_condition(with_levels(neutral + without * 4)) == "absent"
    assert unlabelled_condition(with_levels(without * 3 + neutral * 2)) == "absent"  # test people
    assert training_condition(with_levels(without * 5), neutrals=True) == "labelled"
    assert training_condition(with_levels(neutral * 5), neutrals=False) == "present"


@pytest.mark.parametrize("condition", ["labelled", "present", "absent"])
def test_stored_condition_of_a_model(condition):
    model = synthetic.random_model()
    stored = replace(model, recipe=model.recipe | {"condition": condition})
    assert model_condition(stored) == condition
    assert model_condition(replace(model, recipe={})) is None


def test_fair():
    assert is_fair("absent", "absent")
    assert is_fair("present", "labelled")
    assert not is_fair("labelled", "present")
    assert not is_fair("present", "absent")
    assert not is_fair("present", None)


def numbers(e_rec, e_dis, avd_neu, condition, **facts):
    values = {"e_rec": e_rec, "e_dis": e_dis, "avd_neu": avd_neu}
    found = {key: {"mean": value} for key, value in values.items()}
    return found | {"condition": condition} | facts


BASELINES = {
    "mean_face": numbers(5, 0, 4, "present"),
    "pca": numbers(0.4, 2, 2, "present", components=8),
    "ridge_identity_mean": numbers(0.5, 0.3, 1, "present", components=8),
    "ridge_identity_mean_2x": numbers(0.1, 0.1, 0.1, "present", components=16),
    "flame_like_pseudo": numbers(0.5, 0.2, 0.8, "present", components=7),
    "flame_like": numbers(0.5, 0.25, 0.6, "labelled", components=8),
}


def test_strongest_baselines():
    found = strongest_baselines(numbers(0.5, 0.1, 0.6, "present"), BASELINES)
    assert {key: value["baseline"] for key, value in found.items()} == {
        "e_rec": "pca",
        "e_dis": "flame_like_pseudo",
        "avd_neu": "flame_like_pseudo",
    }
    assert found["avd_neu"] == {
        "baseline": "flame_like_pseudo",
        "mean": 0.8,
        "ratio": pytest.approx(0.75),
    }
    labelled = strongest_baselines(numbers(0.5, 0.1, 0.6, "labelled"), BASELINES)
    assert labelled["e_dis"]["baseline"] == "flame_like_pseudo"
    assert labelled["avd_neu"]["baseline"] == "flame_like"
    assert strongest_baselines(numbers(0.5, 0.1, 0.6, "absent"), BASELINES) == {}
    assert strongest_baselines({"e_rec": {"mean": 1}}, BASELINES) == {}
    sized = {name: values | {"latents": 8} for name, values in BASELINES.items()}
    model = numbers(0.5, 0.1, 0.6, "present")
    assert strongest_baselines(model | {"latents": 8}, sized) == found
    assert strongest_baselines(model | {"latents": 3}, sized) == {}
    present = {name: values for name, values in BASELINES.items() if name != "flame_like"}
    assert strongest_baselines(numbers(0.5, 0.1, 0.6, "labelled"), present) == {}


@pytest.mark.parametrize("error", [0.0, 4e-6])
def test_a_baseline_that_is_exact_but_for_rounding_has_no_ratio(error):
    exact = {"pca": numbers(error, 1, 1, "absent", components=8)}
    found = strongest_baselines(numbers(0.5, 0.1, 0.6, "absent"), exact)
    assert found["e_rec"] == {"baseline": "pca", "mean": error}
    assert found["avd_neu"]["ratio"] == pytest.approx(0.6)
