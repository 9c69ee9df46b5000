"""`decide`: from an observation to the size of each pool, stage by stage.

`STAGES` is the whole way: sanitize -> recommend -> cap -> stabilize -> allocate -> enforce.
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
from policies.model import Absent, Decision, Evidence, Fresh, Observation, Recommendation, RuleId, Stale, Step
from policies.model.spec import WorkloadSpec
from policies.recommend.context import RuleContext, apply_rules
from policies.recommend.evaluate import evaluate
from policies.signals.demand import equivalents, whole_replicas
from policies.signals.plausibility import plausible
from policies.signals.zero_suspicion import SuspicionLimits, without_suspected_zeros
from policies.stabilize.rules import GIVE_WAY, STABILIZE, keep_while_full

NOTHING_PLACED: Final = Allocation((), None, {})
"""The allocation while a pool's size is unknown: nothing is written."""


@dataclass(slots=True)
class DecisionState:
    """One tick on its way to a decision. Each stage reads what the stages before it found and sets its own part.

    `requested` is the size that the winning recommendation asks for before any cap, `size` the size so far. `context`
    is what the rules see. `is_held` ends the way early: a pool's size is unknown, so nothing is written.
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
    allocation: Allocation = NOTHING_PLACED
    is_held: bool = False

    def decision(self) -> Decision:
        """Return what was decided."""
        placed, pools = self.allocation, self.observation.pools
        targets = {**placed.headroom, **placed.targets}
        return Decision(
            at=self.observation.at,
            recommendations=self.recommendations,
            demand=self.demand,
            capped_need=self.capped_need,
            active=self.active,
            may_scale_in=not self.missing_evidence,
            current=self.supply.current,
            ready=self.supply.ready,
            target=placed.target,
            steps=(*self.steps, *placed.steps),
            targets=targets,
            abandoned=placed.abandoned,
            cost_usd_per_hour=allocator.cost_usd_per_hour(self.spec, pools, targets, placed.abandoned),
            suspected_zeros=self.suspected_zeros,
        )


def decide(spec: WorkloadSpec, history: History, observation: Observation) -> Decision:
    """Return the size that this workload should have, and why: a pure function of its arguments."""
    state = DecisionState(spec, history, observation)
    for stage in STAGES:
        if state.is_held:
            break
        stage(state)
    return state.decision()


def sanitize(state: DecisionState) -> None:
    """Keep of the observation what can be believed, and count the supply that it shows."""
    seen, history = state.observation, state.history
    spec = state.spec = with_override_bounds(state.spec, seen.at)
    seen = with_accepted_sizes(plausible(seen), history)
    limits = SuspicionLimits(spec.scale_down.window_s, spec.interval_s)
    state.suspected_zeros = history.zero_suspicion.suspected(seen, limits)
    if state.suspected_zeros:
        seen = dataclasses.replace(seen, readings=without_suspected_zeros(seen.readings, state.suspected_zeros))
    state.observation = seen
    state.supply = allocator.serving_supply(spec, history, seen)


def with_accepted_sizes(seen: Observation, history: History) -> Observation:
    """Return the observation with what was requested of pools that could not be read since, where that is more.

    A pool that was read at 2, was then set to 8 and cannot be read now has 8 as far as limits are concerned.
    """
    raised = {
        name: dataclasses.replace(reading, value=dataclasses.replace(reading.value, desired=requested))
        for name, reading in seen.pools.items()
        if isinstance(reading, Stale)
        and (requested := history.pool_memories.of(name).requested) > reading.value.desired
    }
    return dataclasses.replace(seen, pools={**seen.pools, **raised}) if raised else seen


def recommend(state: DecisionState) -> None:
    """Evaluate every policy; the largest need wins. Where a pool's size is unknown, hold: nothing follows."""
    spec, history, seen, supply = state.spec, state.history, state.observation, state.supply
    made = evaluate(spec, history, seen, supply.ready, supply.current)
    state.recommendations, state.demand, state.winner = made.recommendations, made.demand, made.winner
    need = None if made.winner is None else made.winner.need
    state.active = any(r.active for r in made.recommendations)
    lacking = [str(r.policy) for r in made.recommendations if r.evidence is not Evidence.FULL]
    lacking += [f"the size of {name}" for name, r in seen.pools.items() if not isinstance(r, Fresh)]
    state.missing_evidence = ", ".join(lacking)
    if supply.current is None:
        absent = "; ".join(f"{name}: {r.reason}" for name, r in seen.pools.items() if isinstance(r, Absent))
        state.steps.append(Step(RuleId.SIZE_UNKNOWN, None, f"hold, a pool's size is not known ({absent})"))
        state.capped_need = None if need is None else whole_replicas(need)
        state.is_held = True
        return
    state.context = RuleContext(
        spec,
        history,
        seen.at,
        need,
        supply.current,
        state.active,
        not lacking,
        state.missing_evidence,
        seen,
        supply.sizes,
        {name: r.value.desired for name, r in seen.pools.items() if not isinstance(r, Absent)},
        supply.ready,
        made.recommendations,
        made.full,
        need_without_latency=made.need_without_latency,
    )


def cap(state: DecisionState) -> None:
    """Turn the winning need into whole replicas, and cap it by what helps and what budgets allow."""
    s, winner, steps = state.context, state.winner, state.steps
    if winner is None or s.need is None:
        state.requested = state.size = s.current
        steps.append(Step(RuleId.BLIND, s.current, f"hold, no policy states a need ({s.missing_evidence})"))
        return
    steps.append(Step(RuleId.DEMAND, s.need, f"{winner.policy} wants {s.need:.2f}: {winner.reason}"))
    stabilized = None if winner.replicas == s.need else winner.replicas
    state.requested = apply_rules((keep_while_full,), whole_replicas(s.need), s, steps)
    state.size = state.capped_need = apply_rules(CAPS, state.requested, s, steps if stabilized is None else [])
    if stabilized is not None:
        state.requested = whole_replicas(stabilized)
        reason = f"{winner.policy}'s own windows and limits make it {state.requested}"
        steps.append(Step(RuleId.OWN_LIMITS, state.requested, reason))
        state.size = apply_rules(CAPS, state.requested, s, steps)


def stabilize(state: DecisionState) -> None:
    """Make the need a steady size within the workload's limits. A policy that owns stabilization skips the windows."""
    s, capped = state.context, state.context
    rules = STABILIZE
    if any(p.owns_stabilization for p in state.spec.policies.values()):
        rules = GIVE_WAY if state.size < min(state.requested, s.current) else ()
    if state.size != state.requested:
        capped = dataclasses.replace(s, need=float(state.size))
    size = apply_rules(rules, state.size, capped, state.steps)
    state.size = apply_rules(SIZE_LIMITS, size, s, state.steps)


def allocate(state: DecisionState) -> None:
    """Share the size out over the pools: as a policy does it by itself, in the order listed, or by cost."""
    size = state.size
    split = next((r.pools for r in state.recommendations if r.pools and sum(r.pools.values()) == size), None)
    state.allocation = allocator.place(state.context, (), size, split)


def enforce(state: DecisionState) -> None:
    """Have every limit hold for the pools' targets. A size below the present one was allowed to fall: see `full`."""
    s, placed = state.context, state.allocation
    planned = min(float(state.size), equivalents(s.spec, {**s.sizes, **placed.targets}))
    full = "" if state.size < s.current else s.full
    s = dataclasses.replace(s, full=full, abandoned=placed.abandoned, planned=planned)
    steps, allowed = enforce_targets({**placed.headroom, **placed.targets}, s)
    state.allocation = placed.corrected(s, steps, allowed)


Stage = Callable[[DecisionState], None]
STAGES: Final[tuple[Stage, ...]] = (sanitize, recommend, cap, stabilize, allocate, enforce)
"""The stages of a decision, in order."""
