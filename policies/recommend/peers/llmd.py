"""llm-d's autoscaling recipes as a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final, Literal

from policies.model import Evidence, PolicyName, Recommendation
from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import SOURCE, PolicyContext
from policies.recommend.peers.hpa_behavior import (
    Behavior,
    ScaleDownRules,
    ScaleUpRules,
    ScalingPolicy,
    behavior_memory,
    stabilized_size,
)
from policies.recommend.peers.hpa_replicas import Tolerance, by_average_value
from policies.signals.demand import fresh_values, no_opinion, signal_names

Recipe = Literal["queue", "queue_guard", "saturation", "token"]
WITH_WINDOW: Final = ("queue", "saturation")
"""Recipes that wait for a scale-up window."""
TOLERANCE: Final = Tolerance(0.1, 0.1)
DOUBLING: Final = (ScalingPolicy(type="percent", value=100, period_s=15.0),)
ONE_BY_ONE: Final = Behavior(
    scale_up=ScaleUpRules(policies=(ScalingPolicy(type="pods", value=1, period_s=180.0),)),
    scale_down=ScaleDownRules(policies=(ScalingPolicy(type="pods", value=1, period_s=300.0),)),
)
"""The HPA behavior of the recipe token, without the scale-down window."""


@dataclass(frozen=True, kw_only=True)
class LlmD:
    """llm-d's recipes as a policy: KEDA on the router's queue, or on tokens of outstanding work.

    minReplicaCount (1) and maxReplicaCount (8, saturation and token 10) are the workload's min_replicas and
    max_replicas; interval_s is the poll's 15 s.

    Source: llm-d/llm-d (November 2026), ``guides/workload-autoscaling/keda-epp`` and ``keda-epp-token-aware``.
    ``queue``: the larger of queued requests at 1 and running requests at 16 per replica, with windows of 300 s both
    ways, so each scale-out is five minutes late. ``queue_guard``: the same demand in replicas, less the replicas that
    are starting, never below the current size, without a scale-up window. ``saturation``: the larger of the pool's
    saturation at 0.7 per replica, which is a share of the whole pool and so asks for few replicas, and running
    requests. ``token``: the larger of seconds of prefill work at 1.5 and full KV caches at 0.8 per replica, one replica
    more per 180 s and one less per 300 s. The guard's fallback to one replica when its metric is lost, even during a
    burst, is left out: here the size is held.
    """

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = True

    recipe: Annotated[
        Recipe,
        FieldMetadata(
            "Recipe to follow: queue, queue_guard (queue less pending replicas), saturation, or token (prefill work"
            " and KV cache). The default of queue needs request counts only."
        ),
    ] = "queue"
    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    queued: Annotated[
        str, FieldMetadata("Quantity with the requests queued in the router: llm_d_epp_flow_control_queue_size.")
    ] = "waiting"
    running: Annotated[str, FieldMetadata("Quantity with the running requests: llm_d_epp_request_running.")] = "running"
    pool_saturation: Annotated[
        str, FieldMetadata("Quantity with the saturation of the pool: llm_d_epp_flow_control_pool_saturation. Share.")
    ] = "pool_saturation"
    inflight_tokens: Annotated[
        str,
        FieldMetadata(
            "Quantity with the sum of prompt tokens that are dispatched and not yet prefilled:"
            " llm_d_epp_inflight_tokens."
        ),
    ] = "inflight_tokens"
    kv_cache_usage: Annotated[
        str, FieldMetadata("Quantity with the mean KV-cache usage over the ready replicas. Share.")
    ] = "kv_cache_usage"
    target_queued: Annotated[
        float,
        FieldMetadata(
            "Queued requests per replica, for the recipes queue and queue_guard. The default of 1 is llm-d's."
            " Requests.",
            ge=0.001,
        ),
    ] = 1.0
    target_running: Annotated[
        float,
        FieldMetadata(
            "Running requests per replica, for all recipes but token. The default of 16 is llm-d's. Requests.",
            ge=0.001,
        ),
    ] = 16.0
    target_saturation: Annotated[
        float,
        FieldMetadata(
            "Saturation of the pool per replica, for the recipe saturation. The default of 0.7 is llm-d's. Share.",
            ge=0.001,
        ),
    ] = 0.7
    scale_up_window_s: Annotated[
        float,
        FieldMetadata(
            "Scale out only to the smallest recommendation of this window, for the recipes queue and saturation. The"
            " default of 300 is llm-d's; its guide says to set it near the time a replica takes to start. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 300.0
    scale_down_window_s: Annotated[
        float,
        FieldMetadata(
            "Scale in only to the largest recommendation of this window, for all recipes. The default of 300 is"
            " llm-d's; lower it to save cost. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 300.0
    peak_prefill_tokens_per_s: Annotated[
        float,
        FieldMetadata(
            "Prefill throughput of one replica, for the recipe token. The default is that of Qwen3-32B on two H100"
            " GPUs; set it for your model. Tokens per second.",
            gt=0,
        ),
    ] = 15_928.0
    target_prefill_s: Annotated[
        float,
        FieldMetadata(
            "Prefill work per replica, for the recipe token: the target TTFT less a prompt's own prefill time. The"
            " default of 1.5 is llm-d's. Seconds.",
            ge=0.001,
        ),
    ] = 1.5
    target_kv_cache: Annotated[
        float,
        FieldMetadata(
            "KV-cache usage per replica, for the recipe token. The default of 0.8 is llm-d's. Share.", ge=0.001, le=1
        ),
    ] = 0.8

    @property
    def behavior(self) -> Behavior:
        """The HPA behavior of the recipe."""
        down_s = self.scale_down_window_s
        if self.recipe == "token":
            return replace(ONE_BY_ONE, scale_down=replace(ONE_BY_ONE.scale_down, stabilization_window_s=down_s))
        up_s = self.scale_up_window_s if self.recipe in WITH_WINDOW else 0.0
        scale_up = ScaleUpRules(stabilization_window_s=up_s, policies=DOUBLING)
        return Behavior(scale_up=scale_up, scale_down=ScaleDownRules(stabilization_window_s=down_s))

    @property
    def lookback_s(self) -> float:
        return max(self.scale_down_window_s, self.behavior.lookback_s)

    def needs(self) -> tuple[str, ...]:
        match self.recipe:
            case "queue" | "queue_guard":
                return (self.queued, self.running)
            case "saturation":
                return (self.pool_saturation, self.running)
            case "token":
                return (self.inflight_tokens, self.kv_cache_usage)

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        used = signal_names(self.source, self.needs())
        values, evidence, problems = fresh_values(used, context.readings)
        size, ready = context.desired, context.ready
        if evidence is Evidence.BLIND or size is None or ready is None:
            return no_opinion(name, used, problems or "the number of replicas is unknown")
        work = self._work(dict(zip(self.needs(), (values.get(s) for s in used), strict=True)), size, ready)
        proposal = max(by_average_value(amount, target, size, TOLERANCE) for amount, target, _ in work)
        reason = ", ".join(f"{amount:g} {title} at {target:g} per replica" for amount, target, title in work)
        if problems:
            reason += f" (lower bound: {problems})"
        active = any(amount > 0 for amount, _, _ in work)
        if evidence is Evidence.PARTIAL and proposal < size:
            return Recommendation(
                name, None, evidence, active, f"{reason}; no scale-in while readings are missing", used
            )
        memory = behavior_memory(context, size, self.lookback_s, disabled_at_zero=True)
        replicas, limit_reason = stabilized_size(proposal, size, memory, self.behavior, self.scale_down_window_s)
        reason = f"{reason}; {limit_reason}" if limit_reason else reason
        return Recommendation(name, float(replicas), evidence, active, reason, used, unstabilized=float(proposal))

    def _work(self, readings: Mapping[str, float | None], size: int, ready: int) -> list[tuple[float, float, str]]:
        """Return each trigger that could be read.

        A trigger has its amount, the target per replica, and the amount's name.

        Example of the guard: 10 requests queued at 1 per replica and 96 running at 16, a size of 8 and 2 ready. The
        demand is max(10, 6) = 10 replicas and 6 are starting, so max(10 - 6, 8) = 8 replicas.
        """
        running = readings.get(self.running), self.target_running, "running requests"
        triggers: tuple[tuple[float | None, float, str], ...]
        if self.recipe == "saturation":
            triggers = ((readings[self.pool_saturation], self.target_saturation, "saturation of the pool"), running)
        elif self.recipe != "token":
            triggers = ((readings[self.queued], self.target_queued, "queued requests"), running)
        else:
            tokens, share = readings[self.inflight_tokens], readings[self.kv_cache_usage]
            prefill_s = None if tokens is None else tokens / self.peak_prefill_tokens_per_s
            caches = None if share is None else share * ready
            triggers = (
                (prefill_s, self.target_prefill_s, "s of prefill work"),
                (caches, self.target_kv_cache, "full KV caches"),
            )
        work = [(amount, target, title) for amount, target, title in triggers if amount is not None]
        if self.recipe != "queue_guard":
            return work
        demand, pending = max(amount / target for amount, target, _ in work), max(0, size - ready)
        guarded = demand if demand <= size else max(demand - pending, float(size))
        return [(guarded, 1.0, f"replicas of queued and running requests ({pending} pending)")]
