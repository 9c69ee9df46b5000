"""AIBrix's PodAutoscaler with its own strategy, APA, as a policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import SOURCE
from policies.recommend.peers.averaging import AveragingPolicy, PeerSize, PeerTick
from policies.recommend.peers.history_queries import totals
from policies.recommend.peers.hpa_behavior import behavior_memory
from policies.signals.demand import signal_names, whole_replicas

MIN_SAMPLES: Final = 3
MIN_COVERAGE: Final = 0.5
MAX_GROWTH: Final = 4.0
"""A forecast needs three samples over half of the window, and is at most four times their mean."""


@dataclass(frozen=True, kw_only=True)
class AibrixApa(AveragingPolicy):
    """AIBrix's APA as a policy: a quotient with tolerances and limits, and a line forecast.

    minReplicas and maxReplicas are the workload's min_replicas and max_replicas. AIBrix decides every 10 s.

    Source: vllm-project/aibrix (November 2026), ``pkg/controller/podautoscaler``: ``algorithm/apa.go``,
    ``prediction/predictor.go``, and ``applyPendingReplicaGuard`` in ``autoscaler.go``; the forecast's use from
    ``docs/source/features/autoscaling/predictive-autoscaling.rst``. The value is the mean over the observe window of
    the mean over the pods. Replicas that start count as idle before a scale-out, and as at their target before a
    scale-in. The forecast can only raise the size. APA never leaves zero.

    Example: a mean use of 0.8 at a target of 0.5 with 4 replicas is 4 * 0.8 / 0.5 = 6.4, so 7, and at most 2 * 4 = 8.
    """

    can_activate: ClassVar[bool] = False

    quantity: Annotated[
        str,
        FieldMetadata(
            "Quantity of the metric, a mean over the pods (targetMetric). The default is that of the sample."
        ),
    ] = "kv_cache_usage"
    target: Annotated[
        float, FieldMetadata("Target of the metric per pod (targetValue). The default is that of the sample.", ge=0.001)
    ] = 0.5
    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    observe_window_s: Annotated[
        float,
        FieldMetadata(
            "Window of the mean (observeWindowSeconds). The default of 180 is AIBrix's; lower it to react faster."
            " Seconds.",
            ge=1,
            le=3600,
        ),
    ] = 180.0
    scale_up_tolerance: Annotated[
        float, FieldMetadata("Excess over the target that is ignored. The default of 0.1 is AIBrix's. Share.", ge=0)
    ] = 0.1
    scale_down_tolerance: Annotated[
        float,
        FieldMetadata("Shortfall from the target that is ignored. The default of 0.1 is AIBrix's. Share.", ge=0, lt=1),
    ] = 0.1
    max_scale_up_rate: Annotated[
        float, FieldMetadata("Largest growth in one decision. The default of 2 doubles the size. Factor.", ge=1)
    ] = 2.0
    max_scale_down_rate: Annotated[
        float, FieldMetadata("Largest reduction in one decision. The default of 2 halves the size. Factor.", ge=1)
    ] = 2.0
    scale_down_window_s: Annotated[
        float,
        FieldMetadata(
            "Scale in only to the largest recommendation of this window (scale-down-cooldown-window). The default of"
            " 300 is AIBrix's; lower it to save cost. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 300.0
    horizon_s: Annotated[
        float | None,
        FieldMetadata(
            "Time that a line over the window is extended (spec.predictive, mode Auto, horizonSeconds; AIBrix's own"
            " default is 120). null, the default, means no forecast. Seconds.",
            gt=0,
            le=3600,
            example=120.0,
        ),
    ] = None

    @property
    def lookback_s(self) -> float:
        return max(self.observe_window_s, self.scale_down_window_s)

    def needs(self) -> tuple[str, ...]:
        return (self.quantity,)

    def size(self, tick: PeerTick) -> PeerSize:
        context, size = tick.context, tick.desired
        values = totals(context, tick.values, self.observe_window_s)
        value = float(values.mean())
        proposal = self._with_pending(self._proposal(value, size), value, tick.ready, size)
        reason = f"{self.quantity} {value:g} at a target of {self.target:g}"
        if (forecast := self._forecast(tick, values)) is not None:
            floor = min(whole_replicas(size * forecast / self.target), whole_replicas(self.max_scale_up_rate * size))
            if floor > proposal:
                proposal, reason = floor, f"{reason}; the line reaches {forecast:g} in {self.horizon_s:g} s"
        memory = behavior_memory(context, size, self.lookback_s, disabled_at_zero=True)
        highest = int(np.max(memory.recommended_since(self.scale_down_window_s), initial=proposal))
        replicas = proposal if proposal >= size else min(size, highest)
        return PeerSize(float(replicas), float(proposal), value > 0 and size > 0, reason, {})

    def _proposal(self, value: float, size: int) -> int:
        """Return the size that the value asks for, within the limits per decision."""
        ratio = value / self.target
        wanted = whole_replicas(size * ratio)
        if ratio > 1 + self.scale_up_tolerance:
            return min(wanted, whole_replicas(self.max_scale_up_rate * size))
        if ratio < 1 - self.scale_down_tolerance:
            return max(wanted, math.floor(size / self.max_scale_down_rate))
        return size

    def _with_pending(self, proposal: int, value: float, ready: int, size: int) -> int:
        """Return the proposal corrected for the replicas that start.

        They have no load for growth, and are at their target for a scale-in.

        Example: 8 replicas, 2 of them ready at twice the target: 16 are proposed. With six idle ones it is
        2 * 2 = 4 replicas of load, so the size stays at 8.
        """
        pending = size - ready
        if pending <= 0 or proposal == size:
            return proposal
        if proposal > size:
            return min(max(whole_replicas(ready * value / self.target), size), proposal)
        return max(min(whole_replicas((value * ready + self.target * pending) / self.target), size), proposal)

    def _forecast(self, tick: PeerTick, values: NDArray[np.float64]) -> float | None:
        """Return the line through the window's samples at the horizon; None for too few samples."""
        (name,) = signal_names(self.source, self.needs())
        since = tick.context.at - self.observe_window_s
        times, _ = tick.context.history.signal(name, since)
        at = np.append(times[times > since], tick.context.at)
        if self.horizon_s is None or len(at) < MIN_SAMPLES or at[-1] - at[0] < MIN_COVERAGE * self.observe_window_s:
            return None
        offsets = at - at.mean()
        mean = float(values.mean())
        slope = float((offsets * (values - mean)).sum() / (offsets**2).sum())
        return min(max(0.0, mean + slope * self.horizon_s), MAX_GROWTH * mean) if mean > 0 else 0.0
