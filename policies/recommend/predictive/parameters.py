"""The predictive policy's parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import SOURCE
from policies.recommend.predictive.engine_load import ReplicaCapacity

PROMPT_TOKENS_PER_S: Final = 40_000.0
GENERATION_TOKENS_PER_S: Final = 9_000.0
"""Throughput of Llama-3.1-8B on an H100: the first guess for an unnamed model. Tokens per second."""
RATE_WINDOW_S: Final = 120.0
"""Window of the rates of a source that does not state it: four scrapes of 30 s. Seconds."""


@dataclass(frozen=True, kw_only=True)
class PredictiveParameters:
    """Parameters of the predictive policy."""

    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    queue: Annotated[
        str | None,
        FieldMetadata(
            "Source of the queue in front of the engines: its visible messages, and oldest_age_s if it provides that."
            " null means no queue; the policy then sizes by the engines alone and cannot scale from zero.",
            example="sqs",
        ),
    ] = None
    gpu_activity: Annotated[
        str | None,
        FieldMetadata(
            "Source of GPU `utilization`, used only while neither the engines nor the queue report anything. It can"
            " raise the size once, to at most 1.5 times the last need, and never lowers it. null means no such source:"
            " the size stays as it is.",
            example="scrape",
        ),
    ] = None
    queue_deadline_s: Annotated[
        float,
        FieldMetadata(
            "Maximum time from send to answer: the queue's SLO. The default is 300; set it to your own SLO. If it"
            " exceeds the sum of response time, lead time and backlog_clear_s, replicas are added only for messages"
            " that are due, without a forecast. Seconds.",
            gt=0,
            le=43_200,
        ),
    ] = 300.0
    message_service_s: Annotated[
        float | None,
        FieldMetadata(
            "Replica-seconds of one queue message, used until they are measured. null means unknown: one replica"
            " starts, to measure them. Set it if queue_deadline_s is shorter than two lead times. Seconds.",
            gt=0,
            example=0.2,
        ),
    ] = None
    prompt_tokens_per_s: Annotated[
        float | None,
        FieldMetadata(
            "Maximum prompt throughput of one replica: the first guess, before it is learned. null takes that of the"
            " workload's `model`, or without one 40,000, that of Llama-3.1-8B on an H100. Set it for a model that the"
            " catalogue lacks. Tokens per second.",
            gt=0,
            le=1e7,
            example=40_000,
        ),
    ] = None
    generation_tokens_per_s: Annotated[
        float | None,
        FieldMetadata(
            "Maximum output throughput of one replica with full batches: the first guess. null takes that of the"
            " workload's `model`, or without one 9,000, that of Llama-3.1-8B on an H100. Set it with"
            " prompt_tokens_per_s: learning corrects the scale of both, but not their ratio. Tokens per second.",
            gt=0,
            le=1e7,
            example=9_000,
        ),
    ] = None
    utilization: Annotated[
        float,
        FieldMetadata(
            "Target load of a replica, as a share of the load that it can carry within the SLO. The default of 1 uses"
            " all of it. Lower it to leave room for bursts of a few seconds; above 1, the load uses up the forecast's"
            " margin. Share.",
            gt=0,
            le=2,
        ),
    ] = 1.0
    quantile: Annotated[
        float | None,
        FieldMetadata(
            "The size covers this quantile of the largest demand within the lead time. null sizes by the late requests"
            " that the SLO allows, at most by the quantile of slo_violation_cost_ratio. Set it for a fixed margin."
            " Share.",
            gt=0,
            lt=1,
            example=0.95,
        ),
    ] = None
    rate_window_s: Annotated[
        float | None,
        FieldMetadata(
            "Time over which the source averages its rates. null takes the source's window_s or the window that it"
            " reports, of kind scrape the interval_s between its samples, and 120 where the source has none of these."
            " Set it only for queries of your own with another window. Seconds.",
            gt=0,
            le=3600,
            example=60,
        ),
    ] = None
    backlog_clear_s: Annotated[
        float,
        FieldMetadata(
            "Clear overdue messages within this time once new replicas serve. The default of 60 keeps a burst short"
            " without overshooting. Raise it to add fewer replicas for a burst. Seconds.",
            gt=0,
        ),
    ] = 60.0
    demand_hold_s: Annotated[
        float,
        FieldMetadata(
            "After demand collapses within a minute, keep the previous demand for this time, because it usually"
            " returns as suddenly. The default of 900 outlasts an outage of ten minutes; 0 disables it. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 900.0
    use_forecast: Annotated[
        bool,
        FieldMetadata(
            "Let a forecast raise the demand. The default of true adds replicas before load arrives; false sizes by"
            " the current demand."
        ),
    ] = True
    learn_capacity: Annotated[
        bool,
        FieldMetadata(
            "Learn the capacity of a replica from latencies. The default of true corrects wrong token throughputs;"
            " false uses the configured ones unchanged."
        ),
    ] = True
    slo_correction: Annotated[
        bool,
        FieldMetadata(
            "Correct the size slowly by the share of SLO violations, and plan for fewer late requests while the error"
            " budget burns. The default of true compensates for a wrong capacity model; false does neither."
        ),
    ] = True
    slo_correction_time_s: Annotated[
        float,
        FieldMetadata(
            "Time constant of the SLO correction. The default of 7200 reacts over hours, so that one outage does not"
            " set the size for the day. Lower it to react sooner. Seconds.",
            ge=60,
            le=86_400,
        ),
    ] = 7200.0
    learning_decay_s: Annotated[
        float,
        FieldMetadata(
            "Exponential decay time of learned engine capacity. The default of 3600 follows changed prompts within an"
            " hour. Lower it to follow sooner, raise it for steadier sizes. Seconds.",
            ge=60,
        ),
    ] = 3600.0

    @property
    def has_first_guess(self) -> bool:
        """Whether a person or the workload's `model` gave the throughput of a replica."""
        return self.prompt_tokens_per_s is not None or self.generation_tokens_per_s is not None

    @property
    def max_saturation(self) -> float:
        """The largest load that can saturate a replica, in prior saturations.

        It is 1 where a person or the workload's `model` gave the throughput. Latencies at lower loads do not show the
        limit of an engine's batch, above which its throughput does not grow: their line gave 1.35 for Llama-3.1-8B on
        an H100, whose requests were late from 1.02 on.
        """
        return 1.0 if self.has_first_guess else math.inf

    @property
    def capacity(self) -> ReplicaCapacity:
        """The first guess of a replica's throughput, and the window of the rates."""
        return ReplicaCapacity(
            self.prompt_tokens_per_s or PROMPT_TOKENS_PER_S,
            self.generation_tokens_per_s or GENERATION_TOKENS_PER_S,
            self.rate_window_s or RATE_WINDOW_S,
        )
