"""A workload whose replicas lose readiness, tick by tick, with readings of the ready ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.history.ticks import History
from policies.model import Decision, Fresh, Observation, PoolName, PoolStatus, Reading, SignalName, WorkloadName
from policies.model.pool import Pool
from policies.model.spec import ScaleDown, WorkloadSpec
from policies.pipeline import decide
from policies.recommend.predictive.policy import Predictive
from policies.recommend.threshold import Concurrency, GpuUtilization, Headroom, KvCacheUsage, Metric
from tests.factories import NOW, spec, tick_of

STEP_S = 15.0
CAPACITY = 100.0
"""Requests in a full replica. One request generates `TOKENS` tokens a second."""
TOKENS = 90.0
POLICIES: Mapping[str, Mapping[str, Any]] = {
    "gpu_utilization": {"p": GpuUtilization(source="e")},
    "kv_cache_usage": {"p": KvCacheUsage(source="e")},
    "metric mean": {"p": Metric(source="e", quantity="load", target=0.8, across="mean")},
    "metric total": {"p": Metric(source="e", quantity="tokens_per_s", target=0.8 * CAPACITY * TOKENS)},
    "concurrency": {"p": Concurrency(source="e", target_per_replica=0.8 * CAPACITY)},
    "predictive": {"p": Predictive(source="e", rate_window_s=60.0)},
    "headroom": {"p": KvCacheUsage(source="e"), "room": Headroom(share=0.2)},
}
"""Every own policy that measures replicas, and one that shapes their demand."""


def engine_readings(load: float, ready: int) -> dict[str, float]:
    """Return what the engines report when each of `ready` replicas has `load` (share of its capacity).

    Load beyond 1 is shed and not reported.
    """
    share = min(1.0, load)
    running = share * CAPACITY * ready
    return {
        "utilization": share,
        "kv_cache_usage": share,
        "load": share,
        "running": running,
        "waiting": 0.0,
        "requests_per_s": running / 10.0,
        "prompt_tokens_per_s": running * TOKENS * 0.1,
        "generation_tokens_per_s": running * TOKENS,
        "tokens_per_s": running * TOKENS,
    }


@dataclass
class Replicas:
    """A workload of one pool. Its replicas become ready at once but for `lost` of them, which are removed first."""

    policies: Mapping[str, Any]
    size: int = 12
    settings: Mapping[str, Any] = field(default_factory=dict)
    lost: int = 0
    at: float = NOW
    last: Decision | None = None

    def __post_init__(self) -> None:
        down = ScaleDown(window_s=60.0, max_replicas=100, max_share=1.0)
        defaults: dict[str, Any] = {"max_replicas": self.size, "scale_down": down, "tolerance": 0.1}
        self.spec: WorkloadSpec = spec(
            self.policies, {"main": Pool(lead_time_s=60.0)}, **{**defaults, **dict(self.settings)}
        )
        self.history = History(self.spec.lookback_s)

    @property
    def ready(self) -> int:
        return max(0, self.size - self.lost)

    def tick(self, traffic: float, also: Mapping[str, Reading[float]] | None = None) -> Decision:
        """Run one tick with `traffic` (in full replicas), shared evenly by the ready replicas."""
        values = engine_readings(traffic / self.ready if self.ready else float(traffic > 0), max(self.ready, 1))
        readings: dict[str, Reading[float]] = {f"e.{name}": Fresh(value, self.at) for name, value in values.items()}
        return self.observe({**readings, **(also or {})})

    def observe(self, readings: Mapping[str, Reading[float]]) -> Decision:
        """Run one tick with these readings; its target takes effect at once."""
        status = Fresh(PoolStatus(self.size, self.ready), self.at)
        named = {SignalName(name): reading for name, reading in readings.items()}
        observation = Observation(WorkloadName("llm"), self.at, named, {PoolName("main"): status})
        self.last = decide(self.spec, self.history, observation)
        self.history.append(tick_of(observation, self.last))
        target = self.size if self.last.target is None else self.last.target
        self.lost = max(0, self.lost - max(0, self.size - target))
        self.size = target
        self.at += STEP_S
        return self.last

    def ticks(self, count: int, traffic: float) -> list[int]:
        """Return the sizes of `count` ticks with the same traffic."""
        return [self.tick(traffic).target or 0 for _ in range(count)]
