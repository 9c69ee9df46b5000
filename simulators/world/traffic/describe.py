"""Statistics of a trace: rate, burstiness, request lengths and rate by hour of the day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from simulators.world.traffic.trace import Floats, Ints, RequestTrace

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
HOURS: Final = 24
QUANTILES: Final[Mapping[str, float]] = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
BARS: Final = " ▁▂▃▄▅▆▇█"
WIDTH: Final = 72
"""Characters of a sparkline: it fits after its label on a terminal of 80 characters."""


@dataclass(frozen=True, slots=True)
class Description:
    """Statistics of a trace. None where the trace is too short.

    `span_s` runs from the first arrival to the last, and `mean_rps` is requests over it. `peak_to_mean` is the busiest
    second or whole minute over the mean second or whole minute. `gap_cv` is the coefficient of variation of gaps (1 for
    Poisson). `dispersion_1min` is the variance of the counts of whole minutes over their mean (Fano factor; 1 for
    Poisson, more when the rate moves). Quantiles are linear between values. `hourly_rps` are the mean rates by hour
    since time 0, modulo a day.
    """

    name: str
    origin: str
    digest: str
    requests: int
    span_s: float
    mean_rps: float | None
    peak_to_mean_1s: float | None
    peak_to_mean_1min: float | None
    gap_cv: float | None
    dispersion_1min: float | None
    prompt_tokens: Mapping[str, float]
    output_tokens: Mapping[str, float]
    cached_share: float | None
    clients: int | None
    top_client_share: float | None
    hourly_rps: tuple[float, ...] | None
    repairs: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)


def describe(trace: RequestTrace) -> Description:
    """Return the statistics of a trace."""
    span_s = float(trace.arrival_s[-1] - trace.arrival_s[0]) if len(trace) else 0.0
    minutes = whole_bins(trace.arrival_s, MINUTE_S)
    senders = None if trace.client is None or not len(trace) else np.unique(trace.client, return_counts=True)[1]
    return Description(
        name=trace.name,
        origin=trace.origin,
        digest=trace.digest(),
        requests=len(trace),
        span_s=span_s,
        mean_rps=len(trace) / span_s if span_s > 0 else None,
        peak_to_mean_1s=_peak_to_mean(whole_bins(trace.arrival_s, 1.0)),
        peak_to_mean_1min=_peak_to_mean(minutes),
        gap_cv=_gap_cv(trace.arrival_s),
        dispersion_1min=None if minutes is None else minutes[2] / minutes[1],
        prompt_tokens=_lengths(trace.prompt_tokens),
        output_tokens=_lengths(trace.output_tokens),
        cached_share=_cached_share(trace),
        clients=None if senders is None else len(senders),
        top_client_share=None if senders is None else float(senders.max() / senders.sum()),
        hourly_rps=_hourly(trace.arrival_s),
        repairs=trace.repairs,
    )


def whole_bins(arrival_s: Floats, width_s: float) -> tuple[int, float, float] | None:
    """Return the maximum, mean and variance of the arrivals per bin.

    The bins are the whole ones from time 0. The last bin, which the trace's end cuts, is left out; None if there is no
    other. Empty bins count, without memory: a long trace may have very many. Arrivals at 0.1, 0.2, 2.5 and 3.5 s in
    bins of 1 s: bins 2, 0, 1; maximum 2, mean 1, variance 5/3 - 1 = 0.67.
    """
    bins = int(arrival_s[-1] // width_s) if len(arrival_s) else 0
    counted = arrival_s[: np.searchsorted(arrival_s, bins * width_s)]
    if not len(counted):
        return None
    changes = np.flatnonzero(np.diff(counted // width_s)) + 1
    counts = np.diff(np.concatenate([[0], changes, [len(counted)]]))
    mean = len(counted) / bins
    return int(counts.max()), mean, float((counts.astype(np.float64) ** 2).sum() / bins - mean**2)


def _peak_to_mean(bins: tuple[int, float, float] | None) -> float | None:
    return None if bins is None else bins[0] / bins[1]


def _gap_cv(arrival_s: Floats) -> float | None:
    gaps = np.diff(arrival_s)
    return float(gaps.std() / gaps.mean()) if len(gaps) and gaps.mean() > 0 else None


def _lengths(tokens: Ints) -> dict[str, float]:
    if not len(tokens):
        return {}
    values = np.quantile(tokens, list(QUANTILES.values()))
    return {"mean": float(tokens.mean())} | dict(zip(QUANTILES, map(float, values), strict=True))


def _cached_share(trace: RequestTrace) -> float | None:
    if trace.cached_tokens is None or not len(trace):
        return None
    return float(trace.cached_tokens.sum(dtype=np.int64) / trace.prompt_tokens.sum(dtype=np.int64))


def _hourly(arrival_s: Floats) -> tuple[float, ...] | None:
    """Return the mean rate by hour of the day, over whole days."""
    days = int(arrival_s[-1] // DAY_S) if len(arrival_s) else 0
    if not days:
        return None
    counted = arrival_s[: np.searchsorted(arrival_s, days * DAY_S)]
    hours = np.bincount((counted // HOUR_S).astype(np.int64) % HOURS, minlength=HOURS)
    return tuple(float(n) for n in hours / (days * HOUR_S))


def lines(description: Description, trace: RequestTrace) -> list[str]:
    """Return the statistics as text lines, with the rate drawn as a line of bars."""
    d = description
    text = [
        f"{d.name}: {d.requests:,} requests in {duration(d.span_s)}, {_number(d.mean_rps)} per second",
        f"  origin          {d.origin or 'unknown'}",
        f"  digest          {d.digest[:16]}",
        f"  peak/mean       {_number(d.peak_to_mean_1s)} per second, {_number(d.peak_to_mean_1min)} per minute",
        f"  gaps            CV {_number(d.gap_cv)} (1: Poisson)",
        f"  dispersion      {_number(d.dispersion_1min)} per minute (1: Poisson)",
        f"  prompt tokens   {_quantiles(d.prompt_tokens)}",
        f"  output tokens   {_quantiles(d.output_tokens)}",
    ]
    if d.cached_share is not None:
        text.append(f"  cached          {d.cached_share:.1%} of prompt tokens")
    if d.clients is not None and d.top_client_share is not None:
        text.append(f"  clients         {d.clients}, the largest sends {d.top_client_share:.1%} of the requests")
    if d.requests:
        text.append(f"  rate            {sparkline(rate_bins(trace, WIDTH)[1])}")
    if d.hourly_rps is not None:
        text.append(f"  by hour of day  {sparkline(np.array(d.hourly_rps))}")
    text += [f"  repaired        {what}: {count:,}" for what, count in d.repairs.items()]
    return text


def rate_bins(trace: RequestTrace, count: int) -> tuple[Floats, Floats]:
    """Return the trace's time in `count` equal bins: their edges, and the rate in each.

    Requests a second.
    """
    edges = np.linspace(0.0, max(trace.duration_s, 1e-3), count + 1)
    counts = np.diff(np.searchsorted(trace.arrival_s, edges[:-1]), append=0)
    counts[-1] = len(trace) - np.searchsorted(trace.arrival_s, edges[-2])
    return edges, counts / np.diff(edges)


def sparkline(values: Floats) -> str:
    """Return values as a line of bars from 0 to the maximum. Only 0 is blank."""
    top = float(values.max()) if len(values) else 0.0
    if top <= 0:
        return " " * len(values)
    return "".join(BARS[int(np.ceil(v / top * (len(BARS) - 1)))] for v in values)


def duration(seconds: float) -> str:
    """Return a duration in its largest unit that is at least 2: 7200 s is "2.0 hours"."""
    for unit, size in (("days", DAY_S), ("hours", HOUR_S), ("minutes", MINUTE_S)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _quantiles(lengths: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,.0f}" for name, value in lengths.items()) or "-"
