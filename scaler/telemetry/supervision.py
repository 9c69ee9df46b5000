"""Exports restarts of background tasks and defects of adapters as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from scaler.adapter_faults import Faults
from scaler.supervised_tasks import Tasks


class SupervisionCollector(Collector):
    """Reads the counts when scraped."""

    def __init__(self, tasks: Tasks, faults: Faults) -> None:
        self._tasks = tasks
        self._faults = faults

    def collect(self) -> Iterator[Metric]:
        restarts = CounterMetricFamily(
            "forescale_task_restarts",
            "Restarts of background tasks that ended with an exception.",
            labels=("task",),
        )
        for task, count in list(self._tasks.restarts.items()):
            restarts.add_metric((task,), count)
        yield restarts
        faults = CounterMetricFamily(
            "forescale_adapter_faults",
            "Unexpected exceptions in adapters of sources and pools. Each is a defect and counts as a failed call.",
            labels=("workload", "of", "name"),
        )
        for labels, count in list(self._faults.counts.items()):
            faults.add_metric(labels, count)
        yield faults
        core = CounterMetricFamily(
            "forescale_failed_ticks", "Ticks that failed with an exception outside the adapters.", labels=("workload",)
        )
        for workload, count in list(self._faults.core.items()):
            core.add_metric((workload,), count)
        yield core
