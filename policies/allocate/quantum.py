"""Whole quanta: sizes of a pool whose replicas come and go in multiples (`Pool.quantum`).

Growth is rounded up, and down only where the next multiple exceeds the maximum. A removal is rounded so that fewer
replicas go, since a part of a quantum cannot go. A size between two multiples (set by a person, or from an older
configuration) stays until the size changes for another reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from policies.model.pool import Pool


def round_up(replicas: int, quantum: int) -> int:
    """Return the smallest multiple of `quantum` from `replicas` on: 8 for 5 and a quantum of 4."""
    return -(-replicas // quantum) * quantum


def round_down(replicas: int, quantum: int) -> int:
    """Return the largest multiple of `quantum` up to `replicas`: 4 for 5 and a quantum of 4."""
    return replicas // quantum * quantum


def bounds(pool: Pool, max_replicas: int) -> tuple[int, int]:
    """Return the pool's minimum and maximum in whole quanta, within the workload's maximum.

    Example: a quantum of 4, a minimum of 3 and a maximum of 10 give 4 and 8.
    """
    maximum = round_down(
        max_replicas if pool.max_replicas is None else min(max_replicas, pool.max_replicas), pool.quantum
    )
    return min(round_up(pool.min_replicas, pool.quantum), maximum), maximum


def growth(size: int, missing: int, max_growth: int, quantum: int) -> int:
    """Return the replicas to add to `size` for `missing` more, at most `max_growth`.

    Grow up to the next multiple, or else to the last multiple within `max_growth`. Example with a quantum of 4: 6
    replicas that miss 3 grow by 6 to 12 where 10 may be added, and by 2 to 8 where only 5 may be added.
    """
    if missing <= 0 or max_growth <= 0:
        return 0
    grown = round_up(size + missing, quantum)
    return max(0, grown - size if grown <= size + max_growth else round_down(size + max_growth, quantum) - size)


def removal(size: int, surplus: int, quantum: int) -> int:
    """Return the replicas to remove from `size`: at most `surplus`, down to a multiple.

    Example with a quantum of 4: of 10 replicas with a surplus of 3, 2 go, and 8 are left.
    """
    return max(0, size - round_up(max(0, size - surplus), quantum)) if surplus > 0 else 0


def fit(target: int, current: int, maximum: float, quantum: int) -> int:
    """Return the size in whole quanta for `target`, or the current size where none fits.

    Examples with a quantum of 4: 4 -> 10 becomes 12 with a maximum of 20, and 8 with one of 11; 7 -> 6 stays at 7.
    """
    if target == current or target % quantum == 0:
        return target
    above = round_up(target, quantum)
    if above > maximum:
        return round_down(target, quantum) if target < current else max(current, round_down(target, quantum))
    return min(above, current) if target < current else above


def largest(pools: Iterable[Pool]) -> int:
    """Return the largest quantum of the pools. A step must allow it, or a pool never shrinks."""
    return max((pool.quantum for pool in pools), default=1)
