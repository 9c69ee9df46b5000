"""Laws of cost allocation for random pools, clouds and faults."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.allocate.quantum import round_up
from policies.history.capacity_backoff import FIRST_S, QUOTA_SHORTEST_S
from policies.history.ticks import History
from policies.model import PoolName, Result
from policies.model.cost_allocation import CostAllocationSpec
from policies.model.pool import Pool
from policies.pipeline import decide
from scaler.journal.codec import decode_tick, encode_tick
from tests.laws import LAW
from tests.policies.allocate.worlds import FakePool, Simulation, workload_over
from tests.policies.random_workloads import Dice

MARKETS = ("spot", "spot", "on_demand", "reserved")


@st.composite
def workloads(draw: st.DrawFn, quanta: Sequence[int] = (1,), limits: Mapping[str, Any] | None = None) -> Simulation:
    """Draw two to four pools that differ, their cloud, and a workload with any price of violations."""
    pools = {}
    for name in "abcd"[: draw(st.integers(2, 4))]:
        minimum, quantum = draw(st.sampled_from((0, 0, 0, 1, 2))), draw(st.sampled_from(quanta))
        pools[name] = Pool(
            market=draw(st.sampled_from(MARKETS)),
            price_usd_per_hour=draw(st.sampled_from((None, 0.0, 0.8, 1.0, 3.0))),
            work_per_replica=draw(st.sampled_from((1.0, 1.0, 0.4, 2.5))),
            min_replicas=minimum,
            max_replicas=draw(st.none() | st.integers(max(1, round_up(minimum, quantum)), 8)),
            quantum=quantum,
            zone=draw(st.sampled_from((None, "x", "y"))),
            accelerator="gpu",
        )
    pools["e"] = Pool(price_usd_per_hour=2.0)  # so that at least one pool can always grow
    workload = workload_over(
        pools,
        max_replicas=draw(st.integers(10, 20)),
        slo_violation_cost_ratio=draw(st.sampled_from((0.01, 19.0, 300.0))),
        cost_allocation=CostAllocationSpec(
            floor_replicas=draw(st.sampled_from((0, 0, 2))), payback_s=draw(st.sampled_from((60.0, 3600.0)))
        ),
        **(limits or {}),
    )
    fake_pools = {}
    for name in workload.pools:
        size = draw(st.integers(0, 4))
        fake_pools[name] = FakePool(size, draw(st.integers(0, size)), start_ticks=draw(st.sampled_from((1, 8, 20))))
    return Simulation(workload, fake_pools)


def inject_faults(sim: Simulation, dice: Dice) -> None:
    """Interrupt, announce, change the capacity, refuse, or reset the counter of each pool, or none of these."""
    for fake_pool in sim.fake_pools.values():
        match dice.pick(range(24)):
            case 23:
                fake_pool.interrupt(dice.pick(range(fake_pool.ready + 1)))
            case 22:
                fake_pool.interruption_pending = dice.pick(range(fake_pool.ready + 1))
            case 21:
                fake_pool.capacity = dice.pick((0, fake_pool.ready + len(fake_pool.starts), 99))
            case 20:
                fake_pool.refusal = dice.pick((None, Result.OUT_OF_CAPACITY, Result.OUT_OF_QUOTA, Result.UNAVAILABLE))
            case 19:
                fake_pool.interrupted = 0
            case _:
                pass


@st.composite
def simulation_runs(
    draw: st.DrawFn, quanta: Sequence[int] = (1,), limits: Mapping[str, Any] | None = None
) -> list[tuple[Simulation, dict[PoolName, FakePool]]]:
    """Draw a run of 5 to 30 ticks; return it with the pools that each tick observed."""
    sim = draw(workloads(quanta, limits))
    observations = []
    seeds = st.just(0) | st.binary(min_size=16, max_size=16).map(lambda b: int.from_bytes(b, "big"))
    for number in draw(st.lists(seeds, min_size=5, max_size=30)):
        dice = Dice(number)
        inject_faults(sim, dice)
        now = {n: dataclasses.replace(p, starts=list(p.starts)) for n, p in sim.fake_pools.items()}
        for fake_pool in now.values():
            fake_pool.tick()
        sim.tick(dice.pick((3.0, 3.0, 0.0, 5.4, 8.0)), blind=dice.one_in(10))
        observations.append((sim, now))
    return observations


@pytest.mark.slow
@LAW
@given(simulation_runs())
def test_no_pool_scales_in_while_blind(run: list[tuple[Simulation, dict[PoolName, FakePool]]]) -> None:
    for tick, (sim, observed) in enumerate(run):
        decision = sim.decisions[tick]
        if not decision.may_scale_in:
            assert all(target >= observed[n].desired for n, target in decision.targets.items())


@pytest.mark.slow
@LAW
@given(simulation_runs())
def test_targets_never_take_serving_replicas_below_the_demand(
    run: list[tuple[Simulation, dict[PoolName, FakePool]]],
) -> None:
    for tick, (sim, observed) in enumerate(run):
        decision = sim.decisions[tick]
        work = {n: p.work_per_replica for n, p in sim.workload.pools.items()}
        remaining = {n: min(p.ready, p.desired) - min(p.interruption_pending, p.ready) for n, p in observed.items()}
        before = sum(n * work[name] for name, n in remaining.items())
        after = sum(min(observed[n].ready, target) * work[n] for n, target in decision.targets.items())
        needed = decision.demand or 0.0
        if decision.target is not None and decision.target < needed:
            needed = decision.target  # the workload's own maximum
        assert after >= min(before, needed) - 1e-6


@pytest.mark.slow
@LAW
@given(simulation_runs())
def test_targets_stay_within_bounds_or_no_further_outside_than_before(
    run: list[tuple[Simulation, dict[PoolName, FakePool]]],
) -> None:
    for tick, (sim, observed) in enumerate(run):
        targets, spec = sim.decisions[tick].targets, sim.workload
        for name, target in targets.items():
            pool = spec.pools[name]
            maximum = spec.max_replicas if pool.max_replicas is None else pool.max_replicas
            assert min(observed[name].desired, pool.min_replicas) <= target <= max(observed[name].desired, maximum)
        assert sum(targets.values()) <= max(spec.max_replicas, sum(p.desired for p in observed.values()))


@pytest.mark.slow
@LAW
@given(simulation_runs())
def test_refusing_pool_does_not_grow_until_its_wait_or_shortage_ends(
    run: list[tuple[Simulation, dict[PoolName, FakePool]]],
) -> None:
    sim = run[-1][0]
    until: dict[PoolName, float] = {}
    for (_, observed), tick in zip(run, sim.ticks, strict=True):
        for outcome in tick.outcomes:
            name, minimum = outcome.pool, sim.workload.pools[outcome.pool].min_replicas
            if observed[name].ready:
                until.pop(name, None)  # replicas may have arrived since, which ends the wait
            assert outcome.after <= max(outcome.before, minimum) or tick.at >= until.get(name, 0.0)
            if outcome.result is Result.OUT_OF_CAPACITY:
                until[name] = tick.at + FIRST_S
            elif outcome.result is Result.OUT_OF_QUOTA:
                until[name] = tick.at + QUOTA_SHORTEST_S


@pytest.mark.slow
@LAW
@given(simulation_runs())
def test_journaled_ticks_replay_to_the_same_decisions(
    run: list[tuple[Simulation, dict[PoolName, FakePool]]],
) -> None:
    sim, history = run[-1][0], History(7200.0)
    for tick, decision in zip(sim.ticks, sim.decisions, strict=True):
        read = decode_tick(json.loads(json.dumps(encode_tick(tick))))
        assert read == tick
        assert decide(sim.workload, history, read.observation) == decision
        history.append(read)


@pytest.mark.slow
@LAW
@given(simulation_runs(), st.floats(-1e6, 1e6))
def test_clock_jump_changes_no_decision(run: list[tuple[Simulation, dict[PoolName, FakePool]]], jump_s: float) -> None:
    sim, history = run[-1][0], History(7200.0)
    jump_s = round(jump_s)
    for tick in sim.ticks[:-1]:
        history.append(tick)
    history.shift(jump_s)
    observation = sim.ticks[-1].observation
    later = dataclasses.replace(observation, at=observation.at + jump_s)
    assert decide(sim.workload, history, later).targets == sim.decisions[-1].targets
