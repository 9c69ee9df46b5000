"""A pool's supply in a recorded period: lead times, interruptions and shortages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from policies.history.lead_times import LeadTimes
from policies.model import PoolName
from simulators.backtest.recorded_run import LACKING, RecordedRun
from simulators.world.infrastructure.supply import SupplyStep

UNLIMITED: Final = 100_000
"""The nodes offered without a recorded shortage: a workload's own upper limit."""
MAX_LOSSES_PER_HOUR: Final = 3600.0
"""The maximum interruption rate of a simulated world: one a second."""
SHORTAGE_S: Final = 1800.0
"""A shortage without a further attempt lasts this long. Seconds; no longer than policies remember one."""


def lead_times(recorded: RecordedRun, pool: PoolName) -> LeadTimes:
    """Return a pool's lead times from its recorded sizes."""
    lead_times_, sizes = LeadTimes(), recorded.pools[pool]
    for time_s, desired, ready in zip(recorded.at, sizes["desired"], sizes["ready"], strict=True):
        if math.isfinite(desired) and math.isfinite(ready):
            lead_times_.note(float(time_s), int(desired), int(ready))
    return lead_times_


def interruptions_per_hour(recorded: RecordedRun, pool: PoolName) -> float:
    """Return the interruptions per replica and hour outside of shortages.

    2 interruptions in 4 replica-hours are 0.5.
    """
    sizes = recorded.pools[pool]
    supplied = sizes[LACKING] == 0
    hours = float(np.nansum(np.where(supplied, sizes["ready"], 0.0) * recorded.over_s)) / 3600.0
    known = np.isfinite(sizes["interrupted"])
    interrupted = np.maximum(np.diff(sizes["interrupted"][known]), 0.0)[supplied[known][1:]].sum()
    return min(MAX_LOSSES_PER_HOUR, float(interrupted) / hours) if hours > 0 else 0.0


def capacity(recorded: RecordedRun, pool: PoolName) -> tuple[SupplyStep, ...]:
    """Return a pool's capacity: unlimited, but at most the ready replicas after a shortage.

    A shortage lasts until more replicas become ready, counted back by their lead time, or for `SHORTAGE_S`. With a lead
    time of 120 s and a shortage at 60 and 120 s with 1 ready replica, 4 ready replicas at 300 s end it at 180 s.
    """
    sizes, at = recorded.pools[pool], recorded.at
    ready = sizes["ready"]
    shortage = (sizes[LACKING] > 0) & np.isfinite(ready)
    if not shortage.any():
        return ()
    lead_s = lead_times(recorded, pool).usual_s(recorded.spec.pools[pool].lead_time_s)
    nodes = np.full(len(at), float(UNLIMITED))
    last = -1
    for k in range(len(at)):
        if shortage[k]:
            nodes[k], last = ready[k], k
        elif last >= 0 and ready[k] > nodes[last]:  # the capacity existed when these replicas were requested
            requested = int(np.searchsorted(at, at[k] - lead_s))
            nodes[max(last + 1, requested) : k] = UNLIMITED
            last = -1
        elif last >= 0 and at[k] - at[last] <= SHORTAGE_S:
            nodes[k] = nodes[last]
    firsts = np.concatenate(([0], np.flatnonzero(np.diff(nodes)) + 1))
    return tuple(SupplyStep(at_s=float(at[k] - at[0]), nodes=int(nodes[k])) for k in firsts)


def shortage_share(steps: Sequence[SupplyStep], span_s: float) -> float:
    """Return the share of the time in which the capacity is limited."""
    ends = [*(step.at_s for step in steps[1:]), span_s]
    return sum(end - step.at_s for step, end in zip(steps, ends, strict=False) if step.nodes < UNLIMITED) / span_s
