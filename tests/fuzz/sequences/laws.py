"""Laws of every decision: a table of small functions, each with its sentence as docstring.

Laws of `tests.fuzz.worlds` that hold for any input are reused. Those defined here are stricter, or new.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any, Final

from policies.allocate import quantum
from policies.model import RuleId
from tests.fuzz.sequences import caps, readiness, scale_to_zero
from tests.fuzz.sequences.judged import Judged
from tests.fuzz.worlds import evidence, manual_override, records, settings, supply
from tests.fuzz.worlds.manual_override import NOISE, gpus, usd_per_hour, use

Law = Callable[[Judged], str | None]
"""Function that describes what is wrong with a tick, or returns None."""


def evidence_for_scale_in(judged: Judged) -> str | None:
    """No workload and no pool shrinks unless every configured signal and every pool's size is fresh and complete."""
    return evidence.no_scale_in_without_evidence(judged.context)


def growth_has_evidence(judged: Judged) -> str | None:
    """A policy without a fresh reading of its signals makes no recommendation."""
    fallback = "keda" in judged.kinds.values()  # KEDA's fallback is a size for when nothing is read
    return None if fallback else evidence.growth_has_evidence(judged.context)


def pools_within_bounds(judged: Judged) -> str | None:
    """Each pool's target is within the pool's own bounds, or no further outside than the observed size."""
    return settings.within_the_pools_bounds(judged.context)


def only_fresh_pools(judged: Judged) -> str | None:
    """Only pools whose size is fresh and that no other writer sizes have a target; a paused workload has none."""
    context = judged.context
    if context.spec.paused and context.decision.targets:
        return f"paused, and there are targets: {dict(context.decision.targets)}"
    return settings.targets_of_own_pools(context)


def work_keeps_a_replica(judged: Judged) -> str | None:
    """While there is work, the last replica stays, unless a budget, the fleet or a maximum below a quantum allows
    none, or allows it only in pools that lack capacity or quota.
    """
    gone = (
        judged.context.decision.active
        and judged.before > 0
        and judged.after == 0
        and not judged.context.override_in_force()
    )
    spec = judged.context.spec
    room = {name for name in judged.serving if quantum.bounds(spec.pools[name], spec.max_replicas)[1]}
    if not room or judged.is_peer or judged.must_empty:
        return None
    if any(step.rule in {RuleId.BUDGET, RuleId.FLEET} for step in judged.context.decision.steps):
        return None
    return f"{judged.before} -> 0, and there is work" if gone else None


def within_budgets(judged: Judged) -> str | None:
    """The decided sizes use no more of the workload's budget than its limit, or than the observed sizes."""
    return manual_override.within_budgets(judged.context)


def maintenance_holds(judged: Judged) -> str | None:
    """In a maintenance window no pool moves in a forbidden direction, unless an override is in force."""
    return manual_override.maintenance_holds(judged.context)


def whole_quanta(judged: Judged) -> str | None:
    """A pool's target is a multiple of its quantum, or the observed size."""
    return supply.targets_are_whole_quanta(judged.context)


def one_outcome_per_target(judged: Judged) -> str | None:
    """Each pool's target has one outcome, from the observed size to the target, unchanged exactly if they are equal."""
    return records.outcomes_match(judged.context)


def numbers_are_finite(judged: Judged) -> str | None:
    """No number in a decision is NaN or infinite; sizes are whole numbers of at least zero."""
    d = judged.context.decision
    sizes = [d.capped_need, d.current, d.ready, d.target, *d.targets.values(), *(o.after for o in judged.tick.outcomes)]
    if strange := [size for size in sizes if size is not None and (type(size) is not int or size < 0)]:
        return f"a size is {strange[0]!r}"
    numbers: list[float | None] = [d.demand, d.cost_usd_per_hour, *(s.replicas for s in d.steps)]
    for r in d.recommendations:
        numbers += [
            r.replicas,
            r.unstabilized,
            r.work,
            r.latency_driven,
            *r.memory.values(),
            *itertools.chain(*r.peaks),
        ]
    wrong = [number for number in numbers if number is not None and not math.isfinite(number)]
    return f"a number is {wrong[0]}" if wrong else None


def sizes_add_up(judged: Judged) -> str | None:
    """If pools do not differ in cost, size, ready and target are the pools' sums; without all pools there are none."""
    serving = all(pool.tier == "serving" for pool in judged.context.spec.pools.values())
    return records.sizes_add_up(judged.context) if serving and judged.context.pools_are_alike else None


def reasons_are_printable(judged: Judged) -> str | None:
    """Every recommendation, rule and refusal has a reason, in printable characters."""
    d = judged.context.decision
    reasons = [(str(r.policy), r.reason) for r in d.recommendations] + [(s.rule, s.reason) for s in d.steps]
    reasons += [(str(o.pool), o.reason) for o in judged.context.tick.outcomes if o.result.refused]
    reasons += list(d.suspected_zeros.items())
    if not d.steps:
        return "no rule gives a reason"
    for name, reason in reasons:
        if not reason.strip() or not reason.isprintable():
            return f"{name}: {reason!r}"
    return None


def within_grants(judged: Judged) -> str | None:
    """The decided sizes use no more of a fleet's grant than its limit, or than the observed sizes.

    One quantum of one pool may always be removed, even if less is granted.
    """
    grant, pools = judged.context.tick.observation.grant, judged.context.spec.pools
    if grant is None:
        return None
    for quota, unit in ((grant.gpus, gpus), (grant.usd_per_hour, usd_per_hour)):
        held, requested = use(judged.context, unit)
        if quota is not None and requested > max(quota.most, held) * (1 + NOISE) + NOISE:
            return f"{held:g} -> {requested:g} {unit.__name__}, and {quota.most:g} is granted"
    removals = {name: size - target for name, size, target in judged.context.changes if target < size}
    is_one_quantum = len(removals) == 1 and all(count <= pools[name].quantum for name, count in removals.items())
    if grant.removable is not None and sum(removals.values()) > grant.removable.most and not is_one_quantum:
        return f"{removals} are removed, and {grant.removable.most:g} may be"
    return None


def fleet_within_limits(judged: Judged) -> str | None:
    """A workload that grows in a unit of the fleet's limits leaves the fleet, as far as it is known, within them,
    unless a pool that was to shrink in the same tick refused to.
    """
    if judged.fleet is None or judged.refused_to_shrink:
        return None
    for limit, unit in ((judged.fleet.max_gpus, gpus), (judged.fleet.max_usd_per_hour, usd_per_hour)):
        key, (held, requested) = unit.__name__, use(judged.context, unit)
        if limit is not None and requested > held and judged.fleet_held[key] > limit * (1 + NOISE) + NOISE:
            fleet = f"the fleet then holds {judged.fleet_held[key]:g}, and may hold {limit:g}"
            return f"{held:g} -> {requested:g} {key}, {fleet}"
    return None


LAWS: Final[tuple[Law, ...]] = (
    evidence_for_scale_in,
    growth_has_evidence,
    caps.sum_within_maximum,
    pools_within_bounds,
    only_fresh_pools,
    work_keeps_a_replica,
    within_budgets,
    within_grants,
    fleet_within_limits,
    caps.within_blast_radius,
    maintenance_holds,
    whole_quanta,
    one_outcome_per_target,
    numbers_are_finite,
    sizes_add_up,
    reasons_are_printable,
    readiness.saturated_survivors_hold,
    readiness.none_ready_is_blind,
    readiness.lost_replicas_count,
    scale_to_zero.zero_is_earned,
    scale_to_zero.rest_comes,
)


def named(law: Callable[[Any], str | None]) -> tuple[str, str]:
    """Return a law's name and its sentence: the first paragraph of its docstring."""
    return law.__name__, (inspect.getdoc(law) or "").partition("\n\n")[0].replace("\n", " ")
