"""SLO attainment and the burn rate of the error budget, on the dashboard's API."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from policies.model import Absent, Fresh, Reading, Stale, WorkloadName
from policies.model.spec import Slo
from scaler.app import RunOptions
from scaler.shared_resources import Resources
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.dashboard.slo_record import HOUR_S, SloRecord
from scaler.telemetry.dashboard.workload_facts import Facts
from tests.fakes import ManualClock
from tests.scaler.shadow.test_shadow import ENGINES, NAME, Scripted, document, shadowed
from tests.servers.dashboard import INTERVAL_S, NOON, Known, api, spec, tick

SLO = Slo(ttft_s=1.0, itl_s=0.05, share=0.99)
DAY_TICKS = round(24 * HOUR_S / INTERVAL_S)


def readings(at: float, ttft: float = 0.0, itl: float = 0.0, rate: float = 40.0) -> dict[str, Reading[float]]:
    values = {"requests_per_s": rate, "ttft_late_share": ttft, "itl_late_share": itl}
    return {f"engines.{name}": Fresh(value, at) for name, value in values.items()}


def known(slo: Slo | None = SLO) -> Known:
    return Known(about=Facts(spec(slo=slo)))


def dashboard_of(ticks: Iterable[tuple[int, dict[str, Reading[float]]]], slo: Slo | None = SLO) -> Dashboard:
    dashboard = Dashboard("1.2.3", known(slo))
    for turn, values in ticks:
        dashboard.observe(tick(turn=turn, readings=values))
    return dashboard


async def slo_of(dashboard: Dashboard) -> Any:
    return (await api(dashboard, "api/workloads/chat"))["now"]["slo"]


async def test_burn_rate_is_the_late_share_over_the_allowed_share() -> None:
    """In 2 h of 40 requests/s, 2 % were late in the second hour: 2/1 over 1 h, and 1/1 over the 2 h recorded."""
    ticks = ((i, readings(NOON, ttft=0.02 if i > 240 else 0.0, itl=0.01)) for i in range(481))
    slo = await slo_of(dashboard_of(((i, r | {"engines.itl_late_share": Fresh(0.0, NOON)}) for i, r in ticks)))
    hour, six_hours, month = slo["windows"]
    assert (hour["requests"], hour["late"]) == (pytest.approx(144_000, rel=0.02), pytest.approx(2_880, rel=0.02))
    assert hour["burn_rate"] == pytest.approx(2.0, rel=0.02)
    assert hour["attainment"] == pytest.approx(0.98, abs=1e-4)
    assert six_hours["burn_rate"] == month["burn_rate"] == pytest.approx(1.0, rel=0.02)
    assert hour["since"] == NOON + HOUR_S
    assert six_hours["since"] == month["since"] == NOON, "the record is shorter than these windows"
    assert month["measured_s"] == 2 * HOUR_S
    assert slo["violated"]


async def test_violation_ends_when_five_minutes_meet_the_slo() -> None:
    late = [(i, readings(NOON, itl=0.5)) for i in range(40)]
    good = [(40 + i, readings(NOON)) for i in range(22)]
    assert (await slo_of(dashboard_of(late)))["violated"]
    assert "SLO violated" in (await api(dashboard_of(late), "api/workloads"))["workloads"][0]["states"]
    recovered = await slo_of(dashboard_of(late + good))
    assert not recovered["violated"]
    assert recovered["windows"][0]["burn_rate"] > 1, "the hour's error budget still burns too fast"


UNMEASURED: dict[str, tuple[Slo, dict[str, Reading[float]], str]] = {
    "no late share is read": (SLO, {"engines.running": Fresh(1.0, NOON)}, "no source reads ttft_late_share and itl_"),
    "a share is stale": (
        SLO,
        readings(NOON) | {"engines.itl_late_share": Stale(0.0, NOON, 90.0)},
        "engines.itl_late_share is stale, 90 s old",
    ),
    "a share is absent": (
        SLO,
        readings(NOON) | {"engines.ttft_late_share": Absent("no observations in the last 60 s")},
        "engines.ttft_late_share is absent: no observations",
    ),
    "the rate is a lower bound": (
        SLO,
        readings(NOON) | {"engines.requests_per_s": Fresh(3.0, NOON, "1 of 2 engines")},
        "engines.requests_per_s is a lower bound: 1 of 2 engines",
    ),
    "no rate is read": (
        SLO,
        {"engines.ttft_late_share": Fresh(0.0, NOON), "engines.itl_late_share": Fresh(0.0, NOON)},
        "engines.requests_per_s is not read by the source",
    ),
    "only the duration has a limit": (
        Slo(ttft_s=None, itl_s=None, e2e_s=30.0),
        readings(NOON),
        "no source measures the late share of slo.e2e_s",
    ),
}


@pytest.mark.parametrize(("slo", "values", "problem"), UNMEASURED.values(), ids=UNMEASURED)
async def test_unmeasured_requests_are_unknown_and_named(
    slo: Slo, values: dict[str, Reading[float]], problem: str
) -> None:
    shown = await slo_of(dashboard_of(((i, values) for i in range(4)), slo))
    assert problem in shown["problem"]
    assert [w["attainment"] for w in shown["windows"]] == [None, None, None]
    assert not shown["violated"]


async def test_share_of_a_limit_that_is_not_set_is_not_needed() -> None:
    values = readings(NOON, ttft=0.02) | {"engines.itl_late_share": Absent("slo.itl_s is not set")}
    shown = await slo_of(dashboard_of(((i, values) for i in range(4)), Slo(ttft_s=1.0)))
    assert shown["problem"] == ""
    assert shown["windows"][0]["attainment"] == pytest.approx(0.98)


async def test_no_slo_and_no_request_are_not_a_perfect_attainment() -> None:
    assert await slo_of(dashboard_of([(0, readings(NOON)), (1, readings(NOON))], None)) is None
    idle = await slo_of(dashboard_of([(0, readings(NOON, rate=0.0)), (1, readings(NOON, rate=0.0))]))
    assert idle["problem"] == ""
    assert (idle["windows"][0]["requests"], idle["windows"][0]["attainment"]) == (0, None)


async def test_share_of_one_has_no_error_budget_to_burn() -> None:
    slo = Slo(ttft_s=1.0, itl_s=0.05, share=1.0)
    shown = await slo_of(dashboard_of(((i, readings(NOON, ttft=0.1)) for i in range(4)), slo))
    assert shown["windows"][0]["burn_rate"] is None
    assert shown["violated"]


async def test_new_limits_start_a_new_record() -> None:
    info = known()
    dashboard = Dashboard("1.2.3", info)
    for turn in range(4):
        dashboard.observe(tick(turn=turn, readings=readings(NOON, ttft=0.5)))
    info.about = Facts(spec(slo=Slo(ttft_s=3.0, itl_s=0.05)))
    dashboard.observe(tick(turn=4, readings=readings(NOON)))
    assert (await slo_of(dashboard))["windows"][0]["requests"] == 0


@pytest.mark.slow
def test_record_of_30_days_covers_28_and_costs_twelve_kilobytes() -> None:
    record = SloRecord({"ttft_s": 1.0})
    for turn in range(0, 30 * DAY_TICKS, 20):
        record.add(tick(turn=turn, readings=readings(NOON, ttft=0.5 if turn < DAY_TICKS else 0.0)))
    month = record.window(28 * 24 * HOUR_S, 0.99)
    assert month["late"] == 0, "the first day is older than 28 days"
    assert month["measured_s"] == pytest.approx(28 * 24 * HOUR_S, rel=0.002)
    assert record.window(6 * HOUR_S, 0.99)["requests"] == pytest.approx(40 * 6 * HOUR_S, rel=0.02)
    assert sum(b._sums.nbytes for b in (record._minutes, record._hours)) < 13_000


def test_gap_counts_as_not_measured() -> None:
    record = SloRecord({"ttft_s": 1.0})
    for turn in (0, 1, 2, 100, 101):
        record.add(tick(turn=turn, readings=readings(NOON)))
    assert record.window(HOUR_S, 0.99)["measured_s"] == 3 * INTERVAL_S


def test_clock_jump_moves_no_request_into_another_window() -> None:
    record = SloRecord({"ttft_s": 1.0})
    for turn in range(10):
        record.add(tick(turn=turn, readings=readings(NOON)))
    jumped = round(48 * HOUR_S / INTERVAL_S)
    record.add(tick(turn=10 + jumped, readings=readings(NOON), clock_step_s=48 * HOUR_S))
    hour = record.window(HOUR_S, 0.99)
    assert hour["measured_s"] == 10 * INTERVAL_S
    assert hour["since"] == NOON + 48 * HOUR_S


def test_workload_without_slo_stores_no_record() -> None:
    dashboard = dashboard_of([(0, readings(NOON))], None)
    assert dashboard._stored[WorkloadName("chat")].slo is None


@pytest.mark.slow
async def test_restarted_daemon_restores_the_record_from_the_journal(tmp_path: Path) -> None:
    engines = {**ENGINES, "read": ["running", "waiting", "requests_per_s", "ttft_late_share"]}
    policies = {"engines": {"kind": "concurrency", "target_per_replica": 4}}
    first = document(slo={"ttft_s": 1.0, "itl_s": None}, sources={"engines": engines}, policies=policies)
    async with shadowed(tmp_path, first, first) as app:
        app.engines.values |= {"requests_per_s": 40.0, "ttft_late_share": 0.02}
        for _ in range(5):
            await app.tick()
        clock, config = app.clock, app.config
    assert isinstance(clock, ManualClock)
    clock.advance(1.0)
    async with Resources() as resources:
        restarted = Scripted(config, RunOptions([]), resources, clock)
        await restarted.prepare()
        shown = (await api(restarted.dashboard, f"api/workloads/{NAME}"))["now"]["slo"]
        await restarted.close()
    assert (shown["windows"][0]["requests"], shown["windows"][0]["late"]) == (4 * 15 * 40, 48)
