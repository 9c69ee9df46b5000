"""Counts the requests of one workload over the windows of its error budget.

The controller adds each tick's readings, and the observation carries the result: metrics, log, dashboard, `explain` and
policies read it there. After a restart the record is restored from the journal.

A source reports rates. Each one counts for the time since the previous tick: 40 requests/s at 15 s are 600 requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from policies.history.tick_values import whole_value
from policies.model import Absent, ErrorBudget, Fresh, Reading, RequestCount, SignalName, Stale, WorkloadName
from policies.model.error_budget import BURN_WINDOWS_S, HOUR_S, MINUTE_S, NOT_MEASURED
from policies.model.spec import Slo, WorkloadSpec
from policies.signals.latency_quantities import LATE_SHARE_BY_LIMIT, LATE_SHARES

MAX_GAP_S: Final = 300.0
"""A longer gap between two ticks counts as not measured, unless ticks are that rare. Seconds."""
SCALE: Final = 1000
"""Requests and seconds are counted in thousandths, as integers: no sum of them is rounded."""
MAX_MINUTES_S: Final = 6 * HOUR_S
"""Longest window that is counted by minutes. Longer ones are counted by hours. Seconds."""
Counter = tuple[int, int, int]
"""A running total in thousandths: measured seconds, requests and late requests."""
NOTHING: Final[Counter] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class SloHistory:
    """A record after a tick, as the journal stores it.

    `at` is the time of that tick, `since` that of the first measurement. `minutes` and `hours` are counts with the
    start of each.
    """

    workload: WorkloadName
    at: float
    limits_s: Mapping[str, float]
    since: float | None
    minutes: tuple[tuple[float, RequestCount], ...]
    hours: tuple[tuple[float, RequestCount], ...]


class RunningTotals:
    """The running total at the end of each bucket, as far back as the longest window.

    A bucket lasts `step_s` seconds. `before` are the running totals at the beginning of the `windows_s` that end now. A
    window's count is the difference to the running total, so that a tick costs a few subtractions.
    """

    def __init__(self, step_s: float, windows_s: Sequence[float]) -> None:
        self.before = [NOTHING] * len(windows_s)
        self._step_s = step_s
        self._buckets = [math.ceil(window_s / step_s) for window_s in windows_s]
        self._totals = [NOTHING] * (max(self._buckets, default=0) + 1)
        self._newest: int | None = None

    def advance(self, now: float, total: Counter) -> None:
        """Set the running total of the bucket of a time. Buckets in between repeat the one before."""
        bucket, totals = int(now // self._step_s), self._totals
        newest, size = self._newest, len(totals)
        if newest is None or bucket > newest:
            newest = bucket if newest is None else newest
            for empty in range(max(newest + 1, bucket - size + 1), bucket):
                totals[empty % size] = totals[newest % size]
            self.before = [totals[(bucket - buckets) % size] for buckets in self._buckets]
            self._newest = bucket
        totals[bucket % size] = total

    def counts(self) -> Iterator[tuple[float, Counter]]:
        """Yield the start and the count of each bucket with a count, the oldest first."""
        if self._newest is None:
            return
        size = len(self._totals)
        before = self._totals[(self._newest + 1) % size]
        for bucket in range(self._newest - size + 2, self._newest + 1):
            total = self._totals[bucket % size]
            if total != before:
                yield bucket * self._step_s, _difference(total, before)
                before = total

    def restore(self, counts: Sequence[tuple[float, Counter]], total: Counter) -> None:
        """Replace the totals by those of these counts, the last of which is `total`."""
        for _, count in reversed(counts):
            total = _difference(total, count)
        self._totals, self._newest = [total] * len(self._totals), None
        for start, count in counts:
            total = _sum(total, count)
            self.advance(start, total)


class SloSignals(NamedTuple):
    """The signals of an SLO: the rate of requests, and the share of late ones by each limit.

    `problem` is why they are unknown for any readings; empty where a source provides a late share.
    """

    requests: SignalName
    late_shares: tuple[SignalName, ...]
    problem: str = ""

    @staticmethod
    def of(spec: WorkloadSpec) -> SloSignals:
        """Return the signals of the first source that provides a late share."""
        shares = [LATE_SHARE_BY_LIMIT[limit] for limit in spec.slo_limits_s]
        source = next((n for n, s in spec.sources.items() if not LATE_SHARES.isdisjoint(s.quantities())), None)
        problem = f"no source reads {' and '.join(shares)}" if source is None else ""
        late_shares = tuple(SignalName(f"{source}.{share}") for share in shares)
        return SloSignals(SignalName(f"{source}.requests_per_s"), late_shares, problem)

    def late_rate(self, readings: Mapping[SignalName, Reading[float]]) -> tuple[float, float] | str:
        """Return the requests and the late requests per second, or the reason why they are unknown.

        A request that misses one of several limits is late. Their shares overlap by an unknown amount, so that the
        largest one is a lower bound of the late share.
        """
        if self.problem:
            return self.problem
        requests_per_s, late_share = whole_value(readings.get(self.requests)), 0.0
        if requests_per_s == 0.0:
            return 0.0, 0.0
        if math.isnan(requests_per_s):
            return f"{self.requests} {_why(readings.get(self.requests))}"
        for signal in self.late_shares:
            share = whole_value(readings.get(signal))
            if math.isnan(share):
                return f"{signal} {_why(readings.get(signal))}"
            late_share = max(late_share, share)
        return requests_per_s, requests_per_s * min(1.0, late_share)


class SloRecord:
    """The requests of one workload under the limits of its SLO.

    They are counted by minutes for 6 hours, and by hours for the window of the error budget. A tick costs a fixed
    number of additions. Times are without the jumps of the clock, so that a jump moves no request into another window.
    """

    def __init__(self, spec: WorkloadSpec, slo: Slo) -> None:
        self.slo = slo
        self.limits_s = slo.limits_s
        self._signals, self._max_gap_s = SloSignals.of(spec), max_gap_s(spec)
        windows_s = (*(w for w in BURN_WINDOWS_S if w < slo.window_s), slo.window_s)
        self._windows_s = windows_s
        self._minutes = RunningTotals(MINUTE_S, [w for w in windows_s if w <= MAX_MINUTES_S])
        self._hours = RunningTotals(HOUR_S, [w for w in windows_s if w > MAX_MINUTES_S])
        self._total = NOTHING
        self._stepped_s = 0.0
        self._first: float | None = None
        self._last: float | None = None

    def adopt(self, spec: WorkloadSpec) -> SloRecord | None:
        """Return the record for a new specification.

        It is this one where limits and window are the same.
        """
        if spec.slo is None or spec.slo.limits_s != self.limits_s or spec.slo.window_s != self.slo.window_s:
            return record_of(spec)
        self.slo, self._signals, self._max_gap_s = spec.slo, SloSignals.of(spec), max_gap_s(spec)
        return self

    def observe(self, at: float, readings: Mapping[SignalName, Reading[float]]) -> ErrorBudget:
        """Count a tick's requests, and return the error budget with them."""
        now, last, measured = at - self._stepped_s, self._last, self._signals.late_rate(readings)
        problem, count, passed_s = "", NOT_MEASURED, 0.0 if last is None else now - last
        if isinstance(measured, str):
            problem = measured
        elif last is None:
            problem = "no tick before this one"
        elif passed_s > self._max_gap_s:
            problem = f"no tick in the {passed_s:.0f} s before this one"
        elif passed_s <= 0.0:
            problem = "no time since the tick before this one"
        else:
            count = RequestCount(passed_s, measured[0] * passed_s, measured[1] * passed_s)
        counter = self._add(now, count)
        since = None if self._first is None else self._first + self._stepped_s
        return ErrorBudget(self.slo.share, self.limits_s, self._counts(), since, _count(counter), problem)

    def history(self, workload: WorkloadName) -> SloHistory | None:
        """Return the record after the last tick, for the journal and for shadows.

        None before the first tick.
        """
        if self._last is None:
            return None
        minutes, hours = (
            tuple((start + self._stepped_s, _count(counter)) for start, counter in totals.counts())
            for totals in (self._minutes, self._hours)
        )
        since = None if self._first is None else self._first + self._stepped_s
        return SloHistory(workload, self._last + self._stepped_s, self.limits_s, since, minutes, hours)

    def restore(self, history: SloHistory) -> None:
        """Replace the counts by recorded ones, unless they are of other limits."""
        if history.limits_s != self.limits_s:
            return
        minutes, hours = (
            [(start - self._stepped_s, _counter(count)) for start, count in counts]
            for counts in (history.minutes, history.hours)
        )
        self._total = NOTHING
        for _, counter in hours:
            self._total = _sum(self._total, counter)
        self._hours.restore(hours, self._total)
        self._minutes.restore(minutes, self._total)
        self._first = None if history.since is None else history.since - self._stepped_s
        self._last = history.at - self._stepped_s

    def add(self, at: float, count: RequestCount) -> None:
        """Add the recorded count of a tick after the last one."""
        self._add(at - self._stepped_s, count)

    def shift(self, step_s: float) -> None:
        """Apply a jump of the wall clock."""
        self._stepped_s += step_s

    def _add(self, now: float, count: RequestCount) -> Counter:
        """Add a count that ends at a time, and return it in thousandths."""
        counter = NOTHING
        if count.measured_s > 0.0:
            counter = _counter(count)
            self._total = _sum(self._total, counter)
            if self._first is None:
                self._first = now - count.measured_s
        self._last = now if self._last is None else max(self._last, now)
        self._minutes.advance(self._last, self._total)
        self._hours.advance(self._last, self._total)
        return counter

    def _counts(self) -> dict[float, RequestCount]:
        """Return the requests of each window."""
        measured, requests, late = self._total
        before = (*self._minutes.before, *self._hours.before)
        return {
            window_s: RequestCount((measured - m) / SCALE, (requests - r) / SCALE, (late - n) / SCALE)
            for window_s, (m, r, n) in zip(self._windows_s, before, strict=True)
        }


def record_of(spec: WorkloadSpec) -> SloRecord | None:
    """Return an empty record of a workload's SLO; None without one."""
    return None if spec.slo is None else SloRecord(spec, spec.slo)


def max_gap_s(spec: WorkloadSpec) -> float:
    """Return the longest time between two ticks that counts as measured. Seconds."""
    return max(MAX_GAP_S, 2.5 * spec.interval_s)


def _counter(count: RequestCount) -> Counter:
    return round(count[0] * SCALE), round(count[1] * SCALE), round(count[2] * SCALE)


def _count(counter: Counter) -> RequestCount:
    return RequestCount(counter[0] / SCALE, counter[1] / SCALE, counter[2] / SCALE)


def _sum(a: Counter, b: Counter) -> Counter:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _difference(a: Counter, b: Counter) -> Counter:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _why(reading: Reading[float] | None) -> str:
    match reading:
        case None:
            return "is not read by the source"
        case Fresh(_, _, missing):
            return f"is a lower bound: {missing}"
        case Stale(_, _, age_s):
            return f"is stale, {age_s:.0f} s old"
        case Absent(reason):
            return f"is absent: {reason}"
