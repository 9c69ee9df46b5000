"""The policies there are: a literal table, resolved on use."""

from __future__ import annotations

from typing import Final

POLICIES: Final = {
    "concurrency": "policies.threshold:Concurrency",
    "dynamo_easy": "policies.peers.dynamo:DynamoEasy",
    "gpu_utilization": "policies.threshold:GpuUtilization",
    "headroom": "policies.threshold:Headroom",
    "hpa": "policies.peers.hpa:Hpa",
    "keda": "policies.peers.keda:Keda",
    "kpa": "policies.peers.kpa:Kpa",
    "kv_cache_usage": "policies.threshold:KvCacheUsage",
    "llmd": "policies.peers.llmd:LlmD",
    "metric": "policies.threshold:Metric",
    "predictive": "policies.predictive:Predictive",
    "queue_depth": "policies.threshold:QueueDepth",
    "ray_serve": "policies.peers.ray_serve:RayServe",
    "schedule": "policies.schedule:Schedule",
    "skyserve_request_rate": "policies.peers.skyserve:SkyServeRequestRate",
    "static": "policies.peers.static:Static",
}
