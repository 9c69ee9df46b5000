"""An hour of a daemon's ticks on a simulated clock, and memory that grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.day import DayReport, soak_day


@pytest.mark.slow
async def test_hour_runs_all_ticks(tmp_path: Path) -> None:
    report = await soak_day(tmp_path, workloads=1, hours=1)
    assert report.ticks == 240
    assert len(report.memory_kb) == 1
    assert 10.0 < report.memory_kb[0] < 100_000.0
    assert list(tmp_path.glob("*.jsonl"))


def test_memory_that_grows_after_the_warm_up_is_found() -> None:
    warm, lines = [100.0 * hour for hour in range(8)], ["policies/history.py:1: size=3 MiB"]
    flat = DayReport(8, 24, memory_kb=[*warm, *(800.5 for _ in range(16))], lines=lines)
    assert not flat.problems
    grown = DayReport(8, 24, memory_kb=[*warm, *(800.0 + hour for hour in range(16))], lines=lines)
    assert grown.problems == ["the memory of a workload grows by 15.00 KB after the first third; 8 KB may be", *lines]
