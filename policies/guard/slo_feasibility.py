"""Feasibility and marginal gain: growth that is asked for because users wait ends where it would not help.

A continuously batching engine shares its pace among the requests in it, so that a latency rises in a straight line
with their number: under processor sharing ``T = S (1 + n)`` (Kleinrock 1967), as measured ``ITL = alpha + beta n`` and
``TTFT = gamma + delta n`` (the decode and prefill parameters of llm-d's workload-variant-autoscaler); requests that
wait add their part by Little's law. So the line is learnt from the workload's own turns, by least squares of each
latency on the requests per ready replica, and read at one request per replica (what no size can better) and at one
replica more.

NVIDIA Dynamo's SLA mode, without such a rule, walked from 2 replicas to 8 under a limit of 30 ms between tokens that
its engines could not keep at any load.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from policies.history.ticks import AT, READY
from policies.model import Fresh, RuleId, SignalName, Step
from policies.signals.demand import whole_replicas

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from policies.recommend.context import RuleContext

LATENCIES: Final = {"ttft_p95_s": "ttft_s", "itl_p95_s": "itl_s"}
"""Quantities that are latencies, and the promise that each is held against."""
LOADS: Final = ("running", "waiting")
"""Quantities that add up to the requests in the engines."""
MIN_TURNS: Final = 8
"""Turns that must have been seen before a line is drawn: two minutes at the default interval."""
MIN_SPREAD: Final = 1.25
"""The largest load over the smallest, at the least: one step from four replicas to five shows so much."""
SURE: Final = 2.0
"""Standard errors by which the line must lie above the promise: wrong once in forty if turns were independent."""


class LatencyLine(NamedTuple):
    """Latency over requests per ready replica; `error_s` is the standard error at one request, `light_s` the median
    latency of the quarter of the turns with the least load."""

    base_s: float
    slope_s: float
    error_s: float
    light_s: float

    def at(self, load: float) -> float:
        return self.base_s + self.slope_s * load


class SizeLimit(NamedTuple):
    """The largest size that a latency speaks for, and why no more."""

    replicas: int
    reason: str


def limit_latency_growth(size: int, s: RuleContext) -> Step | None:
    """Return no replica more for the sake of latency where what was bought is still starting or more would not help."""
    if s.need is None or s.need_without_latency is None:
        return None
    least = max(whole_replicas(s.need_without_latency), min(size, s.current))
    if size <= least:
        return None
    most = _wait_for_effect(s) or _useful_size(size, s)
    if most is None or most.replicas >= size:
        return None
    return Step(RuleId.SLO_FEASIBILITY, max(least, most.replicas), most.reason)


def _wait_for_effect(s: RuleContext) -> SizeLimit | None:
    """Hold while what was bought is not ready, or has not served for long enough to show in the latencies."""
    settle_s = s.spec.slo_feasibility.settle_s
    if s.ready is None or s.ready < s.current:
        return SizeLimit(
            s.current, f"{s.ready} of {s.current} serve: wait for what was bought before buying for latency"
        )
    ready = s.history.column(READY, s.now - settle_s)
    if ready.size and np.nanmin(ready, initial=math.inf) < s.current:
        why = f"{s.current} have served for less than slo_feasibility.settle_s {settle_s:g} s"
        return SizeLimit(s.current, f"{why}: wait for their effect before buying for latency")
    return None


def _useful_size(size: int, s: RuleContext) -> SizeLimit | None:
    """Return the largest size that any latency above its promise speaks for; None where that cannot be told."""
    found: list[SizeLimit] = []
    for latency, limit_s, loads in _latencies_above_slo(s):
        most = _largest_useful(size, latency, limit_s, loads, s)
        if most is None:
            return None
        found.append(most)
    return max(found, default=None)


def _latencies_above_slo(s: RuleContext) -> Iterator[tuple[SignalName, float, tuple[SignalName, ...]]]:
    """Yield each latency kept that is above its promise now, the promise, and the loads of its source."""
    keeps = {signal for r in s.recommendations if r.latency_driven for signal in r.retained_signals}
    for signal in sorted(keeps):
        source, _, quantity = signal.rpartition(".")
        limit_s = getattr(s.spec.slo, LATENCIES[quantity], None) if quantity in LATENCIES else None
        reading = s.observation.readings.get(signal)
        if limit_s is not None and isinstance(reading, Fresh) and reading.value > limit_s:
            loads = (SignalName(f"{source}.{load}") for load in LOADS)
            yield signal, limit_s, tuple(load for load in loads if load in keeps)


def _largest_useful(
    size: int, latency: SignalName, limit_s: float, loads: Sequence[SignalName], s: RuleContext
) -> SizeLimit | None:
    """Return the largest size that one late latency speaks for.

    None where nothing is known that speaks against `size`.
    """
    now = [s.observation.readings.get(load) for load in loads]
    fresh = [r.value for r in now if isinstance(r, Fresh)]
    if not loads or len(fresh) < len(loads) or not s.ready:
        return None
    requests, measured = sum(fresh), s.observation.readings[latency]
    assert isinstance(measured, Fresh)  # noqa: S101 - `_latencies_above_slo` gave it
    found = f"{latency} is {measured.value:.3g} s with {requests / s.ready:.3g} requests per replica"
    hopeless = f"the promise cannot be kept at any size: {found}, and slo.{LATENCIES[latency.rpartition('.')[2]]} is"
    remedy = "hold the size; promise less, or serve it faster"
    if requests <= s.ready:
        return SizeLimit(s.current, f"{hopeless} {limit_s:g} s; {remedy}")
    line = _line(latency, loads, s)
    if line is None:
        return None
    alone_s = line.at(1.0)
    if min(alone_s - SURE * line.error_s, line.light_s) > limit_s:
        return SizeLimit(
            s.current, f"{hopeless} {limit_s:g} s, where {alone_s:.3g} s are learnt for one alone; {remedy}"
        )
    return _marginal_limit(size, requests, line, found, s)


def _marginal_limit(size: int, requests: float, line: LatencyLine, found: str, s: RuleContext) -> SizeLimit | None:
    """Return the size from which one replica more would gain too little, of those that the maximum allows."""
    sizes = np.arange(s.current, min(size, max(s.spec.max_replicas, s.current)))
    now, more = line.base_s + line.slope_s * requests / sizes, line.base_s + line.slope_s * requests / (sizes + 1)
    too_little = np.flatnonzero(now - more < s.spec.slo_feasibility.min_gain * now)
    if not too_little.size:
        return None
    first = int(too_little[0])
    gain = 1.0 - float(more[first] / now[first])
    need = f"slo_feasibility.min_gain {s.spec.slo_feasibility.min_gain:.1%}"
    return SizeLimit(
        int(sizes[first]), f"{found}; one more than {sizes[first]} would gain {gain:.1%}, less than {need}"
    )


def _line(latency: SignalName, loads: Sequence[SignalName], s: RuleContext) -> LatencyLine | None:
    """Return the line through the turns of the window; None where they tell too little."""
    since = s.now - s.spec.slo_feasibility.window_s
    ready_at, ready = s.history.column(AT, since), s.history.column(READY, since)
    rows = [(ready_at[ready > 0], ready[ready > 0]), *(s.history.signal(name, since) for name in (latency, *loads))]
    common = reduce(np.intersect1d, (at for at, _ in rows))
    if common.size < MIN_TURNS:
        return None
    replicas, y, *parts = (values[np.isin(at, common)] for at, values in rows)
    x, overlap = _trailing(common, np.sum(parts, axis=0) / replicas, s.spec.slo_feasibility.settle_s)
    if x.max() < MIN_SPREAD * max(x.min(), 1e-9):
        return None
    return _fit(x, y, overlap)


def _trailing(at: NDArray[np.float64], load: NDArray[np.float64], window_s: float) -> tuple[NDArray[np.float64], float]:
    """The load's mean over the time before each turn, as latencies are told over a minute or two, and how many turns
    share such a time. A load read at the moment would lag ahead of its latency, and flatten the line."""
    first = at.searchsorted(at - window_s, side="left")
    turns = np.arange(1, at.size + 1) - first
    total = np.concatenate(([0.0], np.cumsum(load)))
    return (total[1:] - total[first]) / turns, float(turns.mean())


def _fit(x: NDArray[np.float64], y: NDArray[np.float64], overlap: float) -> LatencyLine:
    """Least squares, with a slope that is not negative: more load never makes faster. Of turns that share their time,
    `overlap` count as one."""
    off = x - x.mean()
    squares = float(off @ off)
    slope = max(0.0, float(off @ y) / squares)
    base = float(y.mean() - slope * x.mean())
    rest = y - base - slope * x
    variance = float(rest @ rest) / max(1, x.size - 2)
    error = math.sqrt(variance * overlap * (1.0 / x.size + (1.0 - float(x.mean())) ** 2 / squares))
    light = float(np.median(y[x <= np.quantile(x, 0.25)]))
    return LatencyLine(base, slope, error, light)
