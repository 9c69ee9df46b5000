"""Arrivals that a file has in coarse steps, spread within their step.

Otherwise all requests of a step would arrive at one moment, as a burst that the traffic did not have.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.trace import Floats, RequestTrace

SLACK_S: Final = 0.002
"""Tolerance from a multiple: 5.999 counts as 6."""


def quantised(arrival: Floats, bucket_s: float) -> int:
    """Return the number of arrivals if they are quantised to buckets, else 0.

    They are if all are at the start of a bucket and some share one.
    """
    known = arrival[np.isfinite(arrival)]
    off = np.abs(known - bucket_s * np.round(known / bucket_s))
    shared = len(np.unique(known)) < len(known)
    return len(known) if shared and (off <= SLACK_S).all() else 0


def spread_arrivals(arrival: Floats, bucket_s: float, options: ReadOptions) -> Floats:
    """Spread sorted arrivals uniformly inside their buckets, in the order of the file.

    The times are rounded to a millisecond.
    """
    moved = np.round(arrival + bucket_s * options.rng_for("arrivals").random(len(arrival)), 3)
    starts = np.flatnonzero(arrival != np.concatenate(([-1.0], arrival[:-1])))
    for bucket in np.split(moved, starts[1:]):
        bucket.sort()
    return np.maximum.accumulate(moved)


def spread_text(bucket_s: float) -> str:
    """Return the name of the repair."""
    return f"arrivals spread within their bucket of {bucket_s:g} s"


def spread_in_buckets(trace: RequestTrace, bucket_s: float, options: ReadOptions) -> RequestTrace:
    """Return a trace whose arrivals are spread if they are quantised to buckets."""
    count = quantised(trace.arrival_s, bucket_s)
    if not count:
        return trace
    arrival = spread_arrivals(trace.arrival_s, bucket_s, options)
    return dataclasses.replace(trace, arrival_s=arrival, repairs={**trace.repairs, spread_text(bucket_s): count})
