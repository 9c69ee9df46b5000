"""Exports counts, results and durations of calls to clouds as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from scaler.clouds.api_budget import BOUNDS_S, Calls


class CallsCollector(Collector):
    """Reads the counts when scraped.

    Labels are API and operation, not the workload: workloads share calls.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def collect(self) -> Iterator[Metric]:
        counts = CounterMetricFamily(
            "forescale_cloud_calls",
            "Calls to cloud APIs by result: ok, throttled, unavailable, out_of_capacity, out_of_quota, conflict,"
            " misconfigured, fenced.",
            labels=("api", "operation", "result"),
        )
        for labels, count in list(self._calls.results.items()):
            counts.add_metric(labels, count)
        yield counts
        times = HistogramMetricFamily(
            "forescale_cloud_call_seconds",
            "Duration of calls to cloud APIs, including the wait for Forescale's own call budget.",
            labels=("api", "operation"),
        )
        for names, histogram in list(self._calls.times.items()):
            bounds = [*map(str, BOUNDS_S), "+Inf"]
            buckets = list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
            times.add_metric(names, buckets, histogram.sum_s)
        yield times
