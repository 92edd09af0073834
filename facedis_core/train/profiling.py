"""Time and memory of the parts of a training step, by torch.profiler."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import torch
from torch.autograd import DeviceType
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
        if (steps := done - _SKIPPED) > 0:
            report(parts_of_step(profiler.events() or (), steps, on_gpu=on_gpu))

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


def parts_of_step(events: Iterable[Any], steps: int, *, on_gpu: bool) -> list[PartOfStep]:
    """The parts, by the events of torch's profiler in so many steps.

    The backward pass for a GPU runs in a thread of autograd's, whose events are no children of the
    part that waits for them. The profiler also has a part as an event of the GPU: without them too.
    """
    on_cpu = [event for event in events if event.device_type == DeviceType.CPU]
    outermost = [event for event in on_cpu if event.cpu_parent is None]
    totals: dict[str, list[float]] = {}
    for part in on_cpu:
        if not part.name.startswith(_PREFIX):
            continue
        begin, end = part.time_range.start, part.time_range.end
        elsewhere = [
            event
            for event in outermost
            if event.thread != part.thread and begin <= event.time_range.start < end
        ]
        gpu, memory = (
            sum(getattr(event, name) for event in (part, *elsewhere))
            for name in (
                "device_time_total",
                "device_memory_usage" if on_gpu else "cpu_memory_usage",
            )
        )
        total = totals.setdefault(part.name.removeprefix(_PREFIX), [0.0, 0.0, 0.0])
        for index, value in enumerate((part.cpu_time_total / 1e3, gpu / 1e3, memory / 1e6)):
            total[index] += value / steps
    return [PartOfStep(name, *total) for name, total in totals.items()]
