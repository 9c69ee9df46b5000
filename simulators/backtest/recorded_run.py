"""A workload's turns as columns. What was not seen fresh and whole is NaN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.model import PolicyName, PoolName, SignalName, WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.config.load import Workload
from simulators.backtest.reasons import Reasons
from simulators.reporting.time_bins import Floats

SILENT: Final = 4.0
"""A daemon that took no turn for so many intervals was not there: what it would have seen and held is not known."""
FIXED: Final = (
    "at", "demand", "work", "target", "ready", "blind", "refused", "short", "errors", "dry_run", "by_hand",
)  # fmt: skip
SIZES: Final = ("desired", "ready", "interrupted", "reserved")
LACKING: Final = "lacking"
"""A pool's column beside its `SIZES`: replicas asked for that its cloud did not give: refused, failed, written off."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedRun:
    """One workload's turns, oldest first; a value a turn in every column.

    `workload` is the specification that decided most of them, `specs` how many of them each one did. `columns` are
    those of `FIXED`: `work` is the work measured without forecast where a policy tells it, `short` whether capacity or
    quota was lacking in some pool, `refused` how many writes came to nothing, `by_hand` by how many replicas an
    override moved the size. `pools` holds `SIZES` and `LACKING` by pool, `memory` what each policy had learnt in the
    end, `reasons` what decided.
    `damaged` are lines that could not be read, in all of the journals; `turned_back` turns that were left out because
    the clock had been set back, or because two journals have them.
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
    turned_back: int = 0

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
        """When each turn was decided. Seconds since the Unix epoch."""
        return self.columns["at"]

    @property
    def interval_s(self) -> float:
        """Between two turns, mostly."""
        return float(np.median(np.diff(self.at)))

    @property
    def over_s(self) -> Floats:
        """How long what each turn found and decided held: to the next turn, and no longer than a daemon is believed."""
        gaps = np.append(np.diff(self.at), self.interval_s)
        return np.where(gaps > SILENT * self.interval_s, self.interval_s, gaps)

    @property
    def span_s(self) -> float:
        return float(self.at[-1] - self.at[0]) + self.interval_s

    @property
    def silent_s(self) -> float:
        """For how long no turn was taken."""
        return max(0.0, self.span_s - float(self.over_s.sum()))

    def reading(self, source: str, quantity: str) -> Floats | None:
        """Return a signal's values; None where it was never read."""
        values = self.readings.get(SignalName(f"{source}.{quantity}"))
        return values if values is not None and np.isfinite(values).any() else None

    def asked(self) -> Floats:
        """Replicas asked for over all pools, as found; NaN where one is not known."""
        return np.asarray(np.sum([sizes["desired"] for sizes in self.pools.values()], axis=0), np.float64)

    def reservation(self, pool: PoolName) -> int:
        """How many replicas of a reserved pool are paid whether used or not: as its cloud says, or else its most."""
        sizes, spec = self.pools[pool], self.spec.pools[pool]
        told = float(np.nanmax(sizes["reserved"], initial=-1.0))
        most = int(np.nanmax(sizes["desired"], initial=0.0))
        return int(told) if told >= 0 else max(spec.max_replicas or 0, most, 1)
