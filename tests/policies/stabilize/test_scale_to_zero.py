"""Scale to zero: below activation for the cooldown means zero at any remaining need, for every own policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from policies.history.ticks import History
from policies.model import (
    Decision,
    Outcome,
    PolicyName,
    PoolName,
    PoolStatus,
    Result,
)
from policies.model.pool import Pool
from policies.model.spec import ScaleDown, ScaleUp, WorkloadSpec
from policies.recommend.predictive.policy import Predictive
from policies.recommend.schedule import Schedule, Window
from policies.recommend.threshold import Concurrency, GpuUtilization, Headroom, KvCacheUsage, Metric, QueueDepth
from tests.factories import NOW, next_tick, spec
from tests.policies.recommend.engines import STEP_S, Day

MAIN = PoolName("main")
HOUR = int(3600.0 / STEP_S)
"""Ticks in an hour."""
DEFAULTS: dict[str, Any] = {"min_replicas": 0, "cooldown_s": 300.0, "tolerance": 0.1, "scale_down": ScaleDown()}
"""Scale to zero with every other setting at its default."""
ACTIVATED_ABOVE_5 = QueueDepth(source="queue", activation=5.0)
NIGHT = Window(start="03:00", end="04:00", replicas=3)

BELOW_ACTIVATION: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "queue_depth": ({"queue": ACTIVATED_ABOVE_5}, {"queue.visible": 2.0}),
    "queue_depth, many": (
        {"queue": dataclasses.replace(ACTIVATED_ABOVE_5, activation=200.0)},
        {"queue.visible": 120.0},
    ),
    "concurrency": ({"busy": Concurrency(source="e", activation=5.0)}, {"e.running": 3.0, "e.waiting": 0.0}),
    "gpu_utilization": ({"queue": ACTIVATED_ABOVE_5, "gpu": GpuUtilization(source="e")}, {"e.utilization": 0.03}),
    "kv_cache_usage": (
        {"queue": ACTIVATED_ABOVE_5, "kv": KvCacheUsage(source="e", activation=0.05)},
        {"e.kv_cache_usage": 0.04},
    ),
    "metric, total": ({"rate": Metric(source="e", quantity="tps", target=100.0, activation=9.0)}, {"e.tps": 8.0}),
    "metric, mean": (
        {
            "queue": ACTIVATED_ABOVE_5,
            "mean": Metric(source="e", quantity="load", target=0.7, across="mean", activation=0.05),
        },
        {"e.load": 0.03},
    ),
    "headroom": ({"queue": ACTIVATED_ABOVE_5, "room": Headroom(share=0.5)}, {"queue.visible": 4.0}),
    "schedule": ({"queue": ACTIVATED_ABOVE_5, "night": Schedule(windows=(NIGHT,))}, {"queue.visible": 4.0}),
}
"""Policies, and readings below their activation that leave a need."""
PRICED = {
    "reserved": Pool(market="reserved", price_usd_per_hour=2.0, max_replicas=2),
    "main": Pool(price_usd_per_hour=3.0),
}


def decisions_for(workload: WorkloadSpec, readings: Mapping[str, float], start: int, ticks: int) -> list[Decision]:
    """Run ticks with the same readings; each write is complete at the next tick."""
    history, decisions = History(workload.lookback_s), list[Decision]()
    sizes = {name: start if name == MAIN else 0 for name in workload.pools}

    def resize(pool: PoolName, target: int) -> Outcome:
        before, sizes[pool] = sizes[pool], target
        return Outcome(pool, before, target, Result.ACCEPTED)

    for k in range(ticks):
        pools = {n: PoolStatus(size, size) for n, size in sizes.items()}
        at = NOW + k * workload.interval_s
        decisions.append(next_tick(workload, history, at, idle(workload, readings), pools, resize))
    return decisions


def idle(workload: WorkloadSpec, readings: Mapping[str, float]) -> dict[str, float]:
    """Return the readings, and 0 for every other signal that the policies read."""
    zeros = {f"{p.source}.{q}": 0.0 for p in workload.policies.values() if p.needs() for q in p.needs()}
    return zeros | dict(readings)


@pytest.mark.slow
@pytest.mark.parametrize("pools", [None, PRICED], ids=["one pool", "priced pools"])
@pytest.mark.parametrize("start", [1, 12])
@pytest.mark.parametrize(("policies", "readings"), BELOW_ACTIVATION.values(), ids=BELOW_ACTIVATION)
def test_below_activation_for_the_cooldown_scales_to_zero(
    policies: dict[str, Any], readings: dict[str, float], start: int, pools: dict[str, Pool] | None
) -> None:
    workload = spec(policies, pools, **DEFAULTS)
    decisions = decisions_for(workload, readings, start, 3 * HOUR)
    assert all((d.demand or 0.0) > 0.0 for d in decisions[:20]), "a need remains"
    assert all(d.target for d in decisions[:20]), "not before the cooldown is over"
    by_then = int((300.0 + 4 * workload.scale_down.period_s) / STEP_S) + 2
    assert {d.target for d in decisions[by_then:]} == {0}, "zero while all signals stay below activation"
    assert {sum(d.targets.values()) for d in decisions[by_then:]} == {0}


@pytest.mark.parametrize("scale_down", [ScaleDown(window_s=3600.0), ScaleDown(max_replicas=1, max_share=0.0)])
def test_no_window_or_step_keeps_the_last_replica(scale_down: ScaleDown) -> None:
    workload = spec(
        {"queue": ACTIVATED_ABOVE_5}, **{**DEFAULTS, "scale_down": scale_down, "scale_up": ScaleUp(window_s=60.0)}
    )
    assert decisions_for(workload, {"queue.visible": 2.0}, 3, HOUR)[-1].target == 0


def test_cooldown_needs_full_evidence_throughout() -> None:
    """Two messages, and GPUs that are not read: full evidence is missing."""
    workload = spec({"queue": ACTIVATED_ABOVE_5, "gpu": GpuUtilization(source="e")}, **DEFAULTS)
    history, size = History(7200.0), 2
    for k in range(HOUR):
        values = {"queue.visible": 2.0, "queue.in_flight": 0.0}
        decision = next_tick(workload, history, NOW + k * STEP_S, values, {MAIN: PoolStatus(size, size)})
        size = decision.target or 0
        assert size == 2


def test_work_within_the_cooldown_keeps_one_replica() -> None:
    workload = spec({"queue": ACTIVATED_ABOVE_5}, **DEFAULTS)
    busy = decisions_for(workload, {"queue.visible": 6.0}, 1, HOUR)
    assert {d.target for d in busy} == {1}


def test_schedule_keeps_its_replicas() -> None:
    always = Schedule(windows=(Window(start="00:00", end="00:00", replicas=2),))
    decisions = decisions_for(
        spec({"queue": ACTIVATED_ABOVE_5, "always": always}, **DEFAULTS), {"queue.visible": 2.0}, 2, HOUR
    )
    assert {d.target for d in decisions} == {2}


# --- predictive


def day_with_scale_to_zero(policy: Predictive, **settings: Any) -> Day:
    day = Day(policy)
    day.spec = dataclasses.replace(day.spec, **{**DEFAULTS, **settings})
    return day


@pytest.mark.slow
@pytest.mark.parametrize("use_forecast", [True, False], ids=["forecasts", "reactive"])
def test_predictive_scales_to_zero_once_traffic_ends(use_forecast: bool) -> None:
    day = day_with_scale_to_zero(Predictive(source="e", rate_window_s=60.0, use_forecast=use_forecast))
    day.transform = lambda values: values | {"generation_tokens_per_s": values["generation_tokens_per_s"] + 0.3}
    day.run([60.0] * HOUR)
    after = day.run([0.0] * (4 * HOUR))
    assert after[-1].target == 0
    assert after[-1].active is False
    first_zero = next(k for k, d in enumerate(after) if d.target == 0)
    assert (after[first_zero].demand or 0.0) > 0.0, "a rate near zero leaves a need"
    assert {d.target for d in after[first_zero:]} == {0}, "at zero it stays at zero"
    assert first_zero >= int(300.0 / STEP_S)


@pytest.mark.slow
def test_requests_too_short_to_be_running_keep_a_replica() -> None:
    """One request per second, answered between two ticks: only the rates show it."""
    day = day_with_scale_to_zero(Predictive(source="e", rate_window_s=60.0))
    day.transform = lambda values: values | {"running": 0.0, "waiting": 0.0}
    assert all(d.target for d in day.run([1.0] * HOUR))


@pytest.mark.slow
def test_forecast_alone_does_not_prevent_scale_to_zero() -> None:
    """Demand changes from hour to hour before it ends, so its forecast is above zero."""
    day = day_with_scale_to_zero(Predictive(source="e", rate_window_s=60.0, quantile=0.95))
    for _ in range(2):
        day.run([60.0] * HOUR)
        day.run([5.0] * HOUR)
    after = day.run([0.0] * (2 * HOUR))
    needs = [r.replicas or 0.0 for d in after for r in d.recommendations]
    assert max(needs) > 0.25, "the forecast expects work"
    assert {d.target for d in after[HOUR:]} == {0}


@pytest.mark.slow
def test_predictive_with_a_queue_scales_to_zero_and_activates() -> None:
    policy = Predictive(source="e", queue="queue", rate_window_s=60.0, queue_deadline_s=30.0, message_service_s=1.0)
    workload = dataclasses.replace(day_with_scale_to_zero(policy).spec, policies={PolicyName("predictive"): policy})
    zeros = dict.fromkeys(("e.running", "e.waiting", "e.requests_per_s", "e.prompt_tokens_per_s"), 0.0)
    readings = {**zeros, "e.generation_tokens_per_s": 0.3, "queue.visible": 0.0}
    decisions = decisions_for(workload, readings, 3, 3 * HOUR)
    assert (decisions[0].demand or 0.0) > 0.0
    assert {d.target for d in decisions[HOUR:]} == {0}
    woken = decisions_for(workload, {**readings, "queue.visible": 1.0}, 0, 1)
    assert woken[0].target == 1
