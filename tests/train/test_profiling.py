"""Time and memory of the parts of a step."""

import time
from types import SimpleNamespace
from typing import Any

import torch
from torch.autograd import DeviceType

from facedis_core.train.profiling import PartOfStep, parts_of_step, step_part, step_profiler

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


def event(name: str, start: float, end: float, **changes: Any) -> SimpleNamespace:
    """An event of the profiler on the main thread, 2 us of kernels and 3 MB on the GPU."""
    values = {"device_type": DeviceType.CPU, "cpu_parent": None, "thread": 1} | changes
    usage = {"device_time_total": 2.0, "device_memory_usage": 3e6, "cpu_memory_usage": 1e6}
    return SimpleNamespace(
        name=name,
        time_range=SimpleNamespace(start=start, end=end),
        cpu_time_total=end - start,
        **(usage | values),
    )


def test_the_backward_pass_of_a_gpu_counts_where_it_is_waited_for() -> None:
    backward = event("training step: backward", 10.0, 20.0)
    outer = event("autograd::engine::evaluate_function: MmBackward0", 12.0, 15.0, thread=2)
    events = [
        event("training step: forward", 0.0, 10.0),
        event("training step: forward", 0.0, 9.0, device_type=DeviceType.CUDA),
        event("aten::mm", 1.0, 9.0, cpu_parent=object()),
        backward,
        outer,
        event("aten::mm", 13.0, 14.0, thread=2, cpu_parent=outer),
        event("aten::mm", 20.0, 21.0, thread=2),
    ]
    assert parts_of_step(events, 1, on_gpu=True) == [
        PartOfStep("forward", 0.01, 0.002, 3.0),
        PartOfStep("backward", 0.01, 0.004, 6.0),
    ]
    assert [part.kept_mb for part in parts_of_step(events, 2, on_gpu=False)] == [0.5, 1.0]
