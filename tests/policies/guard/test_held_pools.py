"""Pools that keep their size: full replicas, removals without a replacement, and sizes that cannot be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from policies.guard.enforce import enforce_targets
from policies.history.ticks import History
from policies.model import Fresh, Outcome, PoolName, PoolStatus, Reading, Result, RuleId, Stale
from policies.model.limits import Budget
from policies.model.pool import Pool
from policies.pipeline import decide
from policies.recommend.context import RuleContext
from policies.recommend.predictive.latency_load_model import LoadLine
from policies.recommend.predictive.latency_tail import LatencyTail
from tests.factories import NOW, queue, seen, spec, tick_of

A, B = PoolName("a"), PoolName("b")
PRICED = {"a": Pool(price_usd_per_hour=2.0), "b": Pool(price_usd_per_hour=1.0, market="spot")}


def rule_context(
    statuses: Mapping[PoolName, PoolStatus], planned: float, full_reason: str = "", budget: Budget | None = None
) -> RuleContext:
    workload = spec(pools=PRICED, max_replicas=10, budget=budget or Budget())
    observation = seen(queue(10), pools={name: Fresh(status, NOW) for name, status in statuses.items()})
    desired = {name: status.desired for name, status in statuses.items()}
    size, ready = sum(desired.values()), sum(status.ready for status in statuses.values())
    return RuleContext(
        workload,
        History(),
        NOW,
        float(size),
        size,
        True,
        True,
        "",
        observation,
        desired,
        desired,
        ready,
        (),
        full_reason,
        {},
        planned,
    )


@pytest.mark.parametrize(
    ("failed", "target", "expected"),
    [(0, 4, 6), (2, 4, 4), (1, 3, 5), (0, 7, 7)],
    ids=["none goes", "failed ones may go", "and no more", "growth stays"],
)
def test_full_replicas_block_removals_except_of_failed_replicas(failed: int, target: int, expected: int) -> None:
    context = rule_context(
        {A: PoolStatus(6, 2, failed=failed), B: PoolStatus(2, 2)}, planned=target + 2.0, full_reason="full"
    )
    _, targets = enforce_targets({A: target, B: 2}, context)
    assert targets == {A: expected, B: 2}


def test_replica_without_an_affordable_replacement_stays() -> None:
    """A replica of a was to replace one of b, but exceeds the budget."""
    context = rule_context({A: PoolStatus(1, 1), B: PoolStatus(1, 1)}, planned=2.0, budget=Budget(usd_per_hour=3.0))
    steps, targets = enforce_targets({A: 2, B: 0}, context)
    assert targets == {A: 1, B: 1}
    assert [step.rule for step in steps] == [RuleId.BUDGET, RuleId.UNREPLACED]


def test_pool_without_a_planned_replacement_scales_in() -> None:
    context = rule_context({A: PoolStatus(6, 6), B: PoolStatus(1, 1)}, planned=3.0)
    assert enforce_targets({A: 2, B: 1}, context) == ((), {A: 2, B: 1})


@pytest.mark.parametrize("result", [Result.ACCEPTED, Result.UNAVAILABLE], ids=str)
def test_requested_size_of_an_unreadable_pool_counts(result: Result) -> None:
    """Pool a was read at 2 and set to 8, with or without a response; then it cannot be read, and b must not use its
    part of the maximum."""
    workload = spec(pools={"a": Pool(), "b": Pool()}, max_replicas=10)
    history = History(workload.lookback_s)
    first = seen(queue(80), pools={A: Fresh(PoolStatus(2, 2), NOW), B: Fresh(PoolStatus(0, 0), NOW)})
    decision = decide(workload, history, first)
    assert decision.targets == {A: 8, B: 0}
    outcomes = (Outcome(A, 2, 8, result), Outcome(B, 0, 0, Result.UNCHANGED))
    history.append(dataclasses.replace(tick_of(first, decision), outcomes=outcomes))
    pools: dict[str, Reading[PoolStatus]] = {
        A: Stale(PoolStatus(2, 2), NOW, 15.0),
        B: Fresh(PoolStatus(0, 0), NOW + 15),
    }
    after = decide(workload, history, seen(queue(1000), at=15, pools=pools))
    assert after.current == (8 if result is Result.ACCEPTED else 2)
    assert after.targets == {B: 2}


@pytest.mark.parametrize("value", [0.0, -1.0, 1e300])
@pytest.mark.parametrize("key", ["pace", "saturation", "pp", "ss", "spread", "spread_variance"])
def test_impossible_learned_memory_is_discarded(key: str, value: float) -> None:
    line, tail = LoadLine.prior(0.05).saturated(1.5, 0.01), LatencyTail.of(0.4).learn(1.0, 0.9, 0.2, 100.0, 0.01)
    memory = {**line.memory("x"), **tail.memory("x")}
    assert (LoadLine.from_memory("x", memory, 0.05), LatencyTail.from_memory("x", memory, 0.4)) == (line, tail)
    for corrupt in ({**memory, f"x.{key}": value}, {k: v for k, v in memory.items() if k != f"x.{key}"}):
        of_line, of_tail = LoadLine.from_memory("x", corrupt, 0.05), LatencyTail.from_memory("x", corrupt, 0.4)
        if key.startswith("spread"):
            assert of_tail == LatencyTail.of(0.4) or (key, value) == ("spread_variance", 0.0)
        else:
            assert of_line == LoadLine.prior(0.05)
