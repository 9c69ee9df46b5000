"""The predictive policy: what the work may come to by the time that a replica asked for now would serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from policies.model import PolicyName, Recommendation
from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import PolicyContext
from policies.recommend.predictive.engine_load import READ, SETTLED_S, ReplicaCapacity
from policies.recommend.predictive.evaluation import KV, Evaluation, capacity_at, slo_share
from policies.recommend.predictive.latency_model import load_limit, recall_latencies, slo_limits_s
from policies.recommend.threshold import SOURCE
from policies.signals.demand import fresh_values, no_opinion, signal_names
from policies.signals.gpu_activity_fallback import QUANTITY
from policies.signals.plausibility import LIMITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.model.spec import WorkloadSpec


@dataclass(frozen=True, kw_only=True)
class Predictive:
    """The work that is coming, ahead by the measured time that a replica takes to serve."""

    shapes: ClassVar[bool] = False
    settles: ClassVar[bool] = False

    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    queue: Annotated[
        str | None,
        FieldMetadata(
            "The source of a queue before the engines: its visible messages, and how old the oldest is.", example="sqs"
        ),
    ] = None
    gpu_activity: Annotated[
        str | None,
        FieldMetadata(
            "The last resort where neither engines nor a queue tell anything: a source of the GPUs' `utilization`. It"
            " may raise the size once, to half as much again as was needed before, and never lowers it.",
            example="scrape",
        ),
    ] = None
    queue_deadline_s: Annotated[
        float,
        FieldMetadata(
            "A queue's messages are to be answered so long after they were sent, at the most: what is promised. Where"
            " that is longer than an answer, a start and `backlog_clear_s`, no more is bought than keeps it; else what"
            " may come counts too. Seconds.",
            gt=0,
            le=43_200,
        ),
    ] = 300.0
    message_service_s: Annotated[
        float | None,
        FieldMetadata(
            "What a queue's message takes of a full replica, before it has been learnt; null: not known. Seconds.", gt=0
        ),
    ] = None
    prompt_tokens_per_s: Annotated[
        float,
        FieldMetadata(
            "Prompt tokens that a replica takes at the most, before it has been learnt; the default is a Llama-3.1-8B's"
            " on an H100. Tokens a second.",
            gt=0,
            le=1e7,
        ),
    ] = 40_000.0
    generation_tokens_per_s: Annotated[
        float,
        FieldMetadata(
            "Tokens that a replica generates at the most, in full batches, likewise. Tokens a second.", gt=0, le=1e7
        ),
    ] = 9_000.0
    utilization: Annotated[
        float,
        FieldMetadata(
            "Share to fill of what a replica may carry within the promise; above 1 eats into the forecast's margin.",
            gt=0,
            le=2,
        ),
    ] = 1.0
    quantile: Annotated[
        float | None,
        FieldMetadata(
            "Quantile of the largest demand to be ready for; null: by the workload's slo_violation_cost_ratio, or as"
            " much of it as the promise turns out to need.",
            gt=0,
            lt=1,
        ),
    ] = None
    rate_window_s: Annotated[
        float, FieldMetadata("What the source's rates span: its window_s. Seconds.", gt=0, le=3600)
    ] = 120.0
    backlog_clear_s: Annotated[
        float, FieldMetadata("What of a queue is late is to be in work so long after help has come. Seconds.", gt=0)
    ] = 60.0
    demand_hold_s: Annotated[
        float,
        FieldMetadata(
            "Demand that collapses within a minute is held for so long, lest it come back; 0: never. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 900.0
    use_forecast: Annotated[
        bool, FieldMetadata("Whether a forecast may raise the demand; else what is there now counts.")
    ] = True
    learn_capacity: Annotated[
        bool, FieldMetadata("Whether what a replica carries is learnt; else it is what is given here.")
    ] = True
    slo_correction: Annotated[bool, FieldMetadata("Whether measured lateness corrects size and margin slowly.")] = True
    slo_correction_time_s: Annotated[float, FieldMetadata("How slowly. Seconds.", ge=60, le=86_400)] = 7200.0
    learning_decay_s: Annotated[
        float, FieldMetadata("What was learnt of the engines fades by e in so long. Seconds.", ge=60)
    ] = 3600.0

    @property
    def lookback_s(self) -> float:
        return max(self.rate_window_s + 60.0, SETTLED_S, 0.0 if self.queue is None else self.queue_deadline_s)

    @property
    def activates(self) -> bool:
        return self.queue is not None

    def needs(self) -> tuple[str, ...]:
        return READ

    def needs_also(self) -> Mapping[str, tuple[str, ...]]:
        """What it reads of other sources than `source`."""
        also = {self.queue: ("visible",)} if self.queue is not None else {}
        if self.gpu_activity is not None:
            also[self.gpu_activity] = (*also.get(self.gpu_activity, ()), QUANTITY)
        return also

    def past_needs(self) -> tuple[str, ...]:
        return READ[3:]

    def past_work(
        self, values: Mapping[str, NDArray[np.float64]], spec: WorkloadSpec | None, memory: Mapping[str, float]
    ) -> NDArray[np.float64]:
        """The mean rates' part of the work: the cache does not show in means over minutes."""
        worth = ReplicaCapacity(self.prompt_tokens_per_s, self.generation_tokens_per_s, self.rate_window_s)
        read = ((values[q], LIMITS[q]) for q in self.past_needs())
        rates = (np.where((v >= 0.0) & (v <= most), v, np.nan) for v, most in read)
        return worth.load(*rates) / capacity_at(
            load_limit(recall_latencies(memory), slo_limits_s(spec), slo_share(spec))
        )

    def recommend(self, name: PolicyName, view: PolicyContext) -> Recommendation:
        engines, queued = signal_names(self.source, READ), signal_names(self.queue, ("visible",)) if self.queue else ()
        used = (*engines, *queued, *(signal for signal in signal_names(self.source, (KV,)) if signal in view.readings))
        values, evidence, wrong = fresh_values(used, view.readings)
        old = view.history.memory(name)
        if view.ready is None:
            return no_opinion(name, used, wrong or "the number of ready replicas is not known", old)
        turn = Evaluation(self, name, view, values, old)
        if view.ready and all(signal in values for signal in engines):
            return turn.by_engines(used, evidence, wrong)
        return turn.by_activity(used, wrong) if turn.visible is None else turn.by_queue(turn.visible, used, wrong)

    def filled(self, name: PolicyName, view: PolicyContext, said: Recommendation) -> float | None:
        queued = signal_names(self.queue, ("visible",)) if self.queue else ()
        values, _, _ = fresh_values(queued, view.readings)
        return Evaluation(self, name, view, values, view.history.memory(name)).filled(said)
