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
from policies.recommend.context import SOURCE, PolicyContext
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


@dataclass(frozen=True, kw_only=True)
class QueueDepth:
    """A fixed number of messages, waiting or in work, per replica.

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
            "Messages, waiting or in work, that one replica handles. The default of 10 is twice KEDA's default for"
            " SQS, because messages in work count too. Lower it for shorter waits. Messages.",
            gt=0,
        ),
    ] = 10.0
    count: Annotated[
        tuple[Literal["visible", "in_flight", "delayed"], ...],
        FieldMetadata(
            "Kinds of messages to count, visible and in_flight by default. Without in_flight, the replica that"
            " processes the last message is removed. Add delayed to count messages that become visible later."
        ),
    ] = ("visible", "in_flight")
    activation: Annotated[
        float,
        FieldMetadata(
            "Scale from zero, and stay above zero, while more messages than this are counted. The default of 0 reacts"
            " to the first message. Messages.",
            ge=0,
        ),
    ] = 0.0
    groups_per_replica: Annotated[
        float | None,
        FieldMetadata(
            "For FIFO queues: message groups that one replica processes at once. It caps the size at the replicas"
            " that the groups in flight can keep busy. null means no cap. Groups.",
            gt=0,
        ),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.count or len(set(self.count)) < len(self.count):
            yield "count", "must list at least one kind of message, and each kind once"

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
            reason += f" (lower bound: {problems})"
        if self.groups_per_replica and context.ready:
            (groups_signal,) = signal_names(self.source, ("groups_in_flight",))
            groups = context.readings.get(groups_signal)
            used = (*used, groups_signal)
            if isinstance(groups, Fresh):
                useful = serialized_work(work, groups.value, self.groups_per_replica, context.ready)
                if useful < work:
                    work = useful
                    reason += f"; capped, since only {groups.value:g} message groups are in flight"
        return Recommendation(name, work, evidence, depth > self.activation, reason, used)


@dataclass(frozen=True, kw_only=True)
class Concurrency:
    """A fixed number of requests, running or waiting in the engines, per replica.

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
            "Requests, running or waiting, that one replica handles. The default of 100 is that of Knative and"
            " KubeAI; measure what your engines handle within the SLO. Requests.",
            gt=0,
        ),
    ] = 100.0
    activation: Annotated[
        float,
        FieldMetadata(
            "Scale from zero, and stay above zero, while more requests than this run or wait. The default of 0 reacts"
            " to the first request. Requests.",
            ge=0,
        ),
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
            reason += f" (lower bound: {problems})"
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
        reason = f"{self.title} {share:.0%} over {ready} ready replicas, target {self.target:.0%}"
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
    target: Annotated[
        float,
        FieldMetadata(
            "Target of the mean GPU utilization. The default of 0.7 leaves 30 % for peaks. Prefer concurrency or"
            " kv_cache_usage for LLM engines, which are busy at any load. Share.",
            gt=0,
            le=1,
        ),
    ] = 0.70
    activation: Annotated[
        float,
        FieldMetadata(
            "Do not scale to zero above this utilization. The default of 0.05 ignores idle GPUs. Share.", ge=0, lt=1
        ),
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
    target: Annotated[
        float,
        FieldMetadata(
            "Target of the mean KV-cache usage. The default of 0.8 leaves room for peaks, because engines preempt"
            " requests when their cache is full. Share.",
            gt=0,
            le=1,
        ),
    ] = 0.80
    activation: Annotated[
        float,
        FieldMetadata(
            "Do not scale to zero above this usage. The default of 0 takes any usage as work. Share.", ge=0, lt=1
        ),
    ] = 0.0


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Any quantity of any source: a total with a target per replica, or a mean held at a target.

    Examples: a total of 125 at 50 per replica needs 2.5 replicas; a mean of 3 over 4 ready replicas with a target of 2
    needs 4 * 3 / 2 = 6.0.
    """

    post_demand: ClassVar[bool] = False
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0

    quantity: Annotated[str, FieldMetadata("Quantity of the source to scale on.", example="generation_tokens_per_s")]
    target: Annotated[
        float,
        FieldMetadata(
            "Target value: per replica with across: total, the mean over the replicas with across: mean. Measure it at"
            " the highest load that meets your SLO. The quantity's unit.",
            gt=0,
            example=2500,
        ),
    ]
    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    across: Annotated[
        Literal["total", "mean"],
        FieldMetadata(
            "How the source reports the quantity: total is a sum over all replicas, mean an average over ready"
            " replicas. The default of total also allows scale from zero."
        ),
    ] = "total"
    activation: Annotated[
        float,
        FieldMetadata(
            "Do not scale to zero while the quantity exceeds this; a total then also scales from zero. The default of"
            " 0 takes any value as work. The quantity's unit.",
            ge=0,
        ),
    ] = 0.0

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
            reason = f"mean {self.quantity} {value:g} over {context.ready} ready replicas, target {self.target:g}"
        if problems:
            reason += f" (lower bound: {problems})"
        return Recommendation(name, work, evidence, work > 0 and value > self.activation, reason, used)

    def filled(self, name: PolicyName, context: PolicyContext, recommendation: Recommendation) -> float | None:
        return filled_share(recommendation.replicas, context, self.source)


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """A fixed share of capacity left free, above the demand that the other policies measure.

    Example: a demand of 3.0 replicas with 50 % free needs 6.0.
    """

    post_demand: ClassVar[bool] = True
    can_activate: ClassVar[bool] = False
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0

    share: Annotated[
        float,
        FieldMetadata(
            "Share of capacity to leave free. The default of 0.5 runs at half capacity, for real-time work; lower it"
            " to save cost. Share.",
            ge=0,
            lt=1,
        ),
    ] = 0.5

    def needs(self) -> tuple[str, ...]:
        return ()

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        if context.demand is None:
            return Recommendation(name, None, Evidence.FULL, active=False, reason="no policy measured a demand")
        work = with_headroom(context.demand, self.share)
        reason = f"{context.demand:.2f} replicas of demand, with {self.share:.0%} of the capacity left free"
        return Recommendation(name, work, Evidence.FULL, active=False, reason=reason)
