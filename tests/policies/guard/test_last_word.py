"""All limits of the guard hold together, whatever the targets and the order of the rules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.guard.bounds import with_override_bounds
from policies.guard.budget import gpus, usd_per_hour
from policies.guard.enforce import TARGET_LIMITS, enforce_targets
from policies.history.ticks import DESIRED, History
from policies.model import Evidence, Fresh, PoolName, PoolStatus, RuleId, Shortfall
from policies.model.limits import Budget, Maintenance, MaintenanceWindow
from policies.model.pool import Pool
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from policies.recommend.context import RuleContext
from tests.factories import NOW, queue, seen, spec, tick_of
from tests.laws import law
from tests.policies.guard.states import State, states

A, B = PoolName("a"), PoolName("b")
NOISE = 1e-6


def rule_context(state: State, *, may_scale_in: bool) -> RuleContext:
    serving, desired = state.serving, state.desired
    size = sum(serving.values())
    return RuleContext(
        with_override_bounds(state.spec, NOW),
        state.history,
        NOW,
        float(size),
        size,
        True,
        may_scale_in,
        "",
        state.observation,
        serving,
        desired,
        size,
        (),
    )


def removal_limits(state: State) -> Iterator[tuple[int, int]]:
    """Yield the maximum removals of each blast radius in its window, and those made already."""
    radius, grant = state.spec.blast_radius, state.observation.grant
    if radius.share < 1.0:
        sizes = [*state.history.column(DESIRED, NOW - radius.window_s).tolist(), float(sum(state.desired.values()))]
        removed = sum(max(0.0, before - after) for before, after in itertools.pairwise(sizes))
        yield max(1, math.floor(radius.share * max(sizes) + NOISE)), round(removed)
    if grant is not None and grant.removable is not None:
        yield int(grant.removable.most) + grant.removed, grant.removed


def violations(state: State, targets: Mapping[PoolName, int], *, may_scale_in: bool) -> Iterator[str]:
    """Yield every limit that these targets violate."""
    workload, desired = with_override_bounds(state.spec, NOW), state.desired
    after = {**desired, **targets}
    serving = {n: after[n] for n in state.serving}
    if sum(serving.values()) > max(workload.max_replicas, sum(state.serving.values())):
        yield f"{sum(serving.values())} serve, at most {workload.max_replicas}"
    yield from _pool_violations(workload, desired, targets)
    yield from _budget_violations(state, desired, after)
    removals = {n: desired[n] - size for n, size in targets.items() if size < desired[n]}
    if removals and not may_scale_in:
        yield f"{removals} go without evidence"
    overridden = workload.override is not None and workload.override.in_force(NOW)
    for window in () if overridden else workload.maintenance.windows:
        if removals and window.mode in {"hold", "no_scale_in"}:
            yield f"{removals} go in maintenance"
        if window.mode in {"hold", "no_scale_out"} and any(size > desired[n] for n, size in targets.items()):
            yield "growth in maintenance"
    alone = max(workload.pools[n].quantum for n in removals) if len(removals) == 1 else 1
    for maximum, removed in removal_limits(state):
        if removals and sum(removals.values()) + removed > max(maximum, alone):
            yield f"{removals} go and {removed} went of {maximum}"


def _pool_violations(
    workload: WorkloadSpec, desired: Mapping[PoolName, int], targets: Mapping[PoolName, int]
) -> Iterator[str]:
    for name, size in targets.items():
        pool = workload.pools[name]
        maximum = workload.max_replicas if pool.max_replicas is None else pool.max_replicas
        if size > max(maximum, desired[name]):
            yield f"{name} {size}, at most {maximum}"
        if size != desired[name] and size % pool.quantum:
            yield f"{name} {desired[name]} -> {size}, by {pool.quantum}"


def _budget_violations(state: State, desired: Mapping[PoolName, int], after: Mapping[PoolName, int]) -> Iterator[str]:
    workload, grant = state.spec, state.observation.grant
    limits: list[tuple[float | None, Any]] = [
        (workload.budget.gpus, gpus),
        (workload.budget.usd_per_hour, usd_per_hour),
    ]
    if grant is not None:
        limits += [(q.most, unit) for q, unit in ((grant.gpus, gpus), (grant.usd_per_hour, usd_per_hour)) if q]
    for limit, unit in limits:
        before, then = (sum(n * unit(workload.pools[p]) for p, n in sizes.items()) for sizes in (desired, after))
        if limit is not None and then > max(limit, before) * (1 + NOISE) + NOISE:
            yield f"{then:g} of {limit:g}, {before:g} desired"


@pytest.mark.slow
@law(300)
@given(states(), st.data())
def test_no_order_of_the_rules_violates_a_limit(state: State, data: st.DataObject) -> None:
    may_scale_in, rules = data.draw(st.booleans()), data.draw(st.permutations(TARGET_LIMITS))
    targets = {n: data.draw(st.integers(0, 70)) for n in state.spec.pools if data.draw(st.integers(0, 5))}
    _, sizes = enforce_targets(dict(targets), rule_context(state, may_scale_in=may_scale_in), rules)
    assert not list(violations(state, sizes, may_scale_in=may_scale_in))
    for name, size in sizes.items():
        low, high = sorted((state.desired[name], targets[name]))
        assert low <= size <= high or targets[name] % state.spec.pools[name].quantum


@pytest.mark.slow
@law(300)
@given(states())
def test_no_decision_violates_a_limit(state: State) -> None:
    decision = decide(state.spec, state.history, state.observation)
    full = all(r.evidence is Evidence.FULL for r in decision.recommendations)
    assert decision.may_scale_in is full
    assert not list(violations(state, decision.targets, may_scale_in=full))


@law(100)
@given(states(), st.data())
def test_enforce_targets_is_idempotent(state: State, data: st.DataObject) -> None:
    targets = {n: data.draw(st.integers(0, 70)) for n in state.spec.pools}
    s = rule_context(state, may_scale_in=True)
    _, sizes = enforce_targets(targets, s)
    assert enforce_targets(sizes, s) == ((), sizes)


NO_SCALE_IN = Maintenance(windows=(MaintenanceWindow(start="00:00", end="00:00", mode="no_scale_in"),))
PRICED = {"a": Pool(price_usd_per_hour=1.0), "b": Pool(price_usd_per_hour=1.0)}


@pytest.mark.parametrize(("most", "taken_over"), [(10, 0), (12, 2), (20, 5)])
def test_replacement_growth_stops_at_the_maximum_during_maintenance(most: int, taken_over: int) -> None:
    failed = PoolStatus(10, 5, failed=5, shortfall=Shortfall(NOW, "no capacity"))
    statuses = {"a": Fresh(failed, NOW), "b": Fresh(PoolStatus(0, 0), NOW)}
    workload = spec(pools=PRICED, max_replicas=most, maintenance=NO_SCALE_IN)
    decision = decide(workload, History(), seen(queue(100), pools=statuses))
    assert decision.abandoned == {A: 5}
    assert dict(decision.targets) == {A: 10, B: taken_over}
    if taken_over < 5:
        assert f"max_replicas {most} allow b {taken_over} instead of 5" in decision.reason


def test_removal_rounded_to_a_quantum_cancels_growth_above_the_maximum() -> None:
    workload = spec(pools={"a": Pool(quantum=4), "b": Pool()}, max_replicas=10)
    state = State(
        workload, seen({}, pools={n: Fresh(PoolStatus(k, k), NOW) for n, k in (("a", 8), ("b", 2))}), History()
    )
    _, sizes = enforce_targets({A: 5, B: 5}, rule_context(state, may_scale_in=True))
    assert sizes == {A: 8, B: 2}


def test_budget_cuts_growth_to_whole_quanta() -> None:
    workload = spec(pools={"a": Pool(quantum=4), "b": Pool()}, max_replicas=30, budget=Budget(gpus=13))
    state = State(
        workload, seen({}, pools={n: Fresh(PoolStatus(k, k), NOW) for n, k in (("a", 4), ("b", 2))}), History()
    )
    steps, sizes = enforce_targets({A: 12, B: 2}, rule_context(state, may_scale_in=True))
    assert sizes == {A: 8, B: 2}
    assert [step.rule for step in steps] == [RuleId.BUDGET, RuleId.QUANTUM]


def test_paused_target_is_the_current_size() -> None:
    """Of 5 requested replicas, 2 were spares beyond the last size."""
    priced = {"a": Pool(price_usd_per_hour=2.0), "b": Pool(price_usd_per_hour=1.0, market="spot")}
    history = History()
    observed = seen(queue(30), pools={"a": Fresh(PoolStatus(1, 1), NOW), "b": Fresh(PoolStatus(2, 2), NOW)})
    history.append(tick_of(observed, decide(spec(pools=priced), history, observed)))
    later = seen(
        queue(30),
        at=NOW + 15.0,
        pools={"a": Fresh(PoolStatus(1, 1), NOW + 15.0), "b": Fresh(PoolStatus(4, 4), NOW + 15.0)},
    )
    decision = decide(spec(pools=priced, paused=True), history, later)
    assert (decision.current, decision.target, decision.targets) == (3, 3, {})


def test_steps_of_a_decision_count_replica_equivalents() -> None:
    """Replicas of a carry 2 each: of 10 equivalents, the budget allows 2 replicas, which are 4 equivalents."""
    pools = {"a": Pool(work_per_replica=2.0, gpus_per_replica=1), "warm": Pool(tier="warm_node", serves=A)}
    statuses = {"a": Fresh(PoolStatus(1, 1), NOW), "warm": Fresh(PoolStatus(3, 3), NOW)}
    workload = spec(pools=pools, max_replicas=8, budget=Budget(gpus=5))
    decision = decide(workload, History(), seen(queue(100), pools=statuses))
    after = [step.replicas for step in decision.steps if step.rule in {RuleId.COST_ALLOCATION, RuleId.BUDGET}]
    assert after[-1] == decision.target
    assert all(replicas is not None and replicas % 2 == 0 for replicas in after)
