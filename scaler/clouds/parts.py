"""A pool's replicas by zone and market."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from policies.model import PoolPart


def sum_parts(replicas: Iterable[PoolPart]) -> tuple[PoolPart, ...]:
    """Return one part per zone and market, sorted by them, with the sums of its replicas.

    Example: `PoolPart("a", "spot", 1, 0, 1)` and `PoolPart("a", "spot", 0, 1)` give `PoolPart("a", "spot", 1, 1, 1)`:
    one replica that serves and has an interruption notice, and one that is pending.
    """
    counts: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for replica in replicas:
        count = counts[replica.zone, replica.market]
        count[0] += replica.ready
        count[1] += replica.pending
        count[2] += replica.interruption_pending
    return tuple(PoolPart(zone, market, *count) for (zone, market), count in sorted(counts.items()))
