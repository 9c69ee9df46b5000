"""The policy suite over every policy registered."""

from __future__ import annotations

from policies.schedule import Schedule, Window
from policies.threshold import Concurrency, GpuUtilization, Headroom, KvCacheUsage, Metric, QueueDepth
from tests.contracts.policy import PolicyContract


class TestQueueDepth(PolicyContract):
    policy = QueueDepth(source="q")
    busy = {"q.visible": 30.0, "q.in_flight": 5.0}


class TestConcurrency(PolicyContract):
    policy = Concurrency(source="e")
    busy = {"e.running": 300.0, "e.waiting": 5.0}


class TestGpuUtilization(PolicyContract):
    policy = GpuUtilization(source="g")
    busy = {"g.utilization": 0.9}


class TestKvCacheUsage(PolicyContract):
    policy = KvCacheUsage(source="e")
    busy = {"e.kv_cache_usage": 0.9}


class TestMetricTotal(PolicyContract):
    policy = Metric(source="e", quantity="tokens_per_s", target=100)
    busy = {"e.tokens_per_s": 900.0}


class TestMetricMean(PolicyContract):
    policy = Metric(source="e", quantity="ttft_s", target=1, across="mean")
    busy = {"e.ttft_s": 2.0}


class TestHeadroom(PolicyContract):
    policy = Headroom()


class TestSchedule(PolicyContract):
    policy = Schedule(windows=(Window(start="00:00", end="00:00", replicas=2),))
