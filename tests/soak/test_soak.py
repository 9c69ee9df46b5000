"""A soak of half a minute, and the detection of growth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.daemons import embedded, live
from tests.soak.drive import soak
from tests.soak.samples import MIB, Sample, growth, leaks

SECONDS = 25.0


@pytest.mark.slow
@pytest.mark.parametrize("house", [embedded, live], ids=lambda house: house.__name__)
async def test_daemon_resources_stay_flat_under_faults(house: object, tmp_path: Path) -> None:
    assert callable(house)
    async with house(tmp_path, seed=1) as running:
        report = await soak(running, SECONDS, lambda _: None)
    assert not report.problems, str(report)
    assert report.counted > 0


def samples(*descriptors: int) -> list[Sample]:
    return [Sample(float(k), 100 * MIB, count, 4) for k, count in enumerate(descriptors)]


def test_leak_is_reported_and_a_peak_is_not() -> None:
    assert leaks(samples(*range(10, 100)), short=False)
    assert "descriptors" in leaks(samples(*range(10, 100)), short=False)[0]
    assert not leaks(samples(*[20] * 60, *[400] * 10, *[20] * 30), short=False)
    assert leaks(samples(1), short=False) == ["only 1 samples were taken"]


def test_growth_is_the_median_slope_times_the_duration() -> None:
    assert growth([0, 1, 2, 3], [5, 7, 9, 11]) == pytest.approx(6.0)
    assert growth([0, 1, 2, 3], [5, 5, 500, 5]) == pytest.approx(0.0)
