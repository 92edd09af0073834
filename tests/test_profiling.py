"""Where a step's time and memory go."""

import time

import pytest
import torch

from facedis_core.profiling import PartReport, Peak, StepProfile

CPU = torch.device("cpu")


def run_steps(profile: StepProfile, count: int) -> None:
    for batch in profile.arriving(iter(range(count))):
        with profile.part("long"):
            time.sleep(0.02)
        with profile.part("large"):
            held = torch.ones(20_000_000)  # 80 MB, which no allocator keeps
            del held
        if batch % 2:
            with profile.part("now and then"):
                time.sleep(0.001)
        profile.step_done()


def test_five_steps_after_the_first_two() -> None:
    reports: list[list[PartReport]] = []
    profile = StepProfile(CPU)
    profile.tell = reports.append
    run_steps(profile, 6)
    assert not reports and not profile.done
    run_steps(profile, 5)
    assert profile.done
    (parts,) = reports
    assert [part.name for part in parts] == ["wait for faces", "long", "large", "now and then"]
    found = {part.name: part for part in parts}
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    assert found["long"].milliseconds >= 20
    assert found["now and then"].milliseconds >= 0.4  # of 1 ms in two of five steps
    if found["large"].peak_mb is not None:  # Linux
        assert found["large"].peak_mb > 70
        assert found["long"].peak_mb < 70


def test_unasked_it_looks_at_nothing(monkeypatch) -> None:
    monkeypatch.setattr("facedis_core.profiling.Peak", None)
    run_steps(StepProfile(CPU), 9)


def test_where_nobody_can_tell_the_memory(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("facedis_core.profiling._PROC", tmp_path / "none")
    assert Peak(CPU).bytes() is None
    profile = StepProfile(CPU)
    profile.tell = lambda parts: reports.append(parts)
    reports: list[list[PartReport]] = []
    run_steps(profile, 7)
    assert {part.peak_mb for part in reports[0]} == {None}
