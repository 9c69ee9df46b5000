"""Budgets: growth never exceeds them, and a size beyond them falls by the scale-down window."""

from __future__ import annotations

from typing import Any

import pytest

from policies.history.ticks import History
from policies.model import Decision, Fresh, Grant, PoolStatus, Quota, RuleId
from policies.model.limits import Budget
from policies.model.pool import Pool
from policies.model.spec import ScaleDown
from policies.pipeline import decide
from policies.recommend.peers.static import Static
from tests.factories import MAIN, NOW, live, queue, seen, spec, targets

EIGHTS = {"main": Pool(gpus_per_replica=8, price_usd_per_hour=98.32)}
"""p5.48xlarge, on demand, us-east-1, November 2024."""


def decision_for(messages: float, sizes: dict[str, int], grant: Grant | None = None, **settings: Any) -> Decision:
    statuses = {name: Fresh(PoolStatus(n, n), NOW) for name, n in sizes.items()}
    observation = seen(queue(messages), pools=statuses)
    observation = type(observation)(observation.workload, NOW, observation.readings, observation.pools, grant=grant)
    return decide(spec(**settings), History(), observation)


@pytest.mark.parametrize(
    ("budget", "current", "target"),
    [
        pytest.param(Budget(gpus=40), 2, 5, id="GPUs"),
        pytest.param(Budget(gpus=47), 2, 5, id="no part of a replica"),
        pytest.param(Budget(usd_per_hour=491.60), 2, 5, id="to the cent"),
        pytest.param(Budget(usd_per_hour=491.59), 2, 4, id="a cent less"),
        pytest.param(Budget(gpus=80, usd_per_hour=300.0), 2, 3, id="the tighter of two"),
        pytest.param(Budget(gpus=8), 2, 2, id="over it already, nothing grows"),
        pytest.param(Budget(gpus=0), 0, 0, id="nothing at all"),
        pytest.param(Budget(), 2, 10, id="none"),
    ],
)
def test_scale_out_stops_at_the_budget(budget: Budget, current: int, target: int) -> None:
    slow = ScaleDown(window_s=300)
    decision = decision_for(100, {"main": current}, pools=EIGHTS, budget=budget, scale_down=slow)
    assert decision.target == target
    if target < 10:
        assert "budget." in " ".join(step.reason for step in decision.steps if step.rule == RuleId.BUDGET)


def test_min_replicas_does_not_exceed_the_budget() -> None:
    decision = decision_for(0, {"main": 0}, pools=EIGHTS, budget=Budget(gpus=16), min_replicas=3)
    assert decision.target == 2


@pytest.mark.parametrize("market", ["on_demand", "reserved"])
def test_reserved_replicas_do_not_count_towards_the_usd_budget(market: Any) -> None:
    pools = {"main": Pool(market=market, price_usd_per_hour=10.0, max_replicas=6)}
    decision = decision_for(100, {"main": 2}, pools=pools, budget=Budget(usd_per_hour=30.0))
    assert decision.target == (6 if market == "reserved" else 3)


def test_most_expensive_growth_is_cut_first() -> None:
    pools = {"big": Pool(gpus_per_replica=8, max_replicas=2), "small": Pool(gpus_per_replica=1, max_replicas=20)}
    decision = decision_for(200, {"big": 0, "small": 0}, pools=pools, budget=Budget(gpus=21))
    assert dict(decision.targets) == {"big": 0, "small": 18}, "2 big and 18 small replicas would take 34 GPUs"


def test_size_over_budget_falls_by_window_and_steps() -> None:
    slow = ScaleDown(window_s=60, period_s=15, max_replicas=2, max_share=0)
    decisions = live(spec(budget=Budget(gpus=4), scale_down=slow), [queue(100)] * 10, start=10)
    assert targets(decisions) == [10] * 4 + [8, 6, 4, 4, 4, 4]
    assert {d.capped_need for d in decisions} == {4}
    assert "budget.gpus is 4, 10 in use: shrink to 4 of the 10 replicas needed" in decisions[0].steps[1].reason


def test_self_stabilizing_policy_over_budget_falls_by_the_window() -> None:
    decisions = live(spec({"size": Static(replicas=10)}, budget=Budget(gpus=4), scale_down=ScaleDown()), [{}] * 40, 10)
    sizes = targets(decisions)
    assert sizes[:19] == [10] * 19, "the history must cover the window of 300 s"
    assert sizes[-1] == 4
    assert min(t for t in sizes if t is not None) == 4


def test_fleet_grant_limits_the_size_like_a_budget() -> None:
    grant = Grant(gpus=Quota(6, "daemon.fleet.max_gpus is 64"), removable=Quota(1, "one may go"))
    assert decision_for(100, {"main": 2}, grant).target == 6
    assert decision_for(10, {"main": 5}, grant).target == 4
    assert decision_for(10, {"main": 5}, grant).reason == "one may go; 4 removals were planned"


def test_budget_cut_in_one_pool_keeps_the_other_pools() -> None:
    pools = {"a": Pool(max_replicas=3), "b": Pool(gpus_per_replica=4)}
    decision = decision_for(100, {"a": 1, "b": 2}, pools=pools, budget=Budget(gpus=10))
    assert dict(decision.targets) == {"a": 2, "b": 2}
    assert MAIN not in decision.targets
