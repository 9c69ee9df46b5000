"""Rivals as their own documentation recommends them for LLM serving, each with its source.

Nothing is tuned. What a documentation says to set for the own engine is set: the start-up time, the SLO, the engine's
measured throughput.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from simulators.engine.models import catalogue
from simulators.engine.models.worth import saturation_rates
from tests.benchmarks.cost.scores import busiest_minute
from tests.benchmarks.cost.untuned import DAY_BEFORE, UntunedCell


@dataclass(frozen=True, slots=True)
class Rival:
    """A rival as recommended: its name in tables, its text in a cell, and where that is recommended.

    The text is that of `forescale compare`.
    """

    name: str
    text: Callable[[UntunedCell, Path], str]
    source: str


STATIC_LOAD: Final = 0.7
"""Load in the busiest minute for which a fixed size is planned, as a share of an engine's saturation."""


def _same(text: str) -> Callable[[UntunedCell, Path], str]:
    return lambda _cell, _data: text


def _gpu(target: float, window_s: float) -> str:
    """Return an HPA on DCGM's GPU utilization."""
    metrics = f"metrics=[{{type: pods, quantities: [utilization], target: {target:g}}}]"
    source = "sources.engines.preset=dcgm;sources.engines.read=[utilization]"
    return f"hpa:{metrics};{source};policies.hpa.behavior.scale_down.stabilization_window_s={window_s:g}"


def _llmd_queue(cell: UntunedCell, _: Path) -> str:
    return f"llm-d:scale_up_window_s={cell.start_s}"


def _llmd_saturation(cell: UntunedCell, _: Path) -> str:
    return f"llm-d-saturation:scale_up_window_s={cell.start_s}"


def _llmd_token(cell: UntunedCell, _: Path) -> str:
    rates = saturation_rates(catalogue.load(cell.source.model))
    return f"llm-d-token:peak_prefill_tokens_per_s={rates.prompt_tokens_per_s:.0f}"


def _dynamo_sla(cell: UntunedCell, _: Path) -> str:
    return f"dynamo-sla:ttft_s={cell.source.ttft_s:g};itl_s={cell.source.itl_s:g}"


@cache
def _static(cell: UntunedCell, data: Path) -> str:
    peak = busiest_minute(cell.case(data, DAY_BEFORE))
    return f"static:replicas={min(cell.source.maximum, math.ceil(peak / STATIC_LOAD))}"


RIVALS: Final = (
    Rival(
        "hpa",
        _same(_gpu(0.7, 300)),
        "The usual HPA for GPUs, 70 % of DCGM_FI_DEV_GPU_UTIL; GKE describes it in 'Configure autoscaling for LLM"
        " workloads on GPUs' (docs.cloud.google.com/kubernetes-engine/docs/how-to/machine-learning/inference/"
        "autoscaling), and warns against it in its best practices",
    ),
    Rival(
        "keda",
        _same("keda:triggers=[{quantities: [waiting], target: 5}];sources.engines.read=[waiting]"),
        "vLLM production-stack: a ScaledObject on vllm:num_requests_waiting with a threshold of 5, which is also"
        " KEDA's default queueLength",
    ),
    Rival(
        "llm-d queue",
        _llmd_queue,
        "llm-d guides/workload-autoscaling/keda-epp: queue at 1 and running at 16; the up-window near the cold start",
    ),
    Rival(
        "llm-d guard",
        _same("llm-d:recipe=queue_guard"),
        "llm-d guides/workload-autoscaling/keda-epp, overlay without a window: demand less pending replicas",
    ),
    Rival(
        "llm-d saturation",
        _llmd_saturation,
        "llm-d guides/workload-autoscaling/keda-epp: pool saturation at 0.7 and running at 16",
    ),
    Rival(
        "llm-d token",
        _llmd_token,
        "llm-d guides/workload-autoscaling/keda-epp-token-aware: 1.5 s of prefill work at the measured peak, KV at 0.8",
    ),
    Rival(
        "knative",
        _same("kpa"),
        "Knative's config-autoscaler: concurrency of 100 at 70 %; KServe in Knative mode uses the same autoscaler"
        " (kserve.github.io/website/docs/model-serving/predictive-inference/autoscaling/kpa-autoscaler)",
    ),
    Rival(
        "ray-serve",
        _same("ray-serve"),
        "docs.ray.io/en/latest/serve/advanced-guides/advanced-autoscaling.html: target_ongoing_requests of 2",
    ),
    Rival(
        "skyserve",
        _same("skyserve"),
        "docs.skypilot.co/en/stable/serving/autoscaling.html: target_qps_per_replica of 2.5 in its example",
    ),
    Rival(
        "dynamo easy",
        _same("dynamo"),
        "ai-dynamo 1.6.1 planner/config/defaults.py: optimization_target throughput, the default",
    ),
    Rival(
        "dynamo sla",
        _dynamo_sla,
        "ai-dynamo 1.6.1: throughput-based scaling every 180 s, 'the primary mode for production deployments', with the"
        " SLO as its targets and a profile of the engine",
    ),
    Rival(
        "aibrix",
        _same("aibrix:horizon_s=120"),
        "AIBrix samples/autoscaling/apa.yaml: APA on the KV cache at 0.5, with the forecast of its guide"
        " predictive-autoscaling.rst",
    ),
    Rival(
        "sagemaker",
        _same("hpa:target=5;tolerance=0;policies.hpa.behavior.scale_down.stabilization_window_s=900"),
        "AWS, 'Amazon SageMaker inference launches faster auto scaling for generative AI models': target tracking on"
        " ConcurrentRequestsPerModel with a target of 5; target tracking scales in after 15 minutes below the target",
    ),
    Rival(
        "vertex",
        _same(_gpu(0.6, 300)),
        "Vertex AI AutoscalingMetricSpec: accelerator duty cycle, default target 60 %, highest of the last 5 minutes",
    ),
    Rival(
        "cloud run",
        _same("kpa:target=80;target_utilization=0.6"),
        "docs.cloud.google.com/run/docs/about-concurrency: 80 concurrent requests per instance, 'you should use the"
        " default value'; its autoscaler aims at 60 % of it over a minute",
    ),
    Rival(
        "static",
        _static,
        "Capacity planning: the busiest minute of the day before, at 70 % load",
    ),
)
