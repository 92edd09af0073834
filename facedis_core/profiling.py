"""Where the time and the memory of training steps go."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple, TypeVar

import torch

T = TypeVar("T")

_WARM: Final = 2  # first steps, which also allocate what later ones find
_MEASURED: Final = 5
_PROC: Final = Path("/proc/self")


class Peak:
    """The most memory held at one time since this was made; bytes, None where nobody can tell.

    On a GPU by its tensors, else by the process, which Linux alone lets us ask.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        try:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            else:
                (_PROC / "clear_refs").write_text("5", "ascii")  # forget the peak so far
        except OSError:
            pass
        self.before = self._held("VmRSS")

    def bytes(self) -> int | None:
        """How far above what was held at the beginning."""
        most = self._held("VmHWM")
        return None if most is None or self.before is None else most - self.before

    def _held(self, key: str) -> int | None:
        if self.device.type == "cuda":
            ask = torch.cuda.memory_allocated if key == "VmRSS" else torch.cuda.max_memory_allocated
            return ask(self.device)
        try:
            lines = (_PROC / "status").read_text("ascii").splitlines()
        except OSError:
            return None
        return next((int(s.split()[1]) * 1024 for s in lines if s.startswith(key)), None)


class PartReport(NamedTuple):
    """Of one part of a step.

    Attributes:
        milliseconds: the mean over the steps.
        share: of the whole step, 0 to 1.
        peak_mb: the most held in any of the steps above what was held when the part began; None
            where nobody can tell.
    """

    name: str
    milliseconds: float
    share: float
    peak_mb: float | None


@dataclass
class _Part:
    seconds: float = 0.0
    peak: int | None = None


class StepProfile:
    """Looks at a few steps after the first ones.

    Args:
        device: waited for at the end of every part of a step that is looked at.

    Attributes:
        tell: is given the parts of a step in their order when all steps have been seen; None
            looks at nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.tell: Callable[[list[PartReport]], None] | None = None
        self.steps = 0
        self.parts: dict[str, _Part] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Within, time and memory count as this part of a step."""
        if self.tell is None or self.steps < _WARM or self.done:
            yield
            return
        self._wait()
        peak, start = Peak(self.device), perf_counter()
        yield
        self._wait()
        found = self.parts.setdefault(name, _Part())
        found.seconds += perf_counter() - start
        found.peak = max((found.peak, peak.bytes()), key=lambda b: -1 if b is None else b)

    @property
    def done(self) -> bool:
        """Whether all steps to look at have been seen."""
        return self.steps >= _WARM + _MEASURED

    def step_done(self) -> None:
        """Count a step."""
        self.steps += 1
        if self.tell is not None and self.steps == _WARM + _MEASURED:
            self.tell(self._report())

    def arriving(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches; to wait for one is a part of the step."""
        coming = iter(batches)
        while True:
            with self.part("wait for faces"):
                batch = next(coming, None)
            if batch is None:
                return
            yield batch

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _report(self) -> list[PartReport]:
        whole = sum(part.seconds for part in self.parts.values())
        return [
            PartReport(
                name,
                part.seconds * 1e3 / _MEASURED,
                part.seconds / whole,
                None if part.peak is None else part.peak / 1e6,
            )
            for name, part in self.parts.items()
        ]
