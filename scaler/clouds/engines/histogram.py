"""What a histogram tells: a quantile by interpolation, and the share beyond a limit.

Buckets are cumulative counts by their upper bounds. In between, observations are taken to be spread evenly: a share
beyond a bound is exact, and all else is a guess as wide as its bucket.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final

SHOWN: Final = 50
"""Characters of a bound or a count that is none, kept in errors."""
P95: Final = 0.95
"""The quantile that is read of latencies."""


def bounded_by(counts: Iterable[tuple[object, object]]) -> dict[float, float]:
    """Buckets from bounds and counts as texts have them; those of one bound, written in two ways, are added up.

    Raises `ValueError` where a bound or a count is no number, or a sum of counts is beyond a float.
    """
    buckets: dict[float, float] = {}
    for bound, count in counts:
        try:
            at, number = float(str(bound)), float(str(count))
        except ValueError:
            at = number = math.nan
        if not at > -math.inf or not math.isfinite(number):
            raise ValueError(f"its count up to {bound!r:.{SHOWN}} is {count!r:.{SHOWN}}")
        buckets[at] = buckets.get(at, 0.0) + number
        if not math.isfinite(buckets[at]):
            raise ValueError(f"its counts up to {bound!r:.{SHOWN}} have a sum beyond a float")
    return buckets


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """Return a quantile as PromQL's histogram_quantile has it; None without observations."""
    bounds, counts = _grown(buckets)
    if not counts:
        return None
    rank = share * counts[-1]
    i = bisect_left(counts, rank)
    if math.isinf(bounds[i]):
        return bounds[i - 1]
    if i == 0 and bounds[0] <= 0:
        return bounds[0]
    below, start = (counts[i - 1], bounds[i - 1]) if i else (0.0, 0.0)
    return start + (bounds[i] - start) * (rank - below) / (counts[i] - below)


def beyond(limit: float, buckets: Mapping[float, float]) -> float | None:
    """Return the share of observations above `limit`, which is more than 0; None without observations.

    What lies above the last bound is beyond.
    """
    bounds, counts = _grown(buckets)
    if not counts:
        return None
    i = bisect_left(bounds, limit)
    below, start = (counts[i - 1], bounds[i - 1]) if i else (0.0, 0.0)
    within = counts[i] if bounds[i] == limit else below + (counts[i] - below) * (limit - start) / (bounds[i] - start)
    return min(1.0, max(0.0, 1.0 - within / counts[-1]))


def _grown(buckets: Mapping[float, float]) -> tuple[list[float], list[float]]:
    """Return the bounds in order, and counts that never fall, as PromQL has them; nothing where nothing was observed.

    They would fall by rounding, and where replicas have different bounds.
    """
    bounds = sorted(buckets)
    counts = list(accumulate((buckets[bound] for bound in bounds), max))
    if len(bounds) < 2 or not math.isinf(bounds[-1]) or not counts[-1] > 0:
        return [], []
    return bounds, counts
