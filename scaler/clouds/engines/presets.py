"""Metric names of engines and exporters.

One table serves both the PromQL and the scrape adapter. A renamed metric lists its present name first, then the earlier
ones; a replica that has several is counted once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from policies.model import Absent, Fresh

Aggregation = Literal["sum", "mean", "rate", "average", "p95", "late"]
"""Aggregation over the replicas: a gauge's total, a share's mean, a counter's rate; of a histogram its mean, its 95th
percentile, and the share beyond the SLO."""
Preset = Literal["dcgm", "neuron", "tpu", "vllm", "sglang", "tgi", "triton", "triton_trtllm"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Reading of a quantity: metric names, fixed labels, and the aggregation.

    `names` lists the metric's present name, then older ones. A label fixed to the empty text is empty or absent, as in
    PromQL.
    """

    names: tuple[str, ...]
    aggregation: Aggregation
    labels: Mapping[str, str] = field(default_factory=dict)
    divisor: float = 1.0
    """Metric units per unit of the quantity: 100 for percent, 1000 for milliseconds."""
    slo: str = ""
    """Key of the `slo` that late requests violate."""

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its stored series."""
        if self.aggregation == "average":
            return (*self.numerator.series, *self.denominator.series)
        return tuple(f"{name}_bucket" for name in self.names) if self.uses_buckets else self.names

    @property
    def uses_buckets(self) -> bool:
        """Whether it is read from a histogram's buckets."""
        return self.aggregation in {"p95", "late"}

    @property
    def numerator(self) -> Recipe:
        """The sum of a mean's observations, as a rate."""
        return replace(self, names=tuple(f"{name}_sum" for name in self.names), aggregation="rate")

    @property
    def denominator(self) -> Recipe:
        """The count of a mean's observations, as a rate."""
        return replace(self, names=tuple(f"{name}_count" for name in self.names), aggregation="rate", divisor=1.0)

    @property
    def needs_history(self) -> bool:
        """Whether it takes two samples."""
        return self.aggregation == "rate" or self.is_latency

    @property
    def is_latency(self) -> bool:
        """Whether it summarizes observations, of which there may be none."""
        return self.aggregation == "average" or self.uses_buckets


def _latency_recipes(
    quantity: str, request_metrics: tuple[str, ...], gap_metrics: tuple[str, ...] = (), divisor: float = 1.0
) -> dict[str, Recipe]:
    """Return the recipes of a latency with an SLO: mean, late share and 95th percentile.

    Histograms of single gaps between tokens give the mean and percentile, but not the late share, which is of requests.
    """
    names = (*request_metrics, *gap_metrics)
    late = Recipe(request_metrics, "late", divisor=divisor, slo=f"{quantity}_s")
    return {
        f"{quantity}_mean_s": Recipe(names, "average", divisor=divisor),
        **({f"{quantity}_late_share": late} if request_metrics else {}),
        f"{quantity}_p95_s": Recipe(names, "p95", divisor=divisor),
    }


VLLM_ITL: Final = (
    ("vllm:request_time_per_output_token_seconds",),
    ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
)
"""A request's mean gap, which the SLO bounds, and single gaps. On an H100 one gap in ten took over 50 ms where one
request in eighty did on average: a step with a prefill is long, but only one step."""
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
    # model was loaded on counts as idle. These machines have no DCGM.
    "neuron": {
        "utilization": Recipe(("neuroncore_utilization_ratio",), "mean"),
        "requests_per_s": Recipe(("execution_status_total",), "rate", {"status_type": "completed"}),
    },
    # GKE's TPU device plugin (port 2112 of the node), percent. Its duty_cycle has the same name as GKE's GPU metric:
    # match {make: cloud-tpu} where a source reads both. vLLM on TPUs exports vLLM's metrics.
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
        **_latency_recipes("ttft", ("vllm:time_to_first_token_seconds",)),
        **_latency_recipes("itl", *VLLM_ITL),
        **_latency_recipes("e2e", ("vllm:e2e_request_latency_seconds",)),
        "queue_time_p95_s": Recipe(("vllm:request_queue_time_seconds",), "p95"),
    },
    # With priority scheduling it exports the total under an empty priority, and each priority's part.
    "sglang": {
        "running": Recipe(("sglang:num_running_reqs",), "sum", {"priority": ""}),
        "waiting": Recipe(("sglang:num_queue_reqs",), "sum", {"priority": ""}),
        "kv_cache_usage": Recipe(("sglang:token_usage",), "mean"),
        "requests_per_s": Recipe(("sglang:num_requests_total",), "rate"),
        "prompt_tokens_per_s": Recipe(("sglang:prompt_tokens_total",), "rate"),
        "generation_tokens_per_s": Recipe(("sglang:generation_tokens_total",), "rate"),
        **_latency_recipes("ttft", ("sglang:time_to_first_token_seconds",)),
        **_latency_recipes("itl", (), SGLANG_GAPS),
        **_latency_recipes("e2e", ("sglang:e2e_request_latency_seconds",)),
        "queue_time_p95_s": Recipe(("sglang:queue_time_seconds",), "p95"),
    },
    "tgi": {
        "running": Recipe(("tgi_batch_current_size",), "sum"),
        "waiting": Recipe(("tgi_queue_size",), "sum"),
        "requests_per_s": Recipe(("tgi_request_success",), "rate"),
        "generation_tokens_per_s": Recipe(("tgi_request_generated_tokens_sum",), "rate"),  # counted as requests end
        **_latency_recipes("e2e", ("tgi_request_duration",)),
        "queue_time_p95_s": Recipe(("tgi_request_queue_duration",), "p95"),
    },
    # Its request metrics have the label model, its GPU metrics do not: use one source for each if you match on it.
    # First responses are exported for decoupled models, with --metrics-config histogram_latencies=true.
    "triton": {
        "waiting": Recipe(("nv_inference_pending_request_count",), "sum"),
        "utilization": Recipe(("nv_gpu_utilization",), "mean"),
        "requests_per_s": Recipe(("nv_inference_request_success",), "rate"),
        **_latency_recipes("ttft", ("nv_inference_first_response_histogram_ms",), divisor=1000),
    },
    "triton_trtllm": {
        "running": Recipe(("nv_trt_llm_request_metrics",), "sum", {"request_type": "scheduled"}),
        "waiting": Recipe(("nv_trt_llm_request_metrics",), "sum", {"request_type": "waiting"}),
        "kv_cache_usage": Recipe(("nv_trt_llm_kv_cache_block_metrics",), "mean", {"kv_cache_block_type": "fraction"}),
        "utilization": Recipe(("nv_gpu_utilization",), "mean"),
        "requests_per_s": Recipe(("nv_inference_request_success",), "rate"),
    },
}
VLLM_TAIL_S: Final = (2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
BUCKET_BOUNDS_S: Final[Mapping[str, Mapping[str, tuple[float, ...]]]] = {
    "vllm": {
        "ttft_s": (
            *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, *VLLM_TAIL_S),
            *(160.0, 640.0, 2560.0),
        ),
        "itl_s": (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, *VLLM_TAIL_S),
    }
}
"""Finite bucket bounds of an engine's histograms by SLO limit: vLLM 0.24. A late share is exact at a bound only."""


def recipes(preset: str | None, read: tuple[str, ...] | None) -> dict[str, Recipe]:
    """Return the recipes of the quantities to `read`.

    None gives all quantities of the preset that take one sample.
    """
    table = PRESETS[preset] if preset else {}
    if read is None:
        return {quantity: recipe for quantity, recipe in table.items() if not recipe.needs_history}
    return {quantity: table[quantity] for quantity in read if quantity in table}


def problems(preset: str | None, read: tuple[str, ...] | None, match: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the invalid settings of a source: key and message."""
    table = PRESETS[preset] if preset else {}
    unknown = [quantity for quantity in read or () if quantity not in table]
    if unknown:
        remedy = f"it provides {', '.join(table)}" if table else "set preset first"
        yield "read", f"names {', '.join(unknown)}, which the preset does not provide; {remedy}"
    if match and not preset:
        yield "match", "requires preset: it filters only the preset's series"
    for label in match:
        if not label.isascii() or not label.isidentifier() or label.startswith("__"):
            yield "match", f"{label!r} is not a label name; use letters, digits and _, such as model_name"
        elif any(label in recipe.labels for recipe in recipes(preset, read).values()):
            yield "match", f"must not contain {label}, which the preset itself sets; remove it"


def missing_slo(recipe: Recipe, slo_limits_s: Mapping[str, float]) -> Absent | None:
    """Return why a late share cannot be read without an SLO; None where it can."""
    if recipe.aggregation != "late" or recipe.slo in slo_limits_s:
        return None
    return Absent(f"there is no share of late requests because slo.{recipe.slo} is not set")


def with_missing(reading: Fresh[float] | Absent, recipe: Recipe, missing: str) -> Fresh[float] | Absent:
    """Return a reading to which some replicas did not contribute.

    A total is a lower bound, a mean is absent.
    """
    if isinstance(reading, Fresh) and recipe.aggregation in {"sum", "rate"}:
        return Fresh(reading.value, reading.measured_at, missing)
    return Absent(missing)
