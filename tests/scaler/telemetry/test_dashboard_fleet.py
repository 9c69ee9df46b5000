"""Cost, markets, interruptions and the limits of the fleet, on the dashboard's API."""

from __future__ import annotations

from policies.model import Absent, Fresh, PoolName, PoolPart, PoolStatus, Reading
from policies.model.limits import BlastRadius, Budget
from policies.model.pool import Pool
from policies.quota.fleet_quota import FleetLimits
from scaler.quota_ledger import QuotaLedger
from scaler.telemetry.dashboard import Dashboard
from tests.servers.dashboard import NOON, Known, api, spec, tick

SPOT, RESERVED = PoolName("spot"), PoolName("reserved")
PRICED = {
    SPOT: Pool(market="spot", price_usd_per_hour=2.5, accelerator="h100"),
    RESERVED: Pool(market="reserved", price_usd_per_hour=6.0, zone="eu-1a", gpus_per_replica=2),
}


def sizes(spot: PoolStatus, reserved: PoolStatus | None = None) -> dict[PoolName, Reading[PoolStatus]]:
    return {SPOT: Fresh(spot, NOON), RESERVED: Fresh(reserved or PoolStatus(2, 2), NOON)}


def known() -> Known:
    info = Known()
    info.specs["chat"] = spec(pools=PRICED, budget=Budget(usd_per_hour=40), priority=7)
    info.specs["batch"] = spec("batch")
    return info


async def test_line_has_cost_and_replicas_by_market() -> None:
    dashboard = Dashboard("1.2.3", known())
    dashboard.observe(tick(pools=sizes(PoolStatus(4, 3)), cost=22.0))
    dashboard.observe(tick("batch"))
    chat, batch = (await api(dashboard, "api/workloads"))["workloads"]
    assert (chat["usd_per_hour"], chat["unpriced"], chat["markets"]) == (22.0, [], {"spot": 4, "reserved": 2})
    assert (batch["usd_per_hour"], batch["unpriced"], batch["markets"]) == (None, ["gpus"], {"on_demand": 4})


async def test_unknown_size_is_no_market_with_zero_replicas() -> None:
    dashboard = Dashboard("1.2.3", known())
    dashboard.observe(tick(pools={SPOT: Absent("denied"), RESERVED: Fresh(PoolStatus(2, 2), NOON)}))
    (chat,) = (await api(dashboard, "api/workloads"))["workloads"]
    assert chat["markets"] is None
    fleet = await api(dashboard, "api/fleet")
    assert fleet["workloads"][0]["unknown"] == ["spot"]
    assert fleet["workloads"][0]["gpus"] is None
    assert fleet["without_cost"] == 1


async def test_pool_has_place_price_and_interruptions_of_a_day() -> None:
    dashboard = Dashboard("1.2.3", known())
    parts = (PoolPart("eu-1a", "spot", 2), PoolPart("eu-1b", "spot", 1, pending=1, interruption_pending=1))
    dashboard.observe(tick(turn=0, pools=sizes(PoolStatus(4, 3, interrupted=5))))
    dashboard.observe(tick(turn=1, pools=sizes(PoolStatus(4, 3, interrupted=7, parts=parts))))
    detail = await api(dashboard, "api/workloads/chat")
    spot, reserved = detail["now"]["pools"]
    assert detail["interruptions_since"] == NOON
    assert (spot["interrupted"], reserved["interrupted"]) == (2, 0)
    assert [(p["zone"], p["replicas"], p["usd_per_hour"]) for p in spot["places"]] == [
        ("eu-1a", 2, 5.0),
        ("eu-1b", 2, 5.0),
    ]
    assert (reserved["zone"], reserved["market"], reserved["price_usd_per_hour"]) == ("eu-1a", "reserved", 6.0)
    assert "interrupted" in detail["now"]["states"]


async def test_interruption_is_forgotten_after_a_day_and_a_restarted_counter_counts_anew() -> None:
    dashboard = Dashboard("1.2.3", known())
    day = 24 * 240
    for turn, interrupted in ((0, 3), (1, 4), (day // 2, 2), (day, 2)):
        dashboard.observe(tick(turn=turn, pools=sizes(PoolStatus(4, 4, interrupted=interrupted))))
    assert (await api(dashboard, "api/fleet"))["interrupted"] == 3
    dashboard.observe(tick(turn=day + 2, pools=sizes(PoolStatus(4, 4, interrupted=2))))
    fleet = await api(dashboard, "api/fleet")
    assert fleet["interrupted"] == 2
    assert (await api(dashboard, "api/workloads"))["workloads"][0]["states"] == ["ok"]


async def test_fleet_has_limits_held_amounts_spend_and_places() -> None:
    info = known()
    info.ledger = QuotaLedger(FleetLimits(max_gpus=16, max_usd_per_hour=50, blast_radius=BlastRadius(share=0.25)))
    dashboard = Dashboard("1.2.3", info, clock_speed=60.0)
    ticks = [tick(pools=sizes(PoolStatus(4, 4)), cost=22.0), tick("batch")]
    for t in ticks:
        info.ledger.register(t.workload, info.specs[t.workload])
        info.ledger.record(t)
        dashboard.observe(t)
    fleet = await api(dashboard, "api/fleet")
    assert fleet["clock_speed"] == 60.0
    assert fleet["limits"] == {
        "gpus": 16,
        "usd_per_hour": 50,
        "blast_radius": {"share": 0.25, "window_s": 600},
    }
    assert fleet["held"] == {"gpus": 12.0, "usd_per_hour": 10.0}, "a reserved pool is paid anyway"
    assert (fleet["usd_per_hour"], fleet["without_cost"]) == (22.0, 1)
    chat, batch = fleet["workloads"]
    assert (chat["gpus"], chat["priority"], chat["budget"]) == (8.0, 7, {"gpus": None, "usd_per_hour": 40})
    assert (batch["usd_per_hour"], batch["unpriced"]) == (None, ["gpus"])
    places = {(p["zone"], p["market"], p["accelerator"]): (p["gpus"], p["usd_per_hour"]) for p in fleet["places"]}
    assert places == {
        (None, "spot", "h100"): (4.0, 10.0),
        ("eu-1a", "reserved", None): (4.0, 12.0),
        (None, "on_demand", None): (4.0, None),
    }


async def test_fleet_without_a_tick_names_starting_workloads_and_no_limit() -> None:
    info = known()
    info.configured.extend(tick(n).workload for n in ("chat", "batch"))
    fleet = await api(Dashboard("1.2.3", info), "api/fleet")
    assert fleet["starting"] == ["chat", "batch"]
    assert fleet["limits"] == {"gpus": None, "usd_per_hour": None, "blast_radius": None}
    assert fleet["interruptions_since"] is None
