"""A workload's recorded ticks as columns. A value that was not fresh and complete is NaN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.model import ErrorBudget, PolicyName, PoolName, SignalName, WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.config.load import Workload
from simulators.backtest.reasons import Reasons
from simulators.reporting.time_bins import Floats

MAX_GAP_INTERVALS: Final = 4.0
"""A longer gap between ticks, in intervals, counts as time without a daemon: sizes and readings are unknown in it."""
FIXED: Final = (
    "at", "demand", "work", "target", "ready", "blind", "refused", "short", "errors", "dry_run", "override_change",
    "api_usd_per_hour",
)  # fmt: skip
SIZES: Final = ("desired", "ready", "interrupted", "reserved")
LACKING: Final = "lacking"
"""A pool's column of requested replicas that its cloud did not provide: refused, failed, abandoned."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedRun:
    """One workload's ticks, oldest first, with one value for each tick in every column.

    `workload` is the specification that decided most ticks, `specs` the number of ticks of each. `columns` are
    those of `FIXED`: `work` is a policy's measured work without forecast, `short` whether a pool lacked capacity or
    quota, `refused` the number of refused writes, `override_change` the replicas moved by an override. The cost of
    requests to providers is `api_usd_per_hour`. `pools` holds `SIZES` and `LACKING` by pool, `memory` each
    policy's last memory. `damaged` counts the unreadable lines of all journals, `out_of_order` the ticks left out
    because the clock was set back or because two journals have them. `error_budget` is the last tick's; None
    without one.
    """

    workload: Workload
    specs: Mapping[str, int]
    columns: Mapping[str, Floats]
    pools: Mapping[PoolName, Mapping[str, Floats]]
    readings: Mapping[SignalName, Floats]
    measured: Mapping[SignalName, Floats]
    memory: Mapping[PolicyName, Mapping[str, float]]
    reasons: Reasons
    damaged: int = 0
    out_of_order: int = 0
    error_budget: ErrorBudget | None = None

    @property
    def name(self) -> WorkloadName:
        return self.workload.name

    @property
    def spec(self) -> WorkloadSpec:
        return self.workload.spec

    def __len__(self) -> int:
        return len(self.at)

    @property
    def at(self) -> Floats:
        """The time of each tick. Unix time."""
        return self.columns["at"]

    @property
    def interval_s(self) -> float:
        """The median time between two ticks. Seconds."""
        return float(np.median(np.diff(self.at)))

    @property
    def over_s(self) -> Floats:
        """The time that each tick stands for: until the next one, or one interval before a gap.

        Seconds.

        Ticks at 0, 15, 30 and 930 s stand for 15 s each.
        """
        gaps = np.append(np.diff(self.at), self.interval_s)
        return np.where(gaps > MAX_GAP_INTERVALS * self.interval_s, self.interval_s, gaps)

    @property
    def span_s(self) -> float:
        return float(self.at[-1] - self.at[0]) + self.interval_s

    @property
    def silent_s(self) -> float:
        """The time without ticks. Seconds."""
        return max(0.0, self.span_s - float(self.over_s.sum()))

    def reading(self, source: str, quantity: str) -> Floats | None:
        """Return a signal's values; None if it was never read."""
        values = self.readings.get(SignalName(f"{source}.{quantity}"))
        return values if values is not None and np.isfinite(values).any() else None

    def desired(self) -> Floats:
        """Return the desired replicas over all pools at each tick; NaN where one is unknown."""
        return np.asarray(np.sum([sizes["desired"] for sizes in self.pools.values()], axis=0), np.float64)

    def reservation(self, pool: PoolName) -> int:
        """Return the replicas of a reserved pool that are always paid.

        The number is the one that the pool's cloud reports, else the pool's maximum.
        """
        sizes, spec = self.pools[pool], self.spec.pools[pool]
        reported = float(np.nanmax(sizes["reserved"], initial=-1.0))
        maximum = int(np.nanmax(sizes["desired"], initial=0.0))
        return int(reported) if reported >= 0 else max(spec.max_replicas or 0, maximum, 1)
