"""Late requests over time: SLO attainment, and the burn rate of the error budget.

The burn rate is the late share in a window over the late share that the SLO allows (Google's SRE workbook, chapter
"Alerting on SLOs"). Example: with a share of 0.99, 2 % late requests are a burn rate of 0.02 / 0.01 = 2, which uses up
the error budget of 28 days in 14.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.history.tick_values import whole_value
from policies.model import Absent, Fresh, Reading, SignalName, Stale, Tick
from policies.model.spec import Slo
from policies.signals.latency_quantities import LATE_SHARES, LATENCIES

HOUR_S: Final = 3600.0
WINDOWS_S: Final = (HOUR_S, 6 * HOUR_S, 28 * 24 * HOUR_S)
"""Windows of the burn rate. The last one is the period of the error budget. Seconds."""
SHORT_S: Final = HOUR_S / 12
"""Short window that must also burn for a violation: 1/12 of the long one, as in the SRE workbook. It ends the
violation soon after the last late request. Seconds."""
MAX_GAP_S: Final = 300.0
"""A longer gap between two ticks counts as not measured, unless ticks are that rare. Seconds."""


class Requests(NamedTuple):
    """Requests, those of them that were late, and the time in which they were measured. Seconds."""

    measured_s: float
    requests: float
    late: float


class Buckets:
    """Requests per bucket of `step_s` seconds, in a ring of `buckets`."""

    def __init__(self, step_s: float, buckets: int) -> None:
        self._step_s = step_s
        self._sums: NDArray[np.float32] = np.zeros((buckets, 3), np.float32)
        self._newest: int | None = None

    def add(self, at: float, requests: Requests) -> None:
        """Add requests at a time. Times before the newest one are added to its bucket."""
        bucket, size = math.floor(at / self._step_s), len(self._sums)
        if self._newest is None or bucket - self._newest >= size:
            self._sums[:] = 0.0
            self._newest = bucket
        while self._newest < bucket:
            self._newest += 1
            self._sums[self._newest % size] = 0.0
        self._sums[self._newest % size] += requests

    def total(self, until: float, window_s: float) -> Requests:
        """Return the sum of the buckets that began within the window."""
        if self._newest is None:
            return Requests(0.0, 0.0, 0.0)
        first = math.floor((until - window_s) / self._step_s) + 1
        first = max(first, self._newest - len(self._sums) + 1)
        rows = np.arange(first, self._newest + 1) % len(self._sums)
        return Requests(*self._sums[rows].sum(axis=0, dtype=np.float64).tolist())


class SloRecord:
    """Requests and late requests of one workload.

    They are stored by minutes for 6 hours, and by hours for 28 days: about 12 kB.

    Times are on the daemon's clock without its jumps, so that a jump moves no request into another window.
    """

    def __init__(self, limits_s: Mapping[str, float]) -> None:
        self.limits_s = limits_s
        self._minutes = Buckets(60.0, round(WINDOWS_S[1] / 60.0) + 1)
        self._hours = Buckets(HOUR_S, round(WINDOWS_S[2] / HOUR_S) + 1)
        self._stepped_s = 0.0
        self._first: float | None = None
        self._last: float | None = None
        self._interval_s = 0.0

    def add(self, tick: Tick) -> None:
        """Add a tick: its rates hold since the previous tick."""
        self._stepped_s += tick.clock_step_s
        at = tick.at - self._stepped_s
        passed_s = 0.0 if self._last is None else at - self._last
        measured = late_rate(tick, self.limits_s)
        if not isinstance(measured, str) and 0.0 < passed_s <= max(MAX_GAP_S, 2.5 * self._interval_s):
            rate, late = measured
            requests = Requests(passed_s, rate * passed_s, late * passed_s)
            self._first = at - passed_s if self._first is None else self._first
            self._minutes.add(at, requests)
            self._hours.add(at, requests)
        if passed_s > 0.0:
            self._interval_s = passed_s
        self._last = at if self._last is None else max(self._last, at)

    def window(self, window_s: float, share: float) -> dict[str, Any]:
        """Return the attainment and the burn rate of a window that ends now.

        They are None without a request, and the burn rate is None where `share` leaves no error budget.
        """
        now = self._last or 0.0
        buckets = self._minutes if window_s <= WINDOWS_S[1] else self._hours
        total = buckets.total(now, window_s)
        since = None if self._first is None else max(self._first, now - window_s) + self._stepped_s
        late_share = total.late / total.requests if total.requests > 0 else None
        allowed = 1.0 - share
        return {
            "window_s": window_s,
            "since": since,
            "measured_s": round(total.measured_s),
            "requests": round(total.requests),
            "late": round(total.late),
            "attainment": None if late_share is None else round(1.0 - late_share, 6),
            "burn_rate": None if late_share is None or allowed < 1e-9 else round(late_share / allowed, 3),
        }

    def violated(self, share: float) -> bool:
        """Return whether the last hour and its last 5 minutes both miss the share."""
        windows = (self.window(WINDOWS_S[0], share), self.window(SHORT_S, share))
        return all(w["attainment"] is not None and w["attainment"] < share for w in windows)


def limits_of(slo: Slo) -> dict[str, float]:
    """Return the limits of an SLO, by setting. Seconds."""
    return slo.limits_s


def late_rate(tick: Tick, limits_s: Mapping[str, float]) -> tuple[float, float] | str:
    """Return the requests and the late requests per second, or the reason why they are unknown.

    A request that misses one of several limits is late. Their shares overlap by an unknown amount, so that the largest
    one is a lower bound of the late share.
    """
    shares = [latency.late_share for key, latency in LATENCIES.items() if key in limits_s]
    if not shares:
        return f"no source measures the late share of slo.{', slo.'.join(limits_s)}"
    readings = tick.observation.readings
    source = next((s.rpartition(".")[0] for s in readings if s.rpartition(".")[2] in LATE_SHARES), None)
    if source is None:
        return f"no source reads {' and '.join(shares)}"
    signals = [SignalName(f"{source}.{quantity}") for quantity in ("requests_per_s", *shares)]
    values = [whole_value(readings.get(signal)) for signal in signals]
    if values[0] == 0.0:
        return 0.0, 0.0
    for signal, value in zip(signals, values, strict=True):
        if math.isnan(value):
            return f"{signal} {_why(readings.get(signal))}"
    return values[0], values[0] * max(values[1:])


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


def slo_status(record: SloRecord | None, slo: Slo | None, tick: Tick) -> dict[str, Any] | None:
    """Return a workload's SLO and its windows; None without an SLO.

    `problem` is the reason why requests are not measured now.
    """
    if slo is None:
        return None
    limits_s = limits_of(slo)
    measured = late_rate(tick, limits_s)
    return {
        "share": slo.share,
        "limits": limits_s,
        "not_measured": [key for key in limits_s if key not in LATENCIES],
        "problem": measured if isinstance(measured, str) else "",
        "violated": record is not None and record.violated(slo.share),
        "windows": [] if record is None else [record.window(window_s, slo.share) for window_s in WINDOWS_S],
    }
