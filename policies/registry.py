"""The policies there are: a literal table, resolved on use."""

from __future__ import annotations

from typing import Final

POLICIES: Final = {
    "concurrency": "policies.threshold:Concurrency",
    "gpu_utilization": "policies.threshold:GpuUtilization",
    "headroom": "policies.threshold:Headroom",
    "kv_cache_usage": "policies.threshold:KvCacheUsage",
    "metric": "policies.threshold:Metric",
    "queue_depth": "policies.threshold:QueueDepth",
    "schedule": "policies.schedule:Schedule",
}
