"""The price of bursts: the largest jump within a start-up, its late requests, and the room for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from simulators.cost import bursts
from simulators.cost.bursts import largest_jump
from simulators.reporting.time_bins import Floats
from tests.simulators.cost.inputs import SCENARIO, simulated_evidence, write_scenario


def arrivals(*per_minute: int) -> Floats:
    """Return arrivals at even distances within each minute. Seconds."""
    return np.concatenate([60.0 * k + np.arange(n) * (60.0 / n) for k, n in enumerate(per_minute) if n])


def test_a_jump_is_the_busiest_minute_of_a_start_up_over_the_minute_before() -> None:
    jump = largest_jump(arrivals(*[100] * 10, 200, 300, *[100] * 8), 120.0)
    assert jump is not None
    assert (jump.at_s, jump.ratio) == (600.0, 3.0)
    assert jump.late_share == pytest.approx(500 / 2300)


def test_a_slower_start_up_lets_more_requests_be_late() -> None:
    rates = (*[100] * 10, *[300] * 10)
    shares = [jump.late_share for lead_s in (60.0, 300.0) if (jump := largest_jump(arrivals(*rates), lead_s))]
    assert shares == pytest.approx([300 / 4000, 1500 / 4000])


def test_a_slow_ramp_is_no_jump() -> None:
    jump = largest_jump(arrivals(*range(100, 300, 5)), 60.0)
    assert jump is not None
    assert jump.ratio < 1.06


def test_a_jump_from_few_requests_counts_from_thirty() -> None:
    jump = largest_jump(arrivals(1, 1, 1, 90, 90), 60.0)
    assert jump is not None
    assert jump.ratio == 3.0


@pytest.mark.parametrize("rates", [(), (100,)], ids=["none", "one minute"])
def test_short_traffic_has_no_jump(rates: tuple[int, ...]) -> None:
    assert largest_jump(arrivals(*rates) if rates else np.array([]), 60.0) is None


@pytest.mark.slow
def test_the_finding_prices_the_room(tmp_path: Path) -> None:
    crowd = {"kind": "flash_crowd", "base_rps": 20, "at_s": 1500, "factor": 3, "duration_s": 3600}
    evidence = simulated_evidence(write_scenario(tmp_path, {**SCENARIO, "traffic": crowd}))
    section = bursts.section(evidence)
    jump, room = section.figure("jump"), section.figure("room_usd")
    assert jump.value == pytest.approx(3.0, rel=0.15)
    assert evidence.replica_hour is not None
    price_usd_per_hour = evidence.replica_hour.value
    assert room.value == pytest.approx(24.0 * (jump.value - 1.0) * evidence.needed_curve.mean * price_usd_per_hour)
    assert f"A {jump.value:.1f} x jump within one start-up costs up to" in section.findings[0]
    assert f"(slo.surge: {jump.value:.1f})" in section.findings[0]
    unknown = bursts.section(dataclasses.replace(evidence, requests=None, missing_reason="no rate is read"))
    assert [gap.why for gap in unknown.gaps] == ["no rate is read"]
