"""The predictive policy: what the work may come to by the time that a replica asked for now would serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from policies.model import PolicyName, Recommendation
from policies.recommend.context import PolicyContext
from policies.recommend.predictive.engine_load import READ, SETTLED_S, ReplicaCapacity
from policies.recommend.predictive.evaluation import KV, Evaluation, capacity_at, slo_share
from policies.recommend.predictive.latency_model import load_limit, recall_latencies, slo_limits_s
from policies.recommend.predictive.memory import PredictiveMemory
from policies.recommend.predictive.parameters import PredictiveParameters
from policies.signals.demand import fresh_values, no_opinion, signal_names
from policies.signals.gpu_activity_fallback import UTILIZATION
from policies.signals.plausibility import LIMITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.model.spec import WorkloadSpec


@dataclass(frozen=True, kw_only=True)
class Predictive(PredictiveParameters):
    """The work that is coming, ahead by the measured time that a replica takes to serve."""

    post_demand: ClassVar[bool] = False
    owns_stabilization: ClassVar[bool] = False

    @property
    def lookback_s(self) -> float:
        return max(self.rate_window_s + 60.0, SETTLED_S, 0.0 if self.queue is None else self.queue_deadline_s)

    @property
    def can_activate(self) -> bool:
        return self.queue is not None

    def needs(self) -> tuple[str, ...]:
        return READ

    def needs_also(self) -> Mapping[str, tuple[str, ...]]:
        """Return what it reads of other sources than `source`."""
        also = {self.queue: ("visible",)} if self.queue is not None else {}
        if self.gpu_activity is not None:
            also[self.gpu_activity] = (*also.get(self.gpu_activity, ()), UTILIZATION)
        return also

    def past_needs(self) -> tuple[str, ...]:
        return READ[3:]

    def past_work(
        self, values: Mapping[str, NDArray[np.float64]], spec: WorkloadSpec | None, memory: Mapping[str, float]
    ) -> NDArray[np.float64]:
        """Return the mean rates' part of the work: the cache does not show in means over minutes."""
        worth = ReplicaCapacity(self.prompt_tokens_per_s, self.generation_tokens_per_s, self.rate_window_s)
        read = ((values[q], LIMITS[q]) for q in self.past_needs())
        rates = (np.where((v >= 0.0) & (v <= most), v, np.nan) for v, most in read)
        return worth.load(*rates) / capacity_at(
            load_limit(recall_latencies(memory), slo_limits_s(spec), slo_share(spec))
        )

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        engines, queued = signal_names(self.source, READ), signal_names(self.queue, ("visible",)) if self.queue else ()
        used = (
            *engines,
            *queued,
            *(signal for signal in signal_names(self.source, (KV,)) if signal in context.readings),
        )
        values, evidence, problems = fresh_values(used, context.readings)
        old = context.history.memory(name)
        if context.ready is None:
            return no_opinion(name, used, problems or "the number of ready replicas is not known", old)
        turn = Evaluation(self, name, context, values, PredictiveMemory(old))
        if context.ready and all(signal in values for signal in engines):
            return turn.by_engines(used, evidence, problems)
        return turn.by_activity(used, problems) if turn.visible is None else turn.by_queue(turn.visible, used, problems)

    def filled(self, name: PolicyName, context: PolicyContext, recommendation: Recommendation) -> float | None:
        queued = signal_names(self.queue, ("visible",)) if self.queue else ()
        values, _, _ = fresh_values(queued, context.readings)
        return Evaluation(self, name, context, values, PredictiveMemory(context.history.memory(name))).filled(
            recommendation
        )
