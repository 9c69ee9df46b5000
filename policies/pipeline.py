"""`decide`: demand, then recommendations, stabilization, guard, allocation to pools, and the guard's last word."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from policies import guard
from policies.allocate import Allocation, cost_usd_per_hour, place, serving_supply
from policies.model import Absent, Decision, Evidence, Fresh, Observation, Recommendation, Stale, Step
from policies.recommend.context import PolicyContext, RuleContext
from policies.recommend.need_bounds import bounded, most_needed
from policies.signals import readiness
from policies.signals.demand import equivalents
from policies.signals.plausibility import plausible
from policies.signals.zero_suspicion import SuspicionLimits, without_suspected_zeros
from policies.stabilize import rules as stabilize
from policies.stabilize.pending import keep_pending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from policies.history.ticks import History
    from policies.model.spec import WorkloadSpec

RULES: tuple[Callable[[int, RuleContext], Step | None], ...] = (
    stabilize.apply_tolerance,
    stabilize.stay_awake,
    guard.never_shrink_blind,
    stabilize.apply_scale_up_window,
    stabilize.apply_scale_down_window,
    keep_pending,
    stabilize.rest,
    stabilize.limit_step,
)
"""From need to a steady size, in this order: each takes the size so far. The guard's own come before and after."""
GIVE_WAY: tuple[Callable[[int, RuleContext], Step | None], ...] = (
    guard.never_shrink_blind,
    stabilize.apply_scale_down_window,
    stabilize.limit_step,
)
"""The way down for a policy that settles by itself and is over a budget: its own windows know of none."""


def decide(spec: WorkloadSpec, history: History, seen: Observation) -> Decision:
    """What size this workload should have, and why: a pure function of what was seen and what came before."""
    spec, seen = guard.with_override_bounds(spec, seen.at), with_accepted_sizes(plausible(seen), history)
    doubted = history.zero_suspicion.suspected(seen, SuspicionLimits(spec.scale_down.window_s, spec.interval_s))
    if doubted:
        seen = dataclasses.replace(seen, readings=without_suspected_zeros(seen.readings, doubted))
    there = serving_supply(spec, history, seen)
    sizes, current, ready = there.sizes, there.current, there.ready

    recommendations, demand, full = recommend(spec, history, seen, ready, current)
    need = largest(recommendations)
    active = any(r.active for r in recommendations)
    lacking = [str(r.policy) for r in recommendations if r.evidence is not Evidence.FULL]
    lacking += [f"the size of {name}" for name, r in seen.pools.items() if not isinstance(r, Fresh)]
    may_lower = not lacking

    if current is None:
        absent = "; ".join(f"{name}: {r.reason}" for name, r in seen.pools.items() if isinstance(r, Absent))
        steps: tuple[Step, ...] = (Step("size unknown", None, f"hold, a pool's size is not known ({absent})"),)
        placed = Allocation(steps, None, {})
        wanted = None if need is None else stabilize.whole_replicas(need)
    else:
        why = ", ".join(lacking)
        held = {name: r.value.desired for name, r in seen.pools.items() if not isinstance(r, Absent)}
        situation = RuleContext(
            spec,
            history,
            seen.at,
            need,
            current,
            active,
            may_lower,
            why,
            seen,
            sizes,
            held,
            ready,
            recommendations,
            full,
        )
        steps, size, wanted = settle(recommendations, situation)
        split = next((r.pools for r in recommendations if r.pools and sum(r.pools.values()) == size), None)
        placed = place(situation, steps, size, split)
        if size < current:  # a budget, a bound or the owner lowers it in spite of full replicas
            situation = dataclasses.replace(situation, full="")
        planned = min(float(size), equivalents(spec, {**sizes, **placed.targets}))
        situation = dataclasses.replace(situation, abandoned=placed.abandoned, planned=planned)
        final, allowed = guard.last_word({**placed.headroom, **placed.targets}, situation)
        placed = placed.corrected(situation, final, allowed)
    targets = {**placed.headroom, **placed.targets}
    return Decision(
        at=seen.at,
        recommendations=recommendations,
        demand=demand,
        capped_need=wanted,
        active=active,
        may_scale_in=may_lower,
        current=current,
        ready=ready,
        target=placed.target,
        steps=placed.steps,
        targets=targets,
        abandoned=placed.abandoned,
        cost_usd_per_hour=cost_usd_per_hour(spec, seen.pools, targets, placed.abandoned),
        suspected_zeros=doubted,
    )


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


def recommend(
    spec: WorkloadSpec, history: History, seen: Observation, ready: int | None, current: int | None
) -> tuple[tuple[Recommendation, ...], float | None, str]:
    """Return what every policy wants, in the order configured, the demand measured, and why the size may not fall.

    No need is larger than `most_needed`: the cost of what follows is bounded by the sizes configured and found.
    """
    most, recalled = most_needed(spec, current), history.memory
    view = PolicyContext(seen.at, seen.readings, ready, current, None, history, spec.min_replicas, seen.pools, spec)
    found = {n: bounded(p.recommend(n, view), most, recalled(n)) for n, p in spec.policies.items() if not p.shapes}
    missing, full = readiness.not_ready(spec, history, seen, ready), ""
    if missing is not None:
        found, full = readiness.counted(found, missing, view, spec)
    demand = largest(found.values())
    shaping = dataclasses.replace(view, demand=demand)
    shaped = {n: bounded(p.recommend(n, shaping), most, recalled(n)) for n, p in spec.policies.items() if p.shapes}
    return tuple((found | shaped)[n] for n in spec.policies), demand, full


def largest(recommendations: Iterable[Recommendation]) -> float | None:
    """The largest need stated; None where nobody states one."""
    needs = [r.replicas if r.unstabilized is None else r.unstabilized for r in recommendations]
    return max((n for n in needs if n is not None), default=None)


def settle(recommendations: tuple[Recommendation, ...], s: RuleContext) -> tuple[tuple[Step, ...], int, int | None]:
    """The size after every rule, the rules that had an effect, and the need that the guard's caps leave."""
    settles = any(p.settles for p in s.spec.policies.values())
    rules = () if settles else RULES
    if s.need is None:
        steps = [Step("blind", s.current, f"hold, no policy states a need ({s.missing_evidence})")]
        size = apply_rules((*rules, *guard.GUARD), s.current, s, steps)
        return tuple(steps), size, None
    winner = next(r for r in recommendations if r.need == s.need)
    steps = [Step("demand", s.need, f"{winner.policy} wants {s.need:.2f}: {winner.reason}")]
    own = winner.replicas is not None and winner.replicas != s.need
    asked = apply_rules((readiness.hold,), stabilize.whole_replicas(s.need), s, steps)
    size = wanted = apply_rules(guard.CAPS, asked, s, [] if own else steps)
    if own and winner.replicas is not None:
        asked = stabilize.whole_replicas(winner.replicas)
        steps.append(Step("own limits", asked, f"{winner.policy}'s own windows and limits make it {asked}"))
        size = apply_rules(guard.CAPS, asked, s, steps)
    if settles and size < min(asked, s.current):
        rules = GIVE_WAY
    capped = s if size == asked else dataclasses.replace(s, need=float(size))
    size = apply_rules(guard.GUARD, apply_rules(rules, size, capped, steps), s, steps)
    return tuple(steps), size, wanted


def apply_rules(
    rules: Iterable[Callable[[int, RuleContext], Step | None]], size: int, s: RuleContext, steps: list[Step]
) -> int:
    """The size after these rules; those that had an effect are added to `steps`."""
    for rule in rules:
        step = rule(size, s)
        if step is not None and step.replicas is not None:
            size = int(step.replicas)
            steps.append(step)
    return size
