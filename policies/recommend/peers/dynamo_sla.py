"""NVIDIA Dynamo's planner in its SLA mode as a policy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import SOURCE
from policies.recommend.peers.averaging import AveragingPolicy, PeerSize, PeerTick
from policies.recommend.peers.history_queries import JITTER_S, elapsed_s, totals
from policies.recommend.peers.memory import DynamoMemory, recall, record
from policies.signals.demand import signal_names, whole_replicas

MAX_CANDIDATES: Final = 128
"""Batch sizes that the search for an engine's capacity tries at most."""


@dataclass(frozen=True, slots=True)
class IntervalTraffic:
    """Traffic of one interval: started requests, and mean tokens of a prompt and an answer."""

    requests_per_s: float
    prompt_tokens: float
    output_tokens: float


@dataclass(frozen=True, kw_only=True)
class DynamoSla(AveragingPolicy):
    """Dynamo's planner in SLA mode as a policy: expected requests over an engine's capacity.

    The workers are aggregate ones. min_endpoint is the workload's min_replicas, max_gpu_budget its max_replicas.

    Source: ai-dynamo/dynamo 1.6.1, ``components/src/dynamo/planner/core/throughput_scaling.py`` and
    ``core/perf_model/engine_query.py``; defaults in ``config/defaults.py``. Every 180 s the planner expects the next
    interval's requests, divides them by the largest request rate at which its model of the engine keeps both targets,
    and changes by at most 8 replicas. It waits while replicas start, unless fewer are needed. The correction factors of
    older releases are gone in 1.6.1. The model here is the linear regression of the planner (``perf_model/agg.py``): a
    step takes `step_s`, and more for each prompt token and each token in the KV cache. The planner counts the requests
    that start; here these are the completed ones and the growth of those in work. The queue itself is not part of the
    demand (issue 10528).

    Two parts are left out. The default predictor, ARIMA, selects its order once, on the first five intervals, by a
    search of pmdarima that is not restated. This policy expects the last interval's traffic, as the predictor
    `constant` does, which is kinder: on a sine of 900 s, ARIMA selects the mean of all intervals. The load loop
    (enable_load_scaling) is off by default, and off here.

    Example: 50 requests/s at 12 requests/s per engine are 4.2, so 5 replicas; from 20 ready ones it goes to 12 first.
    """

    can_activate: ClassVar[bool] = False

    kv_tokens: Annotated[
        int, FieldMetadata("KV-cache capacity of one replica, as the engine logs it. Tokens.", ge=1, example=430_000)
    ]
    step_s: Annotated[
        float, FieldMetadata("Profile: constant part of an engine's step. Seconds.", ge=0, le=10, example=0.008)
    ]
    prompt_token_s: Annotated[
        float,
        FieldMetadata("Profile: time of a step per prompt token in it. Seconds.", ge=0, le=0.1, example=0.000_022),
    ]
    kv_token_s: Annotated[
        float,
        FieldMetadata(
            "Profile: time of a step per token in the KV cache of the running requests. Seconds.",
            ge=0,
            le=0.1,
            example=0.000_000_06,
        ),
    ]
    max_step_tokens: Annotated[
        int, FieldMetadata("max_num_batched_tokens of the engine. The default is vLLM's. Tokens.", ge=2, le=1_000_000)
    ] = 8192
    max_seqs: Annotated[
        int, FieldMetadata("max_num_seqs of the engine. The default of 256 is vLLM's. Requests.", ge=1, le=100_000)
    ] = 256
    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    ttft_s: Annotated[
        float,
        FieldMetadata(
            "Target for the time to first token (ttft_ms). The default of 0.5 is Dynamo's; set your SLO. Seconds.", gt=0
        ),
    ] = 0.5
    itl_s: Annotated[
        float,
        FieldMetadata(
            "Target for the time between tokens (itl_ms). The default of 0.05 is Dynamo's; set your SLO. Seconds.", gt=0
        ),
    ] = 0.05
    adjustment_interval_s: Annotated[
        float,
        FieldMetadata(
            "Time between two decisions (throughput_adjustment_interval_seconds). The default of 180 is Dynamo's;"
            " lower it to react faster. Seconds.",
            gt=0,
            le=3600,
        ),
    ] = 180.0
    max_change: Annotated[
        int,
        FieldMetadata(
            "Replicas by which a decision may differ from the ready ones (max_throughput_scaling_replicas). The"
            " default of 8 is Dynamo's; raise it for large workloads. Replicas.",
            ge=1,
        ),
    ] = 8

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.step_s + self.prompt_token_s + self.kv_token_s <= 0:
            yield "step_s", "a step must take time: set step_s, prompt_token_s or kv_token_s above 0"

    @property
    def lookback_s(self) -> float:
        return self.adjustment_interval_s

    def needs(self) -> tuple[str, ...]:
        return ("requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s", "running", "waiting")

    def size(self, tick: PeerTick) -> PeerSize:
        memory = recall(DynamoMemory, tick.memory)
        waited_s = 0.0 if memory.waited_s is None else memory.waited_s + elapsed_s(tick.context)
        active = tick.desired > 0 and any(value > 0 for value in tick.values.values())
        hold = float(tick.desired)
        is_due = waited_s >= self.adjustment_interval_s - JITTER_S
        if not is_due or len(tick.values) < len(self.needs()):
            reason = f"decides every {self.adjustment_interval_s:g} s, last {waited_s:g} s ago"
            reason += "; readings are missing" if is_due else ""
            kept = record(DynamoMemory(waited_s, memory.prompt_tokens, memory.output_tokens))
            return PeerSize(hold, hold, active, reason, kept)
        traffic = self._traffic(tick, memory)
        kept = record(DynamoMemory(0.0, traffic.prompt_tokens, traffic.output_tokens))
        rate = self.capacity_rps(traffic.prompt_tokens, traffic.output_tokens)
        needed = tick.ready if rate is None else whole_replicas(traffic.requests_per_s / rate)
        bounded = min(max(needed, tick.ready - self.max_change), tick.ready + self.max_change)
        proposal = max(bounded, tick.context.min_replicas, 1)
        capacity = "an unknown rate" if rate is None else f"{rate:.3g} per replica"
        reason = f"{traffic.requests_per_s:g} requests per second at {capacity}"
        if tick.desired > tick.ready and (rate is None or proposal > tick.ready):
            reason += f"; waits for {tick.desired - tick.ready} replicas that start"
            return PeerSize(hold, float(proposal), active, reason, kept)
        return PeerSize(float(proposal), float(proposal), active, reason, kept)

    def _traffic(self, tick: PeerTick, memory: DynamoMemory) -> IntervalTraffic:
        """Return the traffic of the last interval, with the last known lengths if nothing completed."""
        names = dict(zip(self.needs(), signal_names(self.source, self.needs()), strict=True))

        def series(window_s: float, *quantities: str) -> list[float]:
            values = {names[quantity]: tick.values[names[quantity]] for quantity in quantities}
            return [float(v) for v in totals(tick.context, values, window_s)]

        rates = (series(self.adjustment_interval_s, quantity) for quantity in self.needs()[:3])
        completed, prompt, output = (math.fsum(values) / len(values) for values in rates)
        whole_interval_s = self.adjustment_interval_s + JITTER_S  # with its first moment
        in_work = series(whole_interval_s, "running", "waiting")
        started = max(0.0, completed + (in_work[-1] - in_work[0]) / self.adjustment_interval_s)
        if completed > 0:
            return IntervalTraffic(started, prompt / completed, output / completed)
        return IntervalTraffic(started, memory.prompt_tokens or 0.0, memory.output_tokens or 0.0)

    def capacity_rps(self, prompt_tokens: float, output_tokens: float) -> float | None:
        """Return the largest request rate of one replica within both targets.

        If no rate meets them, it is the largest one. None means that the lengths are unknown, or that not even one
        request fits.
        """
        prompt, output = math.ceil(prompt_tokens), max(1, math.ceil(output_tokens))
        if prompt <= 0 or output_tokens <= 0:
            return None
        context = prompt + output // 2
        best: tuple[bool, float] | None = None
        for batch in batch_sizes(min(self.max_seqs, self.kv_tokens // context, self.max_step_tokens - 1)):
            prefill = math.ceil(batch * prompt / output)
            if prefill > self.max_step_tokens - batch:
                continue
            itl_s = self._step_s(prefill, batch * context)
            ttft_s = self._prefill_s(prefill + prompt, batch * context)
            candidate = (ttft_s <= self.ttft_s and itl_s <= self.itl_s, batch / (output * itl_s))
            best = candidate if best is None else max(best, candidate)
        return None if best is None else best[1]

    def _step_s(self, prompt_tokens: int, cached_tokens: int) -> float:
        return self.step_s + self.prompt_token_s * prompt_tokens + self.kv_token_s * cached_tokens

    def _prefill_s(self, tokens: int, cached_tokens: int) -> float:
        """Return the time of the steps that process these prompt tokens, with the cached ones."""
        full, rest = divmod(tokens, self.max_step_tokens)
        time_s = full * self._step_s(self.max_step_tokens, cached_tokens)
        return time_s + (self._step_s(rest, cached_tokens) if rest else 0.0)


def batch_sizes(largest: int) -> list[int]:
    """Return the batch sizes to try: all of them, or 128 from 1 to the largest.

    Example: 255 gives 1, 3, 5, ... 255.
    """
    if largest <= MAX_CANDIDATES:
        return list(range(1, largest + 1))
    return [1 + k * (largest - 1) // (MAX_CANDIDATES - 1) for k in range(MAX_CANDIDATES)]
