"""NVIDIA Dynamo's planner in its easy mode as a policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from policies.model import Evidence, Fresh, PolicyName, Recommendation
from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import SOURCE, PolicyContext
from policies.signals.demand import fresh_values, no_opinion, signal_names

AGGREGATE_THRESHOLDS: Final = {"throughput": (1.0, 0.6), "latency": (0.4, 0.1)}
"""KV-cache usage above which to add a replica and below which to remove one, by optimization target."""
PREFILL_THRESHOLDS: Final = {"throughput": (1.0, 0.1), "latency": (0.1, 0.0)}
"""The same thresholds for queued prompt tokens, in context lengths per engine."""


@dataclass(frozen=True, kw_only=True)
class DynamoEasy:
    """Dynamo's planner in easy mode as a policy: one replica more or less, by fixed thresholds.

    min_endpoint is the workload's min_replicas, max_gpu_budget its max_replicas. Dynamo decides every 5 s.

    Source: ai-dynamo/dynamo 1.6.1, ``components/src/dynamo/planner/core/load_scaling.py``; isl from ``config/
    defaults.py``. The original reads each engine: any engine above the upper threshold adds one, all engines below the
    lower one remove one, and while a change is pending it only observes. No replica is removed whose load, spread over
    the others, would add it again. Here a source reports means over the replicas, which do not show a single full
    engine, unless `kv_cache_usage` names a quantity that is the maximum. The queued tokens are the waiting requests
    times `input_tokens`; the original reads them from its engines. It never leaves zero. An engine that does not start
    stops the original for good (issue 14671), and this policy too; an engine without metrics stops the original (issue
    12591), and here only blocks scale-in.

    Example: 2 replicas with a cache of 100,000 tokens each, a usage of 0.9 and 10 waiting requests of 3,000 tokens. The
    load is 0.9 + 10 * 3000 / (2 * 100000) = 1.05, more than 1.0: a third replica is added.
    """

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = False
    owns_stabilization: ClassVar[bool] = True
    lookback_s: ClassVar[float] = 0.0

    kv_tokens: Annotated[
        int,
        FieldMetadata(
            "KV-cache capacity of one replica, as the engine logs it. Queued prompts count as a share of it. Tokens.",
            ge=1,
            example=430_000,
        ),
    ]
    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    mode: Annotated[
        Literal["aggregate", "prefill", "decode"],
        FieldMetadata(
            "Type of the workers. aggregate and decode scale on KV-cache usage, queued prompts included; prefill"
            " scales on queued prompts. The default of aggregate is for workers that do both phases."
        ),
    ] = "aggregate"
    optimize: Annotated[
        Literal["throughput", "latency", "load"],
        FieldMetadata(
            "optimization_target: throughput fills replicas before adding one, latency adds one earlier, load uses"
            " scale_up_at and scale_down_at. The default of throughput needs the fewest replicas."
        ),
    ] = "throughput"
    scale_up_at: Annotated[
        float | None,
        FieldMetadata(
            "Add a replica at this load or above. null means the threshold of optimize; set it with optimize: load."
            " Share.",
            gt=0,
        ),
    ] = None
    scale_down_at: Annotated[
        float | None,
        FieldMetadata(
            "Remove a replica at this load or below. null means the threshold of optimize; set it with optimize:"
            " load. Share.",
            ge=0,
        ),
    ] = None
    kv_cache_usage: Annotated[
        str,
        FieldMetadata(
            "Quantity with the KV-cache usage. The default is a mean over the replicas; name a maximum to react to"
            " one full replica. Share."
        ),
    ] = "kv_cache_usage"
    input_tokens: Annotated[
        int,
        FieldMetadata(
            "isl: prompt tokens of a waiting request. The default of 3000 is Dynamo's; set your mean. Tokens.", ge=1
        ),
    ] = 3000
    context_tokens: Annotated[
        int,
        FieldMetadata(
            "Context length of the model, for prefill. The default is 8192; set that of your model. Tokens.", ge=1
        ),
    ] = 8192

    def problems(self) -> Iterator[tuple[str, str]]:
        thresholds_set = self.scale_up_at is not None, self.scale_down_at is not None
        if self.optimize == "load" and not all(thresholds_set):
            yield "optimize", "load requires scale_up_at and scale_down_at: set both"
        if self.optimize != "load" and any(thresholds_set):
            yield "optimize", f"{self.optimize} has fixed thresholds: remove scale_up_at and scale_down_at, or set load"
        if self.scale_up_at is not None and self.scale_down_at is not None and self.scale_down_at >= self.scale_up_at:
            yield "scale_down_at", f"must be below scale_up_at ({self.scale_up_at:g})"

    def needs(self) -> tuple[str, ...]:
        return ("waiting",) if self.mode == "prefill" else (self.kv_cache_usage, "waiting")

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        used = signal_names(self.source, self.needs())
        values, evidence, problems = fresh_values(used, context.readings)
        size = context.desired
        if evidence is Evidence.BLIND or not size or not context.ready:
            return no_opinion(name, used, problems or "no replica is ready")
        load = sum(self._load(q, values.get(s, 0.0), context.ready) for q, s in zip(self.needs(), used, strict=True))
        replicas = size + self._change(load, size) if context.ready == size else size
        is_prefill = self.mode == "prefill"
        reason = f"queued prompts {load:.0%} of the context length" if is_prefill else f"KV-cache load {load:.0%}"
        if problems:
            reason += f" (lower bound: {problems})"
        if context.ready != size:
            reason += f"; no change until all replicas are ready ({context.ready} of {size})"
        busy = any(isinstance(r := context.readings.get(s), Fresh) and r.value > 0 for s in used)
        return Recommendation(name, float(replicas), evidence, busy, reason, used, unstabilized=float(replicas))

    def _load(self, quantity: str, value: float, ready: int) -> float:
        """Return a quantity's part of the load of one replica, as the threshold measures it."""
        if quantity == self.kv_cache_usage and self.mode != "prefill":
            return value
        return value * self.input_tokens / (ready * (self.context_tokens if self.mode == "prefill" else self.kv_tokens))

    def _change(self, load: float, size: int) -> int:
        """Return the change of `size` ready replicas: 1, -1 or 0.

        Equality meets the thresholds of `load`, and some of those of `prefill`. The last replica stays.

        Example: two replicas at 0.55 are below the lower threshold of 0.6, but one would be at 1.1, above the upper
        threshold of 1.0: no change.
        """
        prefill = self.mode == "prefill"
        if self.optimize == "load":
            up, down = self.scale_up_at or 0.0, self.scale_down_at or 0.0
        else:
            up, down = (PREFILL_THRESHOLDS if prefill else AGGREGATE_THRESHOLDS)[self.optimize]
        meets_up = prefill or self.optimize == "load"
        meets_down = self.optimize == "load" or (prefill and self.optimize == "latency")
        if load > up or (meets_up and load == up):
            return 1
        is_low = load < down or (meets_down and load == down)
        return -1 if is_low and size > 1 and load * size / (size - 1) < up else 0
