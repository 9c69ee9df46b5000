"""Split of a size in replica equivalents over pools by cost, with the reasons."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from policies.allocate import candidates as pool_candidates
from policies.allocate import optimize, transition
from policies.allocate.candidates import PoolCandidate
from policies.allocate.optimize import AllocationTarget
from policies.model import PoolName, RuleId, Step
from policies.signals.demand import whole_replicas

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Set

    from policies.recommend.context import RuleContext


MISSING_PRICE_FACTOR: Final = 1e4
"""Price of work for which nothing is requested, over the highest price per work: no rent outweighs it."""


@dataclass(frozen=True, slots=True)
class CostAllocation:
    """The sizes of the managed pools, the abandoned requests, and the reasons."""

    targets: dict[PoolName, int]
    abandoned: dict[PoolName, int]
    steps: tuple[Step, ...]


def place(work: float, context: RuleContext, unmanaged: Set[PoolName]) -> CostAllocation:
    """Split `work` over the pools. The next tick requests refused replicas elsewhere.

    Without full evidence no pool is lowered, so nothing moves either: a move lowers the pool that it leaves.
    """
    spec, memories = context.spec, context.history.pool_memories
    candidates = pool_candidates.build(spec, context.observation.pools, memories, unmanaged, context.now)
    candidates = pool_candidates.limit_to_ceiling(candidates, memories, work)
    if work > 0:
        candidates = _with_probe(candidates, context)
    settings = spec.cost_allocation
    price = pool_candidates.cheapest_on_demand_price(pool_candidates.serving_pools(spec))
    target = optimize.AllocationTarget(
        work=work,
        floor=min(work, max(float(settings.floor_replicas), settings.floor_share * work)),
        violation_usd_per_hour=spec.slo_violation_cost_ratio * price,
        payback_h=settings.payback_s / 3600.0,
        max_replicas=spec.max_replicas,
        missing_usd_per_hour=MISSING_PRICE_FACTOR * max((c.price / c.work for c in candidates), default=1.0),
    )
    may_scale_in = context.may_scale_in
    interim, final = optimize.best_supply(candidates, target, may_scale_in=may_scale_in)
    targets = transition.sizes(candidates, interim, final, target, may_scale_in=may_scale_in)
    return CostAllocation(
        {c.name: size for c, size in zip(candidates, targets, strict=True) if not c.fixed},
        {c.name: c.abandoned for c in candidates if c.abandoned},
        tuple(_steps(candidates, final, targets, target)),
    )


def _with_probe(candidates: list[PoolCandidate], context: RuleContext) -> list[PoolCandidate]:
    """Return the candidates, one of them available where none is and no replica exists.

    A workload without any replica does not wait for a backoff: it requests one quantum in every tick, from the pool
    whose backoff ends first. After a quota error it requests only every few minutes.
    """
    memories = context.history.pool_memories
    if any(c.desired or (c.max_supply >= c.pool.quantum and not (c.unavailable or c.fixed)) for c in candidates):
        return candidates
    unavailable = [
        c
        for c in candidates
        if not (c.fixed or memories.of(c.name).backoff.is_recent_quota_error(context.now) or c.pool.max_replicas == 0)
    ]
    if not unavailable:
        return candidates

    def backoff_until(candidate: PoolCandidate) -> float:
        memory = memories.of(candidate.name)
        return max(memory.backoff.until, memory.interruption_backoff.until)

    first = min(unavailable, key=backoff_until)
    return [dataclasses.replace(c, unavailable="", max_supply=c.pool.quantum) if c is first else c for c in candidates]


def _steps(
    candidates: Sequence[PoolCandidate], final: Sequence[int], targets: Sequence[int], target: AllocationTarget
) -> Iterator[Step]:
    """Yield the reasons, from unavailable pools to the final supply."""
    total = whole_replicas(sum(n * c.work for c, n in zip(candidates, targets, strict=True)))
    if skipped := [f"{c.name}: {c.unavailable}" for c in candidates if c.unavailable]:
        yield Step(RuleId.SHORTAGE, total, "; ".join(skipped))
    if capped := [
        f"{c.name} held {c.ceiling} then"
        for c, n in zip(candidates, final, strict=True)
        if c.ceiling is not None and n >= c.max_supply
    ]:
        yield Step(RuleId.CEILING, total, f"growth is limited since the last shortage: {'; '.join(capped)}")
    if abandoned := [
        f"{c.abandoned} of {c.name}, requested {c.oldest_pending_s:.0f} s ago" for c in candidates if c.abandoned
    ]:
        yield Step(RuleId.ABANDONED, total, f"no longer counted as supply: {'; '.join(abandoned)}")
    if interrupted := [f"{c.interruption_pending} of {c.name}" for c in candidates if c.interruption_pending]:
        yield Step(RuleId.INTERRUPTION_PENDING, total, f"interruption pending, replaced now: {'; '.join(interrupted)}")
    if leaving := [f"{size - n} of {c.name}" for c, size, n in _leaving(candidates, final, targets)]:
        yield Step(RuleId.MAKE_BEFORE_BREAK, total, f"kept until their replacements serve: {'; '.join(leaving)}")
    chosen = ", ".join(_candidate_text(c, n) for c, n in zip(candidates, final, strict=True) if n)
    spare = sum(n * c.work for c, n in zip(candidates, final, strict=True)) - target.work
    more = f", {spare:.3g} spare for interruptions" if spare > 1e-9 else ""
    less = f", {-spare:.3g} missing" if spare < -1e-9 else ""
    yield Step(RuleId.COST_ALLOCATION, total, f"{chosen or 'no replicas'}{more}{less}")
    if delayed := [
        f"{c.name} gets {supply} of {n}"
        for c, n, size in zip(candidates, final, targets, strict=True)
        if not c.fixed and (supply := transition.supply_of(c, size)) < n
    ]:
        why = f"max_replicas {target.max_replicas} leaves no more now: {', '.join(delayed)}"
        yield Step(RuleId.BOUNDS, total, why)


def _leaving(
    candidates: Sequence[PoolCandidate], final: Sequence[int], targets: Sequence[int]
) -> Iterator[tuple[PoolCandidate, int, int]]:
    """Yield pools with more ready replicas than their final supply, and both numbers."""
    for c, n, size in zip(candidates, final, targets, strict=True):
        staying = min(c.ready, size - c.interruption_pending)
        if not c.fixed and staying > n:
            yield c, staying, n


def _candidate_text(candidate: PoolCandidate, replicas: int) -> str:
    price = candidate.pool.price_usd_per_hour
    at_price = "" if price is None else f" at {price:g} USD/h"
    cost = " (already paid)" if candidate.pool.market == "reserved" else at_price
    risk = f", {candidate.loss_probability:.2%} risk of interruption before a replacement serves"
    return f"{candidate.name} {replicas}{cost}{risk if candidate.interruptible else ''}"
