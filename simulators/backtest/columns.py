"""Growing columns of ticks: days of them fit in some megabytes."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from policies.history.tick_values import NAN, decision_values, whole_value
from policies.model import ErrorBudget, Fresh, PolicyName, PoolName, PoolStatus, Reading, Result, SignalName, Tick
from scaler.config.load import Workload
from simulators.backtest.reasons import Reasons, override_change
from simulators.backtest.recorded_run import FIXED, LACKING, SIZES, RecordedRun
from simulators.reporting.time_bins import Floats

EMPTY_POOL: Final[Mapping[str, float]] = {
    "desired": 0.0,
    "ready": 0.0,
    "interrupted": NAN,
    "reserved": NAN,
    LACKING: 0.0,
}
"""A pool's values in ticks of a specification without it."""
CAPACITY_RESULTS: Final = {Result.OUT_OF_CAPACITY, Result.OUT_OF_QUOTA}


@dataclass(slots=True)
class TickColumns:
    """Growing columns.

    A signal that appears later is NaN before; a pool has the values of `EMPTY_POOL`.
    """

    fixed: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in FIXED})
    pools: dict[PoolName, dict[str, array[float]]] = field(default_factory=dict)
    readings: dict[SignalName, array[float]] = field(default_factory=dict)
    measured: dict[SignalName, array[float]] = field(default_factory=dict)
    specs: Counter[str] = field(default_factory=Counter)
    memory: dict[PolicyName, Mapping[str, float]] = field(default_factory=dict)
    reasons: Reasons = field(default_factory=Reasons)
    error_budget: ErrorBudget | None = None
    out_of_order: int = 0

    def __len__(self) -> int:
        return len(self.fixed["at"])

    def add(self, tick: Tick) -> None:
        """Add a tick. A tick that is not after the last one is counted and left out."""
        rows = len(self)
        if rows and tick.at <= self.fixed["at"][-1]:
            self.out_of_order += 1
            return
        d, results = tick.decision, [o.result for o in tick.outcomes]
        works = [r.work for r in d.recommendations if r.work is not None]
        sizes = decision_values(d)
        values = (
            tick.at,
            sizes.demand,
            max(works, default=NAN),
            sizes.target,
            sizes.ready,
            float(not d.may_scale_in),
            float(sum(r.refused for r in results)),
            float(
                any(
                    _has_shortfall(status) or _lacking_replicas(tick, name, status)
                    for name, status in tick.observation.pools.items()
                )
            ),
            float(len(tick.observation.source_errors) + len(tick.observation.pool_errors)),
            float(tick.dry_run),
            override_change(d),
            _api_usd_per_hour(tick),
        )
        for name, value in zip(FIXED, values, strict=True):
            self.fixed[name].append(value)
        for signal, reading in tick.observation.readings.items():
            value = whole_value(reading)
            measured_at = reading.measured_at if isinstance(reading, Fresh) and not math.isnan(value) else NAN
            _set_row(self.readings.setdefault(signal, array("d")), rows, value)
            _set_row(self.measured.setdefault(signal, array("d")), rows, measured_at)
        for pool, status in tick.observation.pools.items():
            columns = self.pools.setdefault(pool, {name: array("d") for name in (*SIZES, LACKING)})
            _set_row(columns[LACKING], rows, _lacking_replicas(tick, pool, status), EMPTY_POOL[LACKING])
            for name in SIZES:
                size = getattr(status.value, name) if isinstance(status, Fresh) else None
                _set_row(columns[name], rows, NAN if size is None else float(size), EMPTY_POOL[name])
        self.reasons.record(d)
        self.specs[tick.spec] += 1
        self.memory |= {r.policy: r.memory for r in d.recommendations if r.memory}
        self.error_budget = tick.observation.error_budget

    def to_run(self, specs: Mapping[str, Workload], damaged: int) -> RecordedRun | None:
        """Return the completed columns; None if the journal has no specification of these ticks."""
        known = [name for name, _ in self.specs.most_common() if name in specs]
        if not known:
            return None
        rows = len(self)
        return RecordedRun(
            specs[known[0]],
            dict(self.specs),
            {name: np.array(column) for name, column in self.fixed.items()},
            {
                pool: {name: _completed(c, rows, EMPTY_POOL[name]) for name, c in columns.items()}
                for pool, columns in self.pools.items()
            },
            {signal: _completed(column, rows) for signal, column in self.readings.items()},
            {signal: _completed(column, rows) for signal, column in self.measured.items()},
            self.memory,
            self.reasons,
            damaged,
            self.out_of_order,
            self.error_budget,
        )


def _lacking_replicas(tick: Tick, pool: PoolName, reading: Reading[PoolStatus]) -> float:
    """Return the requested replicas of a pool that do not come: refused, failed or abandoned."""
    refused = sum(o.result in CAPACITY_RESULTS for o in tick.outcomes if o.pool == pool)
    failed = reading.value.failed if isinstance(reading, Fresh) else 0
    return float(refused + failed + tick.decision.abandoned.get(pool, 0))


def _api_usd_per_hour(tick: Tick) -> float:
    """Return the cost of requests to providers.

    NaN where it is not known, or a split was not applied.
    """
    applied = {outcome.route for outcome in tick.route_outcomes if outcome.result is Result.ACCEPTED}
    costs = [
        NAN if split.usd_per_hour is None or not (split.is_kept or name in applied) else split.usd_per_hour
        for name, split in tick.decision.routes.items()
    ]
    return sum(costs)


def _has_shortfall(reading: Reading[PoolStatus]) -> bool:
    """Return whether the platform reports a shortfall."""
    return isinstance(reading, Fresh) and reading.value.shortfall is not None


def _set_row(column: array[float], row: int, value: float, fill: float = NAN) -> None:
    """Append a row, after filling missing rows before it with `fill`."""
    column.extend([fill] * (row - len(column)))
    column.append(value)


def _completed(column: array[float], rows: int, fill: float = NAN) -> Floats:
    return np.concatenate((np.array(column), np.full(rows - len(column), fill)))
