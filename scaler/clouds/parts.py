"""A pool's replicas by zone and market."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from policies.model import Part


def sum_parts(replicas: Iterable[Part]) -> tuple[Part, ...]:
    """Return one part per zone and market, sorted by them, with the sums of its replicas.

    Example: `Part("a", "spot", 1, 0, 1)` and `Part("a", "spot", 0, 1)` give `Part("a", "spot", 1, 1, 1)`: one replica
    that serves and has an interruption notice, and one that is pending.
    """
    counts: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for replica in replicas:
        count = counts[replica.zone, replica.market]
        count[0] += replica.ready
        count[1] += replica.pending
        count[2] += replica.interruption_pending
    return tuple(Part(zone, market, *count) for (zone, market), count in sorted(counts.items()))
