"""Contenders of the cost benchmark and their tuning grid: one parameter in six steps and one setting in two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Family:
    """A policy with its tuning parameter; a member is named by its text for `forescale compare`.

    `knob` is the parameter that trades cost for latency, with its `steps` from expensive to cheap; `settings` are the
    choices for the other settings.
    """

    name: str
    base: str
    knob: str
    steps: Sequence[float]
    settings: Sequence[str]

    def contender(self, step: float, setting: int) -> str:
        settings = ";".join(filter(None, (f"{self.knob}={step:.6g}", self.settings[setting])))
        return f"{self.base}:{settings}"


SHARES: Final = (0.35, 0.5, 0.62, 0.72, 0.82, 0.94)
"""Shares of an engine's throughput at saturation."""
TIMES: Final = (5.0, 4.0, 3.2, 2.5, 2.0, 1.6, 1.35, 1.2, 1.05, 0.95, 0.85, 0.75)
"""Fixed sizes, as multiples of the load of the busiest minute: twelve, as they have no other setting."""


def families(saturation_rps: float, peak_load: float, in_work: Sequence[float]) -> Mapping[str, Family]:
    """Return every contender by name.

    `in_work` are the concurrent requests per replica to be tried, `saturation_rps` is an engine's maximum throughput
    with the trace's requests, and `peak_load` is the load of the busiest minute of the tuning part, in engines.
    """
    rates = [round(float(share * saturation_rps), 3) for share in SHARES]
    sizes = sorted({max(1, math.ceil(factor * peak_load)) for factor in TIMES}, reverse=True)
    short = "upscale_delay_s=0;downscale_delay_s=300"
    window = "policies.hpa.behavior.scale_down.stabilization_window_s"
    keda = "downscale_stabilization_s"
    guard = "target_queued=8;recipe=queue_guard"
    all_families = [
        Family(OURS, "self", "utilization", (0.7, 0.85, 1.0, 1.1, 1.25, 1.5), OUR_OTHERS),
        Family("hpa", "hpa", "target", in_work, (f"{window}=300", f"{window}=120")),
        Family("keda", "keda", "target", in_work, (f"{keda}=300", f"{keda}=120")),
        Family("kpa", "kpa", "target", in_work, ("stable_window_s=60", "stable_window_s=300")),
        Family("ray-serve", "ray-serve", "target_ongoing_requests", in_work, ("", short)),
        Family("skyserve", "skyserve", "target_qps_per_replica", rates, ("", short)),
        Family("llm-d", "llm-d", "target_running", in_work, ("target_queued=1", guard)),
        Family("dynamo", "dynamo", "scale_up_at", (0.03, 0.06, 0.12, 0.2, 0.33, 0.55), DYNAMO),
        Family("static", "static", "replicas", sizes, ("",)),
    ]
    return {family.name: family for family in all_families}


OURS: Final = "forescale"
OUR_OTHERS: Final = ("scale_down.window_s=60", "quantile=0.5;scale_down.window_s=60")
"""The safety margin that adapts over hours, and the median forecast from the start."""
DYNAMO: Final = ("optimize=load;scale_down_at=0.01", "optimize=load;scale_down_at=0.02")
