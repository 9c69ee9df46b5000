"""The fleet that costs least: rent and expected lateness in one sum of money, improved from what is there.

Newsvendor in a portfolio: a further replica, here or there, is worth what it takes off the expected shortfall, times
the price of lateness. Moves start from the present fleet, and a move between pools must earn back its start within the
payback time, so that a fleet does not flap between equals.
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
"""Moves between pools considered in one turn; the next turn goes on."""
LUMP: Final = 16
"""A gap is filled in no more than about so many steps a pool, and spares beyond it grow by such a part of themselves:
exact for small fleets, quick for large ones. The first 31 spares are added one by one, the next 16 in steps of 2."""
STAYS: Final = 0.1
"""A spare stays until it is worth less than its price by this share: risks move a little every turn."""
EPSILON: Final = 1e-9


@dataclass(frozen=True, slots=True)
class AllocationTarget:
    """What the fleet is for: `work` to carry, of which `floor` where nothing is taken away.

    `lateness` is the price of a replica's worth that waits (USD per hour), `payback_h` the hours in which a move must
    pay, `cap` the most replicas. `must` stands above every price: what is wanted is bought whatever it costs, and only
    insurance against losses is weighed.
    """

    work: float
    floor: float
    lateness: float
    payback_h: float
    cap: int
    priority_usd: float


def best(options: Sequence[PoolCandidate], aim: AllocationTarget, *, may_lower: bool) -> tuple[list[int], list[int]]:
    """Return the supply of each rung wanted for now, while what is pending may not come, and once it has come.

    Until the other serves, the one given up does: so a move is judged as if it had been made, and what may not come is
    insured apart.
    """
    settled = [replace(r, grant_probability=1.0) for r in options]
    fleet = [r.supply for r in options]
    _grow(settled, fleet, aim)
    if may_lower:
        _shrink(settled, fleet, aim)
        for _ in range(MAX_MOVES):
            moved = next(_exchanges(settled, fleet, aim), None)
            if moved is None:
                break
            fleet = moved
    now, stays = [max(n, r.supply) for r, n in zip(options, fleet, strict=True)], [r.supply for r in options]
    _grow(options, now, aim)
    if may_lower:
        _shrink(options, stays, aim)  # what starts is not taken back for what is only asked for
    return [n if n > r.supply else s for r, n, s in zip(options, now, stays, strict=True)], fleet


def expected_shortfall_cost(options: Sequence[PoolCandidate], fleet: Sequence[int], aim: AllocationTarget) -> float:
    """Return the price of the lateness to be expected, and of what is wanted and not even asked for. USD per hour."""
    missing = aim.work - sum(n * r.work for r, n in zip(options, fleet, strict=True))
    if aim.floor:
        lasting = sum(n * r.work for r, n in zip(options, fleet, strict=True) if not r.interruptible)
        missing = max(missing, aim.floor - lasting)
    owed = max(0.0, missing) * aim.priority_usd
    return owed + aim.lateness * shortfall(options, fleet, aim.work)


def cost(options: Sequence[PoolCandidate], fleet: Sequence[int], aim: AllocationTarget) -> float:
    """Rent and lateness. USD per hour."""
    return sum(n * r.price for r, n in zip(options, fleet, strict=True)) + expected_shortfall_cost(options, fleet, aim)


def _grow(options: Sequence[PoolCandidate], fleet: list[int], aim: AllocationTarget) -> None:
    """Add where a dollar relieves most, until it relieves less than itself; among equals where there is least."""
    while (room := aim.cap - sum(fleet)) > 0:
        now = expected_shortfall_cost(options, fleet, aim)
        if now <= EPSILON:
            return
        missing = aim.work - sum(n * r.work for r, n in zip(options, fleet, strict=True))
        choice = None
        for i, r in enumerate(options):
            lump = max(1, int(abs(missing) / r.work) // LUMP)
            step = quantum.growth(r.size(fleet[i]), lump, min(r.most - fleet[i], room), r.pool.quantum)
            if step <= 0:
                continue
            fleet[i] += step
            relief = now - expected_shortfall_cost(options, fleet, aim)
            fleet[i] -= step
            spent = step * r.price * (1.0 + r.start_h / aim.payback_h)
            if relief > spent + EPSILON:
                rank = round(relief / spent, 6), -fleet[i] * r.work
                if choice is None or rank > choice[0]:
                    choice = rank, i, step
        if choice is None:
            return
        fleet[choice[1]] += choice[2]


def _shrink(options: Sequence[PoolCandidate], fleet: list[int], aim: AllocationTarget, keep: int = -1) -> None:
    """Remove where it saves most, as long as the lateness that this costs is less; among equals where there is most.

    The rung numbered `keep` loses none.
    """
    while True:
        now = expected_shortfall_cost(options, fleet, aim)
        spare = sum(n * r.work for r, n in zip(options, fleet, strict=True)) - aim.work
        choice = None
        for i, r in enumerate(options):
            lump = max(r.pool.quantum, int(spare / r.work) // LUMP)
            step = quantum.removal(r.size(fleet[i]), min(lump, fleet[i] - least(r)), r.pool.quantum)
            if r.fixed or step <= 0 or i == keep:
                continue
            fleet[i] -= step
            lost = expected_shortfall_cost(options, fleet, aim) - now
            fleet[i] += step
            saved = step * r.price - lost
            rank = round(saved, 9), fleet[i] * r.work
            if lost < (1.0 - STAYS) * step * r.price - EPSILON and (choice is None or rank > choice[0]):
                choice = rank, i, step
        if choice is None:
            return
        fleet[choice[1]] -= choice[2]


def _exchanges(options: Sequence[PoolCandidate], fleet: Sequence[int], aim: AllocationTarget) -> Iterator[list[int]]:
    """Fleets with other replicas in the place of some that pay.

    A quantum more where that gains most, among equals where there is least, and as many fewer elsewhere as it carries;
    all that a lasting pool holds, given up for spot with its spares, which one by one would not pay; where machines
    differ, also one fewer here, and what is cheapest for its work.
    """
    present = cost(options, fleet, aim)
    paying = []
    for i, r in sorted(enumerate(options), key=lambda p: p[1].price / p[1].work):
        if step := quantum.growth(r.size(fleet[i]), 1, r.most - fleet[i], r.pool.quantum):
            other = list(fleet)
            other[i] += step
            _shrink(options, other, aim, keep=i)
            gain = present - cost(options, other, aim)
            if sum(other) <= aim.cap and _pays(options, fleet, other, gain, aim):
                paying.append(((-round(gain, 6), fleet[i] * r.work), other))
    for _, other in sorted(paying, key=itemgetter(0)):
        yield other
    dearest = sorted(enumerate(options), key=lambda p: -p[1].price / p[1].work)
    for i, r in dearest:
        step = quantum.removal(r.size(fleet[i]), fleet[i] - least(r), r.pool.quantum)
        if not (r.fixed or r.interruptible) and step > 0:
            other = list(fleet)
            other[i] -= step
            _grow([replace(o, most=other[i]) if o is r else o for o in options], other, aim)
            yield from _replaced(options, fleet, other, present, aim)
    if len({r.work for r in options}) == 1:
        return
    for i, r in dearest:
        step = quantum.removal(r.size(fleet[i]), min(r.pool.quantum, fleet[i] - least(r)), r.pool.quantum)
        if not r.fixed and step:
            other = list(fleet)
            other[i] -= step
            yield from _replaced(options, fleet, other, present, aim)


def _replaced(
    options: Sequence[PoolCandidate], fleet: Sequence[int], other: list[int], present: float, aim: AllocationTarget
) -> Iterator[list[int]]:
    """Yield a fleet with the cheapest replacement of what `present` lacks, if that pays."""
    _grow(options, other, aim)
    _shrink(options, other, aim)
    if _pays(options, fleet, other, present - cost(options, other, aim), aim):
        yield other


def _pays(
    options: Sequence[PoolCandidate], fleet: Sequence[int], other: Sequence[int], gain: float, aim: AllocationTarget
) -> bool:
    """Whether a gain (USD per hour) earns back what the starts cost, in what is left of the payback time after them."""
    started = [(r, m - n) for r, n, m in zip(options, fleet, other, strict=True) if m > n]
    waste = sum(n * r.price * r.start_h for r, n in started)
    left_h = aim.payback_h - max((r.start_h for r, _ in started), default=0.0)
    return bool(started) and gain * left_h > waste + EPSILON


def least(r: PoolCandidate) -> int:
    """Return the supply that the pool's own minimum keeps."""
    return max(0, min(r.supply, quantum.round_up(r.pool.min_replicas, r.pool.quantum) - r.interruption_pending))
