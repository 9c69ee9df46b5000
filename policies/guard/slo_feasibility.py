"""SLO feasibility: growth because users wait ends where more replicas would not help.

An engine with continuous batching shares its speed among its requests, so that latency rises linearly with their
number: under processor sharing ``T = S (1 + n)`` (Kleinrock 1967), as measured ``ITL = alpha + beta n`` and ``TTFT =
gamma + delta n`` (the decode and prefill parameters of llm-d's workload-variant-autoscaler); waiting requests add their
part by Little's law. So the line is fitted to the workload's own ticks, by least squares of each latency on the
requests per ready replica. It is read at one request per replica, the best that any size can reach, and at one replica
more.

Example: a line of ``0.02 + 0.001 n`` s and 100 requests make 0.045 s with 4 replicas and 0.04 s with 5, a gain of 11 %.
With 20 replicas a further one would gain 1 %: less than the default `min_gain` of 2 %, so growth ends.

NVIDIA Dynamo's SLA mode has no such rule: it went from 2 replicas to 8 under a limit of 30 ms between tokens that its
engines could not meet at any load.
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
"""Quantities that are latencies, and the SLO limit that each is compared with."""
LOADS: Final = ("running", "waiting")
"""Quantities whose sum is the requests in the engines."""
MIN_TICKS: Final = 8
"""Minimum number of ticks for a line: two minutes at the default interval."""
MIN_SPREAD: Final = 1.25
"""Minimum ratio of the largest to the smallest load: a step from four replicas to five shows that much."""
CONFIDENCE: Final = 2.0
"""Standard errors by which the line must lie above the limit: wrong once in forty if ticks were independent."""


class LatencyLine(NamedTuple):
    """Latency in seconds as a line over requests per ready replica.

    `error_s` is the standard error at one request, `light_s` the median latency of the quarter of the ticks with
    the lowest load.
    """

    base_s: float
    slope_s: float
    error_s: float
    light_s: float

    def latency_s(self, load: float) -> float:
        return self.base_s + self.slope_s * load


class SizeLimit(NamedTuple):
    """The largest size that a latency justifies, and the reason."""

    replicas: int
    reason: str


def limit_latency_growth(size: int, context: RuleContext) -> Step | None:
    """Add no replicas for latency while the last ones still start, or where more would not help."""
    if context.need is None or context.need_without_latency is None:
        return None
    minimum = max(whole_replicas(context.need_without_latency), min(size, context.current))
    if size <= minimum:
        return None
    limit = _wait_for_effect(context) or _useful_size(size, context)
    if limit is None or limit.replicas >= size:
        return None
    return Step(RuleId.SLO_FEASIBILITY, max(minimum, limit.replicas), limit.reason)


def _wait_for_effect(context: RuleContext) -> SizeLimit | None:
    """Return the current size until all replicas have served long enough to lower the latencies."""
    settle_s = context.spec.slo_feasibility.settle_s
    if context.ready is None or context.ready < context.current:
        return SizeLimit(
            context.current,
            f"{context.ready} of {context.current} replicas serve: wait for the others before adding more for latency",
        )
    ready = context.history.column(READY, context.now - settle_s)
    if ready.size and np.nanmin(ready, initial=math.inf) < context.current:
        why = f"{context.current} replicas have served for less than slo_feasibility.settle_s ({settle_s:g} s)"
        return SizeLimit(context.current, f"{why}: wait for their effect before adding more for latency")
    return None


def _useful_size(size: int, context: RuleContext) -> SizeLimit | None:
    """Return the largest size that any latency above its limit justifies; None where unknown."""
    limits: list[SizeLimit] = []
    for latency, limit_s, loads in _latencies_above_slo(context):
        limit = _largest_useful(size, latency, limit_s, loads, context)
        if limit is None:
            return None
        limits.append(limit)
    return max(limits, default=None)


def _latencies_above_slo(context: RuleContext) -> Iterator[tuple[SignalName, float, tuple[SignalName, ...]]]:
    """Yield each retained latency above its limit, the limit, and its source's load signals."""
    retained = {signal for r in context.recommendations if r.latency_driven for signal in r.retained_signals}
    for signal in sorted(retained):
        source, _, quantity = signal.rpartition(".")
        limit_s = getattr(context.spec.slo, LATENCIES[quantity], None) if quantity in LATENCIES else None
        reading = context.observation.readings.get(signal)
        if limit_s is not None and isinstance(reading, Fresh) and reading.value > limit_s:
            loads = (SignalName(f"{source}.{load}") for load in LOADS)
            yield signal, limit_s, tuple(load for load in loads if load in retained)


def _largest_useful(
    size: int, latency: SignalName, limit_s: float, loads: Sequence[SignalName], context: RuleContext
) -> SizeLimit | None:
    """Return the largest size that one latency justifies; None where nothing rules out `size`."""
    readings = [context.observation.readings.get(load) for load in loads]
    fresh = [r.value for r in readings if isinstance(r, Fresh)]
    if not loads or len(fresh) < len(loads) or not context.ready:
        return None
    requests, measured = sum(fresh), context.observation.readings[latency]
    assert isinstance(measured, Fresh)  # noqa: S101 - `_latencies_above_slo` checked it
    latency_text = f"{latency} is {measured.value:.3g} s with {requests / context.ready:.3g} requests per replica"
    setting = f"slo.{LATENCIES[latency.rpartition('.')[2]]}"
    infeasible = f"no size meets the SLO: {latency_text}, and {setting} is {limit_s:g} s"
    remedy = f"keep the size; raise {setting}, or use faster replicas"
    if requests <= context.ready:
        return SizeLimit(context.current, f"{infeasible}; {remedy}")
    line = _fitted_line(latency, loads, context)
    if line is None:
        return None
    alone_s = line.latency_s(1.0)
    if min(alone_s - CONFIDENCE * line.error_s, line.light_s) > limit_s:
        return SizeLimit(context.current, f"{infeasible}, but one request alone takes {alone_s:.3g} s; {remedy}")
    return _marginal_limit(size, requests, line, latency_text, context)


def _marginal_limit(
    size: int, requests: float, line: LatencyLine, latency_text: str, context: RuleContext
) -> SizeLimit | None:
    """Return the first size at which one more replica gains too little; None if all gain enough."""
    sizes = np.arange(context.current, min(size, max(context.spec.max_replicas, context.current)))
    present_s = line.base_s + line.slope_s * requests / sizes
    next_s = line.base_s + line.slope_s * requests / (sizes + 1)
    too_little = np.flatnonzero(present_s - next_s < context.spec.slo_feasibility.min_gain * present_s)
    if not too_little.size:
        return None
    first = int(too_little[0])
    gain = 1.0 - float(next_s[first] / present_s[first])
    too_small = f"less than slo_feasibility.min_gain ({context.spec.slo_feasibility.min_gain:.1%})"
    reason = f"{latency_text}; one more than {sizes[first]} replicas would shorten it by {gain:.1%}, {too_small}"
    return SizeLimit(int(sizes[first]), reason)


def _fitted_line(latency: SignalName, loads: Sequence[SignalName], context: RuleContext) -> LatencyLine | None:
    """Return the line through the window's ticks; None if too few or too similar in load."""
    since = context.now - context.spec.slo_feasibility.window_s
    ready_at, ready = context.history.column(AT, since), context.history.column(READY, since)
    rows = [
        (ready_at[ready > 0], ready[ready > 0]),
        *(context.history.signal(name, since) for name in (latency, *loads)),
    ]
    common = reduce(np.intersect1d, (at for at, _ in rows))
    if common.size < MIN_TICKS:
        return None
    replicas, y, *load_parts = (values[np.isin(at, common)] for at, values in rows)
    x, overlap = _trailing(common, np.sum(load_parts, axis=0) / replicas, context.spec.slo_feasibility.settle_s)
    if x.max() < MIN_SPREAD * max(x.min(), 1e-9):
        return None
    return _fit(x, y, overlap)


def _trailing(at: NDArray[np.float64], load: NDArray[np.float64], window_s: float) -> tuple[NDArray[np.float64], float]:
    """Return the mean load in the window before each tick, and the mean number of its ticks.

    Latencies are reported over a minute or two. The momentary load would precede its latency, and flatten the line.
    """
    first = at.searchsorted(at - window_s, side="left")
    ticks = np.arange(1, at.size + 1) - first
    total = np.concatenate(([0.0], np.cumsum(load)))
    return (total[1:] - total[first]) / ticks, float(ticks.mean())


def _fit(x: NDArray[np.float64], y: NDArray[np.float64], overlap: float) -> LatencyLine:
    """Return the least-squares line without a negative slope: load never makes an engine faster.

    Of ticks with overlapping windows, `overlap` count as one.
    """
    deviation = x - x.mean()
    squares = float(deviation @ deviation)
    slope = max(0.0, float(deviation @ y) / squares)
    base = float(y.mean() - slope * x.mean())
    residuals = y - base - slope * x
    variance = float(residuals @ residuals) / max(1, x.size - 2)
    error = math.sqrt(variance * overlap * (1.0 / x.size + (1.0 - float(x.mean())) ** 2 / squares))
    light = float(np.median(y[x <= np.quantile(x, 0.25)]))
    return LatencyLine(base, slope, error, light)
