"""Time and memory of the parts of a step."""

import time

import torch

from facedis_core.train.profiling import PartOfStep, step_part, step_profiler

CPU = torch.device("cpu")


def profiled(steps: int) -> list[list[PartOfStep]]:
    """What is reported of so many steps that sleep, then allocate, and now and then sleep again."""
    reports: list[list[PartOfStep]] = []
    with step_profiler(CPU, reports.append) as step_done:
        for step in range(steps):
            with step_part("sleep"):
                time.sleep(0.02)
            with step_part("allocate"):
                held = torch.ones(2_000_000)
            if step % 2:
                with step_part("now and then"):
                    time.sleep(0.01)
            del held
            step_done()
            assert len(reports) == (step >= 6)  # at once, not at the end of a long training
    return reports


def test_the_mean_of_five_steps_after_two() -> None:
    (parts,) = profiled(11)
    found = {part.name: part for part in parts}
    assert list(found) == ["sleep", "allocate", "now and then"]
    assert found["sleep"].milliseconds >= 20
    assert found["now and then"].milliseconds >= 4  # 10 ms in two of five steps
    assert found["allocate"].kept_mb == 8.0
    assert found["sleep"].kept_mb == 0.0
    assert {part.gpu_milliseconds for part in parts} == {0.0}


def test_a_shorter_run_has_the_mean_of_fewer_steps_or_none() -> None:
    (parts,) = profiled(4)
    assert {part.name: part.kept_mb for part in parts}["allocate"] == 8.0
    assert profiled(2) == []
