"""The kinds of policies: a table of import paths, resolved on first use."""

from __future__ import annotations

from typing import Final

POLICIES: Final = {
    "aibrix_apa": "policies.recommend.peers.aibrix:AibrixApa",
    "concurrency": "policies.recommend.threshold:Concurrency",
    "dynamo_easy": "policies.recommend.peers.dynamo:DynamoEasy",
    "dynamo_sla": "policies.recommend.peers.dynamo_sla:DynamoSla",
    "gpu_utilization": "policies.recommend.threshold:GpuUtilization",
    "headroom": "policies.recommend.threshold:Headroom",
    "hpa": "policies.recommend.peers.hpa:Hpa",
    "keda": "policies.recommend.peers.keda:Keda",
    "kpa": "policies.recommend.peers.kpa:Kpa",
    "kv_cache_usage": "policies.recommend.threshold:KvCacheUsage",
    "llmd": "policies.recommend.peers.llmd:LlmD",
    "metric": "policies.recommend.threshold:Metric",
    "predictive": "policies.recommend.predictive.policy:Predictive",
    "queue_depth": "policies.recommend.threshold:QueueDepth",
    "ray_serve": "policies.recommend.peers.ray_serve:RayServe",
    "schedule": "policies.recommend.schedule:Schedule",
    "skyserve_request_rate": "policies.recommend.peers.skyserve:SkyServeRequestRate",
    "static": "policies.recommend.peers.static:Static",
}
