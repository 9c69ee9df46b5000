"""Exports the shards that this daemon holds as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scaler.leases.coordinator import Coordinator


class ShardCollector(Collector):
    """Reads the leases when scraped."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def collect(self) -> Iterator[Metric]:
        epochs = GaugeMetricFamily(
            "forescale_shard_epoch",
            "Number of times that each shard's lease has changed hands; only the shards that this daemon holds.",
            labels=("shard",),
        )
        for shard, epoch in sorted(self._coordinator.held().items()):
            epochs.add_metric((str(shard),), epoch)
        yield epochs
