"""Policy contract of every registered policy."""

from __future__ import annotations

from policies.recommend.peers.aibrix import AibrixApa
from policies.recommend.peers.dynamo import DynamoEasy
from policies.recommend.peers.dynamo_sla import DynamoSla
from policies.recommend.peers.hpa import Hpa, HpaMetric
from policies.recommend.peers.keda import Keda, Trigger
from policies.recommend.peers.kpa import Kpa
from policies.recommend.peers.llmd import LlmD
from policies.recommend.peers.ray_serve import RayServe
from policies.recommend.peers.skyserve import SkyServeRequestRate
from policies.recommend.peers.static import Static
from policies.recommend.predictive.policy import Predictive
from policies.recommend.schedule import Schedule, Window
from policies.recommend.threshold import Concurrency, GpuUtilization, Headroom, KvCacheUsage, Metric, QueueDepth
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


class TestHpaExternal(PolicyContract):
    policy = Hpa(source="q", metrics=(HpaMetric(quantities=("visible", "in_flight"), target=5),))
    busy = {"q.visible": 90.0, "q.in_flight": 5.0}


class TestHpaPods(PolicyContract):
    policy = Hpa(source="e", metrics=(HpaMetric(type="pods", quantities=("kv_cache_usage",), target=0.5),))
    busy = {"e.kv_cache_usage": 0.9}


class TestKeda(PolicyContract):
    policy = Keda(source="q", triggers=(Trigger(quantities=("visible", "in_flight"), target=5),))
    busy = {"q.visible": 90.0, "q.in_flight": 5.0}


class TestKpa(PolicyContract):
    policy = Kpa(source="e")
    busy = {"e.running": 300.0, "e.waiting": 5.0}


class TestRayServe(PolicyContract):
    policy = RayServe(source="e")
    busy = {"e.running": 30.0, "e.waiting": 5.0}


class TestSkyServe(PolicyContract):
    policy = SkyServeRequestRate(source="g", target_qps_per_replica=2.0)
    busy = {"g.requests_per_s": 30.0}


class TestLlmDQueue(PolicyContract):
    policy = LlmD(source="r")
    busy = {"r.waiting": 9.0, "r.running": 90.0}


class TestLlmDQueueGuard(PolicyContract):
    policy = LlmD(source="r", recipe="queue_guard")
    busy = {"r.waiting": 9.0, "r.running": 90.0}


class TestLlmDSaturation(PolicyContract):
    policy = LlmD(source="r", recipe="saturation")
    busy = {"r.pool_saturation": 1.4, "r.running": 90.0}


class TestLlmDToken(PolicyContract):
    policy = LlmD(source="r", recipe="token")
    busy = {"r.inflight_tokens": 90_000.0, "r.kv_cache_usage": 0.9}


class TestDynamoEasy(PolicyContract):
    policy = DynamoEasy(source="e", kv_tokens=100_000)
    busy = {"e.kv_cache_usage": 0.9, "e.waiting": 40.0}


class TestDynamoEasyPrefill(PolicyContract):
    policy = DynamoEasy(source="e", kv_tokens=100_000, mode="prefill")
    busy = {"e.waiting": 40.0}


class TestDynamoSla(PolicyContract):
    policy = DynamoSla(source="e", kv_tokens=100_000, step_s=0.01, prompt_token_s=2e-5, kv_token_s=5e-8)
    busy = {
        "e.requests_per_s": 50.0,
        "e.prompt_tokens_per_s": 60_000.0,
        "e.generation_tokens_per_s": 10_000.0,
        "e.running": 300.0,
        "e.waiting": 5.0,
    }


class TestAibrixApa(PolicyContract):
    policy = AibrixApa(source="e", horizon_s=120.0)
    busy = {"e.kv_cache_usage": 0.9}


class TestStatic(PolicyContract):
    policy = Static(replicas=3)


class TestPredictive(PolicyContract):
    policy = Predictive(source="e")
    busy = {
        "e.running": 300.0,
        "e.waiting": 5.0,
        "e.requests_per_s": 50.0,
        "e.prompt_tokens_per_s": 60_000.0,
        "e.generation_tokens_per_s": 10_000.0,
    }
