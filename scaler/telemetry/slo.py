"""The requests of a tick that met their SLO, as the sources report them."""

from __future__ import annotations

import math
from typing import NamedTuple

from policies.history.tick_values import fresh_value
from policies.model import SignalName, Tick
from policies.model.spec import WorkloadSpec
from policies.recommend.predictive.latency_model import P95, slo_limits_s
from policies.recommend.predictive.latency_tail import LatencyTail
from policies.signals.latency_quantities import LATENCIES, LatencyMetric


class RequestRates(NamedTuple):
    """Completed requests and late ones, both in requests/s.

    A request is late if it misses a limit of the SLO.
    """

    completed: float
    late: float

    @property
    def on_time_share(self) -> float | None:
        """Share of requests on time; None without requests."""
        return 1.0 - self.late / self.completed if self.completed > 0 else None


def request_rates(tick: Tick, spec: WorkloadSpec) -> RequestRates | None:
    """Return the rates of all sources that report requests and latencies.

    None where no source does, or without an SLO. Each source counts with the larger share of its latencies. Example:
    10 requests/s with 1 % late by TTFT and 3 % by ITL are 0.3 late requests/s.
    """
    completed = late = 0.0
    known = False
    limits_s = slo_limits_s(spec)
    for source in spec.sources:
        rate = _reading(tick, source, "requests_per_s")
        shares = [_late_share(tick, source, LATENCIES[key], limit_s) for key, limit_s in limits_s.items()]
        reported = [share for share in shares if not math.isnan(share)]
        if reported and not math.isnan(rate):
            known = True
            completed += rate
            late += rate * max(reported)
    return RequestRates(completed, late) if known else None


def _late_share(tick: Tick, source: str, latency: LatencyMetric, limit_s: float) -> float:
    """Return the share of late requests; NaN if unknown.

    It is the reported one, else the one that follows from the reported 95th percentile.
    """
    share, p95_s = (_reading(tick, source, quantity) for quantity in (latency.late_share, latency.p95))
    if math.isnan(p95_s) or not math.isnan(share):
        return share
    tail = LatencyTail.of(latency.spread)
    return tail.late_share(limit_s, tail.mean_s(p95_s, P95))


def _reading(tick: Tick, source: str, quantity: str) -> float:
    return fresh_value(tick.observation.readings.get(SignalName(f"{source}.{quantity}")))
