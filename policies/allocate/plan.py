"""The fleet that costs least: rent and expected lateness in one sum of money, improved from what is there.

Newsvendor in a portfolio: a further replica, here or there, is worth what it takes off the expected shortfall, times
the price of lateness. Moves start from the present fleet, and a move between pools must earn back its start within the
payback time, so that a fleet does not flap between equals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from policies.allocate.risk import shortfall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from policies.allocate.rungs import Rung

MAX_MOVES: Final = 64
"""Moves between pools considered in one turn; the next turn goes on."""
LUMP: Final = 16
"""A gap is filled in no more than about so many steps a pool: exact for small fleets, quick for large ones."""
EPSILON: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Aim:
    """What the fleet is for: `work` to carry, of which `floor` where nothing is taken away.

    `lateness` is the price of a replica's worth that waits (USD per hour), `payback_h` the hours in which a move must
    pay, `cap` the most replicas.
    """

    work: float
    floor: float
    lateness: float
    payback_h: float
    cap: int


def best(rungs: Sequence[Rung], aim: Aim, *, may_lower: bool) -> list[int]:
    """The supply wanted of each rung."""
    fleet = [r.supply for r in rungs]
    _grow(rungs, fleet, aim)
    if may_lower:
        _shrink(rungs, fleet, aim, [least(r) for r in rungs])
        settled = [replace(r, belief=1.0) for r in rungs]  # until the other serves, the one given up does
        for _ in range(MAX_MOVES):
            moved = next(_exchanges(settled, fleet, aim), None)
            if moved is None:
                break
            fleet = moved
    return fleet


def late(rungs: Sequence[Rung], fleet: Sequence[int], aim: Aim) -> float:
    """The price of the lateness to be expected. USD per hour."""
    missing = shortfall(rungs, fleet, aim.work)
    if aim.floor:
        lasting = sum(n * r.work for r, n in zip(rungs, fleet, strict=True) if not r.takes)
        missing += max(0.0, aim.floor - lasting)
    return aim.lateness * missing


def cost(rungs: Sequence[Rung], fleet: Sequence[int], aim: Aim) -> float:
    """Rent and lateness. USD per hour."""
    return sum(n * r.price for r, n in zip(rungs, fleet, strict=True)) + late(rungs, fleet, aim)


def _grow(rungs: Sequence[Rung], fleet: list[int], aim: Aim) -> None:
    """Add where a dollar relieves most, until it relieves less than itself; among equals where there is least."""
    while (room := aim.cap - sum(fleet)) > 0:
        now = late(rungs, fleet, aim)
        if now <= EPSILON:
            return
        missing = aim.work - sum(n * r.work for r, n in zip(rungs, fleet, strict=True))
        choice = None
        for i, r in enumerate(rungs):
            step = min(max(1, int(missing / r.work) // LUMP), r.most - fleet[i], room)
            if step <= 0:
                continue
            fleet[i] += step
            relief = now - late(rungs, fleet, aim)
            fleet[i] -= step
            spent = step * r.price * (1.0 + r.start_h / aim.payback_h)
            if relief > spent + EPSILON:
                rank = round(relief / spent, 6), -fleet[i] * r.work
                if choice is None or rank > choice[0]:
                    choice = rank, i, step
        if choice is None:
            return
        fleet[choice[1]] += choice[2]


def _shrink(rungs: Sequence[Rung], fleet: list[int], aim: Aim, floors: Sequence[int]) -> None:
    """Remove where it saves most, as long as the lateness that this costs is less; among equals where there is most."""
    while True:
        now = late(rungs, fleet, aim)
        spare = sum(n * r.work for r, n in zip(rungs, fleet, strict=True)) - aim.work
        choice = None
        for i, r in enumerate(rungs):
            step = min(max(1, int(spare / r.work) // LUMP), fleet[i] - floors[i])
            if r.fixed or step <= 0:
                continue
            fleet[i] -= step
            saved = step * r.price - (late(rungs, fleet, aim) - now)
            fleet[i] += step
            rank = round(saved, 9), fleet[i] * r.work
            if saved > EPSILON and (choice is None or rank > choice[0]):
                choice = rank, i, step
        if choice is None:
            return
        fleet[choice[1]] -= choice[2]


def _exchanges(rungs: Sequence[Rung], fleet: Sequence[int], aim: Aim) -> Iterator[list[int]]:
    """Fleets with one ready replica less here and others elsewhere for it that pay, the dearest work given up first.

    Pending ones stay: what is asked for beside a doubtful ask is there because of the doubt.
    """
    present = cost(rungs, fleet, aim)
    floors = [n if n > r.ready else least(r) for r, n in zip(rungs, fleet, strict=True)]
    dearest = sorted(range(len(rungs)), key=lambda i: -rungs[i].price / rungs[i].work)
    for i in dearest:
        if rungs[i].fixed or fleet[i] <= floors[i]:
            continue
        other = list(fleet)
        other[i] -= 1
        _grow(rungs, other, aim)
        _shrink(rungs, other, aim, [min(f, n) for f, n in zip(floors, other, strict=True)])
        started = [(r, n - m) for r, n, m in zip(rungs, other, fleet, strict=True) if n > m]
        if not started:
            continue
        waste = sum(n * r.price * r.start_h for r, n in started)
        left_h = aim.payback_h - max(r.start_h for r, _ in started)
        if (present - cost(rungs, other, aim)) * left_h > waste + EPSILON:
            yield other


def least(r: Rung) -> int:
    """The supply that the pool's own minimum keeps."""
    return max(0, min(r.supply, r.pool.min_replicas - r.doomed))
