"""Exports shadows as Prometheus metrics.

An unknown value has no sample: missing is not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from policies.model import WorkloadName
from scaler.shadow.runner import Shadow

GAUGES: Final[Mapping[str, tuple[str, Callable[[Shadow], float | None]]]] = {
    "target_replicas": (
        "Size that the shadow policy decided.",
        lambda s: None if s.last is None else s.last.tick.decision.target,
    ),
    "size_replicas": (
        "Size that the shadow policy would hold, estimated open-loop.",
        lambda s: None if s.last is None else s.last.shadow.requested,
    ),
    "replica_hours_difference": (
        "Replica-hours of the shadow policy since the start, minus those of the live policy.",
        lambda s: s.totals.more_replica_hours if s.last else None,
    ),
    "cost_usd_difference": (
        "Cost of the shadow policy since the start, minus that of the live policy, where prices are known. USD.",
        lambda s: s.totals.more_usd,
    ),
    "late_requests_difference": (
        "Late requests predicted for the shadow policy, minus those predicted for the live policy.",
        lambda s: s.totals.more_late,
    ),
}


class ShadowCollector(Collector):
    """Reads the shadows when scraped."""

    def __init__(self, shadows: Mapping[WorkloadName, Shadow]) -> None:
        self._shadows = shadows

    def collect(self) -> Iterator[Metric]:
        shadows = dict(self._shadows)
        if not shadows:
            return
        for name, (doc, read) in GAUGES.items():
            family = GaugeMetricFamily(f"forescale_shadow_{name}", doc, labels=("workload",))
            for workload, shadow in shadows.items():
                if (value := read(shadow)) is not None:
                    family.add_metric((workload,), value)
            yield family
        failed = CounterMetricFamily(
            "forescale_shadow_failed_ticks", "Ticks of the shadow policy that failed.", labels=("workload",)
        )
        for workload, shadow in shadows.items():
            failed.add_metric((workload,), shadow.totals.failed)
        yield failed
