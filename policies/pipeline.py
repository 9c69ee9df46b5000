"""`decide`: demand, then recommendations, stabilization, guard, allocation to pools, and the guard's last word."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from policies import guard, stabilize
from policies.allocate import allocate
from policies.model import Absent, Decision, Evidence, Fresh, Observation, PolicyName, PoolName, Recommendation, Step
from policies.view import Situation, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from policies.history import History
    from policies.spec import WorkloadSpec

RULES: tuple[Callable[[int, Situation], Step | None], ...] = (
    stabilize.tolerate,
    stabilize.rest_or_wake,
    guard.never_shrink_blind,
    stabilize.hold_back_growth,
    stabilize.hold_back_shrinking,
    stabilize.limit_step,
)
"""From need to a steady size, in this order: each takes the size so far. The guard's own come before and after."""
GIVE_WAY: tuple[Callable[[int, Situation], Step | None], ...] = (
    guard.never_shrink_blind,
    stabilize.hold_back_shrinking,
    stabilize.limit_step,
)
"""The way down for a policy that settles by itself and is over a budget: its own windows know of none."""


def decide(spec: WorkloadSpec, history: History, seen: Observation) -> Decision:
    """What size this workload should have, and why: a pure function of what was seen and what came before."""
    spec = guard.widened(spec, seen.at)
    sizes = {name: r.value.desired for name, r in seen.pools.items() if not isinstance(r, Absent)}
    known = len(sizes) == len(spec.pools)
    current = sum(sizes.values()) if known else None
    ready = sum(r.value.ready for r in seen.pools.values() if not isinstance(r, Absent)) if known else None

    recommendations, demand = recommend(spec, history, seen, ready, current)
    need = largest(recommendations)
    active = any(r.active for r in recommendations)
    lacking = [str(r.policy) for r in recommendations if r.evidence is not Evidence.FULL]
    lacking += [f"the size of {name}" for name, r in seen.pools.items() if not isinstance(r, Fresh)]
    may_lower = not lacking

    if current is None:
        absent = "; ".join(f"{name}: {r.reason}" for name, r in seen.pools.items() if isinstance(r, Absent))
        steps: tuple[Step, ...] = (Step("size unknown", None, f"hold, a pool's size is not known ({absent})"),)
        target, targets = None, dict[PoolName, int]()
        wanted = None if need is None else stabilize.whole(need)
    else:
        why = ", ".join(lacking)
        situation = Situation(
            spec, history, seen.at, need, current, active, may_lower, why, seen, sizes, sizes, ready, recommendations
        )
        steps, size, wanted = settle(recommendations, situation)
        split = next((r.pools for r in recommendations if r.pools and sum(r.pools.values()) == size), None)
        steps, target, targets = place(situation, seen, steps, size, split)
        final, allowed = guard.last_word(targets, situation)
        if final:
            target += sum(allowed[name] - targets[name] for name in allowed)
            steps, targets = (*steps, *final), allowed
    return Decision(
        at=seen.at,
        recommendations=recommendations,
        demand=demand,
        wanted=wanted,
        active=active,
        may_lower=may_lower,
        current=current,
        ready=ready,
        target=target,
        steps=steps,
        targets=targets,
    )


def recommend(
    spec: WorkloadSpec, history: History, seen: Observation, ready: int | None, current: int | None
) -> tuple[tuple[Recommendation, ...], float | None]:
    """What every policy wants, in the order configured, and the demand that the measuring ones found."""
    view = View(seen.at, seen.readings, ready, current, None, history, spec.min_replicas, seen.pools)
    found = {n: p.recommend(PolicyName(n), view) for n, p in spec.policies.items() if not p.shapes}
    demand = largest(found.values())
    shaping = View(seen.at, seen.readings, ready, current, demand, history, spec.min_replicas, seen.pools)
    return tuple(found.get(n) or p.recommend(PolicyName(n), shaping) for n, p in spec.policies.items()), demand


def largest(recommendations: Iterable[Recommendation]) -> float | None:
    """The largest need stated; None where nobody states one."""
    needs = [r.replicas if r.raw is None else r.raw for r in recommendations]
    return max((n for n in needs if n is not None), default=None)


def settle(recommendations: tuple[Recommendation, ...], s: Situation) -> tuple[tuple[Step, ...], int, int | None]:
    """The size after every rule, the rules that had an effect, and the need that the guard's caps leave."""
    settles = any(p.settles for p in s.spec.policies.values())
    rules = () if settles else RULES
    if s.need is None:
        steps = [Step("blind", s.current, f"hold, no policy states a need ({s.lacking})")]
        size = passed((*rules, *guard.GUARD), s.current, s, steps)
        return tuple(steps), size, None
    winner = next(r for r in recommendations if r.need == s.need)
    steps = [Step("demand", s.need, f"{winner.policy} wants {s.need:.2f}: {winner.reason}")]
    own = winner.replicas is not None and winner.replicas != s.need
    asked = stabilize.whole(s.need)
    size = wanted = passed(guard.CAPS, asked, s, [] if own else steps)
    if own and winner.replicas is not None:
        asked = stabilize.whole(winner.replicas)
        steps.append(Step("own limits", asked, f"{winner.policy}'s own windows and limits make it {asked}"))
        size = passed(guard.CAPS, asked, s, steps)
    if settles and size < min(asked, s.current):
        rules = GIVE_WAY
    capped = s if size == asked else dataclasses.replace(s, need=float(size))
    size = passed(guard.GUARD, passed(rules, size, capped, steps), s, steps)
    return tuple(steps), size, wanted


def passed(rules: Iterable[Callable[[int, Situation], Step | None]], size: int, s: Situation, steps: list[Step]) -> int:
    """The size after these rules; those that had an effect are added to `steps`."""
    for rule in rules:
        step = rule(size, s)
        if step is not None and step.replicas is not None:
            size = int(step.replicas)
            steps.append(step)
    return size


def place(
    s: Situation, seen: Observation, steps: tuple[Step, ...], size: int, split: Mapping[PoolName, int] | None
) -> tuple[tuple[Step, ...], int, dict[PoolName, int]]:
    """The size shared out to the pools, by `split` where a policy does that itself, and what the pools cannot take."""
    spec = s.spec
    sizes = {name: r.value.desired for name, r in seen.pools.items() if not isinstance(r, Absent)}
    kept = guard.untouchable(spec, seen.pools)
    if spec.paused:
        pools = {}
    elif split is None:
        pools = allocate(size, sizes, spec.pools, kept.keys(), spec.max_replicas)
    else:
        least = dict.fromkeys(sizes, 0) if s.may_lower else sizes
        wanted = {name: max(least[name], split.get(name, 0)) for name in sizes if name not in kept}
        pools = {name: guard.within(spec.pools[name], n, spec.max_replicas) for name, n in wanted.items()}
    target = sum({**sizes, **pools}.values())
    if kept:
        steps = (*steps, Step("hands off", target, "; ".join(kept.values())))
    elif target != size:
        steps = (*steps, Step("pool bounds", target, f"the pools' own bounds make {target} of {size}"))
    return steps, target, pools
