"""What a recorded period shows of a pool's supply: how long starts took, what was lost, what could not be had."""

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
"""Nodes offered where no lack is recorded: as many as a workload may have."""
MOST_LOSSES: Final = 3600.0
"""One a second: more a world does not take."""
LASTS_S: Final = 1800.0
"""A lack that nobody tried again is believed so long: no longer do policies remember one."""


def lead_times(recorded: RecordedRun, pool: PoolName) -> LeadTimes:
    """Return a pool's lead times, as its sizes show them."""
    seen, sizes = LeadTimes(), recorded.pools[pool]
    for at, desired, ready in zip(recorded.at, sizes["desired"], sizes["ready"], strict=True):
        if math.isfinite(desired) and math.isfinite(ready):
            seen.note(float(at), int(desired), int(ready))
    return seen


def losses_per_hour(recorded: RecordedRun, pool: PoolName) -> float:
    """Replicas taken while the pool lacked none, by replica and hour: what is taken for good is a lack of capacity."""
    sizes = recorded.pools[pool]
    kept = sizes[LACKING] == 0
    hours = float(np.nansum(np.where(kept, sizes["ready"], 0.0) * recorded.over_s)) / 3600.0
    known = np.isfinite(sizes["interrupted"])
    taken = np.maximum(np.diff(sizes["interrupted"][known]), 0.0)[kept[known][1:]].sum()
    return min(MOST_LOSSES, float(taken) / hours) if hours > 0 else 0.0


def capacity(recorded: RecordedRun, pool: PoolName) -> tuple[SupplyStep, ...]:
    """Return the capacity of a pool: after a shortage no more than what served, until more came or for `LASTS_S`."""
    sizes, at = recorded.pools[pool], recorded.at
    ready = sizes["ready"]
    lacks = (sizes[LACKING] > 0) & np.isfinite(ready)
    if not lacks.any():
        return ()
    lead_s = lead_times(recorded, pool).usual_s(recorded.spec.pools[pool].lead_time_s)
    nodes = np.full(len(at), float(UNLIMITED))
    last = -1
    for k in range(len(at)):
        if lacks[k]:
            nodes[k], last = ready[k], k
        elif last >= 0 and ready[k] > nodes[last]:  # it was there when this was asked for
            asked = int(np.searchsorted(at, at[k] - lead_s))
            nodes[max(last + 1, asked) : k] = UNLIMITED
            last = -1
        elif last >= 0 and at[k] - at[last] <= LASTS_S:
            nodes[k] = nodes[last]
    firsts = np.concatenate(([0], np.flatnonzero(np.diff(nodes)) + 1))
    return tuple(SupplyStep(at_s=float(at[k] - at[0]), nodes=int(nodes[k])) for k in firsts)


def lacking_share(steps: Sequence[SupplyStep], span_s: float) -> float:
    """Return the share of the time in which `capacity` is limited."""
    ends = [*(step.at_s for step in steps[1:]), span_s]
    return sum(end - step.at_s for step, end in zip(steps, ends, strict=False) if step.nodes < UNLIMITED) / span_s
