"""The decision of one tick, from an observation to the size of each pool.

`decide` runs `STAGES`: sanitize -> recommend -> cap -> stabilize -> allocate -> enforce. Then it splits the requests of
each route.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from policies.allocate import allocator
from policies.allocate.allocator import Allocation, ServingSupply
from policies.guard.bounds import with_override_bounds
from policies.guard.caps import CAPS
from policies.guard.enforce import SIZE_LIMITS, enforce_targets
from policies.history.ticks import History
from policies.model import Absent, Decision, Evidence, Fresh, Observation, PoolName, Recommendation, RuleId, Stale, Step
from policies.model.spec import WorkloadSpec
from policies.recommend.context import RuleContext, apply_rules
from policies.recommend.evaluate import evaluate
from policies.route.drain import with_drained_pools
from policies.route.group import with_handed_demand
from policies.route.size import with_routed_demand
from policies.route.split import split_routes
from policies.signals.demand import equivalents, whole_replicas
from policies.signals.plausibility import plausible
from policies.signals.zero_suspicion import SuspicionLimits, without_suspected_zeros
from policies.stabilize.rules import OVER_BUDGET, STABILIZE, keep_while_full

NO_ALLOCATION: Final = Allocation((), None, {})
"""The allocation while a pool's size is unknown: nothing is written."""


@dataclass(slots=True)
class DecisionState:
    """The state of one decision. Each stage reads the earlier results and sets its own.

    `requested` is the winner's need in whole replicas before any cap, `size` the size so far, and `context` the context
    of the rules. `is_held` skips the remaining stages: a pool's size is unknown, so nothing is written.
    """

    spec: WorkloadSpec
    history: History
    observation: Observation
    suspected_zeros: Mapping[str, str] = field(default_factory=dict)
    supply: ServingSupply = field(init=False)
    recommendations: tuple[Recommendation, ...] = ()
    winner: Recommendation | None = None
    demand: float | None = None
    active: bool = False
    missing_evidence: str = ""
    context: RuleContext = field(init=False)
    steps: list[Step] = field(default_factory=list)
    requested: int = 0
    size: int = 0
    capped_need: int | None = None
    allocation: Allocation = NO_ALLOCATION
    is_held: bool = False

    def decision(self) -> Decision:
        """Return the decision."""
        allocation, pools = self.allocation, self.observation.pools
        targets = {**allocation.headroom, **allocation.targets}
        return Decision(
            at=self.observation.at,
            recommendations=self.recommendations,
            demand=self.demand,
            capped_need=self.capped_need,
            active=self.active,
            may_scale_in=not self.missing_evidence,
            current=self.supply.current,
            ready=self.supply.ready,
            target=allocation.target,
            steps=(*self.steps, *allocation.steps),
            targets=targets,
            abandoned=allocation.abandoned,
            cost_usd_per_hour=allocator.cost_usd_per_hour(self.spec, pools, targets, allocation.abandoned),
            suspected_zeros=self.suspected_zeros,
        )


def decide(spec: WorkloadSpec, history: History, observation: Observation) -> Decision:
    """Return the size of the workload and each of its pools, with reasons. A pure function."""
    state = DecisionState(spec, history, observation)
    for stage in STAGES:
        if state.is_held:
            break
        stage(state)
    return with_routes(state) if spec.routes else state.decision()


def with_routes(state: DecisionState) -> Decision:
    """Return the decision with the split of each route.

    No pool is emptied before its requests have ended.
    """
    spec, observation, decision = state.spec, state.observation, state.decision()
    routes = split_routes(spec, state.history, observation, decision)
    return dataclasses.replace(with_drained_pools(spec, observation, decision, routes), routes=routes)


def sanitize(state: DecisionState) -> None:
    """Remove implausible values and suspected false zeros, and count the supply."""
    observation, history = state.observation, state.history
    spec = state.spec = with_override_bounds(state.spec, observation.at)
    observation = with_requested_sizes(plausible(observation), history)
    limits = SuspicionLimits(spec.scale_down.window_s, spec.interval_s)
    zeros = state.suspected_zeros = history.zero_suspicion.suspected(observation, limits)
    if zeros:
        readings = without_suspected_zeros(observation.readings, zeros)
        observation = dataclasses.replace(observation, readings=readings)
    state.observation = observation
    state.supply = allocator.serving_supply(spec, history, observation)


def with_requested_sizes(observation: Observation, history: History) -> Observation:
    """Return the observation with the last requested size of each unreadable pool, if larger.

    Example: a pool was read at 2, then set to 8, and cannot be read now: it counts as 8.
    """
    raised = {
        name: dataclasses.replace(reading, value=dataclasses.replace(reading.value, desired=requested))
        for name, reading in observation.pools.items()
        if isinstance(reading, Stale)
        and (requested := history.pool_memories.of(name).requested) > reading.value.desired
    }
    return dataclasses.replace(observation, pools={**observation.pools, **raised}) if raised else observation


def possible_sizes(observation: Observation, history: History) -> dict[PoolName, int]:
    """Return the size that each pool may hold, for the limits on what the pools hold together.

    Example: a pool was read at 2, a write of 8 had no response, and it cannot be read now: 8.
    """
    memories = history.pool_memories
    return {
        name: max(r.value.desired, memories.of(name).possible) if isinstance(r, Stale) else r.value.desired
        for name, r in observation.pools.items()
        if not isinstance(r, Absent)
    }


def recommend(state: DecisionState) -> None:
    """Evaluate every policy; the largest need wins. Hold where a pool's size is unknown."""
    spec, history, observation, supply = state.spec, state.history, state.observation, state.supply
    evaluated = evaluate(spec, history, observation, supply.ready, supply.current)
    if spec.routes:
        evaluated = with_routed_demand(evaluated, spec, history, observation, supply.current)
    if spec.group is not None:
        evaluated = with_handed_demand(evaluated, spec, observation, supply.current)
    state.recommendations, state.demand, state.winner = evaluated.recommendations, evaluated.demand, evaluated.winner
    need = None if evaluated.winner is None else evaluated.winner.need
    state.active = any(r.active for r in evaluated.recommendations)
    missing = [f"policy {r.policy}" for r in evaluated.recommendations if r.evidence is not Evidence.FULL]
    missing += [f"the size of pool {name}" for name, r in observation.pools.items() if not isinstance(r, Fresh)]
    state.missing_evidence = ", ".join(missing)
    if supply.current is None:
        absent = "; ".join(f"{name}: {r.reason}" for name, r in observation.pools.items() if isinstance(r, Absent))
        state.steps.append(Step(RuleId.SIZE_UNKNOWN, None, f"no resize: the size of a pool is unknown ({absent})"))
        state.capped_need = None if need is None else whole_replicas(need)
        state.is_held = True
        return
    state.context = RuleContext(
        spec,
        history,
        observation.at,
        need,
        supply.current,
        state.active,
        not missing,
        state.missing_evidence,
        observation,
        supply.sizes,
        possible_sizes(observation, history),
        supply.ready,
        evaluated.recommendations,
        evaluated.full_reason,
        need_without_latency=evaluated.need_without_latency,
    )


def cap(state: DecisionState) -> None:
    """Round the winning need up to whole replicas, and cap it by SLO feasibility and budgets."""
    context, winner, steps = state.context, state.winner, state.steps
    if winner is None or context.need is None:
        state.requested = state.size = context.current
        reason = f"no policy recommends a size; missing: {context.missing_evidence}"
        steps.append(Step(RuleId.BLIND, context.current, reason))
        return
    steps.append(Step(RuleId.DEMAND, context.need, f"{winner.policy} recommends {context.need:.2f}: {winner.reason}"))
    stabilized = None if winner.replicas == context.need else winner.replicas
    state.requested = apply_rules((keep_while_full,), whole_replicas(context.need), context, steps)
    state.size = state.capped_need = apply_rules(CAPS, state.requested, context, steps if stabilized is None else [])
    if stabilized is not None:
        state.requested = whole_replicas(stabilized)
        reason = f"the own windows and limits of {winner.policy} allow {state.requested}"
        steps.append(Step(RuleId.OWN_LIMITS, state.requested, reason))
        state.size = apply_rules(CAPS, state.requested, context, steps)


def stabilize(state: DecisionState) -> None:
    """Stabilize the size, unless a policy owns stabilization, and apply the limits on it."""
    context = capped = state.context
    rules = STABILIZE
    if any(p.owns_stabilization for p in state.spec.policies.values()):
        rules = OVER_BUDGET if state.size < min(state.requested, context.current) else ()
    if state.size != state.requested:
        capped = dataclasses.replace(context, need=float(state.size))
    size = apply_rules(rules, state.size, capped, state.steps)
    state.size = apply_rules(SIZE_LIMITS, size, context, state.steps)


def allocate(state: DecisionState) -> None:
    """Split the size over the pools: by a policy's own split, in the order listed, or by cost."""
    splits = (r.pools for r in state.recommendations if r.pools and sum(r.pools.values()) >= state.size)
    split = next((reduced_split(pools, state.size) for pools in splits), None)
    state.allocation = allocator.place(state.context, state.size, split)


def reduced_split(pools: Mapping[PoolName, int], size: int) -> Mapping[PoolName, int]:
    """Return a policy's own split without the replicas beyond `size`.

    The last pool gives up its replicas first.
    Example: 4 on spot and 3 on demand, reduced to a size of 5: 4 on spot and 1 on demand.
    """
    reduced, left = {}, size
    for name, replicas in pools.items():
        reduced[name] = min(replicas, left)
        left -= reduced[name]
    return reduced


def enforce(state: DecisionState) -> None:
    """Apply every limit to the pools' targets. Full replicas keep no pool if the size falls."""
    context, allocation = state.context, state.allocation
    targets = {**allocation.headroom, **allocation.targets}
    if all(context.desired[name] == target for name, target in targets.items()):
        return  # a limit only moves a target towards the current size
    planned = min(float(state.size), equivalents(context.spec, {**context.sizes, **allocation.targets}))
    full_reason = "" if state.size < context.current else context.full_reason
    context = dataclasses.replace(context, full_reason=full_reason, abandoned=allocation.abandoned, planned=planned)
    steps, allowed = enforce_targets(targets, context)
    state.allocation = allocation.corrected(context, steps, allowed)


Stage = Callable[[DecisionState], None]
STAGES: Final[tuple[Stage, ...]] = (sanitize, recommend, cap, stabilize, allocate, enforce)
"""The stages of a decision, in order."""
