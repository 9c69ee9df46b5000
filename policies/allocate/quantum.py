"""Whole quanta: sizes of a pool whose replicas come and go in multiples (`Pool.quantum`).

Growth is rounded up, since what is wanted is to be there, and down only where the most that is allowed would be passed.
What goes is rounded so that less goes: a part of a quantum cannot. A size found between two multiples (somebody set it
by hand, the configuration changed) is left alone until something is to change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from policies.model.spec import Pool


def round_up(replicas: int, quantum: int) -> int:
    """Return the least multiple that is no smaller."""
    return -(-replicas // quantum) * quantum


def round_down(replicas: int, quantum: int) -> int:
    """Return the largest multiple that is no larger."""
    return replicas // quantum * quantum


def bounds(pool: Pool, cap: int) -> tuple[int, int]:
    """Return the least and the most that the pool may have, in whole quanta; `cap` is the workload's maximum."""
    most = round_down(cap if pool.max_replicas is None else min(cap, pool.max_replicas), pool.quantum)
    return min(round_up(pool.min_replicas, pool.quantum), most), most


def growth(size: int, wanted: int, room: int, quantum: int) -> int:
    """Return how many to add to `size` for `wanted` more.

    Up to the next multiple, down to the last one within `room`.
    """
    if wanted <= 0 or room <= 0:
        return 0
    grown = round_up(size + wanted, quantum)
    return max(0, grown - size if grown <= size + room else round_down(size + room, quantum) - size)


def removal(size: int, surplus: int, quantum: int) -> int:
    """Return how many of `size` may go where no more than `surplus` shall.

    Down to the first multiple that leaves enough.
    """
    return max(0, size - round_up(max(0, size - surplus), quantum)) if surplus > 0 else 0


def fit(wanted: int, held: int, most: float, quantum: int) -> int:
    """Return the size in whole quanta for one that is wanted.

    The one held where that is wanted or nothing else fits.
    """
    if wanted == held or wanted % quantum == 0:
        return wanted
    above = round_up(wanted, quantum)
    if above > most:
        return round_down(wanted, quantum) if wanted < held else max(held, round_down(wanted, quantum))
    return min(above, held) if wanted < held else above


def largest(pools: Iterable[Pool]) -> int:
    """Return the largest quantum among pools: what a limit on steps must let through, lest nothing ever moves."""
    return max((pool.quantum for pool in pools), default=1)
