"""Exports the fleet's limits and the amounts that it holds, as Prometheus metrics.

Only the limits that are set are exported.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scaler.quota_ledger import QuotaLedger


class FleetCollector(Collector):
    """Reads the ledger when scraped."""

    def __init__(self, ledger: QuotaLedger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        limits, held = self._ledger.limits, self._ledger.held()
        for unit, label, maximum in (
            ("gpus", "GPUs", limits.max_gpus),
            ("usd_per_hour", "USD per hour", limits.max_usd_per_hour),
        ):
            if maximum is not None:
                yield _gauge(f"forescale_fleet_{unit}", f"{label} that all workloads use.", held[unit])
                yield _gauge(
                    f"forescale_fleet_max_{unit}", f"Maximum {label} of all workloads (daemon.fleet).", maximum
                )


def _gauge(name: str, doc: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, doc)
    family.add_metric((), value)
    return family
