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
        labels = ("shard", "of")
        granted = GaugeMetricFamily("forescale_shard_granted", "A shard's share of the fleet's limits.", labels=labels)
        used = GaugeMetricFamily("forescale_shard_used", "The part of the share that is used.", labels=labels)
        for shard, epoch in sorted(self._coordinator.held().items()):
            epochs.add_metric((str(shard),), epoch)
            share = self._coordinator.shares.held_share(shard)
            for unit in self._coordinator.shares.limited_units():
                granted.add_metric((str(shard), unit), getattr(share.granted, unit))
                used.add_metric((str(shard), unit), getattr(share.used, unit))
        yield from (epochs, granted, used)
