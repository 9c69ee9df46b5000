"""Laws of the pure core: they hold for every workload, history and fault."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policies.allocate.in_order import allocate
from policies.history.ticks import COLUMNS, History
from policies.model import Evidence, Fresh, Observation, PoolName, SignalName
from policies.model.pool import Pool
from policies.pipeline import decide
from scaler.journal.codec import decode_tick, encode_tick
from tests.laws import LAW, law
from tests.policies.random_workloads import RunTick, WorkloadRun, workload_runs

VISIBLE = SignalName("queue.visible")


def sizes(observation: Observation) -> dict[PoolName, int]:
    """Return the sizes of the pools with a fresh status."""
    return {name: r.value.desired for name, r in observation.pools.items() if isinstance(r, Fresh)}


def is_blind(tick: RunTick) -> bool:
    return any(r.evidence is not Evidence.FULL for r in tick.decision.recommendations)


def earlier(run: WorkloadRun, tick: RunTick, window_s: float) -> Iterator[RunTick]:
    """Return the ticks of the `window_s` before `tick`."""
    at = tick.decision.at
    return (t for t in run.ticks if at - window_s <= t.decision.at < at)


@LAW
@given(workload_runs())
def test_blind_tick_never_scales_in(run: WorkloadRun) -> None:
    for tick in run.ticks:
        if is_blind(tick):
            current = sizes(tick.observation)
            assert all(target >= current[pool] for pool, target in tick.decision.targets.items())


@LAW
@given(workload_runs())
def test_targets_stay_within_bounds_or_no_further_outside_than_before(run: WorkloadRun) -> None:
    spec = run.spec
    for tick in run.ticks:
        decision, current = tick.decision, sizes(tick.observation)
        if decision.target is None or decision.current is None:
            continue
        low, high = spec.min_replicas, spec.max_replicas
        assert min(low, decision.current) <= decision.target <= max(high, decision.current)
        if decision.may_scale_in and decision.targets.keys() == spec.pools.keys():
            assert low <= decision.target <= high
        for pool, target in decision.targets.items():
            limit = spec.pools[pool].max_replicas
            assert target <= max(current[pool], spec.max_replicas if limit is None else limit)
            assert target >= min(current[pool], spec.pools[pool].min_replicas)


@pytest.mark.slow
@LAW
@given(workload_runs())
def test_decide_is_deterministic_and_does_not_change_the_history(run: WorkloadRun) -> None:
    history = History(7200.0)
    for tick in run.ticks:
        before = [history.column(c).tobytes() for c in range(len(COLUMNS))], len(history.lead_times)
        assert decide(run.spec, history, tick.observation) == tick.decision
        assert decide(run.spec, history, tick.observation) == tick.decision
        assert ([history.column(c).tobytes() for c in range(len(COLUMNS))], len(history.lead_times)) == before
        history.append(tick.record)


@LAW
@given(workload_runs())
def test_pools_with_stale_status_or_another_writer_are_not_resized(run: WorkloadRun) -> None:
    for tick in run.ticks:
        for pool in tick.decision.targets:
            status = tick.observation.pools[pool]
            assert isinstance(status, Fresh)
            assert status.value.other_writer is None or run.spec.pools[pool].on_other_writer == "take_over"


@LAW
@given(workload_runs(paused=True))
def test_paused_workload_writes_no_targets(run: WorkloadRun) -> None:
    assert all(not tick.decision.targets for tick in run.ticks)


@pytest.mark.slow
@LAW
@given(workload_runs(), st.sampled_from((1.0, 10.0, 1000.0)))
def test_more_messages_never_lower_the_need(run: WorkloadRun, more: float) -> None:
    observation = run.ticks[-1].observation
    reading = observation.readings[VISIBLE]
    assume(isinstance(reading, Fresh))
    assert isinstance(reading, Fresh)
    more_readings = {**observation.readings, VISIBLE: dataclasses.replace(reading, value=reading.value + more)}
    before = decide(run.spec, run.history, observation)
    after = decide(run.spec, run.history, dataclasses.replace(observation, readings=more_readings))
    assume(not before.suspected_zeros)
    assert before.capped_need is not None
    assert after.capped_need is not None
    assert after.capped_need >= before.capped_need


@LAW
@given(workload_runs(calm=True))
def test_scale_in_never_exceeds_the_limit_per_period(run: WorkloadRun) -> None:
    rule = run.spec.scale_down
    for tick in run.ticks:
        target, current = tick.decision.target, tick.decision.current
        if target is None or current is None or target >= current:
            continue
        decided = [t.decision.target for t in earlier(run, tick, rule.period_s)]
        start = max([current, *(d for d in decided if d is not None)])
        allowed = max(rule.max_replicas, math.ceil(start * rule.max_share))
        above = current > run.spec.max_replicas  # a size above the maximum returns to it at once
        assert start - target <= allowed or (above and target == run.spec.max_replicas)


@LAW
@given(workload_runs(calm=True))
def test_scale_out_never_exceeds_the_limit_per_period(run: WorkloadRun) -> None:
    rule, spec = run.spec.scale_up, run.spec
    minimum = max(spec.min_replicas, sum(p.min_replicas for p in spec.pools.values()))
    for tick in run.ticks:
        target, current = tick.decision.target, tick.decision.current
        if target is None or current is None or target <= current:
            continue
        decided = [t.decision.target for t in earlier(run, tick, rule.period_s)]
        start = min([current, *(d for d in decided if d is not None)])
        allowed = max(rule.max_replicas, math.ceil(start * rule.max_share))
        lifted = sum(max(0, p.min_replicas - sizes(tick.observation)[n]) for n, p in spec.pools.items())
        # A size below the minimum returns to it at once.
        assert target - start <= allowed or target <= max(minimum, current + lifted)


@LAW
@given(workload_runs())
def test_active_workload_does_not_scale_to_zero_within_the_cooldown(run: WorkloadRun) -> None:
    for tick in run.ticks:
        if tick.decision.target == 0 and tick.decision.current:
            assert not tick.decision.active
            assert not any(t.decision.active for t in earlier(run, tick, run.spec.cooldown_s))
            assert run.spec.min_replicas == 0


@pytest.mark.slow
@LAW
@given(workload_runs())
def test_tick_survives_a_journal_round_trip(run: WorkloadRun) -> None:
    for tick in run.ticks:
        assert decode_tick(json.loads(json.dumps(encode_tick(tick.record)))) == tick.record


@st.composite
def allocate_arguments(draw: st.DrawFn) -> tuple[int, dict[PoolName, int], dict[PoolName, Pool], set[PoolName], int]:
    """Draw the arguments of `allocate`: sizes inside and outside the pools' bounds, and some pinned pools."""
    names = [PoolName(n) for n in "abcd"[: draw(st.integers(1, 4))]]
    pools = {}
    for name in names:
        minimum = draw(st.integers(0, 4))
        pools[name] = Pool(min_replicas=minimum, max_replicas=draw(st.none() | st.integers(minimum, 12)))
    current = {name: draw(st.integers(0, 14)) for name in names}
    cap = draw(st.integers(sum(p.min_replicas for p in pools.values()) or 1, 30))
    return draw(st.integers(0, cap)), current, pools, set(draw(st.sets(st.sampled_from(names)))), cap


@law(600)
@given(allocate_arguments())
def test_allocate_moves_no_replica_between_pools_in_one_tick(
    arguments: tuple[int, dict[PoolName, int], dict[PoolName, Pool], set[PoolName], int],
) -> None:
    target, current, pools, pinned, cap = arguments
    targets = allocate(target, current, pools, pinned, cap)
    grew = [n for n, size in targets.items() if size > current[n]]
    shrank = [n for n, size in targets.items() if size < current[n]]
    assert targets.keys() == pools.keys() - pinned
    if target >= sum(current.values()):
        assert not shrank
    assert all(targets[n] <= pools[n].min_replicas for n in grew) or not shrank
    assert sum(current[n] - targets[n] for n in shrank) <= max(0, sum(current.values()) - target)


@pytest.mark.slow
@law(600)
@given(allocate_arguments())
def test_allocate_gets_as_close_to_the_target_as_the_pools_allow(
    arguments: tuple[int, dict[PoolName, int], dict[PoolName, Pool], set[PoolName], int],
) -> None:
    target, current, pools, pinned, cap = arguments
    targets = allocate(target, current, pools, pinned, cap)
    total = sum({**current, **targets}.values())
    limits = {n: pools[n].max_replicas for n in targets}
    maximums = {n: max(current[n], cap if limit is None else limit) for n, limit in limits.items()}
    assert all(min(current[n], pools[n].min_replicas) <= size <= maximums[n] for n, size in targets.items())
    assert total <= max(cap, sum(current.values()))
    if total < target:
        assert all(size == maximums[n] for n, size in targets.items())
    if total > target:
        assert all(size <= max(current[n], pools[n].min_replicas) for n, size in targets.items())
