"""The Kubernetes HorizontalPodAutoscaler as a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from policies.model import Evidence, PolicyName, Recommendation, SignalName
from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import SOURCE, PolicyContext
from policies.recommend.peers.hpa_behavior import DOWNSCALE_STABILIZATION_S, Behavior, behavior_memory, stabilized_size
from policies.recommend.peers.hpa_replicas import PodGroups, Tolerance, by_average_value, by_pods, by_value
from policies.signals.demand import fresh_values, no_opinion, quantity_problems

Source = Annotated[str | None, FieldMetadata(SOURCE, example="sqs")]
Quantities = Annotated[
    tuple[str, ...], FieldMetadata("Quantities of the source to add up.", example=("visible", "in_flight"))
]
BehaviorField = Annotated[
    Behavior | None,
    FieldMetadata(
        "spec.behavior: windows and rates. {} means the defaults of autoscaling/v2. null means the older rule: scale"
        " in to the largest recommendation of downscale_stabilization_s, and scale out to at most twice the size or 4,"
        " if that is more.",
        example={},
    ),
]
ToleranceField = Annotated[
    float,
    FieldMetadata(
        "Dead band around the target: --horizontal-pod-autoscaler-tolerance. The default of 0.1 is that of"
        " Kubernetes; raise it if the size oscillates. Share.",
        ge=0,
        lt=1,
    ),
]
Stabilization = Annotated[
    float,
    FieldMetadata(
        "Scale in only to the largest recommendation of this window, unless behavior sets a window. The default of"
        " 300 is that of Kubernetes; raise it if load returns later than that. Seconds.",
        ge=0,
        le=3600,
    ),
]


@dataclass(frozen=True, kw_only=True)
class HpaMetric:
    """One entry of ``spec.metrics``: an External (or Object) metric, or a Pods metric."""

    quantities: Quantities
    target: Annotated[
        float, FieldMetadata("averageValue or value of the metric. The quantities' unit.", ge=0.001, example=5)
    ]
    type: Annotated[
        Literal["external", "pods"],
        FieldMetadata(
            "external: a total over the workload. pods: one quantity, a mean over the ready replicas. The default of"
            " external also allows scale from zero."
        ),
    ] = "external"
    target_type: Annotated[
        Literal["average_value", "value"],
        FieldMetadata(
            "average_value divides the total by the target per replica; value multiplies the ready replicas by the"
            " ratio of the metric to the target. Prefer the default of average_value, since value overshoots while"
            " replicas start."
        ),
    ] = "average_value"
    source: Annotated[
        str | None, FieldMetadata("Source of this metric. null means the source of the policy.", example="sqs")
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from quantity_problems(self.quantities)
        if self.type == "pods" and len(self.quantities) > 1:
            yield "quantities", "must be a single quantity for type pods: means cannot be added"
        if self.type == "pods" and self.target_type == "value":
            yield "target_type", "must be average_value for type pods: a Pods metric has no other target type"

    def signals(self, source: str | None) -> tuple[SignalName, ...]:
        """Return the signals that it sums, from its own source or else from `source`."""
        return tuple(SignalName(f"{self.source or source}.{quantity}") for quantity in self.quantities)

    def proposal(self, value: float, size: int, ready: int, tolerance: Tolerance) -> int | None:
        """Return the replicas that the metric proposes, or None if it has no sample.

        A requested replica that is not ready counts as a running pod without a sample: it loads its model.
        """
        if self.type == "pods":
            pods = PodGroups(measured=ready, missing=max(0, size - ready))
            return by_pods(value, self.target, size, pods, tolerance)
        if self.target_type == "value":
            return by_value(value, self.target, size, ready, tolerance)
        return by_average_value(value, self.target, size, tolerance)


@dataclass(frozen=True, slots=True)
class MetricProposal:
    """The value of a metric in this tick and the replicas that it proposes; None where unknown."""

    value: float | None
    replicas: int | None


def propose(
    metrics: Sequence[HpaMetric], source: str | None, context: PolicyContext, tolerance: Tolerance
) -> tuple[list[MetricProposal], Evidence, tuple[SignalName, ...], str]:
    """Return each metric's proposal, with the evidence.

    The other values are the signals used, and a text about missing readings.
    """
    used = tuple(dict.fromkeys(s for metric in metrics for s in metric.signals(source)))
    values, evidence, problems = fresh_values(used, context.readings)
    if context.desired is None or context.ready is None:
        return [MetricProposal(None, None)] * len(metrics), Evidence.BLIND, used, "the number of replicas is unknown"
    proposals: list[MetricProposal] = []
    for metric in metrics:
        values_read = [values.get(s) for s in metric.signals(source)]
        known = [v for v in values_read if v is not None]
        if len(known) < len(values_read):
            proposals.append(MetricProposal(None, None))
            continue
        proposals.append(
            MetricProposal(sum(known), metric.proposal(sum(known), context.desired, context.ready, tolerance))
        )
    failed = sum(p.replicas is None for p in proposals)
    if failed == len(proposals):
        return proposals, Evidence.BLIND, used, problems or "no replica is ready, so no pod has a sample"
    return proposals, Evidence.PARTIAL if failed else evidence, used, problems


def tolerance_of(behavior: Behavior | None, tolerance: float) -> Tolerance:
    """Return the dead band, with the tolerances of the behavior where it has any."""
    if behavior is None:
        return Tolerance(tolerance, tolerance)
    down, up = behavior.scale_down.tolerance, behavior.scale_up.tolerance
    return Tolerance(tolerance if down is None else down, tolerance if up is None else up)


@dataclass(frozen=True, kw_only=True)
class Hpa:
    """The Kubernetes HorizontalPodAutoscaler (autoscaling/v2) as a policy.

    minReplicas and maxReplicas are the workload's; a workload with min_replicas 0 is an HPA with HPAScaleToZero. The
    controller's sync period is the workload's interval_s, 15 s.

    Sources: kubernetes/kubernetes, ``pkg/controller/podautoscaler`` (see `hpa_replicas` and `hpa_behavior`). The
    largest proposal of all metrics counts. If a metric cannot be read, the others may scale out but not in, and the
    tick is not remembered. The original uses every sample, however old, and a zero from a broken metrics server
    (kubernetes issue 104387); here such readings are stale or absent and never lower the size. A pool at zero with
    min_replicas above it is raised, where the original counts as paused (set `paused` instead).
    """

    post_demand: ClassVar[bool] = False
    owns_stabilization: ClassVar[bool] = True

    metrics: Annotated[
        tuple[HpaMetric, ...],
        FieldMetadata(
            "spec.metrics. The metric that proposes the most replicas decides.",
            example=({"quantities": ["visible", "in_flight"], "target": 5},),
        ),
    ]
    source: Source = None
    behavior: BehaviorField = None
    tolerance: ToleranceField = 0.1
    downscale_stabilization_s: Stabilization = DOWNSCALE_STABILIZATION_S

    @property
    def can_activate(self) -> bool:
        return any(metric.type == "external" for metric in self.metrics)

    @property
    def lookback_s(self) -> float:
        return max(self.downscale_stabilization_s, self.behavior.lookback_s if self.behavior else 0.0)

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.metrics:
            yield "metrics", "must not be empty"

    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(q for m in self.metrics if m.source is None for q in m.quantities))

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        proposals, evidence, used, problems = propose(
            self.metrics, self.source, context, tolerance_of(self.behavior, self.tolerance)
        )
        size = context.desired
        if evidence is Evidence.BLIND or size is None:
            return no_opinion(name, used, problems)
        proposal = max(p.replicas for p in proposals if p.replicas is not None)
        reason = proposal_text(self.metrics, proposals, problems)
        if evidence is Evidence.PARTIAL and proposal < size:
            return Recommendation(
                name,
                None,
                evidence,
                active=False,
                reason=f"{reason}; no scale-in while readings are missing",
                used=used,
            )
        memory = behavior_memory(context, size, self.lookback_s, disabled_at_zero=False)
        replicas, limit_reason = stabilized_size(proposal, size, memory, self.behavior, self.downscale_stabilization_s)
        active = any(p.value for p in proposals)
        reason = f"{reason}; {limit_reason}" if limit_reason else reason
        return Recommendation(name, float(replicas), evidence, active, reason, used, unstabilized=float(proposal))


def proposal_text(metrics: Sequence[HpaMetric], proposals: Sequence[MetricProposal], problems: str) -> str:
    """Return a text of the metrics' values and proposals."""
    parts = [
        f"{' + '.join(metric.quantities)} {p.value:g}, target {metric.target:g} ({metric.target_type}):"
        f" proposes {p.replicas}"
        for metric, p in zip(metrics, proposals, strict=True)
        if p.value is not None and p.replicas is not None
    ]
    return ", ".join(parts) + (f" ({problems})" if problems else "")
