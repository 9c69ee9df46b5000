"""The supply of the lowest cost, as the sum of rent and expected SLO violations.

A newsvendor rule over a portfolio: a further replica is worth the expected shortfall that it removes, times the price
of a violation. Example: at 19 USD/h per missing replica, a spare that removes 0.1 of a missing replica is worth 1.9
USD/h. The search starts from the present supply, and a move between pools must pay back its start, so that supply does
not flap between pools of equal cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from policies.allocate import quantum
from policies.allocate.shortfall import shortfall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from policies.allocate.candidates import PoolCandidate

MAX_MOVES: Final = 64
"""Moves between pools considered in one tick; the next tick continues."""
STEP_DIVISOR: Final = 16
"""A gap, or the spares beyond the work, change by a 16th of themselves at a time: exact for small supplies, fast for
large ones. A step is 1 replica while up to 31 are missing, and 2 while 32 to 47 are."""
SPARE_HYSTERESIS: Final = 0.1
"""A spare is bought where it is worth its price, and removed where it is worth less than 0.9 of it: risks change a
little in every tick."""
EPSILON: Final = 1e-9


@dataclass(frozen=True, slots=True)
class AllocationTarget:
    """The work to supply, in replica equivalents, and the prices that weigh it.

    `floor` is the part of `work` that pools without interruptions carry. `violation_usd_per_hour` is the price of a
    replica equivalent of work that waits, `payback_h` the hours in which a move must pay back, `max_replicas` the
    maximum of the total. `missing_usd_per_hour`, the price of a replica equivalent that is not even requested, exceeds
    every rent, so that the whole `work` is bought whatever it costs, and only spares for losses are weighed.
    `counts_refusals`: whether the shortfall counts refusals.
    """

    work: float
    floor: float
    violation_usd_per_hour: float
    payback_h: float
    max_replicas: int
    missing_usd_per_hour: float
    counts_refusals: bool = True


def best_supply(
    candidates: Sequence[PoolCandidate], target: AllocationTarget, *, may_scale_in: bool
) -> tuple[list[int], list[int]]:
    """Return each candidate's supply until pending replicas arrive, and its final supply.

    A pool that loses a move's replicas serves until the other pool does. So the final supply assumes that all pending
    replicas arrive, and the interim supply insures against those that may not.
    """
    final_target = replace(target, counts_refusals=False)
    final = [c.supply for c in candidates]
    _grow(candidates, final, final_target)
    if may_scale_in:
        _shrink(candidates, final, final_target)
        for _ in range(MAX_MOVES):
            moved = next(_moves(candidates, final, final_target), None)
            if moved is None:
                break
            final = moved
    interim = [max(n, c.supply) for c, n in zip(candidates, final, strict=True)]
    retained = [c.supply for c in candidates]
    _grow(candidates, interim, target)
    if may_scale_in:
        _shrink(candidates, retained, target)  # a new request does not replace a replica that starts
    interim = [n if n > c.supply else r for c, n, r in zip(candidates, interim, retained, strict=True)]
    return interim, final


def violation_cost(candidates: Sequence[PoolCandidate], supply: Sequence[int], target: AllocationTarget) -> float:
    """Return the price of the expected shortfall and of unrequested work. USD per hour."""
    missing = target.work - sum(n * c.work for c, n in zip(candidates, supply, strict=True))
    if target.floor:
        lasting = sum(n * c.work for c, n in zip(candidates, supply, strict=True) if not c.interruptible)
        missing = max(missing, target.floor - lasting)
    unrequested = max(0.0, missing) * target.missing_usd_per_hour
    refusals = target.counts_refusals
    return unrequested + target.violation_usd_per_hour * shortfall(candidates, supply, target.work, refusals=refusals)


def expected_cost(candidates: Sequence[PoolCandidate], supply: Sequence[int], target: AllocationTarget) -> float:
    """Return the expected rent and violations. USD per hour."""
    rent = sum(n * c.price for c, n in zip(candidates, supply, strict=True))
    refused = 0.0 if target.counts_refusals else _retained_cost(candidates, supply)
    return rent + refused + violation_cost(candidates, supply, target)


def _retained_cost(candidates: Sequence[PoolCandidate], supply: Sequence[int]) -> float:
    """Return the expected rent of replicas that stay because spot requests are refused.

    Example: 1 spot replica at 1 USD/h, granted with a probability of 0.75, for 1 on demand at 3 USD/h costs 0.5 more.
    """
    requests = [(c, n - c.supply) for c, n in zip(candidates, supply, strict=True) if n > c.supply]
    requested = sum(n * c.work for c, n in requests)
    if not requested:
        return 0.0
    refused = sum(n * c.work * (1.0 - c.grant_probability) for c, n in requests) / requested
    rent = sum(n * c.price for c, n in requests) / requested
    leaving = [
        (c, c.supply - n) for c, n in zip(candidates, supply, strict=True) if n < c.supply and not c.interruptible
    ]
    return refused * sum(n * max(0.0, c.price - rent * c.work) for c, n in leaving)


def _grow(candidates: Sequence[PoolCandidate], supply: list[int], target: AllocationTarget) -> None:
    """Add where a dollar avoids most violation cost, while it avoids more than itself.

    On ties the smallest pool grows. The price includes the rent until the replica serves, or the rest of its minimum
    billed time (`PoolCandidate.start_h`): 1 USD/h with a lead time of 0.1 h and a payback time of 1 h counts as 1.1
    USD/h. So at 19 USD/h a spare is bought where it removes 0.058 of a missing replica.
    """
    while (max_growth := target.max_replicas - sum(supply)) > 0:
        present = violation_cost(candidates, supply, target)
        if present <= EPSILON:
            return
        missing = target.work - sum(n * c.work for c, n in zip(candidates, supply, strict=True))
        choice = None
        for i, c in enumerate(candidates):
            lump = max(1, int(abs(missing) / c.work) // STEP_DIVISOR)
            step = quantum.growth(c.size(supply[i]), lump, min(c.max_supply - supply[i], max_growth), c.pool.quantum)
            if step <= 0:
                continue
            supply[i] += step
            avoided = present - violation_cost(candidates, supply, target)
            supply[i] -= step
            price = step * c.price * (1.0 + c.start_h(target.payback_h) / target.payback_h)
            if avoided > price + EPSILON:
                rank = round(avoided / price, 6), -supply[i] * c.work
                if choice is None or rank > choice[0]:
                    choice = rank, i, step
        if choice is None:
            return
        supply[choice[1]] += choice[2]


def _shrink(candidates: Sequence[PoolCandidate], supply: list[int], target: AllocationTarget, pinned: int = -1) -> None:
    """Remove where it saves most, while that exceeds the added violation cost.

    On ties the largest pool shrinks. The candidate at the index `pinned` loses none.
    """
    while True:
        present = violation_cost(candidates, supply, target)
        spare = sum(n * c.work for c, n in zip(candidates, supply, strict=True)) - target.work
        choice = None
        for i, c in enumerate(candidates):
            lump = max(c.pool.quantum, int(spare / c.work) // STEP_DIVISOR)
            step = quantum.removal(c.size(supply[i]), min(lump, supply[i] - min_supply(c)), c.pool.quantum)
            if c.fixed or step <= 0 or i == pinned:
                continue
            supply[i] -= step
            added = violation_cost(candidates, supply, target) - present
            supply[i] += step
            saved = step * c.price - added
            rank = round(saved, 9), supply[i] * c.work
            if added < (1.0 - SPARE_HYSTERESIS) * step * c.price - EPSILON and (choice is None or rank > choice[0]):
                choice = rank, i, step
        if choice is None:
            return
        supply[choice[1]] -= choice[2]


def _moves(candidates: Sequence[PoolCandidate], supply: Sequence[int], target: AllocationTarget) -> Iterator[list[int]]:
    """Yield supplies that replace some replicas by others, and pay back, in three kinds.

    1. One more quantum in a pool, and as many fewer elsewhere as it carries; the largest gain first.
    2. A pool without interruptions gives up all that it holds for spot with its spares, which would not pay back
       replica by replica.
    3. Where replicas differ in capacity: one quantum fewer in a pool, and the cheapest substitute for its work.
    """
    present = expected_cost(candidates, supply, target)
    gains = []
    for i, c in sorted(enumerate(candidates), key=lambda p: p[1].price / p[1].work):
        if step := quantum.growth(c.size(supply[i]), 1, c.max_supply - supply[i], c.pool.quantum):
            moved = list(supply)
            moved[i] += step
            _shrink(candidates, moved, target, pinned=i)
            gain = present - expected_cost(candidates, moved, target)
            if sum(moved) <= target.max_replicas and _pays_back(candidates, supply, moved, gain, target):
                gains.append(((-round(gain, 6), supply[i] * c.work), moved))
    for _, moved in sorted(gains, key=itemgetter(0)):
        yield moved
    most_expensive_first = sorted(enumerate(candidates), key=lambda p: -p[1].price / p[1].work)
    for i, c in most_expensive_first:
        step = quantum.removal(c.size(supply[i]), supply[i] - min_supply(c), c.pool.quantum)
        if not (c.fixed or c.interruptible) and step > 0:
            moved = list(supply)
            moved[i] -= step
            _grow([replace(o, max_supply=moved[i]) if o is c else o for o in candidates], moved, target)
            yield from _substituted(candidates, supply, moved, present, target)
    if len({c.work for c in candidates}) == 1:
        return
    for i, c in most_expensive_first:
        step = quantum.removal(c.size(supply[i]), min(c.pool.quantum, supply[i] - min_supply(c)), c.pool.quantum)
        if not c.fixed and step:
            moved = list(supply)
            moved[i] -= step
            yield from _substituted(candidates, supply, moved, present, target)


def _substituted(
    candidates: Sequence[PoolCandidate],
    supply: Sequence[int],
    moved: list[int],
    present: float,
    target: AllocationTarget,
) -> Iterator[list[int]]:
    """Yield `moved` with the cheapest substitute, if that pays back against the cost `present`."""
    _grow(candidates, moved, target)
    _shrink(candidates, moved, target)
    if _pays_back(candidates, supply, moved, present - expected_cost(candidates, moved, target), target):
        yield moved


def _pays_back(
    candidates: Sequence[PoolCandidate],
    supply: Sequence[int],
    moved: Sequence[int],
    gain: float,
    target: AllocationTarget,
) -> bool:
    """Return whether a gain (USD per hour) earns back the starts in the payback time.

    Example: one replica at 2 USD/h that starts in 0.1 h costs 0.2 USD. In the 0.9 h left of a payback time of 1 h, a
    gain of more than 0.222 USD/h earns that back.
    """
    started = [(c, m - n) for c, n, m in zip(candidates, supply, moved, strict=True) if m > n]
    start_cost = sum(n * c.price * c.start_h(target.payback_h) for c, n in started)
    remaining_h = target.payback_h - max((c.lead_time_h for c, _ in started), default=0.0)
    return bool(started) and gain * remaining_h > start_cost + EPSILON


def min_supply(candidate: PoolCandidate) -> int:
    """Return the supply that keeps the pool at its own minimum."""
    minimum = quantum.round_up(candidate.pool.min_replicas, candidate.pool.quantum)
    return max(0, min(candidate.supply, minimum - candidate.interruption_pending))
