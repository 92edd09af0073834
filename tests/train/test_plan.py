"""Options of the training commands check themselves, for callers in Python as well."""

from typing import Any

import pytest
from raising import raises

from facedis_core.train.plan import PretrainingPlan, TrainingPlan


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"seed": -1}, "option-value: seed is -1, expected 0"),
        ({"checkpoint_minutes": -0.5}, "option-value: checkpoint_minutes is -0.5"),
        ({"checkpoint_minutes": float("nan")}, "option-value: checkpoint_minutes"),
        ({"evaluate_every": 0}, "option-value: evaluate_every is 0, expected 1"),
        ({"precision": "fp16"}, "option-value: precision is 'fp16', expected fp32, bf16"),
        ({"storage": "ram"}, "option-value: 'ram', expected auto, resident, half, streamed"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any], error: str) -> None:
    with raises(error):
        TrainingPlan(face_set="set.safetensors", **options)
    if set(options) <= {"seed", "checkpoint_minutes", "storage"}:
        with raises(error):
            PretrainingPlan(face_set="set.safetensors", **options)
