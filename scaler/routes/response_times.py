"""Latency of a backend from two readings of a histogram of its response times.

A histogram has the number of responses by the lower bound of their bucket, in milliseconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

from policies.route.ejection import MIN_REQUESTS

Histogram = Mapping[float, float]
MS_PER_S: Final = 1000.0


def latency_s(changes: Iterable[tuple[Histogram, Histogram]], late_share: float) -> float | None:
    """Return the latency of all but a `late_share` of the responses between two readings.

    Each change is the earlier and the later reading of one process. The result is the lower bound of the quantile's
    bucket, so that no response counts as later than it was. It is None where fewer than 5 responses ended, and where a
    count shrank, since then the process restarted.

    Example: of 100 responses, 79 took 400 to 410 ms and 21 took 10 to 11 s. With a share of 0.2 the latency is 10 s;
    with 80 and 20 it is 0.4 s.
    """
    grown: Counter[float] = Counter()
    for before, now in changes:
        if any(now.get(bound, 0.0) < count for bound, count in before.items()):
            return None
        grown.update({bound: count - before.get(bound, 0.0) for bound, count in now.items()})
    total = sum(grown.values())
    if not MIN_REQUESTS <= total < math.inf:
        return None
    late = 0.0
    for bound in sorted(grown, reverse=True):
        late += grown[bound]
        if late > late_share * total:
            return bound / MS_PER_S
    return None  # a share of 1 tolerates every latency


def by_lower_bound(cumulative: Mapping[float, float]) -> dict[float, float]:
    """Return a histogram from cumulative counts by upper bound.

    Example: `{5: 2, 10: 2, inf: 3}` is `{0: 2, 5: 0, 10: 1}`.
    """
    bounds = [0.0, *sorted(cumulative)]
    return {lower: cumulative[upper] - cumulative.get(lower, 0.0) for lower, upper in pairwise(bounds)}
