"""Training logs beside models."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from facedis_core.report.training_log import curve, read_log


def test_curves_of_a_log(tmp_path: Path) -> None:
    records = [
        {"step": 10 * n, "epoch": n, "reconstruction": 1 / n, "test": {"e_rec": {"mean": 2.0 * n}}}
        for n in (1, 2, 3)
    ]
    del records[1]["test"]
    text = "\n".join([*map(json.dumps, records), "[1]", "garbage {", json.dumps({"step": 40})])
    (tmp_path / "m.jsonl").write_text(text)
    log = read_log(SimpleNamespace(source=str(tmp_path / "m.safetensors")))
    loss = curve("m", log, "reconstruction")
    assert loss is not None
    np.testing.assert_allclose(loss.values, [1, 1 / 2, 1 / 3])
    np.testing.assert_array_equal(loss.steps, [10, 20, 30])
    error = curve("m", log, "e_rec")
    assert error is not None
    np.testing.assert_array_equal(error.steps, [10, 30])
    assert curve("m", log, "avd_neu") is None


def test_values_that_no_logarithm_has_are_left_out() -> None:
    values = [1.0, 0.0, -1.0, float("nan"), float("inf"), 10**400, "2", None, 3.0]
    records = [{"step": n + 1, "reconstruction": value} for n, value in enumerate(values)]
    found = curve("m", records, "reconstruction")
    assert found is not None
    np.testing.assert_array_equal(found.values, [1, 3])
    assert curve("m", records[:4], "reconstruction") is None


def test_no_log(tmp_path: Path) -> None:
    assert read_log(SimpleNamespace(source=str(tmp_path / "m.safetensors"))) == []
    (tmp_path / "m.jsonl").mkdir()
    assert read_log(SimpleNamespace(source=str(tmp_path / "m.safetensors"))) == []
    assert read_log(SimpleNamespace(source="")) == []
