"""Stress of a traffic window, and the choice of the held-out part of a trace.

A validation proves little if its traffic is calmer than that of the search. So the held-out part of a trace is a
contiguous third whose stress is comparable with that of the remaining traffic. Sources: R. D. Snee, "Validation of
Regression Models" (Technometrics 19, 1977): both parts of split data cover a similar region. C. Bergmeir and J. M.
Benítez, "On the use of cross-validation for time series predictor evaluation" (Information Sciences 191, 2012):
contiguous blocks, so that neighbouring and correlated values are not in both parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.experiments.scenario import Case
from simulators.reporting.time_bins import Floats
from simulators.world.infrastructure.node_lifecycle import SERVE, Tier

CALM: Final = 0.2
"""A peak or rise below this share of the mean is no stress: usual headroom and whole replicas cover it."""
COMPARABLE: Final = 2 / 3
"""The minimum share of the tuning traffic's stress in the held-out part: a burst twice as high is another load."""
MIN_REQUESTS: Final = 400.0
"""The minimum mean number of requests in a bin: 400 scatter by 5 %, so that noise alone stays below `CALM`."""
CANDIDATES: Final = 12
"""The held-out part begins at a twelfth of the trace, so that both parts of the rest are not too short."""


@dataclass(frozen=True, slots=True)
class Stress:
    """Load relative to the mean of its window.

    `peak` is the highest load, minus 1; `rise` the largest rise within a lead time. A mean of 10 requests/s that jumps
    from 8 to 25 requests/s has a peak of 1.5 and a rise of 1.7.
    """

    peak: float = 0.0
    rise: float = 0.0

    def tests(self, other: Stress) -> bool:
        """Return whether this is at least `COMPARABLE` of the other stress, in both measures."""
        return all(a >= COMPARABLE * b for a, b in zip(self._floored(), other._floored(), strict=True))

    def _floored(self) -> tuple[float, float]:
        return max(self.peak, CALM), max(self.rise, CALM)

    def __str__(self) -> str:
        return f"peak {1 + self.peak:.1f} times the mean, largest rise within a lead time {self.rise:.1f} times"


def lead_time_s(case: Case) -> float:
    """Return the median cold start of the slowest pool. Seconds."""
    pools = case.scenario.pools.values()
    return max(float(sum(getattr(p.start_up, phase).median_s for phase in SERVE[Tier.COLD])) for p in pools)


@dataclass(frozen=True, slots=True, eq=False)
class TraceInterval:
    """An interval of a trace with the arrivals of the trace. Seconds."""

    arrival_s: Floats
    since_s: float
    until_s: float

    @property
    def length_s(self) -> float:
        return self.until_s - self.since_s

    @property
    def count(self) -> int:
        return int(np.searchsorted(self.arrival_s, self.until_s) - np.searchsorted(self.arrival_s, self.since_s))


def stress_of(parts: Sequence[TraceInterval], lead_s: float) -> Stress:
    """Return the stress of the parts of one trace, relative to their common mean.

    The load is the mean rate over a lead time, or over a longer time if that has too few requests, at steps of half of
    it.
    """
    count, length_s = sum(part.count for part in parts), sum(part.length_s for part in parts)
    if not count:
        return Stress()
    mean_rps = count / length_s
    width_s = max(lead_s, MIN_REQUESTS / mean_rps)
    found = []
    for part in parts:
        half_bins = int(2 * part.length_s / width_s)
        if half_bins >= 2:
            counts = np.histogram(part.arrival_s, part.since_s + np.arange(half_bins + 1) * width_s / 2)[0]
            loads = (counts[:-1] + counts[1:]) / width_s / mean_rps
            found.append(Stress(float(loads.max()) - 1.0, float((loads[2:] - loads[:-2]).max(initial=0.0))))
    return joint_stress(found)


def joint_stress(parts: Sequence[Stress]) -> Stress:
    """Return the largest stress of several windows, and none of no window."""
    return Stress(max((p.peak for p in parts), default=0.0), max((p.rise for p in parts), default=0.0))


def held_out_start(arrival_s: Floats, end_s: float, share: float, lead_s: float, min_part_s: float) -> float:
    """Return where the held-out part of a trace begins, as a share of the trace.

    It is the latest part of this length that is comparable with the rest, and the rest with it. If no part is, it is
    the end of the trace. Parts of the rest are at least `min_part_s` long, with requests after their first third.
    """
    last = round((1.0 - share) * CANDIDATES)
    for step in range(last, -1, -1):
        start_s, stop_s = step / CANDIDATES * end_s, (step / CANDIDATES + share) * end_s
        rest = [(a, b) for a, b in ((0.0, start_s), (stop_s, end_s)) if b - a > 1e-6 * end_s]
        if any(b - a < min_part_s or not TraceInterval(arrival_s, a + (b - a) / 3, b).count for a, b in rest):
            continue
        held_out = stress_of([TraceInterval(arrival_s, start_s, stop_s)], lead_s)
        tuning = stress_of([TraceInterval(arrival_s, a, b) for a, b in rest], lead_s)
        if held_out.tests(tuning) and tuning.tests(held_out):
            return step / CANDIDATES
    return 1.0 - share
