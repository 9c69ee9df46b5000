"""Threshold policies: a fixed amount of work per replica.

Each policy reads quantities of one source and recommends the replicas that bring them to the target. With a part of its
signals it recommends a lower bound; without any signal it has no opinion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from policies.model import Evidence, Fresh, PolicyName, Recommendation
from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import PolicyContext
from policies.recommend.readiness import filled_share, share_unknown_reason
from policies.signals.demand import (
    fresh_values,
    no_opinion,
    serialized_work,
    signal_names,
    with_headroom,
    work_of_amount,
    work_of_share,
)

Source = Annotated[
    str | None,
    FieldMetadata("The source to read; null: the only one that offers what this policy reads.", example="queue"),
]
SOURCE = "The source to read; null: the only one that offers what this policy reads."


@dataclass(frozen=True, kw_only=True)
class QueueDepth:
    """Messages waiting and in work, so many per replica.

    Example: 25 messages visible and 5 in flight at 10 per replica need 3.0 replicas.
    """

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0

    source: Annotated[str | None, FieldMetadata(SOURCE, example="sqs")] = None
    target_per_replica: Annotated[
        float,
        FieldMetadata(
            "Messages a replica may have before another is needed. Messages. Twice KEDA's default for SQS, since"
            " messages in work are counted.",
            gt=0,
        ),
    ] = 10.0
    count: Annotated[
        tuple[Literal["visible", "in_flight", "delayed"], ...],
        FieldMetadata("Which messages count. Without in_flight the replica busy with the last message is taken away."),
    ] = ("visible", "in_flight")
    activation: Annotated[
        float, FieldMetadata("Leave zero when more messages than this are counted. Messages.", ge=0)
    ] = 0.0
    groups_per_replica: Annotated[
        float | None,
        FieldMetadata("For FIFO queues: message groups one replica works on at once; null sets no cap. Groups.", gt=0),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.count or len(set(self.count)) < len(self.count):
            yield "count", "must name each kind of message once, and one at least"

    def needs(self) -> tuple[str, ...]:
        return (*self.count, "groups_in_flight") if self.groups_per_replica else self.count

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        used = signal_names(self.source, self.count)
        values, evidence, problems = fresh_values(used, context.readings)
        if evidence is Evidence.BLIND:
            return no_opinion(name, used, problems)
        depth = sum(values.values())
        work = work_of_amount(depth, self.target_per_replica)
        reason = f"{depth:g} messages at {self.target_per_replica:g} per replica"
        if problems:
            reason += f", at least ({problems})"
        if self.groups_per_replica and context.ready:
            (groups_signal,) = signal_names(self.source, ("groups_in_flight",))
            groups = context.readings.get(groups_signal)
            used = (*used, groups_signal)
            if isinstance(groups, Fresh):
                useful = serialized_work(work, groups.value, self.groups_per_replica, context.ready)
                if useful < work:
                    work = useful
                    reason += f", but only {groups.value:g} message groups are in flight: more would find no work"
        return Recommendation(name, work, evidence, depth > self.activation, reason, used)


@dataclass(frozen=True, kw_only=True)
class Concurrency:
    """Requests running and waiting in the engines, so many per replica.

    Example: 150 running and 50 waiting requests at 100 per replica need 2.0 replicas.
    """

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0

    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    target_per_replica: Annotated[
        float,
        FieldMetadata(
            "Requests in the engine per replica. Requests. 100 as Knative and KubeAI have it; measure yours.",
            gt=0,
        ),
    ] = 100.0
    activation: Annotated[
        float, FieldMetadata("Leave zero when more requests than this are there. Requests.", ge=0)
    ] = 0.0

    def needs(self) -> tuple[str, ...]:
        return ("running", "waiting")

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        used = signal_names(self.source, self.needs())
        values, evidence, problems = fresh_values(used, context.readings)
        if evidence is Evidence.BLIND:
            return no_opinion(name, used, problems)
        requests = sum(values.values())
        reason = f"{requests:g} requests running or waiting at {self.target_per_replica:g} per replica"
        if problems:
            reason += f", at least ({problems})"
        work = work_of_amount(requests, self.target_per_replica)
        return Recommendation(name, work, evidence, requests > self.activation, reason, used)

    def filled(self, name: PolicyName, context: PolicyContext, recommendation: Recommendation) -> float | None:
        return filled_share(recommendation.replicas, context, self.source)


class _MeanShare:
    """A policy that holds a mean share over the ready replicas at a target.

    Example: a KV-cache usage of 96 % over 5 ready replicas, with a target of 80 %, needs 5 * 0.96 / 0.8 = 6.0.
    """

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = False
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0
    quantity: ClassVar[str]
    title: ClassVar[str]

    source: str | None
    target: float
    activation: float

    def needs(self) -> tuple[str, ...]:
        return (self.quantity,)

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        used = signal_names(self.source, self.needs())
        values, evidence, problems = fresh_values(used, context.readings)
        if evidence is Evidence.BLIND:
            return no_opinion(name, used, problems)
        if unknown := share_unknown_reason(context):
            return no_opinion(name, used, unknown)
        share, ready = values[used[0]], context.ready or 0
        reason = f"{self.title} {share:.0%} over {ready} ready, {self.target:.0%} wanted"
        work = work_of_share(share, ready, self.target)
        return Recommendation(name, work, evidence, ready > 0 and share > self.activation, reason, used)

    def filled(self, name: PolicyName, context: PolicyContext, recommendation: Recommendation) -> float | None:
        return filled_share(recommendation.replicas, context, self.source)


@dataclass(frozen=True, kw_only=True)
class GpuUtilization(_MeanShare):
    """Mean GPU utilization over the replicas.

    High utilization is not high load: a continuously batching engine reads near 100 % with a single request. Suitable
    for classical inference; for LLM engines prefer `concurrency` or `kv_cache_usage`.
    """

    quantity: ClassVar[str] = "utilization"
    title: ClassVar[str] = "GPU utilization"

    source: Annotated[str | None, FieldMetadata(SOURCE, example="scrape")] = None
    target: Annotated[float, FieldMetadata("Mean utilization to hold. Share.", gt=0, le=1)] = 0.70
    activation: Annotated[
        float, FieldMetadata("Above this the replicas have work, and zero is out of the question. Share.", ge=0, lt=1)
    ] = 0.05


@dataclass(frozen=True, kw_only=True)
class KvCacheUsage(_MeanShare):
    """Mean KV-cache usage over the replicas.

    It does not show prefill: usage can stay flat while prompts queue without bound. Use it together with `concurrency`
    or `queue_depth`.
    """

    quantity: ClassVar[str] = "kv_cache_usage"
    title: ClassVar[str] = "KV-cache usage"

    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    target: Annotated[float, FieldMetadata("Mean usage to hold. Share.", gt=0, le=1)] = 0.80
    activation: Annotated[
        float, FieldMetadata("Above this the replicas have work, and zero is out of the question. Share.", ge=0, lt=1)
    ] = 0.0


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Any quantity of any source: a total shared out per replica, or a mean held at a value.

    Examples: a total of 125 at 50 per replica needs 2.5 replicas; a mean of 3 over 4 ready replicas with a target of 2
    needs 4 * 3 / 2 = 6.0.
    """

    post_demand: ClassVar[bool] = False
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0

    quantity: Annotated[str, FieldMetadata("The source's quantity.", example="generation_tokens_per_s")]
    target: Annotated[
        float,
        FieldMetadata(
            "The quantity's value per replica (total), or its mean over the replicas (mean).",
            gt=0,
            example=2500,
        ),
    ]
    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    across: Annotated[
        Literal["total", "mean"], FieldMetadata("Whether the quantity is a total over the replicas or a mean of them.")
    ] = "total"
    activation: Annotated[float, FieldMetadata("Leave zero when a total is above this. The quantity's unit.", ge=0)] = (
        0.0
    )

    @property
    def can_activate(self) -> bool:
        return self.across == "total"

    def needs(self) -> tuple[str, ...]:
        return (self.quantity,)

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        used = signal_names(self.source, self.needs())
        values, evidence, problems = fresh_values(used, context.readings)
        if evidence is Evidence.BLIND:
            return no_opinion(name, used, problems)
        value = values[used[0]]
        if self.across == "total":
            work = work_of_amount(value, self.target)
            reason = f"{self.quantity} {value:g} at {self.target:g} per replica"
        elif unknown := share_unknown_reason(context):
            return no_opinion(name, used, unknown)
        else:
            work = work_of_share(value, context.ready or 0, self.target)
            reason = f"mean {self.quantity} {value:g} over {context.ready} ready, {self.target:g} wanted"
        if problems:
            reason += f", at least ({problems})"
        return Recommendation(name, work, evidence, work > 0 and value > self.activation, reason, used)

    def filled(self, name: PolicyName, context: PolicyContext, recommendation: Recommendation) -> float | None:
        return filled_share(recommendation.replicas, context, self.source)


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """A fixed share of capacity left free, above what the measuring policies need.

    Example: a demand of 3.0 replicas with 50 % free needs 6.0.
    """

    post_demand: ClassVar[bool] = True
    can_activate: ClassVar[bool] = False
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0

    share: Annotated[
        float,
        FieldMetadata("Share of capacity left free. 0.5 runs at half capacity, for real-time work. Share.", ge=0, lt=1),
    ] = 0.5

    def needs(self) -> tuple[str, ...]:
        return ()

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        if context.demand is None:
            return Recommendation(name, None, Evidence.FULL, active=False, reason="no demand known to leave room above")
        work = with_headroom(context.demand, self.share)
        reason = f"{context.demand:.2f} replicas' worth of work with {self.share:.0%} left free"
        return Recommendation(name, work, Evidence.FULL, active=False, reason=reason)
