"""SLO attainment and the burn rate of the error budget, on the dashboard's API."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from policies.model import Absent, Fresh, Reading
from policies.model.error_budget import HOUR_S
from policies.model.spec import Slo
from scaler.app import RunOptions
from scaler.shared_resources import Resources
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.dashboard.workload_facts import Facts
from tests.fakes import ManualClock
from tests.scaler.shadow.test_shadow import ENGINES, NAME, Scripted, document, shadowed
from tests.servers.dashboard import INTERVAL_S, NOON, Known, api, spec, tick
from tests.slo import ENGINES as MEASURED_ENGINES
from tests.slo import with_error_budgets

SLO = Slo(ttft_s=1.0, itl_s=0.05, share=0.99)
DAY_TICKS = round(24 * HOUR_S / INTERVAL_S)


def readings(at: float, ttft: float = 0.0, itl: float = 0.0, rate: float = 40.0) -> dict[str, Reading[float]]:
    values = {"requests_per_s": rate, "ttft_late_share": ttft, "itl_late_share": itl}
    return {f"engines.{name}": Fresh(value, at) for name, value in values.items()}


def dashboard_of(ticks: Iterable[tuple[int, dict[str, Reading[float]]]], slo: Slo | None = SLO) -> Dashboard:
    workload = spec(slo=slo, sources={"engines": MEASURED_ENGINES})
    dashboard = Dashboard("1.2.3", Known(about=Facts(workload)))
    plain = (tick(turn=turn, readings=values) for turn, values in ticks)
    for measured in with_error_budgets(plain, workload):
        dashboard.observe(measured)
    return dashboard


async def states_of(dashboard: Dashboard) -> list[str]:
    states: list[str] = (await api(dashboard, "api/workloads"))["workloads"][0]["states"]
    return states


async def slo_of(dashboard: Dashboard) -> Any:
    return (await api(dashboard, "api/workloads/chat"))["now"]["slo"]


async def test_burn_rate_is_the_late_share_over_the_allowed_share() -> None:
    """In 2 h of 40 requests/s, 2 % were late in the second hour: 2/1 over 1 h, and 1/1 over the 2 h recorded."""
    ticks = ((i, readings(NOON, ttft=0.02 if i > 240 else 0.0, itl=0.01)) for i in range(481))
    slo = await slo_of(dashboard_of(((i, r | {"engines.itl_late_share": Fresh(0.0, NOON)}) for i, r in ticks)))
    hour, six_hours, days, month = slo["windows"]
    assert (hour["requests"], hour["late"]) == (pytest.approx(144_000, rel=0.02), pytest.approx(2_880, rel=0.02))
    assert hour["burn_rate"] == pytest.approx(2.0, rel=0.02)
    assert hour["attainment"] == pytest.approx(0.98, abs=1e-4)
    assert six_hours["burn_rate"] == days["burn_rate"] == month["burn_rate"] == pytest.approx(1.0, rel=0.02)
    assert hour["since"] == NOON + HOUR_S
    assert six_hours["since"] == month["since"] == NOON, "the record is shorter than these windows"
    assert month["measured_s"] == 2 * HOUR_S
    assert slo["remaining"] == pytest.approx(0.0, abs=0.02)
    assert (slo["share"], slo["limits"], slo["window_s"]) == (0.99, {"ttft_s": 1.0, "itl_s": 0.05}, 28 * 24 * HOUR_S)


async def test_states_show_a_spent_budget_and_a_fast_burn() -> None:
    """The SLO is kept for 5 days, then half of the requests are late: for 2 minutes, or for 30."""
    good = [(i, readings(NOON)) for i in range(0, 5 * DAY_TICKS, 20)]
    late = [(5 * DAY_TICKS + i, readings(NOON, itl=0.5)) for i in range(120)]
    assert await states_of(dashboard_of(good + late[:8])) == ["ok"]
    assert await states_of(dashboard_of(good + late)) == ["SLO at risk"]
    hours = [(i, readings(NOON, itl=0.5)) for i in range(480)]
    calm = [(480 + i, readings(NOON)) for i in range(125)]
    assert await states_of(dashboard_of(hours)) == ["SLO violated", "SLO at risk"]
    assert await states_of(dashboard_of(hours + calm)) == ["SLO violated"], "the last half hour kept the SLO"


async def test_unmeasured_requests_are_unknown_and_named() -> None:
    silent = readings(NOON) | {"engines.itl_late_share": Absent("no observations in the last 60 s")}
    dashboard = dashboard_of((i, silent) for i in range(4))
    shown = await slo_of(dashboard)
    assert shown["problem"] == "engines.itl_late_share is absent: no observations in the last 60 s"
    assert [w["attainment"] for w in shown["windows"]] == [None] * 4
    assert (shown["state"], shown["remaining"]) == ("unknown", None)
    assert await states_of(dashboard) == ["SLO unknown"]


async def test_no_slo_and_no_request_are_not_a_perfect_attainment() -> None:
    assert await slo_of(dashboard_of([(0, readings(NOON)), (1, readings(NOON))], None)) is None
    idle = await slo_of(dashboard_of([(0, readings(NOON, rate=0.0)), (1, readings(NOON, rate=0.0))]))
    assert (idle["problem"], idle["remaining"]) == ("", 1.0)
    assert (idle["windows"][0]["requests"], idle["windows"][0]["attainment"]) == (0, None)


async def test_share_of_one_has_no_error_budget_to_burn() -> None:
    slo = Slo(ttft_s=1.0, itl_s=0.05, share=1.0)
    shown = await slo_of(dashboard_of(((i, readings(NOON, ttft=0.1)) for i in range(4)), slo))
    assert shown["windows"][0]["burn_rate"] is None
    assert shown["state"] == "at risk"


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
    async with Resources() as resources:
        restarted = Scripted(config, RunOptions([]), resources, clock)
        await restarted.prepare()
        restarted.engines.values |= {"requests_per_s": 40.0, "ttft_late_share": 0.02}
        await restarted.tick()
        shown = (await api(restarted.dashboard, f"api/workloads/{NAME}"))["now"]["slo"]
        await restarted.close()
    assert (shown["windows"][0]["requests"], shown["windows"][0]["late"]) == (5 * 15 * 40, 60)
