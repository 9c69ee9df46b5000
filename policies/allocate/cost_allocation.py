"""A size in replicas' worth to pools, in money, and every reason for it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from policies.allocate import candidates, optimize, transition
from policies.allocate.candidates import PoolCandidate
from policies.model import PoolName, RuleId, Step
from policies.signals.demand import whole_replicas

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Set

    from policies.recommend.context import RuleContext


MUST: Final = 1e4
"""Above every price per work by so much that no rent outweighs what is wanted."""


@dataclass(frozen=True, slots=True)
class CostAllocation:
    """The sizes of the pools that may be resized, the asks that no longer count, why, and the worth supplied."""

    targets: dict[PoolName, int]
    abandoned: dict[PoolName, int]
    steps: tuple[Step, ...]
    supply: float


def place(work: float, s: RuleContext, pinned: Set[PoolName]) -> CostAllocation:
    """Share `work` out. What the platforms answer comes after deciding: what one refuses, the next turn asks elsewhere.

    Without full evidence no pool is lowered, so that nothing moves either: a move is a loss for the pool it leaves.
    """
    spec = s.spec
    options = candidates.build(spec, s.observation.pools, s.history.pool_memories, pinned, s.now)
    options = candidates.limit_to_ceiling(options, s.history.pool_memories, work)
    if work > 0:
        options = _with_probe(options, s)
    settings = spec.cost_allocation
    aim = optimize.AllocationTarget(
        work=work,
        floor=min(work, max(float(settings.floor_replicas), settings.floor_share * work)),
        lateness=spec.slo_violation_cost_ratio * candidates.dearest_sure_price(candidates.serving(spec)),
        payback_h=settings.payback_s / 3600.0,
        cap=spec.max_replicas,
        priority_usd=MUST * max((r.price / r.work for r in options), default=1.0),
    )
    now, fleet = optimize.best(options, aim, may_lower=s.may_scale_in)
    wanted = transition.sizes(options, now, fleet, aim, may_lower=s.may_scale_in)
    supply = sum(n * r.work for r, n in zip(options, fleet, strict=True))
    return CostAllocation(
        {r.name: size for r, size in zip(options, wanted, strict=True) if not r.fixed},
        {r.name: r.overdue for r in options if r.overdue},
        tuple(steps_of(options, fleet, wanted, aim)),
        supply,
    )


def _with_probe(options: list[PoolCandidate], s: RuleContext) -> list[PoolCandidate]:
    """Return the options, with one ask in every turn while nothing is there, nothing is asked for and no rung is open.

    Patience with a market that had none is for those who have something; asked is the one to be asked again soonest.
    After a quota error that is every few minutes.
    """
    markets = s.history.pool_memories
    if any(r.desired or not (r.unavailable or r.fixed) for r in options):
        return options
    closed = [
        r for r in options if not (r.fixed or markets.of(r.name).backoff.fresh_quota(s.now) or r.pool.max_replicas == 0)
    ]
    if not closed:
        return options
    first = min(
        closed, key=lambda r: max(markets.of(r.name).backoff.until, markets.of(r.name).interruption_backoff.until)
    )
    return [dataclasses.replace(r, unavailable="", most=r.pool.quantum) if r is first else r for r in options]


def steps_of(
    options: Sequence[PoolCandidate], fleet: Sequence[int], wanted: Sequence[int], aim: optimize.AllocationTarget
) -> Iterator[Step]:
    """Why: what is skipped, what no longer counts, what is about to go, and what the fleet is made of."""
    total = whole_replicas(sum(n * r.work for r, n in zip(options, wanted, strict=True)))
    if skipped := [f"{r.name}: {r.unavailable}" for r in options if r.unavailable]:
        yield Step(RuleId.SHORTAGE, total, "; ".join(skipped))
    if capped := [f"{r.name}: {r.ceiling} when it gave no more" for r in _at_ceiling(options, fleet)]:
        yield Step(RuleId.CEILING, total, f"asked for little more than it had: {'; '.join(capped)}")
    if overdue := [f"{r.overdue} of {r.name}, asked for {r.waited_s:.0f} s ago" for r in options if r.overdue]:
        yield Step(RuleId.ABANDONED, total, f"no longer counted as supply: {'; '.join(overdue)}")
    if doomed := [f"{r.interruption_pending} of {r.name}" for r in options if r.interruption_pending]:
        yield Step(RuleId.INTERRUPTION_PENDING, total, f"about to be taken, replaced now: {'; '.join(doomed)}")
    if leaving := [f"{size - n} of {r.name}" for r, size, n in _leaving(options, fleet, wanted)]:
        yield Step(RuleId.MAKE_BEFORE_BREAK, total, f"kept until others serve: {'; '.join(leaving)}")
    chosen = ", ".join(_candidate_text(r, n) for r, n in zip(options, fleet, strict=True) if n)
    spare = sum(n * r.work for r, n in zip(options, fleet, strict=True)) - aim.work
    more = f", {spare:.3g} more than the size for losses" if spare > 1e-9 else ""
    less = f", {-spare:.3g} short" if spare < -1e-9 else ""
    yield Step(RuleId.COST_ALLOCATION, total, f"{chosen or 'nothing'}{more}{less}")


def _at_ceiling(options: Sequence[PoolCandidate], fleet: Sequence[int]) -> Iterator[PoolCandidate]:
    """Pools of which as many are taken as their ceiling lets."""
    for r, n in zip(options, fleet, strict=True):
        if r.ceiling is not None and n >= r.most:
            yield r


def _leaving(
    options: Sequence[PoolCandidate], fleet: Sequence[int], wanted: Sequence[int]
) -> Iterator[tuple[PoolCandidate, int, int]]:
    """Pools whose ready replicas are not wanted any more, and stay for now."""
    for r, n, size in zip(options, fleet, wanted, strict=True):
        staying = min(r.ready, size - r.interruption_pending)
        if not r.fixed and staying > n:
            yield r, staying, n


def _candidate_text(r: PoolCandidate, replicas: int) -> str:
    price = r.pool.price_usd_per_hour
    at = "" if price is None else f" at {price:g} USD/h"
    paid = " (paid already)" if r.pool.market == "reserved" else at
    risk = f", {r.loss_probability:.2%} to be lost before it could be replaced" if r.interruptible else ""
    return f"{r.name} {replicas}{paid}{risk}"
