"""Every invariant of the swarm complains of a turn made to break it, and of no sound one."""

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
from tests.fuzz.worlds.turn import Seen, Turn
from tests.simulators.world.makers import POOL, workload

AT = 1_800_000_000.0
QUICK: dict[str, Any] = {"scale_down": {"window_s": 60, "max_replicas": 100}, "scale_up": {"max_replicas": 100}}
ZERO: dict[str, Any] = {**QUICK, "min_replicas": 0, "cooldown_s": 30}
WOKEN: dict[str, Any] = {
    **ZERO,
    "policies": {"want": {"kind": "queue_depth", "target_per_replica": 4, "activation": 5}},
}
SIGNALS = ("visible", "in_flight", "delayed")


def played(messages: Sequence[float | None], size: int = 4, missing: str = "", **settings: Any) -> Turn:
    """Turns with so many messages each, four a replica (None: the queue did not answer); the last is to be judged."""
    bounds = settings.pop("bounds", {})
    spec = workload("sqs", **{"max_replicas": 8, **QUICK, **settings}).spec
    spec = dataclasses.replace(spec, pools={POOL: dataclasses.replace(spec.pools[POOL], **bounds)})
    history, past = History(), list[Seen]()
    for k, count in enumerate(messages):
        at = AT + 15.0 * k
        last = k == len(messages) - 1
        seen = Seen(_tick(spec, history, at, count, size, missing if last else ""))
        if last:
            return Turn(spec, seen, past, history)
        past.append(seen)
        history.append(seen.tick)
        size = seen.decision.target if seen.decision.target is not None else size
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


def ticked(turn: Turn, **changes: Any) -> Turn:
    return dataclasses.replace(turn, now=dataclasses.replace(turn.now, tick=dataclasses.replace(turn.tick, **changes)))


def decided(turn: Turn, **changes: Any) -> Turn:
    return ticked(turn, decision=dataclasses.replace(turn.decision, **changes))


def sized(turn: Turn, size: int) -> Turn:
    """The turn, with this size decided."""
    return decided(turn, target=size, targets={POOL: size})


def saw(turn: Turn, **changes: Any) -> Turn:
    return ticked(turn, observation=dataclasses.replace(turn.tick.observation, **changes))


def reading(turn: Turn, found: Any) -> Turn:
    return saw(turn, readings={**turn.tick.observation.readings, SignalName("watch.visible"): found})


def lied(turn: Turn) -> Turn:
    return dataclasses.replace(turn, now=dataclasses.replace(turn.now, lies=frozenset({"watch"})))


def liar(messages: Sequence[float]) -> Turn:
    """Turns with so many messages each, of which every 0 was a lie."""
    turn = lied(played(messages))
    past = [
        dataclasses.replace(s, lies=frozenset({"watch"}) if not n else s.lies)
        for s, n in zip(turn.past, messages, strict=False)
    ]
    return dataclasses.replace(turn, past=past)


def pool(turn: Turn, found: Any) -> Turn:
    return saw(turn, pools={POOL: found})


def ever(turn: Turn, statuses: dict[PoolName, PoolStatus], targets: dict[PoolName, int], size: int) -> Turn:
    """The turn and those before it, of pools that differ in price, with these sizes found and decided in all."""
    (pool,) = turn.spec.pools.values()
    pools = {name: dataclasses.replace(pool, price_usd_per_hour=1.0 + k) for k, name in enumerate(statuses)}

    def shown(seen: Seen) -> Seen:
        found = {name: Fresh(status, seen.at) for name, status in statuses.items()}
        observation = dataclasses.replace(seen.tick.observation, pools=found)
        decision = dataclasses.replace(seen.decision, target=size, targets=targets)
        return dataclasses.replace(
            seen, tick=dataclasses.replace(seen.tick, observation=observation, decision=decision)
        )

    spec = dataclasses.replace(turn.spec, pools=pools)
    return dataclasses.replace(turn, spec=spec, now=shown(turn.now), past=[shown(seen) for seen in turn.past])


def failing(spare: PoolStatus, asked: int, *, quota: bool = False, first: int = 4) -> Turn:
    """Of four in one pool two failed, throughout; `asked` are asked of a spare one, and `first` of the first."""
    failed = PoolStatus(4, 2, failed=2, shortfall=Shortfall(AT, "none to be had", quota))
    return ever(played(BUSY), {POOL: failed, SPARE: spare}, {POOL: first, SPARE: asked}, size=min(4, first + asked))


SPARE = PoolName("spare")
ALWAYS = {"start": "00:00", "end": "00:00"}
"""A maintenance window that is always open."""
BUSY, IDLE, LIE = [16.0] * 8, [0.0] * 8, [0.0] * 8
"""Messages for four replicas, and for none, throughout."""
BAD: list[tuple[str, Callable[[], Turn]]] = [
    ("blind_never_scales_down", lambda: sized(played([*BUSY, None]), 3)),
    ("blind_never_scales_down", lambda: sized(played([0.0] * 3, missing="replica 2 did not answer"), 3)),
    ("blind_never_scales_down", lambda: pool(sized(played([0.0]), 3), Stale(PoolStatus(4, 4), AT, 20.0))),
    ("blind_never_scales_down", lambda: decided(sized(played([0.0]), 3), may_scale_in=False)),
    ("lies_are_outlasted", lambda: lied(sized(played([*BUSY, 0.0]), 3))),
    ("liars_are_outlasted", lambda: sized(liar([*BUSY, *LIE, *BUSY, *LIE]), 3)),
    ("liars_are_outlasted", lambda: sized(liar([*BUSY, *LIE, *BUSY, *LIE, *LIE[:7]]), 3)),
    ("growth_has_a_reason", lambda: sized(played(BUSY), 5)),
    ("growth_has_evidence", lambda: reading(saw(played([32.0]), readings={}), Absent("gone"))),
    ("fresh_is_fresh", lambda: reading(played(BUSY), Fresh(float("nan"), AT + 105))),
    ("fresh_is_fresh", lambda: reading(played(BUSY), Fresh(-1.0, AT + 105))),
    ("fresh_is_fresh", lambda: reading(played(BUSY), Fresh(16.0, AT))),
    ("fresh_is_fresh", lambda: reading(played(BUSY), Stale(16.0, AT, float("nan")))),
    ("fresh_is_fresh", lambda: reading(played(BUSY), Absent(""))),
    ("failures_are_told", lambda: saw(played(BUSY), source_errors={"watch": "no answer"})),
    ("failures_are_told", lambda: saw(played([None]), source_errors={"watch": ""})),
    ("failures_are_told", lambda: saw(played(BUSY), pool_errors={POOL: "no answer"})),
    ("within_the_workloads_bounds", lambda: sized(played([64.0]), 9)),
    ("within_the_workloads_bounds", lambda: sized(played(IDLE), 0)),
    ("within_the_pools_bounds", lambda: sized(played(BUSY, bounds={"max_replicas": 5}), 6)),
    ("within_the_pools_bounds", lambda: sized(played(BUSY, bounds={"min_replicas": 2}), 1)),
    ("hands_off", lambda: pool(played(BUSY), Fresh(PoolStatus(4, 4, other_writer="an HPA"), AT))),
    ("hands_off", lambda: pool(played(BUSY), Absent("no answer"))),
    ("hands_off", lambda: sized(played(BUSY, paused=True), 5)),
    ("growth_by_steps", lambda: sized(played([32.0], scale_up={"max_replicas": 2, "max_share": 0.0}), 7)),
    ("growth_by_steps", lambda: sized(played([20.0, 32.0], scale_up={"period_s": 60, "max_replicas": 2}), 13)),
    ("shrinking_by_steps", lambda: sized(played(IDLE, scale_down={"max_replicas": 1, "max_share": 0.0}), 1)),
    ("growth_window", lambda: sized(played([*BUSY, 32.0], scale_up={"window_s": 60}), 8)),
    ("scale_down_window", lambda: sized(played([*BUSY, 0.0]), 3)),
    ("scale_down_window", lambda: sized(played([0.0, 0.0]), 3)),
    ("scale_down_window", lambda: sized(played([*BUSY, *[None] * 8, 0.0]), 3)),
    ("tolerance", lambda: sized(played([*[15.0] * 8, 15.0]), 3)),
    ("work_keeps_a_replica", lambda: sized(played(BUSY, **ZERO), 0)),
    ("work_wakes", lambda: sized(played([16.0], size=0, **ZERO), 0)),
    ("zero_is_earned", lambda: sized(played(IDLE), 0)),
    ("zero_is_earned", lambda: sized(played([*IDLE, 4.0, 0.0], **ZERO), 0)),
    ("zero_is_earned", lambda: sized(played([0.0, 0.0], **ZERO), 0)),
    ("rest_comes", lambda: sized(played([0.0] * 5, size=1, **ZERO), 1)),
    ("rest_comes", lambda: sized(played([2.0] * 5, size=1, **WOKEN), 1)),
    ("rest_comes", lambda: sized(played([2.0], size=0, **WOKEN), 1)),
    ("within_budgets", lambda: sized(played(BUSY, budget={"gpus": 4}), 5)),
    ("within_budgets", lambda: sized(played(BUSY, budget={"usd_per_hour": 8.5}, bounds={"price_usd_per_hour": 2}), 5)),
    ("within_the_blast_radius", lambda: sized(played(BUSY, blast_radius={"share": 0.5}), 1)),
    ("within_the_blast_radius", lambda: sized(played([16.0, 32.0, *IDLE], blast_radius={"share": 0.5}), 2)),
    ("maintenance_holds", lambda: sized(played(BUSY, maintenance={"windows": [ALWAYS]}), 5)),
    ("maintenance_holds", lambda: sized(played(BUSY, maintenance={"windows": [ALWAYS | {"mode": "no_scale_in"}]}), 3)),
    ("a_hand_is_obeyed", lambda: sized(played(BUSY, override={"replicas": 6, "until": "2099-01-01T00:00Z"}), 4)),
    ("targets_are_whole_quanta", lambda: sized(played(BUSY, bounds={"quantum": 2}), 5)),
    ("targets_are_whole_quanta", lambda: sized(played(IDLE, bounds={"quantum": 4}), 3)),
    ("quotas_are_heeded", lambda: failing(PoolStatus(0, 0), 2, quota=True, first=5)),
    ("failed_is_no_supply", lambda: failing(PoolStatus(0, 0), 0)),
    ("failed_is_no_supply", lambda: failing(PoolStatus(1, 1), 1, first=3)),
    ("sizes_add_up", lambda: decided(played(BUSY), target=3)),
    ("sizes_add_up", lambda: decided(played(BUSY), ready=3)),
    ("sizes_add_up", lambda: pool(played(BUSY), Absent("no answer"))),
    ("reasons_are_given", lambda: decided(played(BUSY), steps=())),
    ("reasons_are_given", lambda: decided(played(BUSY), steps=(Step(RuleId.DEMAND, 4.0, " "),))),
    ("reasons_are_given", lambda: decided(played(BUSY), steps=(Step(RuleId.DEMAND, 3.0, "so it is"),))),
    ("reasons_are_given", lambda: decided(played(BUSY), recommendations=())),
    ("reasons_are_given", lambda: ticked(played(BUSY), outcomes=(Outcome(POOL, 4, 5, Result.CONFLICT),))),
    ("outcomes_match", lambda: ticked(played(BUSY), outcomes=())),
    ("outcomes_match", lambda: ticked(played(BUSY), outcomes=(Outcome(POOL, 4, 5, Result.ACCEPTED),))),
    ("outcomes_match", lambda: ticked(played(BUSY), outcomes=(Outcome(POOL, 4, 4, Result.ACCEPTED),))),
    ("numbers_are_finite", lambda: decided(played(BUSY), demand=float("nan"))),
    ("numbers_are_finite", lambda: decided(played(BUSY), steps=(Step(RuleId.DEMAND, float("inf"), "much"),))),
    ("numbers_are_finite", lambda: decided(played(BUSY), capped_need=-1)),
    ("numbers_are_finite", lambda: decided(played(BUSY), ready=4.5)),
    ("the_journal_keeps_it", lambda: ticked(played(BUSY), lateness_s=float("inf"))),
    ("the_journal_keeps_it", lambda: ticked(played(BUSY), outcomes=[])),
    ("decided_again_is_the_same", lambda: decided(played(BUSY), capped_need=5)),
    ("decided_again_is_the_same", lambda: ticked(played(BUSY), history_len=3)),
    ("turns_follow_each_other", lambda: decided(played(BUSY), at=AT)),
    ("turns_follow_each_other", lambda: dataclasses.replace(played(BUSY), past=played(BUSY).past[:-1])),
]


@pytest.mark.parametrize(("name", "bad"), BAD, ids=[f"{name} {k}" for k, (name, _) in enumerate(BAD)])
def test_an_invariant_complains_of_a_turn_that_breaks_it(name: str, bad: Callable[[], Turn]) -> None:
    (invariant,) = (i for i in INVARIANTS if i.__name__ == name)
    assert [what.name for what in broken(bad(), [invariant])] == [name]


def test_every_invariant_is_made_to_complain() -> None:
    assert [i.__name__ for i in INVARIANTS] == list(dict.fromkeys(name for name, _ in BAD))


@pytest.mark.parametrize(
    "turn",
    [
        pytest.param(lambda: played(BUSY), id="steady"),
        pytest.param(lambda: played([*BUSY, 32.0]), id="growing"),
        pytest.param(lambda: played([*BUSY, *IDLE]), id="shrinking"),
        pytest.param(lambda: played([*BUSY, None]), id="blind"),
        pytest.param(lambda: played([*BUSY, *IDLE], **ZERO), id="going to zero"),
        pytest.param(lambda: played([4.0], size=0, **ZERO), id="waking"),
        pytest.param(lambda: played([*BUSY, 2.0, 2.0, 2.0], **WOKEN), id="going to zero with a need left"),
        pytest.param(lambda: played([*BUSY, *IDLE], paused=True), id="paused"),
        pytest.param(lambda: lied(played([*BUSY, 0.0])), id="lied to"),
        pytest.param(lambda: liar([*BUSY, *LIE, *BUSY, *LIE]), id="lied to again"),
        pytest.param(lambda: played(IDLE, size=12), id="found above the maximum"),
        pytest.param(lambda: played([*BUSY, 32.0], budget={"gpus": 4}), id="at the budget"),
        pytest.param(lambda: played([*BUSY, *IDLE], blast_radius={"share": 0.25}), id="within the blast radius"),
        pytest.param(lambda: played([*BUSY, 32.0], maintenance={"windows": [ALWAYS]}), id="in maintenance"),
        pytest.param(lambda: played(BUSY, override={"replicas": 6, "until": "2099-01-01T00:00Z"}), id="set by hand"),
    ],
)
def test_no_invariant_complains_of_a_sound_turn(turn: Callable[[], Turn]) -> None:
    assert [str(what) for what in broken(turn())] == []


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        pytest.param(
            "quotas_are_heeded", lambda: failing(PoolStatus(0, 0), 2, quota=True), id="the quota is left alone"
        ),
        pytest.param("quotas_are_heeded", lambda: failing(PoolStatus(0, 0), 0, first=5), id="capacity may come"),
        pytest.param("failed_is_no_supply", lambda: failing(PoolStatus(0, 0), 2), id="asked elsewhere"),
        pytest.param("failed_is_no_supply", lambda: failing(PoolStatus(2, 0), 2), id="on its way elsewhere"),
        pytest.param("failed_is_no_supply", lambda: failing(PoolStatus(1, 0, failed=1), 1), id="nothing elsewhere"),
        pytest.param("failed_is_no_supply", lambda: failing(PoolStatus(0, 0), 0, first=2), id="no longer wanted"),
        pytest.param(
            "failed_is_no_supply",
            lambda: decided(failing(PoolStatus(0, 0), 0), capped_need=2),
            id="kept by a window alone",
        ),
        pytest.param("targets_are_whole_quanta", lambda: sized(played(BUSY, bounds={"quantum": 3}), 4), id="as found"),
    ],
)
def test_an_invariant_of_supply_lets_a_sound_turn_pass(name: str, turn: Callable[[], Turn]) -> None:
    (invariant,) = (i for i in INVARIANTS if i.__name__ == name)
    assert [str(what) for what in broken(turn(), [invariant])] == []
