"""Quantiles and shares of a histogram.

Buckets are cumulative counts by upper bound. Within a bucket, observations are assumed to be spread evenly: a share
above a bucket's bound is exact, any other value is uncertain by its bucket's width.

Example: the buckets {0.1: 2, 0.5: 8, inf: 10}, in seconds, have the median 0.1 + 0.4 * (5 - 2) / (8 - 2) = 0.3. The
share above 0.3 is 1 - (2 + 6 * 0.5) / 10 = 0.5.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final

SHOWN: Final = 50
"""Characters of an invalid bound or count kept in errors."""
P95: Final = 0.95
"""The quantile that is read from latency histograms."""


def parse_buckets(counts: Iterable[tuple[object, object]]) -> dict[float, float]:
    """Return buckets from bounds and counts as text.

    The counts of one bound written in two ways are added. Raises `ValueError` where a bound or a count is not a number,
    or a sum of counts is beyond a float.
    """
    buckets: dict[float, float] = {}
    for bound, count in counts:
        try:
            upper, number = float(str(bound)), float(str(count))
        except ValueError:
            upper = number = math.nan
        if not upper > -math.inf or not math.isfinite(number):
            raise ValueError(f"bucket {bound!r:.{SHOWN}} has count {count!r:.{SHOWN}}")
        buckets[upper] = buckets.get(upper, 0.0) + number
        if not math.isfinite(buckets[upper]):
            raise ValueError(f"the counts of bucket {bound!r:.{SHOWN}} add up to more than a float holds")
    return buckets


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """Return the `share` quantile as PromQL's histogram_quantile does.

    Returns None without observations.
    """
    bounds, counts = _monotone(buckets)
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


def share_above(limit: float, buckets: Mapping[float, float]) -> float | None:
    """Return the share of observations above a positive `limit`; None without observations.

    Observations above the last finite bound count as above the limit.
    """
    bounds, counts = _monotone(buckets)
    if not counts:
        return None
    i = bisect_left(bounds, limit)
    below, start = (counts[i - 1], bounds[i - 1]) if i else (0.0, 0.0)
    within = counts[i] if bounds[i] == limit else below + (counts[i] - below) * (limit - start) / (bounds[i] - start)
    return min(1.0, max(0.0, 1.0 - within / counts[-1]))


def _monotone(buckets: Mapping[float, float]) -> tuple[list[float], list[float]]:
    """Return the bounds in order and non-decreasing counts, as PromQL does.

    Both are empty without observations. Counts may decrease by rounding, or where replicas have different bounds.
    """
    bounds = sorted(buckets)
    counts = list(accumulate((buckets[bound] for bound in bounds), max))
    if len(bounds) < 2 or not math.isinf(bounds[-1]) or not counts[-1] > 0:
        return [], []
    return bounds, counts
