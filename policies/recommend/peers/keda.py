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
from policies.recommend.peers.hpa_behavior import DOWNSCALE_STABILIZATION_S, behavior_memory, stabilized_size
from policies.recommend.peers.hpa_replicas import Tolerance
from policies.recommend.peers.keda_cron import Cron
from policies.recommend.peers.memory import KedaMemory, recall, record
from policies.signals.demand import no_opinion


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One entry of ``spec.triggers``."""

    quantities: Quantities
    target: Annotated[
        float,
        FieldMetadata(
            "Target per replica: threshold, queueLength or the like. The quantities' unit.", ge=0.001, example=5
        ),
    ]
    activation: Annotated[
        float,
        FieldMetadata(
            "Activation threshold: the trigger is active above it. The default of 0 is KEDA's; raise it to ignore"
            " stray messages. The quantities' unit.",
            ge=0,
        ),
    ] = 0.0
    target_type: Annotated[
        Literal["average_value", "value"],
        FieldMetadata(
            "metricType: average_value is an amount per replica; value multiplies the ready replicas by the ratio to"
            " the target. The default of average_value is KEDA's."
        ),
    ] = "average_value"
    source: Annotated[
        str | None, FieldMetadata("Source of this trigger. null means the source of the policy.", example="sqs")
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
    """``spec.fallback``: the size to request while a trigger cannot be read."""

    failure_threshold: Annotated[
        int, FieldMetadata("Fall back after more consecutive failed ticks than this. Ticks.", ge=0, example=3)
    ]
    replicas: Annotated[int, FieldMetadata("Size to fall back to. Replicas.", ge=0, example=6)]
    behavior: Annotated[
        Literal["static", "current_replicas", "current_replicas_if_higher", "current_replicas_if_lower"],
        FieldMetadata(
            "static always uses `replicas`, current_replicas the current size; the other two use the higher or the"
            " lower of both. The default of static is KEDA's."
        ),
    ] = "static"

    def size(self, now: int) -> int:
        """Return the fallback's size, with `now` replicas at present."""
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
    """The state of the operator's own loop.

    It has whether a trigger is active, and whether the cooldown is over.
    """

    active: bool
    cooled_down: bool
    memory: KedaMemory


@dataclass(frozen=True, kw_only=True)
class Keda:
    """A KEDA ScaledObject, with the HorizontalPodAutoscaler (HPA) that KEDA creates for it.

    minReplicaCount and maxReplicaCount are the workload's min_replicas (KEDA's default is 0) and max_replicas (100);
    with idleReplicaCount, that is min_replicas and `active_replicas` is minReplicaCount.

    Sources: kedacore/keda 2.20 to 2.21, ``pkg/scaling/executor/scale_scaledobjects.go``, ``pkg/fallback/fallback.go``,
    ``controllers/keda/hpa.go``, ``apis/keda/v1alpha1``. The operator scales from and to zero, every
    `polling_interval_s`; between one and the maximum the HPA decides, every tick. KEDA sets no behavior in its HPA by
    default, so the default here is the HPA's older path.

    The original reads a missing, negative or non-finite metric as zero in places (issues 1850, 7651, 7880), and its
    fallback may scale in during a burst; here no size is lowered without fresh evidence, not by a fallback either. The
    original counts failed queries of two loops together, and this policy counts ticks.
    """

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = True

    triggers: Annotated[
        tuple[Trigger, ...],
        FieldMetadata(
            "spec.triggers. The trigger that proposes the most replicas decides, and any active one scales from zero.",
            example=({"quantities": ["visible", "in_flight"], "target": 5},),
        ),
    ]
    crons: Annotated[
        tuple[Cron, ...],
        FieldMetadata("spec.triggers of type cron, which request replicas by time. With crons, triggers may be empty."),
    ] = ()
    source: Source = None
    polling_interval_s: Annotated[
        float,
        FieldMetadata(
            "pollingInterval: time between two checks for activity. The default of 30 is KEDA's; lower it to leave"
            " zero sooner. Seconds.",
            ge=0,
        ),
    ] = 30.0
    cooldown_s: Annotated[
        float,
        FieldMetadata(
            "cooldownPeriod: scale to zero after this time without activity. The default of 300 is KEDA's; raise it"
            " if traffic returns later than that. Seconds.",
            ge=0,
        ),
    ] = 300.0
    initial_cooldown_s: Annotated[
        float,
        FieldMetadata(
            "initialCooldownPeriod: scale to zero after this time from the first tick, if there was no activity. The"
            " default of 0 is KEDA's. Seconds.",
            ge=0,
        ),
    ] = 0.0
    active_replicas: Annotated[
        int | None,
        FieldMetadata(
            "Minimum size while active: minReplicaCount of a ScaledObject with idleReplicaCount. null means 1."
            " Replicas.",
            ge=1,
            example=2,
        ),
    ] = None
    fallback: Annotated[
        Fallback | None,
        FieldMetadata(
            "spec.fallback. null means none: no scale-in while a trigger cannot be read.",
            example={"failure_threshold": 3, "replicas": 6},
        ),
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
        proposals, evidence, used, problems = propose(metrics, self.source, context, tolerance)
        memory_before = context.history.memory(name)
        failures = self._failures(proposals, memory_before)
        size = context.desired
        if size is None:
            return no_opinion(name, used, problems, {**memory_before, **failures})
        poll = self._poll(proposals, context, recall(KedaMemory, memory_before))
        memory = {**record(poll.memory), **failures}
        proposals, fell_back = self._fall_back(proposals, failures, size, context.ready, tolerance)
        cron_proposals = [cron.proposal(context.at, size, tolerance) for cron in self.crons]
        sizes = [p.replicas for p in proposals if p.replicas is not None] + cron_proposals
        if not sizes:
            return no_opinion(name, used, problems, memory)
        if not self.triggers:
            evidence, problems = Evidence.FULL, ""
        evidence = Evidence.PARTIAL if evidence is Evidence.BLIND else evidence
        reasons = [
            proposal_text(metrics, proposals, problems),
            *(f"cron proposes {replicas}" for replicas in cron_proposals),
        ]
        reason = ", ".join(filter(None, reasons)) + fell_back
        active_minimum = max(1, self.active_replicas or 1)
        recommendation = Recommendation(name, None, evidence, poll.active, reason, used, memory=memory)
        if size == 0:
            replicas_from_zero = float(active_minimum if poll.active else 0)
            return replace(
                recommendation,
                replicas=replicas_from_zero,
                unstabilized=replicas_from_zero,
                reason=f"{reason}; {'a trigger is active' if poll.active else 'no trigger is active'}",
            )
        if poll.cooled_down:
            return replace(
                recommendation,
                replicas=0.0,
                unstabilized=0.0,
                reason=f"{reason}; no trigger was active during the cooldown",
            )
        proposal = max(sizes)
        if evidence is Evidence.PARTIAL and proposal < size and not fell_back:
            return replace(recommendation, reason=f"{reason}; no scale-in while readings are missing")
        hpa_memory = behavior_memory(context, size, self.lookback_s, disabled_at_zero=True)
        replicas, limit_reason = stabilized_size(
            proposal, size, hpa_memory, self.behavior, self.downscale_stabilization_s
        )
        minimum = active_minimum if poll.active else 1
        return replace(
            recommendation,
            replicas=float(max(minimum, replicas)),
            unstabilized=float(proposal),
            reason=f"{reason}; {limit_reason}" if limit_reason else reason,
        )

    def _failures(self, proposals: Sequence[MetricProposal], memory_before: Mapping[str, float]) -> dict[str, float]:
        """Return the ticks in a row in which a trigger could not be read, by trigger."""
        counts = ((f"failures_{i}", p) for i, p in enumerate(proposals))
        return {key: memory_before.get(key, 0.0) + 1.0 if p.replicas is None else 0.0 for key, p in counts}

    def _fall_back(
        self,
        proposals: Sequence[MetricProposal],
        failures: Mapping[str, float],
        size: int,
        ready: int | None,
        tolerance: Tolerance,
    ) -> tuple[list[MetricProposal], str]:
        """Return each trigger's proposal, and the reason.

        A trigger that failed too often proposes the fallback's size. The HPA receives a value that proposes this size:
        a fallback of 6 at a target of 5 per replica is a value of 30.
        """
        if self.fallback is None:
            return list(proposals), ""
        fallback_size = self.fallback.size(size)
        replaced, failed = list(proposals), []
        for i, trigger in enumerate(self.triggers):
            if failures[f"failures_{i}"] <= self.fallback.failure_threshold:
                continue
            divisor = 1 if trigger.target_type == "average_value" else ready
            if divisor:
                proposal = trigger.metric.proposal(
                    trigger.target * fallback_size / divisor, size, ready or 0, tolerance
                )
                replaced[i] = MetricProposal(None, proposal)
                failed.append(" + ".join(trigger.quantities))
        return replaced, f"; {', '.join(failed)} cannot be read: fallback to {fallback_size}" if failed else ""

    def _poll(self, proposals: Sequence[MetricProposal], context: PolicyContext, memory: KedaMemory) -> Poll:
        """Return the operator's poll if it is due, else the state after the last one.

        The time of the last activity moves only if every trigger could be read, or if the workload is at zero.
        """
        passed_s = elapsed_s(context)
        polled_s = (self.polling_interval_s if memory.polled_s is None else memory.polled_s) + passed_s
        idle_s = None if memory.idle_s is None else memory.idle_s + passed_s
        age_s = (memory.age_s or 0.0) + passed_s
        active = (memory.active or 0.0) > 0
        due = polled_s >= self.polling_interval_s - JITTER_S
        all_read = all(p.value is not None for p in proposals)
        if due:
            polled_s = 0.0
            triggers = zip(proposals, self.triggers, strict=True)
            active = any(p.value is not None and p.value > t.activation for p, t in triggers)
            active = active or any(cron.active(context.at) for cron in self.crons)
            if active and (all_read or context.desired == 0):
                idle_s = 0.0
        cooled_down = age_s > self.initial_cooldown_s if idle_s is None else idle_s > self.cooldown_s
        return Poll(
            active,
            due and all_read and not active and cooled_down and context.min_replicas == 0,
            KedaMemory(float(active), polled_s, age_s, idle_s),
        )
