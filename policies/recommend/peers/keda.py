"""A KEDA ScaledObject as a policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from policies.model import Evidence, PolicyName, Recommendation
from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import PolicyContext
from policies.recommend.peers.history_queries import JITTER_S, elapsed_s
from policies.recommend.peers.hpa import (
    BehaviorField,
    HpaMetric,
    MetricProposal,
    Quantities,
    Source,
    Stabilization,
    ToleranceField,
    proposal_text,
    propose,
    tolerance_of,
)
from policies.recommend.peers.hpa_behavior import DOWNSCALE_STABILIZATION_S, memory_of, settle
from policies.recommend.peers.hpa_replicas import Tolerance
from policies.recommend.peers.keda_cron import Cron
from policies.recommend.peers.memory import KedaMemory, recall, record
from policies.signals.demand import no_opinion


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One of ``spec.triggers``."""

    quantities: Quantities
    target: Annotated[
        float, FieldMetadata("threshold, queueLength ... per replica. The quantities' unit.", ge=0.001, example=5)
    ]
    activation: Annotated[float, FieldMetadata("Active when more than this is there. The quantities' unit.", ge=0)] = (
        0.0
    )
    target_type: Annotated[
        Literal["average_value", "value"],
        FieldMetadata("metricType: so much per replica, or the ratio times the ready ones."),
    ] = "average_value"
    source: Annotated[
        str | None, FieldMetadata("The source of this trigger, where it is another one.", example="sqs")
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from self.metric.problems()

    @property
    def metric(self) -> HpaMetric:
        """The External metric that KEDA makes of it."""
        return HpaMetric(
            quantities=self.quantities, target=self.target, target_type=self.target_type, source=self.source
        )


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """``spec.fallback``: the size to ask for while a trigger can't be read."""

    failure_threshold: Annotated[
        int, FieldMetadata("Fall back after more failed turns in a row than this.", ge=0, example=3)
    ]
    replicas: Annotated[int, FieldMetadata("The size to fall back to.", ge=0, example=6)]
    behavior: Annotated[
        Literal["static", "current_replicas", "current_replicas_if_higher", "current_replicas_if_lower"],
        FieldMetadata("Whether the present size takes its place: never, always, where higher, where lower."),
    ] = "static"

    def size(self, now: int) -> int:
        """Return the size to ask for, with `now` replicas there."""
        match self.behavior:
            case "static":
                return self.replicas
            case "current_replicas":
                return now
            case "current_replicas_if_higher":
                return max(now, self.replicas)
            case "current_replicas_if_lower":
                return min(now, self.replicas)


@dataclass(frozen=True, slots=True)
class Poll:
    """What the operator's own loop knows: whether anything is active, and for how long nothing was."""

    active: bool
    rested: bool
    memory: KedaMemory


@dataclass(frozen=True, kw_only=True)
class Keda:
    """KEDA ScaledObject as a policy, with the HorizontalPodAutoscaler that KEDA puts behind it.

    minReplicaCount and maxReplicaCount are the workload's min_replicas (KEDA's default is 0) and max_replicas (100);
    with idleReplicaCount, that is min_replicas and `active_replicas` is minReplicaCount.

    Sources: kedacore/keda 2.20 to 2.21, ``pkg/scaling/executor/scale_scaledobjects.go``, ``pkg/fallback/fallback.go``,
    ``controllers/keda/hpa.go``, ``apis/keda/v1alpha1``. Leaving zero and going there is the operator's, every
    `polling_interval_s`; between one and the maximum the HPA decides, every turn. KEDA writes no behavior into its HPA
    unless told to, so the default here is the HPA's older path.

    The original reads a missing, negative or non-finite metric as zero in places (issues 1850, 7651, 7880), and its
    fallback may shrink in mid-burst; here no size is lowered without fresh evidence, a fallback included. It counts
    failed queries, two loops together, where this counts turns.
    """

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = True

    triggers: Annotated[
        tuple[Trigger, ...],
        FieldMetadata(
            "spec.triggers; the largest proposal counts, and any active one wakes.",
            example=({"quantities": ["visible", "in_flight"], "target": 5},),
        ),
    ]
    crons: Annotated[
        tuple[Cron, ...],
        FieldMetadata("spec.triggers of type cron, which ask by the clock. Beside them triggers may be empty."),
    ] = ()
    source: Source = None
    polling_interval_s: Annotated[
        float, FieldMetadata("pollingInterval: between looks at activity. Seconds.", ge=0)
    ] = 30.0
    cooldown_s: Annotated[
        float, FieldMetadata("cooldownPeriod: to zero so long after the last activity. Seconds.", ge=0)
    ] = 300.0
    initial_cooldown_s: Annotated[
        float,
        FieldMetadata("initialCooldownPeriod: the same after the start, if there was no activity. Seconds.", ge=0),
    ] = 0.0
    active_replicas: Annotated[
        int | None,
        FieldMetadata("minReplicaCount where idleReplicaCount is set: the least while active.", ge=1, example=2),
    ] = None
    fallback: Annotated[
        Fallback | None, FieldMetadata("spec.fallback; null: none.", example={"failure_threshold": 3, "replicas": 6})
    ] = None
    behavior: BehaviorField = None
    tolerance: ToleranceField = 0.1
    downscale_stabilization_s: Stabilization = DOWNSCALE_STABILIZATION_S

    @property
    def lookback_s(self) -> float:
        return max(self.downscale_stabilization_s, self.behavior.lookback_s if self.behavior else 0.0)

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.triggers and not self.crons:
            yield "triggers", "must not be empty"

    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(q for t in self.triggers if t.source is None for q in t.quantities))

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        metrics = [t.metric for t in self.triggers]
        tolerance = tolerance_of(self.behavior, self.tolerance)
        asked, evidence, used, problems = propose(metrics, self.source, context, tolerance)
        old = context.history.memory(name)
        failures = self._failures(asked, old)
        size = context.desired
        if size is None:
            return no_opinion(name, used, problems, {**old, **failures})
        poll = self._poll(asked, context, recall(KedaMemory, old))
        memory = {**record(poll.memory), **failures}
        asked, fell_back = self._fall_back(asked, failures, size, context.ready, tolerance)
        timed = [cron.proposal(context.at, size, tolerance) for cron in self.crons]
        proposals = [a.replicas for a in asked if a.replicas is not None] + timed
        if not proposals:
            return no_opinion(name, used, problems, memory)
        if not self.triggers:
            evidence, problems = Evidence.FULL, ""
        evidence = Evidence.PARTIAL if evidence is Evidence.BLIND else evidence
        said_by = [proposal_text(metrics, asked, problems), *(f"the clock asks for {replicas}" for replicas in timed)]
        reason = ", ".join(filter(None, said_by)) + fell_back
        floor = max(1, self.active_replicas or 1)
        recommendation = Recommendation(name, None, evidence, poll.active, reason, used, memory=memory)
        if size == 0:
            wake = float(floor if poll.active else 0)
            return replace(
                recommendation,
                replicas=wake,
                unstabilized=wake,
                reason=f"{reason}; {'active' if poll.active else 'idle'}",
            )
        if poll.rested:
            return replace(
                recommendation, replicas=0.0, unstabilized=0.0, reason=f"{reason}; idle throughout the cooldown"
            )
        raw = max(proposals)
        if evidence is Evidence.PARTIAL and raw < size and not fell_back:
            return replace(recommendation, reason=f"{reason}: no shrinking on that")
        past = memory_of(context, size, self.lookback_s, rests_at_zero=True)
        replicas, why = settle(raw, size, past, self.behavior, self.downscale_stabilization_s)
        least = floor if poll.active else 1
        return replace(
            recommendation,
            replicas=float(max(least, replicas)),
            unstabilized=float(raw),
            reason=f"{reason}; {why}" if why else reason,
        )

    def _failures(self, asked: Sequence[MetricProposal], old: Mapping[str, float]) -> dict[str, float]:
        """Return the ticks in a row in which a trigger could not be read, by trigger."""
        counts = ((f"failures_{i}", a) for i, a in enumerate(asked))
        return {key: old.get(key, 0.0) + 1.0 if a.replicas is None else 0.0 for key, a in counts}

    def _fall_back(
        self,
        asked: Sequence[MetricProposal],
        failures: Mapping[str, float],
        size: int,
        ready: int | None,
        tolerance: Tolerance,
    ) -> tuple[list[MetricProposal], str]:
        """Return what each trigger asks for, those that failed too often by a value made up of the fallback's size."""
        if self.fallback is None:
            return list(asked), ""
        wanted = self.fallback.size(size)
        result, lost = list(asked), []
        for i, trigger in enumerate(self.triggers):
            if failures[f"failures_{i}"] <= self.fallback.failure_threshold:
                continue
            among = 1 if trigger.target_type == "average_value" else ready
            if among:
                proposal = trigger.metric.proposal(trigger.target * wanted / among, size, ready or 0, tolerance)
                result[i] = MetricProposal(None, proposal)
                lost.append(" + ".join(trigger.quantities))
        return result, f"; {', '.join(lost)} can't be read: fallback to {wanted}" if lost else ""

    def _poll(self, asked: Sequence[MetricProposal], context: PolicyContext, before: KedaMemory) -> Poll:
        """Return the operator's look at activity, if it is time for one; else what the last one found.

        The time of the last activity moves only if every trigger could be read, or the workload is at zero.
        """
        passed_s = elapsed_s(context)
        polled_s = (self.polling_interval_s if before.polled_s is None else before.polled_s) + passed_s
        idle_s = None if before.idle_s is None else before.idle_s + passed_s
        age_s = (before.age_s or 0.0) + passed_s
        active = (before.active or 0.0) > 0
        due = polled_s >= self.polling_interval_s - JITTER_S
        whole = all(a.value is not None for a in asked)
        if due:
            polled_s = 0.0
            over = zip(asked, self.triggers, strict=True)
            active = any(a.value is not None and a.value > t.activation for a, t in over)
            active = active or any(cron.active(context.at) for cron in self.crons)
            if active and (whole or context.desired == 0):
                idle_s = 0.0
        rested = age_s > self.initial_cooldown_s if idle_s is None else idle_s > self.cooldown_s
        return Poll(
            active,
            due and whole and not active and rested and context.min_replicas == 0,
            KedaMemory(float(active), polled_s, age_s, idle_s),
        )
