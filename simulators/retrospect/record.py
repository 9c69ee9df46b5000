"""A journal's turns as columns: days of them in some megabytes. What was not seen fresh and whole is NaN."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from policies.model import Absent, Fresh, PolicyName, PoolName, Reading, Result, SignalName, Tick, WorkloadName
from policies.spec import WorkloadSpec
from scaler.config.load import Workload
from scaler.explain import timestamp
from scaler.journal.reader import Journal, JournalError
from scaler.registry import did_you_mean
from simulators.report.spans import Floats

NAN: Final = math.nan
LEAST_TURNS: Final = 4
"""Fewer turns tell no rate and no gap."""
SILENT: Final = 4.0
"""A daemon that took no turn for so many intervals was not there: what it would have seen and held is not known."""
FIXED: Final = ("at", "demand", "work", "target", "ready", "blind", "refused", "short", "errors", "dry_run")
SIZES: Final = ("desired", "ready", "interrupted")


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """One workload's turns, oldest first; a value a turn in every column.

    `workload` is the specification that decided most of them, `specs` how many of them each one did. `columns` are
    those of `FIXED`: `work` is the work measured without forecast where a policy tells it, `short` counts writes for
    which there was no capacity, `refused` all that came to nothing. `pools` holds `SIZES` by pool, `memory` what each
    policy had learnt in the end.
    """

    workload: Workload
    specs: Mapping[str, int]
    columns: Mapping[str, Floats]
    pools: Mapping[PoolName, Mapping[str, Floats]]
    readings: Mapping[SignalName, Floats]
    measured: Mapping[SignalName, Floats]
    memory: Mapping[PolicyName, Mapping[str, float]]
    damaged: int = 0

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
        """A signal's values; None where it was never read."""
        values = self.readings.get(SignalName(f"{source}.{quantity}"))
        return values if values is not None and np.isfinite(values).any() else None

    def asked(self) -> Floats:
        """Replicas asked for over all pools, as found; NaN where one is not known."""
        return np.asarray(np.sum([sizes["desired"] for sizes in self.pools.values()], axis=0), np.float64)


def read(paths: Iterable[Path], since: float, until: float, workload: str | None) -> list[Recorded]:
    """The turns of journals from `since` on and before `until`, by workload. Raises `JournalError`."""
    taken: dict[WorkloadName, _Taken] = {}
    specs: dict[str, Workload] = {}
    first, last, damaged, names = math.inf, -math.inf, 0, set[WorkloadName]()
    for path in paths:
        journal = Journal(path)
        for tick in journal:
            names.add(tick.workload)
            first, last = min(first, tick.at), max(last, tick.at)
            if since <= tick.at < until and workload in {None, tick.workload}:
                taken.setdefault(tick.workload, _Taken()).take(tick)
        specs |= journal.specs
        damaged += len(journal.damaged)
    told = [t.told(specs, damaged) for _, t in sorted(taken.items()) if len(t.fixed["at"]) >= LEAST_TURNS]
    found = [one for one in told if one is not None]
    if not found:
        raise JournalError(_nothing(names, workload, (since, until), (first, last)))
    return found


def _nothing(
    names: set[WorkloadName], workload: str | None, asked: tuple[float, float], there: tuple[float, float]
) -> str:
    """Why there is nothing to look back at."""
    if not names:
        return "no turn is recorded yet"
    if workload is not None and workload not in names:
        hint = did_you_mean(workload, sorted(names)) or f"there are {', '.join(sorted(names))}"
        return f"--workload {workload!r}: no such workload in the journals; {hint}"
    span = " to ".join(timestamp(t) for t in there)
    if asked[0] > there[1] or asked[1] <= there[0]:
        return f"--since, --until: no turn is recorded then; the journals hold {span}"
    return f"fewer than {LEAST_TURNS} turns, or no specification beside them: nothing can be told (journals: {span})"


@dataclass(slots=True)
class _Taken:
    """Columns that grow. A signal or pool that appears later is NaN before."""

    fixed: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in FIXED})
    pools: dict[PoolName, dict[str, array[float]]] = field(default_factory=dict)
    readings: dict[SignalName, array[float]] = field(default_factory=dict)
    measured: dict[SignalName, array[float]] = field(default_factory=dict)
    specs: Counter[str] = field(default_factory=Counter)
    memory: dict[PolicyName, Mapping[str, float]] = field(default_factory=dict)

    def take(self, tick: Tick) -> None:
        """Add a turn. One that does not lie after the last one is left out: time does not run backwards here."""
        rows = len(self.fixed["at"])
        if rows and tick.at <= self.fixed["at"][-1]:
            return
        d, results = tick.decision, [o.result for o in tick.outcomes]
        works = [r.work for r in d.recommendations if r.work is not None]
        values = (
            tick.at,
            NAN if d.demand is None else d.demand,
            max(works, default=NAN),
            NAN if d.target is None else d.target,
            NAN if d.ready is None else d.ready,
            float(not d.may_lower),
            float(sum(r.refused for r in results)),
            float(results.count(Result.OUT_OF_CAPACITY)),
            float(len(tick.observation.source_errors) + len(tick.observation.pool_errors)),
            float(tick.dry_run),
        )
        for name, value in zip(FIXED, values, strict=True):
            self.fixed[name].append(value)
        for signal, reading in tick.observation.readings.items():
            value, at = _whole(reading)
            _put(self.readings.setdefault(signal, array("d")), rows, value)
            _put(self.measured.setdefault(signal, array("d")), rows, at)
        for pool, status in tick.observation.pools.items():
            columns = self.pools.setdefault(pool, {name: array("d") for name in SIZES})
            for name in SIZES:
                _put(columns[name], rows, NAN if isinstance(status, Absent) else float(getattr(status.value, name)))
        self.specs[tick.spec] += 1
        self.memory |= {r.policy: r.memory for r in d.recommendations if r.memory}

    def told(self, specs: Mapping[str, Workload], damaged: int) -> Recorded | None:
        """The columns, whole; None where the journal does not tell the specification."""
        known = [name for name, _ in self.specs.most_common() if name in specs]
        if not known:
            return None
        rows = len(self.fixed["at"])
        return Recorded(
            specs[known[0]],
            dict(self.specs),
            {name: np.array(column) for name, column in self.fixed.items()},
            {pool: {name: _filled(c, rows) for name, c in columns.items()} for pool, columns in self.pools.items()},
            {signal: _filled(column, rows) for signal, column in self.readings.items()},
            {signal: _filled(column, rows) for signal, column in self.measured.items()},
            self.memory,
            damaged,
        )


def _whole(reading: Reading[float]) -> tuple[float, float]:
    """A value that is fresh and no lower bound, and when it was measured."""
    if isinstance(reading, Fresh) and not reading.missing:
        return reading.value, reading.measured_at
    return NAN, NAN


def _put(column: array[float], row: int, value: float) -> None:
    """Set a row, and those before it that the column lacks to NaN."""
    column.extend([NAN] * (row - len(column)))
    column.append(value)


def _filled(column: array[float], rows: int) -> Floats:
    return np.concatenate((np.array(column), np.full(rows - len(column), NAN)))
