"""Options of the training commands check themselves, for callers in Python as well."""

from typing import Any

import pytest

from facedis_core.errors import UsageError
from facedis_core.train.plan import PretrainingPlan, TrainingPlan


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"checkpoint_minutes": -0.5}, "checkpoint_minutes is -0.5"),
        ({"checkpoint_minutes": float("nan")}, "checkpoint_minutes is nan"),
        ({"evaluate_every": 0}, "evaluate_every is 0, expected 1 or more"),
        ({"precision": "fp16"}, "precision is 'fp16', expected fp32, bf16"),
        ({"storage": "ram"}, "storage is 'ram', expected auto, resident, half, streamed"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainingPlan(face_set="set.safetensors", **options)
    if set(options) <= {"seed", "checkpoint_minutes"}:
        with pytest.raises(UsageError, match=message):
            PretrainingPlan(face_set="set.safetensors", **options)
