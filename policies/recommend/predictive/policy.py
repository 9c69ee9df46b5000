"""The predictive policy.

It provides for the demand expected by the time that a replica requested now serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from policies.model import Fresh, PolicyName, Recommendation, SignalName
from policies.model.names import RATE_WINDOW
from policies.recommend.context import PolicyContext
from policies.recommend.predictive.engine_load import ENGINE_QUANTITIES, UNEVEN_QUEUE_S
from policies.recommend.predictive.evaluation import KV_CACHE, Evaluation
from policies.recommend.predictive.latency_model import (
    capacity_at,
    load_limit,
    recall_latencies,
    slo_limits_s,
    slo_share,
)
from policies.recommend.predictive.memory import PredictiveMemory
from policies.recommend.predictive.parameters import PredictiveParameters
from policies.signals.demand import fresh_values, no_opinion, signal_names
from policies.signals.gpu_activity_fallback import UTILIZATION
from policies.signals.plausibility import LIMITS

LEARNED_SIGMA: Final = 0.25
"""Standard deviation of the logarithm of the capacity below which it counts as learned: after about ten minutes at a
fifth of the saturation, and a minute near it."""
MAX_WINDOW_S: Final = 600.0
"""The longest window of rates that a source may report. Seconds."""
MAX_RELEASE: Final = 0.2
"""Share of the size to release within a scale-down window while the capacity is a guess."""

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.model.spec import WorkloadSpec


@dataclass(frozen=True, kw_only=True)
class Predictive(PredictiveParameters):
    """Capacity for the demand expected by the time that a replica requested now serves.

    Example: the engines process 2.0 replicas of work, and arrivals grow by 20 %: 2.4. With a limit of 0.72 of the
    saturation, that is 2.4 / 0.72 = 3.3 replicas now. If the P95 of the demand within the lead time is 4.5 replicas,
    the policy recommends 4.5.
    """

    post_demand: ClassVar[bool] = False
    owns_stabilization: ClassVar[bool] = False
    follows_slo: ClassVar[bool] = True
    """Whether the workload's `slo` sets the size. A policy without this setting has a target of its own."""

    @property
    def lookback_s(self) -> float:
        window_s = MAX_WINDOW_S if self.rate_window_s is None else self.rate_window_s
        return max(window_s + 60.0, UNEVEN_QUEUE_S, 0.0 if self.queue is None else self.queue_deadline_s)

    @property
    def can_activate(self) -> bool:
        return self.queue is not None

    def needs(self) -> tuple[str, ...]:
        return ENGINE_QUANTITIES

    def needs_also(self) -> Mapping[str, tuple[str, ...]]:
        """Return the quantities that it reads from sources other than `source`."""
        also = {self.queue: ("visible",)} if self.queue is not None else {}
        if self.gpu_activity is not None:
            also[self.gpu_activity] = (*also.get(self.gpu_activity, ()), UTILIZATION)
        return also

    def past_needs(self) -> tuple[str, ...]:
        return ENGINE_QUANTITIES[3:]

    def past_work(
        self, values: Mapping[str, NDArray[np.float64]], spec: WorkloadSpec | None, memory: Mapping[str, float]
    ) -> NDArray[np.float64]:
        """Return the work of mean token rates.

        Means over minutes do not show the need of the KV cache.

        Example: 20,000 prompt tokens per s of 40,000 and 4,500 output tokens per s of 9,000 are 1.0 saturations. At a
        limit of 0.8 per replica, that is 1.25 replicas.
        """
        limited = ((values[q], LIMITS[q]) for q in self.past_needs())
        rates = (np.where((v >= 0.0) & (v <= maximum), v, np.nan) for v, maximum in limited)
        limit = load_limit(recall_latencies(memory), slo_limits_s(spec), slo_share(spec), self.max_saturation)
        return self.capacity.load(*rates) / capacity_at(limit)

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        engines = signal_names(self.source, ENGINE_QUANTITIES)
        cache = (signal for signal in signal_names(self.source, (KV_CACHE,)) if signal in context.readings)
        used = (*engines, *self._queue_signals(), *cache)
        values, evidence, problems = fresh_values(used, context.readings)
        memory = context.history.memory(name)
        if context.ready is None:
            return no_opinion(name, used, problems or "the number of ready replicas is unknown", memory)
        evaluation = Evaluation(self._with_window(context), name, context, values, PredictiveMemory(memory))
        if context.ready and all(signal in values for signal in engines):
            return self._released_slowly(evaluation.need_from_engines(used, evidence, problems), context)
        if evaluation.visible is None:
            return evaluation.need_from_gpu_activity(used, problems)
        return evaluation.need_from_queue(evaluation.visible, used, problems)

    def _released_slowly(self, recommendation: Recommendation, context: PolicyContext) -> Recommendation:
        """Return a need that releases few replicas at a time while their capacity is a guess.

        The guess is that of a workload without `model`. Without an SLO nothing is promised, and no latency is learned.
        A queue shows the time of a message, and needs no guess.

        Example: 6 replicas of a model that is 5 times slower than the guess need 2 by the guess. The policy recommends
        min(5, 6 * 0.8) = 4.8, so 5 serve for a scale-down window. Their latencies show the true capacity.
        """
        size, need = context.desired, recommendation.replicas
        has_slo = context.spec is not None and context.spec.slo is not None
        is_guess = self.learn_capacity and not self.has_first_guess and self.queue is None
        if not has_slo or not is_guess or not recommendation.active or size is None or need is None:
            return recommendation
        least = min(size - 1.0, size * (1.0 - MAX_RELEASE))
        if need >= least:
            return recommendation
        lines = [latency.line for latency in recall_latencies(recommendation.memory).values()]
        if any(line.saturation_variance <= LEARNED_SIGMA**2 for line in lines):
            return recommendation
        reason = f"{recommendation.reason}; releases a few replicas at a time until their capacity is learned"
        return replace(recommendation, replicas=least, reason=reason)

    def filled(self, name: PolicyName, context: PolicyContext, recommendation: Recommendation) -> float | None:
        values, _, _ = fresh_values(self._queue_signals(), context.readings)
        memory = PredictiveMemory(context.history.memory(name))
        return Evaluation(self._with_window(context), name, context, values, memory).filled(recommendation)

    def _with_window(self, context: PolicyContext) -> Predictive:
        """Return the policy with the window that its source reports, where none is configured."""
        reading = context.readings.get(SignalName(f"{self.source}.{RATE_WINDOW}"))
        if self.rate_window_s is not None or not isinstance(reading, Fresh) or reading.value <= 0.0:
            return self
        return replace(self, rate_window_s=min(reading.value, MAX_WINDOW_S))

    def _queue_signals(self) -> tuple[SignalName, ...]:
        return signal_names(self.queue, ("visible",)) if self.queue else ()
