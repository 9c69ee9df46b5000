"""History of one workload: bounded rows of ticks, and memory of pools, sources and policies.

Rows come from ticks alone, so the same journal gives the same history. A row has the columns of `COLUMNS`, and the
signals that a recommendation retains (`Recommendation.retained_signals`).
"""

from __future__ import annotations

import math
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
    from policies.model.names import RouteName
    from policies.model.route import RouteDecision

COLUMNS: Final = (
    *("at", "demand", "capped_need", "may_scale_in", "active", "current", "target", "ready"),
    *("desired", "ready_replicas"),
)
AT, DEMAND, CAPPED_NEED, MAY_SCALE_IN, ACTIVE, CURRENT, TARGET, READY, DESIRED, READY_REPLICAS = range(len(COLUMNS))
"""`desired` and `ready_replicas` count the replicas of all pools, headroom tiers included, whatever their capacity."""
MAX_ROWS: Final = 4096
"""Maximum number of rows: 17 hours at the default interval of 15 s, two at Knative's of 2 s."""
MIN_FREE_ROWS: Final = 16
"""Minimum number of free rows after the rows were moved."""


class History:
    """Rows of ticks, oldest first; each column is a contiguous numpy view.

    Rows are kept for `span_s`, and at most `max_rows` of them. Appending is amortized O(1), a window is a slice.
    """

    def __init__(self, span_s: float = 3600.0, max_rows: int = MAX_ROWS, step_s: float = 15.0) -> None:
        self.span_s = span_s
        self.max_rows = max_rows
        self.step_s = step_s
        self.lead_times = LeadTimes()
        self.pool_memories = PoolMemories()
        self.zero_suspicion = ZeroSuspicion()
        self.routes: dict[RouteName, RouteDecision] = {}
        """The last split of each route."""
        self._rows: NDArray[np.float64] = np.empty((len(COLUMNS), MIN_FREE_ROWS))
        self._retained: dict[SignalName, int] = {}
        self._memory: dict[PolicyName, Mapping[str, float]] = {}
        self._forecasts: dict[PolicyName, QuantileForecast] = {}
        self._start = 0
        self._end = 0
        self._indices: dict[float, int] = {}
        """The first row since each time that was read after the last tick: most windows are read more than once."""

    def __len__(self) -> int:
        return self._end - self._start

    def add_without_forecast(self, tick: Tick) -> None:
        """Add a recorded tick, after the clock's jump before it if there was one."""
        if tick.clock_step_s:
            self.shift(tick.clock_step_s)
        self.append(tick)

    def append(self, tick: Tick) -> None:
        """Add a tick. A tick that is not later than the last one is ignored: times only rise."""
        d, observation = tick.decision, tick.observation
        if len(self) and d.at <= self._rows[AT, self._end - 1]:
            return
        if self._end == self._rows.shape[1]:
            self._make_room()
        self._indices.clear()
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
            sum(NAN if isinstance(r, Absent) else r.value.desired for r in observation.pools.values()),
            sum(NAN if isinstance(r, Absent) else r.value.ready for r in observation.pools.values()),
        )
        for r in d.recommendations:
            self._retain(r.retained_signals)
            if r.memory or r.policy in self._memory:
                self._memory[r.policy] = r.memory
            if r.work is not None or r.policy in self._forecasts:
                self._forecast_to_write(r.policy).note(d.at, r.work)
        for signal, row in self._retained.items():
            suspected = source_of(signal) in d.suspected_zeros
            self._rows[row, self._end] = NAN if suspected else whole_value(observation.readings.get(signal))
        self._end += 1
        while self._end - self._start > self.max_rows or self._rows[AT, self._start] < d.at - self.span_s:
            self._start += 1
        if d.target is not None and d.ready is not None:
            self.lead_times.note(d.at, d.target, d.ready)
        self.pool_memories.note(tick)
        self.zero_suspicion.note(observation)
        self.routes.update(d.routes)

    def _retain(self, signals: tuple[SignalName, ...]) -> None:
        """Keep these signals from now on; earlier rows hold NaN."""
        for signal in signals:
            if signal not in self._retained:
                self._retained[signal] = len(self._rows)
                self._rows = np.vstack((self._rows, np.full(self._rows.shape[1], NAN)))

    def _make_room(self) -> None:
        """Move the rows to another array, with an eighth of their number free after them.

        Example: 240 rows move to an array of 240 + 30 + 16 = 286, and again 46 ticks later.
        """
        rows = len(self)
        moved = np.empty((len(self._rows), rows + rows // 8 + MIN_FREE_ROWS))
        moved[:, :rows] = self._rows[:, self._start : self._end]
        self._rows, self._start, self._end = moved, 0, rows

    def shift(self, step_s: float) -> None:
        """Shift all times by `step_s` after a jump of the wall clock, so that ages stay the same."""
        self._indices.clear()
        self._rows[AT, self._start : self._end] += step_s
        self.lead_times.shift(step_s)
        for forecast in self._forecasts.values():
            forecast.shift(step_s)
        self.pool_memories.shift(step_s)
        self.zero_suspicion.shift(step_s)

    def column(self, column: int, since: float | None = None) -> NDArray[np.float64]:
        """Return a read-only view of a column's values since `since` (or all), oldest first."""
        start = self._start if since is None else self._index(since)
        return self._rows[column, start : self._end]

    def column_to_now(self, column: int, since: float, value: float) -> NDArray[np.float64]:
        """Return a copy of a column's values since `since`, with this tick's `value` at the end."""
        past = self.column(column, since)
        values = np.empty(past.size + 1)
        values[:-1] = past
        values[-1] = value
        return values

    def signal(self, name: SignalName, since: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the times and values of a retained signal since `since`, oldest first.

        Empty for a signal that no recommendation retains. Without lower bounds: a mean with one would be one too.
        """
        if name not in self._retained:
            return np.empty(0), np.empty(0)
        values = self.column(self._retained[name], since)
        known = ~np.isnan(values)
        return self.column(AT, since)[known], values[known]

    def memory(self, policy: PolicyName) -> Mapping[str, float]:
        """Return the memory of the policy's last recommendation; empty before the first."""
        return self._memory.get(policy, {})

    def forecasts_for(self, policy: PolicyName) -> bool:
        """Return whether the policy has a forecast: it reported work, or its forecast was seeded."""
        return policy in self._forecasts

    def forecast(self, policy: PolicyName) -> QuantileForecast:
        """Return the read-only forecast of the work that the policy reports (`Recommendation.work`).

        It is empty where the policy has reported none so far.
        """
        return self._forecasts.get(policy) or _empty_forecast(self.step_s)

    def seed_forecast(self, policy: PolicyName, seed: HistorySeed) -> None:
        """Seed the policy's forecast with an older history."""
        seed.apply(self._forecast_to_write(policy))

    def _forecast_to_write(self, policy: PolicyName) -> QuantileForecast:
        if policy not in self._forecasts:
            self._forecasts[policy] = QuantileForecast(self.step_s)
        return self._forecasts[policy]

    def longest_gap_s(self, column: int, since: float, now: float) -> float:
        """Return the longest time in [since, now] without a true value; infinite if none precedes.

        The tick at `now`, which is being decided, counts as true. Example: true values at 0, 15, 75 and 90 s leave 60 s
        in [10, 100], and 15 s in [80, 100], where the last true value before the window starts the count.
        """
        at, is_true = self.column(AT), self.column(column) > 0
        before = int(at.searchsorted(since, side="right"))
        first = before - 1 - int(is_true[:before][::-1].argmax()) if before else -1
        if first < 0 or not is_true[first]:
            return math.inf
        inside = at[first:][is_true[first:]]
        return float(max(np.maximum.reduce(inside[1:] - inside[:-1], initial=0.0), now - inside[-1]))

    def _index(self, since: float) -> int:
        index = self._indices.get(since)
        if index is None:
            index = self._start + int(self._rows[AT, self._start : self._end].searchsorted(since))
            self._indices[since] = index
        return index


@lru_cache(maxsize=64)
def _empty_forecast(step_s: float) -> QuantileForecast:
    """Return the empty forecast that all readers share."""
    return QuantileForecast(step_s)
