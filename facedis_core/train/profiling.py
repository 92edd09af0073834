"""Time and memory of the parts of a training step, by torch.profiler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

_SKIPPED: Final = 2  # first steps, which also allocate what later ones find
_PROFILED: Final = 5
_PREFIX: Final = "training step: "  # the profiler also records ranges of torch's own


class PartOfStep(NamedTuple):
    """One part of a training step, the mean over the steps profiled.

    Attributes:
        milliseconds: on the CPU, or until the last kernel is launched.
        gpu_milliseconds: of its kernels; 0 without a GPU.
        kept_mb: memory allocated on the device and not freed.
    """

    name: str
    milliseconds: float
    gpu_milliseconds: float
    kept_mb: float


def step_part(name: str) -> record_function:
    """A context; the profile shows its time and memory under this name."""
    return record_function(_PREFIX + name)


@contextmanager
def step_profiler(
    device: torch.device, report: Callable[[list[PartOfStep]], None]
) -> Iterator[Callable[[], None]]:
    """A function to call after every step; `report` is given the parts of the steps 3 to 7.

    A run that ends in between has them of fewer steps; of one with two steps nothing is reported.
    """
    on_gpu = device.type == "cuda"
    done = 0

    def report_parts(profiler: profile) -> None:
        if (steps := done - _SKIPPED) <= 0:
            return
        report(
            [
                PartOfStep(
                    event.key.removeprefix(_PREFIX),
                    event.cpu_time_total / 1e3 / steps,
                    event.device_time_total / 1e3 / steps,
                    (event.device_memory_usage if on_gpu else event.cpu_memory_usage) / 1e6 / steps,
                )
                for event in profiler.key_averages()
                if event.key.startswith(_PREFIX)
            ]
        )

    with profile(
        activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu],
        schedule=schedule(wait=_SKIPPED - 1, warmup=1, active=_PROFILED, repeat=1),
        profile_memory=True,
        on_trace_ready=report_parts,
    ) as profiler:

        def step_done() -> None:
            nonlocal done
            done += 1
            profiler.step()

        yield step_done
