"""Turns taken into columns that grow: days of them in some megabytes."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from policies.history.tick_values import NAN, decision_values, whole_value
from policies.model import Fresh, PolicyName, PoolName, PoolStatus, Reading, Result, SignalName, Tick
from scaler.config.load import Workload
from simulators.backtest.reasons import Reasons, by_hand
from simulators.backtest.recorded_run import FIXED, LACKING, SIZES, RecordedRun
from simulators.reporting.time_bins import Floats

NONE: Final[Mapping[str, float]] = {"desired": 0.0, "ready": 0.0, "interrupted": NAN, "reserved": NAN, LACKING: 0.0}
"""What a pool holds in turns of a specification that does not have it."""
NONE_LEFT: Final = {Result.OUT_OF_CAPACITY, Result.OUT_OF_QUOTA}


@dataclass(slots=True)
class Taken:
    """Columns that grow. A signal or pool that appears later is NaN before."""

    fixed: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in FIXED})
    pools: dict[PoolName, dict[str, array[float]]] = field(default_factory=dict)
    readings: dict[SignalName, array[float]] = field(default_factory=dict)
    measured: dict[SignalName, array[float]] = field(default_factory=dict)
    specs: Counter[str] = field(default_factory=Counter)
    memory: dict[PolicyName, Mapping[str, float]] = field(default_factory=dict)
    reasons: Reasons = field(default_factory=Reasons)
    turned_back: int = 0

    def __len__(self) -> int:
        return len(self.fixed["at"])

    def take(self, tick: Tick) -> None:
        """Add a turn. One that does not lie after the last one is left out: time does not run backwards here."""
        rows = len(self)
        if rows and tick.at <= self.fixed["at"][-1]:
            self.turned_back += 1
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
                any(_short(status) or _lacking(tick, name, status) for name, status in tick.observation.pools.items())
            ),
            float(len(tick.observation.source_errors) + len(tick.observation.pool_errors)),
            float(tick.dry_run),
            by_hand(d),
        )
        for name, value in zip(FIXED, values, strict=True):
            self.fixed[name].append(value)
        for signal, reading in tick.observation.readings.items():
            value = whole_value(reading)
            at = reading.measured_at if isinstance(reading, Fresh) and not math.isnan(value) else NAN
            _put(self.readings.setdefault(signal, array("d")), rows, value)
            _put(self.measured.setdefault(signal, array("d")), rows, at)
        for pool, status in tick.observation.pools.items():
            columns = self.pools.setdefault(pool, {name: array("d") for name in (*SIZES, LACKING)})
            _put(columns[LACKING], rows, _lacking(tick, pool, status), NONE[LACKING])
            for name in SIZES:
                size = getattr(status.value, name) if isinstance(status, Fresh) else None
                _put(columns[name], rows, NAN if size is None else float(size), NONE[name])
        self.reasons.note(d)
        self.specs[tick.spec] += 1
        self.memory |= {r.policy: r.memory for r in d.recommendations if r.memory}

    def told(self, specs: Mapping[str, Workload], damaged: int) -> RecordedRun | None:
        """Return the columns, whole; None where the journal does not tell the specification."""
        known = [name for name, _ in self.specs.most_common() if name in specs]
        if not known:
            return None
        rows = len(self)
        return RecordedRun(
            specs[known[0]],
            dict(self.specs),
            {name: np.array(column) for name, column in self.fixed.items()},
            {
                pool: {name: _filled(c, rows, NONE[name]) for name, c in columns.items()}
                for pool, columns in self.pools.items()
            },
            {signal: _filled(column, rows) for signal, column in self.readings.items()},
            {signal: _filled(column, rows) for signal, column in self.measured.items()},
            self.memory,
            self.reasons,
            damaged,
            self.turned_back,
        )


def _lacking(tick: Tick, pool: PoolName, reading: Reading[PoolStatus]) -> float:
    """Replicas of a pool that were asked for and do not come."""
    refused = sum(o.result in NONE_LEFT for o in tick.outcomes if o.pool == pool)
    failed = reading.value.failed if isinstance(reading, Fresh) else 0
    return float(refused + failed + tick.decision.abandoned.get(pool, 0))


def _short(reading: Reading[PoolStatus]) -> bool:
    """Whether the platform says that replicas asked for do not come."""
    return isinstance(reading, Fresh) and reading.value.shortfall is not None


def _put(column: array[float], row: int, value: float, before: float = NAN) -> None:
    """Set a row, and those before it that the column lacks to `before`."""
    column.extend([before] * (row - len(column)))
    column.append(value)


def _filled(column: array[float], rows: int, after: float = NAN) -> Floats:
    return np.concatenate((np.array(column), np.full(rows - len(column), after)))
