"""docs/scripts/gpu.sh: all of its stages on a CPU, and a stage that is stopped at its limit."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "docs" / "scripts" / "gpu.sh"
sys.path.insert(0, str(SCRIPT.parent))

import gpu_stages  # noqa: E402 - its folder had to be on the path


@pytest.mark.slow
def test_a_stage_is_stopped_at_its_limit_with_all_it_started(tmp_path: Path) -> None:
    started = tmp_path / "started"
    program = f"(sleep 60 & echo $! > {started}); echo '{{\"rows\": 1}}'; sleep 60"
    stage = gpu_stages.Stage("sleep", 60, ["sh", "-c", program])
    begin = time.monotonic()
    result = gpu_stages.run(stage, 0.5, tmp_path / "log", dict(os.environ))
    assert time.monotonic() - begin < gpu_stages.ENDING + 20
    assert result["exit"] == 124
    assert result["figures"] == [{"rows": 1}]
    state = Path(f"/proc/{started.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


@pytest.mark.slow
def test_all_of_its_stages_on_a_cpu(tmp_path: Path) -> None:
    command = ["sh", str(SCRIPT), str(tmp_path / "out"), "--device", "cpu", "--quick"]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    log = (tmp_path / "out" / "gpu.log").read_text()
    assert done.returncode == 0, done.stderr + done.stdout + log
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    results = {found["stage"]: found for found in map(json.loads, lines)}
    names = ["versions", "cuda tests", "step ratios", "inference speed", "trainings"]
    assert list(results) == names
    assert all(found["exit"] == 0 and found["torch"] for found in results.values())
    (ratios,) = results["step ratios"]["figures"]
    assert ratios["seconds"]["fast"] > 0 and ratios["bytes"]["reference"] > 0
    assert {row["by"] for row in results["inference speed"]["figures"]} == {"NumPy", "torch cpu"}
    (training,) = results["trainings"]["figures"]
    assert training["e_rec"] > 0
