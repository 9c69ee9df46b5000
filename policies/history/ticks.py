"""The recent past of one workload.

Bounded rows in numpy windows, the lead times measured, and what is known of pools and sources.

A row is what later decisions look back at. Rows come from ticks alone, so the same journal gives the same history.
Beside the columns that every turn has, a row holds the signals that a recommendation asks to be kept, and the history
holds each policy's memory: what its last recommendation handed on to its next.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.forecast.quantile_forecast import QuantileForecast
from policies.history.lead_times import LeadTimes
from policies.history.pool_memory import PoolMemories
from policies.history.tick_values import NAN, decision_values, whole_value
from policies.model import Absent
from policies.signals.zero_suspicion import ZeroSuspicion, source_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from policies.forecast.history_seed import HistorySeed
    from policies.model import PolicyName, SignalName, Tick

COLUMNS: Final = ("at", "demand", "wanted", "may_lower", "active", "current", "target", "ready", "held")
AT, DEMAND, WANTED, MAY_LOWER, ACTIVE, CURRENT, TARGET, READY, HELD = range(len(COLUMNS))
"""`held` is the number of replicas asked for over all pools, whatever they do and are worth."""
MAX_ROWS: Final = 4096
"""Rows kept at the most: 17 hours at the default interval of 15 s, two at Knative's of 2 s."""


class History:
    """A bounded run of rows, oldest first, each column a contiguous numpy view.

    Rows are kept for `span_s`, and at most `max_rows` of them: appending is amortised O(1), a window is a slice.
    """

    def __init__(self, span_s: float = 3600.0, max_rows: int = MAX_ROWS, step_s: float = 15.0) -> None:
        self.span_s = span_s
        self.max_rows = max_rows
        self.step_s = step_s
        self.lead_times = LeadTimes()
        self.pool_memories = PoolMemories()
        self.zero_suspicion = ZeroSuspicion()
        self._rows: NDArray[np.float64] = np.empty((len(COLUMNS), 64))
        self._retained: dict[SignalName, int] = {}
        self._memory: dict[PolicyName, Mapping[str, float]] = {}
        self._forecasts: dict[PolicyName, QuantileForecast] = {}
        self._start = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._start

    def add_without_forecast(self, tick: Tick) -> None:
        """Add a turn from the record, after the jump of the clock before it, if there was one."""
        if tick.clock_step_s:
            self.shift(tick.clock_step_s)
        self.append(tick)

    def append(self, tick: Tick) -> None:
        """Add a turn. A row that does not lie after the last one is refused: time does not run backwards here."""
        d, seen = tick.decision, tick.observation
        if len(self) and d.at <= self._rows[AT, self._end - 1]:
            return
        if self._end == self._rows.shape[1]:
            self._make_room()
        values = decision_values(d)
        self._rows[: len(COLUMNS), self._end] = (
            d.at,
            values.demand,
            values.capped_need,
            d.may_scale_in,
            d.active,
            values.current,
            values.target,
            values.ready,
            sum(NAN if isinstance(r, Absent) else r.value.desired for r in seen.pools.values()),
        )
        for r in d.recommendations:
            self._retain(r.retained_signals)
            if r.memory or r.policy in self._memory:
                self._memory[r.policy] = r.memory
            if r.work is not None or r.policy in self._forecasts:
                self._forecast_to_write(r.policy).note(d.at, r.work)
        for signal, row in self._retained.items():
            suspected = source_of(signal) in d.suspected_zeros
            self._rows[row, self._end] = NAN if suspected else whole_value(seen.readings.get(signal))
        self._end += 1
        while self._end - self._start > self.max_rows or self._rows[AT, self._start] < d.at - self.span_s:
            self._start += 1
        if d.target is not None and d.ready is not None:
            self.lead_times.note(d.at, d.target, d.ready)
        self.pool_memories.note(tick)
        self.zero_suspicion.note(seen)

    def _retain(self, signals: tuple[SignalName, ...]) -> None:
        """Keep these signals from now on; of the turns before nothing is known."""
        for signal in signals:
            if signal not in self._retained:
                self._retained[signal] = len(self._rows)
                self._rows = np.vstack((self._rows, np.full(self._rows.shape[1], NAN)))

    def _make_room(self) -> None:
        rows = len(self)
        kept = self._rows[:, self._start : self._end]
        if 2 * rows > self._rows.shape[1]:
            grown = np.empty((len(self._rows), 2 * self._rows.shape[1]))
            grown[:, :rows] = kept
            self._rows = grown
        else:
            self._rows[:, :rows] = kept.copy()
        self._start, self._end = 0, rows

    def shift(self, step_s: float) -> None:
        """Move the whole past by `step_s`: after the wall clock jumped, ages stay what they were."""
        self._rows[AT, self._start : self._end] += step_s
        self.lead_times.shift(step_s)
        for outlook in self._forecasts.values():
            outlook.shift(step_s)
        self.pool_memories.shift(step_s)
        self.zero_suspicion.shift(step_s)

    def column(self, column: int, since: float | None = None) -> NDArray[np.float64]:
        """Return a column's values at or after `since` (all of them without it), oldest first.

        A view, not to be written.
        """
        start = self._start if since is None else self._index(since)
        return self._rows[column, start : self._end]

    def signal(self, name: SignalName, since: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ticks since `since` that saw `name` fresh and whole: (at, values), oldest first.

        Empty for a signal that no recommendation asked to keep. A lower bound is not kept: a mean with it would be one.
        """
        if name not in self._retained:
            return np.empty(0), np.empty(0)
        values = self.column(self._retained[name], since)
        seen = ~np.isnan(values)
        return self.column(AT, since)[seen], values[seen]

    def memory(self, policy: PolicyName) -> Mapping[str, float]:
        """Return what the policy's last recommendation handed on (`Recommendation.memory`); empty before the first."""
        return self._memory.get(policy, {})

    def forecasts_for(self, policy: PolicyName) -> bool:
        """Return whether the policy has an outlook: a past, or work that it measured."""
        return policy in self._forecasts

    def forecast(self, policy: PolicyName) -> QuantileForecast:
        """Return the forecast of the work that the policy measured (`Recommendation.work`), only to be read.

        It has seen nothing where the policy measured none so far.
        """
        return self._forecasts.get(policy) or _nothing_measured(self.step_s)

    def seed_forecast(self, policy: PolicyName, seed: HistorySeed) -> None:
        """Give the policy's forecast an older past."""
        seed.apply(self._forecast_to_write(policy))

    def _forecast_to_write(self, policy: PolicyName) -> QuantileForecast:
        if policy not in self._forecasts:
            self._forecasts[policy] = QuantileForecast(self.step_s)
        return self._forecasts[policy]

    def longest_gap_s(self, column: int, since: float, now: float) -> float:
        """Return the longest stretch in [since, now] without a true value in `column`.

        A row at `now` is taken as true (the turn being decided). The last true row before `since` counts as the left
        edge only by its age: a window whose start nothing vouches for has a gap at its start.
        """
        good = self.column(AT)[self.column(column) > 0]
        first = int(good.searchsorted(since, side="right")) - 1
        if first < 0:
            return float("inf")
        inside = good[first:]
        return float(max((inside[1:] - inside[:-1]).max(initial=0.0), now - inside[-1]))

    def _index(self, since: float) -> int:
        return self._start + int(np.searchsorted(self._rows[AT, self._start : self._end], since, side="left"))


@lru_cache(maxsize=64)
def _nothing_measured(step_s: float) -> QuantileForecast:
    """Return the forecast that has seen nothing, one for all that only read it."""
    return QuantileForecast(step_s)
