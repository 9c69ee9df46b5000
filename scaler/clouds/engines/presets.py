"""What engines and exporters call things: one table, from which the PromQL and the scrape adapter both work.

Where a metric was renamed, the names it had stand after the present one; a replica that has several is counted once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from policies.model import Absent, Fresh

Across = Literal["sum", "mean", "rate", "average", "p95", "late"]
"""Over the replicas: the total of a gauge, the mean of a share, a counter's rate; and of a histogram the mean, the 95th
percentile and the share beyond what is promised."""
Preset = Literal["dcgm", "neuron", "tpu", "vllm", "sglang", "tgi", "triton", "triton_trtllm"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a quantity is made: the metric's names (the present one, then older ones), fixed labels, and the sum.

    A label fixed to the empty text is empty or not there, as in PromQL.
    """

    names: tuple[str, ...]
    across: Across
    labels: Mapping[str, str] = field(default_factory=dict)
    divisor: float = 1.0
    """The metric's unit per ours: 100 for percent, 1000 for milliseconds."""
    promise: str = ""
    """What the late ones break, as `slo` has it."""

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which its series are stored."""
        if self.across == "average":
            return (*self.over.series, *self.under.series)
        return tuple(f"{name}_bucket" for name in self.names) if self.buckets else self.names

    @property
    def buckets(self) -> bool:
        """Whether it is made of a histogram's buckets."""
        return self.across in {"p95", "late"}

    @property
    def over(self) -> Recipe:
        """Of a mean: what was added up."""
        return replace(self, names=tuple(f"{name}_sum" for name in self.names), across="rate")

    @property
    def under(self) -> Recipe:
        """Of a mean: how many."""
        return replace(self, names=tuple(f"{name}_count" for name in self.names), across="rate", divisor=1.0)

    @property
    def needs_history(self) -> bool:
        """Whether one look is too few."""
        return self.across == "rate" or self.latency

    @property
    def latency(self) -> bool:
        """Whether it tells of observations, of which there may be none."""
        return self.across == "average" or self.buckets


def _latency(
    quantity: str, of_requests: tuple[str, ...], of_gaps: tuple[str, ...] = (), divisor: float = 1.0
) -> dict[str, Recipe]:
    """Return all that histograms tell of a latency that may be promised.

    Those of single gaps between tokens tell a mean as well, and no share that is late: that is of requests.
    """
    names = (*of_requests, *of_gaps)
    late = Recipe(of_requests, "late", divisor=divisor, promise=f"{quantity}_s")
    return {
        f"{quantity}_mean_s": Recipe(names, "average", divisor=divisor),
        **({f"{quantity}_late_share": late} if of_requests else {}),
        f"{quantity}_p95_s": Recipe(names, "p95", divisor=divisor),
    }


VLLM_ITL: Final = (
    ("vllm:request_time_per_output_token_seconds",),
    ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
)
"""A request's mean, which is what is promised, and single gaps. Of gaps one in ten took over 50 ms on an H100 where one
request in eighty did on average: a step that takes in a prompt is long, and soon over."""
SGLANG_GAPS: Final = ("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds")
PRESETS: Final[Mapping[str, Mapping[str, Recipe]]] = {
    # dcgm-exporter's default set. GPU_UTIL is percent of time busy, not of work; the PROF ratios are 0 to 1 and need
    # the permission to profile. FB_USED is left out: engines claim their memory at start and never give it back.
    "dcgm": {
        "utilization": Recipe(("DCGM_FI_DEV_GPU_UTIL",), "mean", divisor=100),
        "tensor_active": Recipe(("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",), "mean"),
        "memory_active": Recipe(("DCGM_FI_PROF_DRAM_ACTIVE",), "mean"),
    },
    # AWS Neuron (Inferentia, Trainium): neuron-monitor's Prometheus exporter. One series a core, and a core that no
    # model was loaded on counts as idle. There is no DCGM on these machines.
    "neuron": {
        "utilization": Recipe(("neuroncore_utilization_ratio",), "mean"),
        "requests_per_s": Recipe(("execution_status_total",), "rate", {"status_type": "completed"}),
    },
    # GKE's TPU device plugin (port 2112 of the node), percent. Its duty_cycle has the name of the one that GKE tells of
    # GPUs: match {make: cloud-tpu} where a source sees both. vLLM on TPUs shows the metrics of vLLM.
    "tpu": {
        "utilization": Recipe(("duty_cycle",), "mean", divisor=100),
        "tensor_active": Recipe(("tensorcore_utilization",), "mean", divisor=100),
        "memory_active": Recipe(("memory_bandwidth_utilization",), "mean", divisor=100),
    },
    # One series per data-parallel rank (label engine).
    "vllm": {
        "running": Recipe(("vllm:num_requests_running",), "sum"),
        "waiting": Recipe(("vllm:num_requests_waiting",), "sum"),
        "kv_cache_usage": Recipe(("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"), "mean"),
        "requests_per_s": Recipe(("vllm:request_success_total",), "rate"),
        "prompt_tokens_per_s": Recipe(("vllm:prompt_tokens_total",), "rate"),
        "generation_tokens_per_s": Recipe(("vllm:generation_tokens_total",), "rate"),
        "preemptions_per_s": Recipe(("vllm:num_preemptions_total",), "rate"),
        **_latency("ttft", ("vllm:time_to_first_token_seconds",)),
        **_latency("itl", *VLLM_ITL),
        "queue_time_p95_s": Recipe(("vllm:request_queue_time_seconds",), "p95"),
    },
    # With priority scheduling it shows the total, under an empty priority, and beside it each priority's part.
    "sglang": {
        "running": Recipe(("sglang:num_running_reqs",), "sum", {"priority": ""}),
        "waiting": Recipe(("sglang:num_queue_reqs",), "sum", {"priority": ""}),
        "kv_cache_usage": Recipe(("sglang:token_usage",), "mean"),
        "prompt_tokens_per_s": Recipe(("sglang:prompt_tokens_total",), "rate"),
        "generation_tokens_per_s": Recipe(("sglang:generation_tokens_total",), "rate"),
        **_latency("ttft", ("sglang:time_to_first_token_seconds",)),
        **_latency("itl", (), SGLANG_GAPS),
        "queue_time_p95_s": Recipe(("sglang:queue_time_seconds",), "p95"),
    },
    "tgi": {
        "running": Recipe(("tgi_batch_current_size",), "sum"),
        "waiting": Recipe(("tgi_queue_size",), "sum"),
        "generation_tokens_per_s": Recipe(("tgi_request_generated_tokens_sum",), "rate"),  # counted as requests end
        "queue_time_p95_s": Recipe(("tgi_request_queue_duration",), "p95"),
    },
    # Its request metrics carry the label model, its GPU metrics do not: give the two a source each if you match on it.
    # First responses are told of decoupled models, with --metrics-config histogram_latencies=true.
    "triton": {
        "waiting": Recipe(("nv_inference_pending_request_count",), "sum"),
        "utilization": Recipe(("nv_gpu_utilization",), "mean"),
        "requests_per_s": Recipe(("nv_inference_request_success",), "rate"),
        **_latency("ttft", ("nv_inference_first_response_histogram_ms",), divisor=1000),
    },
    "triton_trtllm": {
        "running": Recipe(("nv_trt_llm_request_metrics",), "sum", {"request_type": "scheduled"}),
        "waiting": Recipe(("nv_trt_llm_request_metrics",), "sum", {"request_type": "waiting"}),
        "kv_cache_usage": Recipe(("nv_trt_llm_kv_cache_block_metrics",), "mean", {"kv_cache_block_type": "fraction"}),
        "utilization": Recipe(("nv_gpu_utilization",), "mean"),
        "requests_per_s": Recipe(("nv_inference_request_success",), "rate"),
    },
}


def recipes(preset: str | None, read: tuple[str, ...] | None) -> dict[str, Recipe]:
    """Return the quantities to read: those named, else all of the preset that one look can tell."""
    table = PRESETS[preset] if preset else {}
    if read is None:
        return {quantity: recipe for quantity, recipe in table.items() if not recipe.needs_history}
    return {quantity: table[quantity] for quantity in read if quantity in table}


def problems(preset: str | None, read: tuple[str, ...] | None, match: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a choice among the table."""
    table = PRESETS[preset] if preset else {}
    unknown = [quantity for quantity in read or () if quantity not in table]
    if unknown:
        yield "read", f"the preset has no {', '.join(unknown)}; it has {', '.join(table) or 'nothing: name one'}"
    if match and not preset:
        yield "match", "narrows a preset's metrics, and no preset is named"
    for label in match:
        if not label.isascii() or not label.isidentifier() or label.startswith("__"):
            yield "match", f"{label!r} is not a label's name"
        elif any(label in recipe.labels for recipe in recipes(preset, read).values()):
            yield "match", f"the preset itself says which {label} is read"


def without_slo_latencies(recipe: Recipe, slo_limits_s: Mapping[str, float]) -> Absent | None:
    """Why nothing can be late."""
    if recipe.across != "late" or recipe.promise in slo_limits_s:
        return None
    return Absent(f"nothing is late where slo.{recipe.promise} promises nothing")


def slo_bounds(reading: Fresh[float] | Absent, recipe: Recipe, missing: str) -> Fresh[float] | Absent:
    """Return what a reading is worth when a part of the replicas did not answer.

    A total is a lower bound, a mean nothing.
    """
    if isinstance(reading, Fresh) and recipe.across in {"sum", "rate"}:
        return Fresh(reading.value, reading.measured_at, missing)
    return Absent(missing)
