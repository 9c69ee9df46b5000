"""Contenders of the cost benchmark and their tuning grids: one parameter in eight steps, with two settings.

The grids are equally large for all, ours included. Each rival with a scale-down window gets its default and 60 s, the
window of ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MULTIPLE: Final = re.compile(r"(?<==)(\d+\.\d+)x")


@dataclass(frozen=True, slots=True)
class Family:
    """A policy with its tuning parameter; a member is named by its text for `forescale compare`.

    `knob` is the parameter that trades cost for latency, with its `steps` from expensive to cheap; `settings` are the
    choices for the other settings. A value such as ``0.5x`` is a multiple of the knob's: ``scale_up_at=0.2`` with
    ``scale_down_at=0.5x`` is ``scale_down_at=0.1``.
    """

    name: str
    base: str
    knob: str
    steps: Sequence[float]
    settings: Sequence[str]

    def contender(self, step: float, setting: int) -> str:
        settings = MULTIPLE.sub(lambda match: f"{float(match[1]) * step:.6g}", self.settings[setting])
        return f"{self.base}:{';'.join(filter(None, (f'{self.knob}={step:.6g}', settings)))}"


STEPS, SETTINGS = 8, 2
"""The size of every grid."""
SHARES: Final = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
"""Shares of an engine's throughput at saturation."""
CONCURRENCIES: Final = (6.0, 10.0, 16.0, 25.0, 40.0, 60.0, 90.0, 140.0)
"""Requests in work per replica, from few to more than an engine of the benchmark handles within the SLO."""
TIMES: Final = (7.0, 5.0, 4.0, 3.2, 2.6, 2.2, 1.9, 1.6, 1.4, 1.25, 1.12, 1.0, 0.9, 0.8, 0.7, 0.6)
"""Fixed sizes, as multiples of the load of the busiest minute: sixteen, as they have no other setting."""
OURS: Final = "forescale"
OUR_STEPS: Final = (0.5, 0.6, 0.72, 0.85, 1.0, 1.2, 1.5, 1.9)
OUR_OTHERS: Final = ("scale_down.window_s=60", "quantile=0.5;scale_down.window_s=60")
"""The safety margin that adapts over hours, and the median forecast from the start."""
SKYSERVE: Final = ("upscale_delay_s=0;downscale_delay_s=300", "upscale_delay_s=0;downscale_delay_s=60")
RAY_SERVE: Final = SKYSERVE
"""The same settings have the same names. The defaults wait 300 and 1200 s, 30 and 600 s, and never win."""
LLMD: Final = "scale_down_window_s"
PREFILL_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0)
"""Seconds of prefill work per replica, around llm-d's default of 1.5."""
CACHE_USES: Final = (0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.55, 1.0)
"""Uses of the KV cache: of large caches, only a few percent are used within the SLO."""
DYNAMO: Final = tuple(f"optimize=load;scale_down_at={share}x" for share in (0.35, 0.5))
ITL_S: Final = (0.012, 0.016, 0.02, 0.025, 0.03, 0.04, 0.055, 0.08)
"""Targets of the planner's SLA mode for the time between tokens, around the SLO's 0.05 s."""
DYNAMO_SLA: Final = ("ttft_s=1;adjustment_interval_s=180", "ttft_s=1;adjustment_interval_s=60")
"""The planner's default and the interval of its own documentation's replays."""


def families(
    saturation_rps: float,
    peak_load: float,
    in_work: Sequence[float] = CONCURRENCIES,
    prompt_tokens_per_s: float = 15_928.0,
    maximum: int = 1000,
) -> Mapping[str, Family]:
    """Return every contender by name.

    `in_work` are the concurrent requests per replica to be tried, `saturation_rps` is an engine's maximum throughput
    with the trace's requests, `prompt_tokens_per_s` its maximum prefill throughput, and `peak_load` is the load of the
    busiest minute of the tuning part, in engines. No fixed size is above the workload's `maximum`.
    """
    rates = [round(float(share * saturation_rps), 3) for share in SHARES]
    sizes = sorted({min(maximum, max(1, math.ceil(factor * peak_load))) for factor in TIMES}, reverse=True)
    hpa, keda = "policies.hpa.behavior.scale_down.stabilization_window_s", "downscale_stabilization_s"
    prefill = f"recipe=token;peak_prefill_tokens_per_s={prompt_tokens_per_s:.6g}"
    all_families = [
        Family(OURS, "self", "utilization", OUR_STEPS, OUR_OTHERS),
        Family("hpa", "hpa", "target", in_work, _windows(hpa)),
        Family("keda", "keda", "target", in_work, _windows(keda)),
        Family("kpa", "kpa", "target", in_work, _windows("stable_window_s")),
        Family("ray-serve", "ray-serve", "target_ongoing_requests", in_work, RAY_SERVE),
        Family("skyserve", "skyserve", "target_qps_per_replica", rates, SKYSERVE),
        Family("llm-d", "llm-d", "target_running", in_work, _windows(LLMD, "recipe=queue_guard")),
        Family("llm-d queue", "llm-d", "target_running", in_work, _windows(LLMD, "scale_up_window_s=60")),
        Family("llm-d saturation", "llm-d-saturation", "target_running", in_work, _windows(LLMD)),
        Family("llm-d token", "llm-d-token", "target_prefill_s", PREFILL_S, _windows(LLMD, prefill)),
        Family("dynamo", "dynamo", "scale_up_at", CACHE_USES, DYNAMO),
        Family("dynamo sla", "dynamo-sla", "itl_s", ITL_S, DYNAMO_SLA),
        Family("static", "static", "replicas", sizes, ("",)),
    ]
    return {family.name: family for family in all_families}


def _windows(key: str, *others: str) -> tuple[str, ...]:
    """Return the two settings of a rival's scale-down window."""
    return tuple(";".join((*others, f"{key}={window_s}")) for window_s in (300, 60))
