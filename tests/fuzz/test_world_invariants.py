"""Every invariant of the swarm reports a tick that violates it, and no valid tick."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from policies.history.ticks import History
from policies.model import (
    Absent,
    Fresh,
    Observation,
    Outcome,
    PoolName,
    PoolStatus,
    Result,
    RuleId,
    Shortfall,
    SignalName,
    Stale,
    Step,
    Tick,
)
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from tests.fuzz.worlds.invariants import INVARIANTS, broken
from tests.fuzz.worlds.tick_context import RecordedTick, TickContext
from tests.simulators.world.makers import POOL, workload

AT = 1_800_000_000.0
QUICK: dict[str, Any] = {"scale_down": {"window_s": 60, "max_replicas": 100}, "scale_up": {"max_replicas": 100}}
ZERO: dict[str, Any] = {**QUICK, "min_replicas": 0, "cooldown_s": 30}
ACTIVATED: dict[str, Any] = {
    **ZERO,
    "policies": {"want": {"kind": "queue_depth", "target_per_replica": 4, "activation": 5}},
}
SIGNALS = ("visible", "in_flight", "delayed")


def last_tick(messages: Sequence[float | None], size: int = 4, missing: str = "", **settings: Any) -> TickContext:
    """Return the last of several ticks with these message counts, at four per replica (None: no response)."""
    bounds = settings.pop("bounds", {})
    spec = workload("sqs", **{"max_replicas": 8, **QUICK, **settings}).spec
    spec = dataclasses.replace(spec, pools={POOL: dataclasses.replace(spec.pools[POOL], **bounds)})
    history, earlier = History(), list[RecordedTick]()
    for k, count in enumerate(messages):
        at = AT + 15.0 * k
        last = k == len(messages) - 1
        recorded = RecordedTick(_tick(spec, history, at, count, size, missing if last else ""))
        if last:
            return TickContext(spec, recorded, earlier, history)
        earlier.append(recorded)
        history.append(recorded.tick)
        size = recorded.decision.target if recorded.decision.target is not None else size
    raise AssertionError("no turn was asked for")


def _tick(spec: WorkloadSpec, history: History, at: float, count: float | None, size: int, missing: str) -> Tick:
    readings: dict[SignalName, Any] = {}
    for quantity in SIGNALS:
        value = (count or 0.0) if quantity == "visible" else 0.0
        signal = SignalName(f"watch.{quantity}")
        readings[signal] = Stale(value, at - 15, 15.0) if count is None else Fresh(value, at, missing)
    errors = {"watch": "no answer"} if count is None else {}
    pools = {POOL: Fresh(PoolStatus(size, size), at)}
    observation = Observation(workload("sqs").name, at, readings, pools, errors)
    decision = decide(spec, history, observation)
    outcomes = tuple(
        Outcome(pool, size, n, Result.UNCHANGED if n == size else Result.ACCEPTED)
        for pool, n in decision.targets.items()
    )
    return Tick("abc", observation, decision, outcomes, len(history), 0.0, 0.0)


def with_tick(context: TickContext, **changes: Any) -> TickContext:
    return dataclasses.replace(
        context, now=dataclasses.replace(context.now, tick=dataclasses.replace(context.tick, **changes))
    )


def with_decision(context: TickContext, **changes: Any) -> TickContext:
    return with_tick(context, decision=dataclasses.replace(context.decision, **changes))


def with_size(context: TickContext, size: int) -> TickContext:
    """Return the tick with another decided size."""
    return with_decision(context, target=size, targets={POOL: size})


def with_observation(context: TickContext, **changes: Any) -> TickContext:
    return with_tick(context, observation=dataclasses.replace(context.tick.observation, **changes))


def with_reading(context: TickContext, value: Any) -> TickContext:
    return with_observation(context, readings={**context.tick.observation.readings, SignalName("watch.visible"): value})


def with_injected_zeros(context: TickContext) -> TickContext:
    return dataclasses.replace(context, now=dataclasses.replace(context.now, injected_zeros=frozenset({"watch"})))


def with_false_zeros(messages: Sequence[float]) -> TickContext:
    """Return the last of several ticks with these message counts, in which every 0 is false."""
    context = with_injected_zeros(last_tick(messages))
    earlier = [
        dataclasses.replace(s, injected_zeros=frozenset({"watch"}) if not n else s.injected_zeros)
        for s, n in zip(context.past, messages, strict=False)
    ]
    return dataclasses.replace(context, past=earlier)


def with_pool(context: TickContext, value: Any) -> TickContext:
    return with_observation(context, pools={POOL: value})


def with_statuses(
    context: TickContext, statuses: dict[PoolName, PoolStatus], targets: dict[PoolName, int], size: int
) -> TickContext:
    """Return the tick with pools that differ in price, and with these statuses and targets at all ticks."""
    (pool,) = context.spec.pools.values()
    pools = {name: dataclasses.replace(pool, price_usd_per_hour=1.0 + k) for k, name in enumerate(statuses)}

    def with_pools(recorded: RecordedTick) -> RecordedTick:
        value = {name: Fresh(status, recorded.at) for name, status in statuses.items()}
        observation = dataclasses.replace(recorded.tick.observation, pools=value)
        decision = dataclasses.replace(recorded.decision, target=size, targets=targets)
        return dataclasses.replace(
            recorded, tick=dataclasses.replace(recorded.tick, observation=observation, decision=decision)
        )

    spec = dataclasses.replace(context.spec, pools=pools)
    return dataclasses.replace(
        context, spec=spec, now=with_pools(context.now), past=[with_pools(recorded) for recorded in context.past]
    )


def with_failures(
    spare: PoolStatus, read_sources: int, *, quota: bool = False, first: int = 4, **settings: Any
) -> TickContext:
    """Return ticks with 2 of 4 replicas of a pool failed. `requested` and `first` are the targets of both pools."""
    failed = PoolStatus(4, 2, failed=2, shortfall=Shortfall(AT, "none to be had", quota))
    return with_statuses(
        last_tick(BUSY, **settings),
        {POOL: failed, SPARE: spare},
        {POOL: first, SPARE: read_sources},
        size=min(4, first + read_sources),
    )


def override_over_the_quota() -> TickContext:
    """Return ticks with an override to 6 that stay at 4, where the pool's quota ends."""
    full = PoolStatus(4, 4, shortfall=Shortfall(AT, "none to be had", quota=True))
    return with_decision(with_statuses(last_tick(BUSY, override=SIX), {POOL: full}, {POOL: 4}, size=4), current=4)


SPARE = PoolName("spare")
SIX = {"replicas": 6, "until": "2099-01-01T00:00Z"}
ALWAYS = {"start": "00:00", "end": "00:00"}
"""A maintenance window that is always open."""
BUSY, IDLE, ZEROS = [16.0] * 8, [0.0] * 8, [0.0] * 8
"""Messages for four replicas, and for none, throughout."""
VIOLATIONS: list[tuple[str, Callable[[], TickContext]]] = [
    ("no_scale_in_without_evidence", lambda: with_size(last_tick([*BUSY, None]), 3)),
    ("no_scale_in_without_evidence", lambda: with_size(last_tick([0.0] * 3, missing="replica 2 did not answer"), 3)),
    (
        "no_scale_in_without_evidence",
        lambda: with_pool(with_size(last_tick([0.0]), 3), Stale(PoolStatus(4, 4), AT, 20.0)),
    ),
    ("no_scale_in_without_evidence", lambda: with_decision(with_size(last_tick([0.0]), 3), may_scale_in=False)),
    ("false_zeros_lower_nothing", lambda: with_injected_zeros(with_size(last_tick([*BUSY, 0.0]), 3))),
    ("repeated_false_zeros_lower_nothing", lambda: with_size(with_false_zeros([*BUSY, *ZEROS, *BUSY, *ZEROS]), 3)),
    (
        "repeated_false_zeros_lower_nothing",
        lambda: with_size(with_false_zeros([*BUSY, *ZEROS, *BUSY, *ZEROS, *ZEROS[:7]]), 3),
    ),
    ("growth_has_a_reason", lambda: with_size(last_tick(BUSY), 5)),
    ("growth_has_evidence", lambda: with_reading(with_observation(last_tick([32.0]), readings={}), Absent("gone"))),
    ("fresh_readings_are_valid", lambda: with_reading(last_tick(BUSY), Fresh(float("nan"), AT + 105))),
    ("fresh_readings_are_valid", lambda: with_reading(last_tick(BUSY), Fresh(-1.0, AT + 105))),
    ("fresh_readings_are_valid", lambda: with_reading(last_tick(BUSY), Fresh(16.0, AT))),
    ("fresh_readings_are_valid", lambda: with_reading(last_tick(BUSY), Stale(16.0, AT, float("nan")))),
    ("fresh_readings_are_valid", lambda: with_reading(last_tick(BUSY), Absent(""))),
    ("errors_have_no_fresh_reading", lambda: with_observation(last_tick(BUSY), source_errors={"watch": "no answer"})),
    ("errors_have_no_fresh_reading", lambda: with_observation(last_tick([None]), source_errors={"watch": ""})),
    ("errors_have_no_fresh_reading", lambda: with_observation(last_tick(BUSY), pool_errors={POOL: "no answer"})),
    ("within_the_workloads_bounds", lambda: with_size(last_tick([64.0]), 9)),
    ("within_the_workloads_bounds", lambda: with_size(last_tick(IDLE), 0)),
    ("within_the_pools_bounds", lambda: with_size(last_tick(BUSY, bounds={"max_replicas": 5}), 6)),
    ("within_the_pools_bounds", lambda: with_size(last_tick(BUSY, bounds={"min_replicas": 2}), 1)),
    (
        "only_own_pools_are_resized",
        lambda: with_pool(last_tick(BUSY), Fresh(PoolStatus(4, 4, other_writer="an HPA"), AT)),
    ),
    ("only_own_pools_are_resized", lambda: with_pool(last_tick(BUSY), Absent("no answer"))),
    ("only_own_pools_are_resized", lambda: with_size(last_tick(BUSY, paused=True), 5)),
    ("growth_by_steps", lambda: with_size(last_tick([32.0], scale_up={"max_replicas": 2, "max_share": 0.0}), 7)),
    ("growth_by_steps", lambda: with_size(last_tick([20.0, 32.0], scale_up={"period_s": 60, "max_replicas": 2}), 13)),
    ("shrinking_by_steps", lambda: with_size(last_tick(IDLE, scale_down={"max_replicas": 1, "max_share": 0.0}), 1)),
    ("growth_window", lambda: with_size(last_tick([*BUSY, 32.0], scale_up={"window_s": 60}), 8)),
    ("scale_down_window", lambda: with_size(last_tick([*BUSY, 0.0]), 3)),
    ("scale_down_window", lambda: with_size(last_tick([0.0, 0.0]), 3)),
    ("scale_down_window", lambda: with_size(last_tick([*BUSY, *[None] * 8, 0.0]), 3)),
    ("tolerance", lambda: with_size(last_tick([*[15.0] * 8, 15.0]), 3)),
    ("work_keeps_a_replica", lambda: with_size(last_tick(BUSY, **ZERO), 0)),
    ("work_starts_a_replica", lambda: with_size(last_tick([16.0], size=0, **ZERO), 0)),
    ("zero_is_earned", lambda: with_size(last_tick(IDLE), 0)),
    ("zero_is_earned", lambda: with_size(last_tick([*IDLE, 4.0, 0.0], **ZERO), 0)),
    ("zero_is_earned", lambda: with_size(last_tick([0.0, 0.0], **ZERO), 0)),
    ("rest_comes", lambda: with_size(last_tick([0.0] * 5, size=1, **ZERO), 1)),
    ("rest_comes", lambda: with_size(last_tick([2.0] * 5, size=1, **ACTIVATED), 1)),
    ("rest_comes", lambda: with_size(last_tick([2.0], size=0, **ACTIVATED), 1)),
    ("within_budgets", lambda: with_size(last_tick(BUSY, budget={"gpus": 4}), 5)),
    (
        "within_budgets",
        lambda: with_size(last_tick(BUSY, budget={"usd_per_hour": 8.5}, bounds={"price_usd_per_hour": 2}), 5),
    ),
    ("within_the_blast_radius", lambda: with_size(last_tick(BUSY, blast_radius={"share": 0.5}), 1)),
    ("within_the_blast_radius", lambda: with_size(last_tick([16.0, 32.0, *IDLE], blast_radius={"share": 0.5}), 2)),
    ("maintenance_holds", lambda: with_size(last_tick(BUSY, maintenance={"windows": [ALWAYS]}), 5)),
    (
        "maintenance_holds",
        lambda: with_size(last_tick(BUSY, maintenance={"windows": [ALWAYS | {"mode": "no_scale_in"}]}), 3),
    ),
    (
        "override_is_obeyed",
        lambda: with_size(last_tick(BUSY, override=SIX), 4),
    ),
    ("targets_are_whole_quanta", lambda: with_size(last_tick(BUSY, bounds={"quantum": 2}), 5)),
    ("targets_are_whole_quanta", lambda: with_size(last_tick(IDLE, bounds={"quantum": 4}), 3)),
    ("quota_errors_are_respected", lambda: with_failures(PoolStatus(0, 0), 2, quota=True, first=5)),
    ("failed_replicas_are_replaced_elsewhere", lambda: with_failures(PoolStatus(0, 0), 0)),
    ("failed_replicas_are_replaced_elsewhere", lambda: with_failures(PoolStatus(1, 1), 1, first=3)),
    ("sizes_add_up", lambda: with_decision(last_tick(BUSY), target=3)),
    ("sizes_add_up", lambda: with_decision(last_tick(BUSY), ready=3)),
    ("sizes_add_up", lambda: with_pool(last_tick(BUSY), Absent("no answer"))),
    ("reasons_are_given", lambda: with_decision(last_tick(BUSY), steps=())),
    ("reasons_are_given", lambda: with_decision(last_tick(BUSY), steps=(Step(RuleId.DEMAND, 4.0, " "),))),
    ("reasons_are_given", lambda: with_decision(last_tick(BUSY), steps=(Step(RuleId.DEMAND, 3.0, "so it is"),))),
    ("reasons_are_given", lambda: with_decision(last_tick(BUSY), recommendations=())),
    ("reasons_are_given", lambda: with_tick(last_tick(BUSY), outcomes=(Outcome(POOL, 4, 5, Result.CONFLICT),))),
    ("outcomes_match", lambda: with_tick(last_tick(BUSY), outcomes=())),
    ("outcomes_match", lambda: with_tick(last_tick(BUSY), outcomes=(Outcome(POOL, 4, 5, Result.ACCEPTED),))),
    ("outcomes_match", lambda: with_tick(last_tick(BUSY), outcomes=(Outcome(POOL, 4, 4, Result.ACCEPTED),))),
    ("numbers_are_finite", lambda: with_decision(last_tick(BUSY), demand=float("nan"))),
    ("numbers_are_finite", lambda: with_decision(last_tick(BUSY), steps=(Step(RuleId.DEMAND, float("inf"), "much"),))),
    ("numbers_are_finite", lambda: with_decision(last_tick(BUSY), capped_need=-1)),
    ("numbers_are_finite", lambda: with_decision(last_tick(BUSY), ready=4.5)),
    ("journal_round_trip", lambda: with_tick(last_tick(BUSY), lateness_s=float("inf"))),
    ("journal_round_trip", lambda: with_tick(last_tick(BUSY), outcomes=[])),
    ("decided_again_is_the_same", lambda: with_decision(last_tick(BUSY), capped_need=5)),
    ("decided_again_is_the_same", lambda: with_tick(last_tick(BUSY), history_len=3)),
    ("ticks_are_one_interval_apart", lambda: with_decision(last_tick(BUSY), at=AT)),
    ("ticks_are_one_interval_apart", lambda: dataclasses.replace(last_tick(BUSY), past=last_tick(BUSY).past[:-1])),
]


@pytest.mark.parametrize(
    ("name", "violating"), VIOLATIONS, ids=[f"{name} {k}" for k, (name, _) in enumerate(VIOLATIONS)]
)
def test_invariant_reports_a_violating_tick(name: str, violating: Callable[[], TickContext]) -> None:
    (invariant,) = (i for i in INVARIANTS if i.__name__ == name)
    assert [violation.name for violation in broken(violating(), [invariant])] == [name]


def test_every_invariant_has_a_violating_tick() -> None:
    assert [i.__name__ for i in INVARIANTS] == list(dict.fromkeys(name for name, _ in VIOLATIONS))


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(lambda: last_tick(BUSY), id="steady"),
        pytest.param(lambda: last_tick([*BUSY, 32.0]), id="growing"),
        pytest.param(lambda: last_tick([*BUSY, *IDLE]), id="shrinking"),
        pytest.param(lambda: last_tick([*BUSY, None]), id="blind"),
        pytest.param(lambda: last_tick([*BUSY, *IDLE], **ZERO), id="going to zero"),
        pytest.param(lambda: last_tick([4.0], size=0, **ZERO), id="waking"),
        pytest.param(lambda: last_tick([*BUSY, 2.0, 2.0, 2.0], **ACTIVATED), id="going to zero with a need left"),
        pytest.param(lambda: last_tick([*BUSY, *IDLE], paused=True), id="paused"),
        pytest.param(lambda: with_injected_zeros(last_tick([*BUSY, 0.0])), id="injected zeros"),
        pytest.param(lambda: with_false_zeros([*BUSY, *ZEROS, *BUSY, *ZEROS]), id="repeated false zeros"),
        pytest.param(lambda: last_tick(IDLE, size=12), id="found above the maximum"),
        pytest.param(lambda: last_tick([*BUSY, 32.0], budget={"gpus": 4}), id="at the budget"),
        pytest.param(lambda: last_tick([*BUSY, *IDLE], blast_radius={"share": 0.25}), id="within the blast radius"),
        pytest.param(lambda: last_tick([*BUSY, 32.0], maintenance={"windows": [ALWAYS]}), id="in maintenance"),
        pytest.param(lambda: last_tick(BUSY, override=SIX), id="set by hand"),
    ],
)
def test_no_invariant_reports_a_valid_tick(context: Callable[[], TickContext]) -> None:
    assert [str(violation) for violation in broken(context())] == []


@pytest.mark.parametrize(
    ("name", "context"),
    [
        pytest.param(
            "quota_errors_are_respected",
            lambda: with_failures(PoolStatus(0, 0), 2, quota=True),
            id="the quota is left alone",
        ),
        pytest.param(
            "quota_errors_are_respected", lambda: with_failures(PoolStatus(0, 0), 0, first=5), id="capacity may come"
        ),
        pytest.param(
            "failed_replicas_are_replaced_elsewhere",
            lambda: with_failures(PoolStatus(0, 0), 2),
            id="requested elsewhere",
        ),
        pytest.param(
            "failed_replicas_are_replaced_elsewhere",
            lambda: with_failures(PoolStatus(2, 0), 2),
            id="on its way elsewhere",
        ),
        pytest.param(
            "failed_replicas_are_replaced_elsewhere",
            lambda: with_failures(PoolStatus(1, 0, failed=1), 1),
            id="nothing elsewhere",
        ),
        pytest.param(
            "failed_replicas_are_replaced_elsewhere",
            lambda: with_failures(PoolStatus(0, 0), 0, first=2),
            id="no longer needed",
        ),
        pytest.param(
            "failed_replicas_are_replaced_elsewhere",
            lambda: with_decision(with_failures(PoolStatus(0, 0), 0), capped_need=2),
            id="kept by a window alone",
        ),
        pytest.param(
            "failed_replicas_are_replaced_elsewhere",
            lambda: with_failures(PoolStatus(0, 0), 0, max_replicas=4, bounds={"min_replicas": 4}),
            id="kept by a minimum within the maximum",
        ),
        pytest.param(
            "targets_are_whole_quanta", lambda: with_size(last_tick(BUSY, bounds={"quantum": 3}), 4), id="as found"
        ),
        pytest.param("override_is_obeyed", override_over_the_quota, id="the quota limits an override"),
    ],
)
def test_invariant_accepts_a_tick_limited_by_supply(name: str, context: Callable[[], TickContext]) -> None:
    (invariant,) = (i for i in INVARIANTS if i.__name__ == name)
    assert [str(violation) for violation in broken(context(), [invariant])] == []
