"""Default search ranges: parameters by kind of policy, and a workload's own settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from policies.model.field_metadata import FieldMetadata

SCALARS: Final = (bool, int, float, str)


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values to try for a setting: from `low` to `high`, or one of `choices`."""

    low: Annotated[float | None, FieldMetadata("Minimum. Default: null, use choices.", example=0.5)] = None
    high: Annotated[float | None, FieldMetadata("Maximum. Default: null, use choices.", example=2.0)] = None
    log: Annotated[
        bool, FieldMetadata("Whether to search on a logarithmic scale (1, 2, 4) instead of a linear one (1, 2, 3).")
    ] = False
    whole: Annotated[bool, FieldMetadata("Whether to try whole numbers only.")] = False
    times: Annotated[bool, FieldMetadata("Whether low and high are factors of the present value.")] = False
    choices: Annotated[
        tuple[Any, ...], FieldMetadata("Values to try instead of a range. Default: none, use low and high.")
    ] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each problem as (key, rule)."""
        if self.choices:
            if self.low is not None or self.high is not None:
                yield "choices", "cannot be combined with low and high"
            if any(not isinstance(c, SCALARS) or ";" in str(c) for c in self.choices):
                yield "choices", "must be numbers, strings without a semicolon, true or false"
            elif len({(type(c), c) for c in self.choices}) < len(self.choices):
                yield "choices", "must be distinct"
            return
        if self.low is None or self.high is None:
            yield "low", "set both low and high, or choices"
            return
        if self.high <= self.low:
            yield "high", f"must be above low, {self.low:g}"
        if self.log and self.low <= 0:
            yield "low", "must be above 0 if log is true"


def _times_present(low: float, high: float) -> Range:
    return Range(low=low, high=high, log=True, times=True)


WORKLOAD: Final[Mapping[str, Range]] = {
    ".tolerance": Range(low=0.0, high=0.25),
    "scale_down.window_s": Range(low=15, high=1200, log=True),
    "scale_down.max_share": Range(low=0.1, high=1.0),
}
"""Settings of a workload whose policies leave stabilization to it. The user sets bounds, budgets and growth limits."""
VIOLATION_COST: Final = ".slo_violation_cost_ratio"
VIOLATION_COST_RANGE: Final = Range(low=0.5, high=200.0, log=True)
"""The 0.33 to 0.995 quantile of the forecast, if a predictive policy sets none: 0.5 / 1.5 = 0.33, 200 / 201 = 0.995."""
_WINDOW: Final = Range(low=0, high=900)
_HPA: Final[Mapping[str, Range]] = {
    "downscale_stabilization_s": _WINDOW,
    "behavior.scale_down.stabilization_window_s": _WINDOW,
    "tolerance": Range(low=0.0, high=0.2),
}
POLICIES: Final[Mapping[str, Mapping[str, Range]]] = {
    "concurrency": {"target_per_replica": _times_present(0.3, 3.0)},
    "dynamo_easy": {
        "scale_up_at": Range(low=0.02, high=0.9, log=True),
        "scale_down_at": Range(low=0.01, high=0.6, log=True),
    },
    "gpu_utilization": {"target": Range(low=0.3, high=0.95)},
    "headroom": {"share": Range(low=0.0, high=0.8)},
    "hpa": {"metrics.*.target": _times_present(0.25, 4.0), **_HPA},
    "keda": {"triggers.*.target": _times_present(0.25, 4.0), **_HPA},
    "kpa": {
        "target": _times_present(0.1, 2.0),
        "stable_window_s": Range(low=15, high=600, log=True),
        "panic_threshold": Range(low=1.2, high=4.0),
        "scale_down_delay_s": Range(low=0, high=600),
    },
    "kv_cache_usage": {"target": Range(low=0.2, high=0.95)},
    "llmd": {"target_queued": _times_present(0.25, 16.0), "target_running": _times_present(0.25, 8.0)},
    "metric": {"target": _times_present(0.25, 4.0)},
    "predictive": {
        "utilization": Range(low=0.6, high=1.6, log=True),
        "quantile": Range(low=0.3, high=0.995),
        "demand_hold_s": Range(low=0, high=1800),
        "slo_correction_time_s": Range(low=600, high=14_400, log=True),
        "learning_decay_s": Range(low=600, high=14_400, log=True),
    },
    "queue_depth": {"target_per_replica": _times_present(0.2, 5.0)},
    "ray_serve": {
        "target_ongoing_requests": _times_present(0.5, 32.0),
        "upscale_delay_s": Range(low=0, high=120),
        "downscale_delay_s": Range(low=30, high=1200, log=True),
    },
    "skyserve_request_rate": {
        "target_qps_per_replica": _times_present(0.25, 4.0),
        "upscale_delay_s": Range(low=0, high=300),
        "downscale_delay_s": Range(low=30, high=1800, log=True),
    },
    "static": {"replicas": Range(low=0.25, high=4.0, log=True, whole=True, times=True)},
}
"""Ranges by kind of policy and key within the policy; ``*`` stands for every entry of a list. A null value stays."""
