"""The predictive policy's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import SOURCE


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
        float,
        FieldMetadata(
            "Maximum prompt throughput of one replica. The default of 40,000 is that of Llama-3.1-8B on an H100; set"
            " it for your model. Learning corrects its scale, but not its ratio to generation_tokens_per_s. Tokens per"
            " second.",
            gt=0,
            le=1e7,
        ),
    ] = 40_000.0
    generation_tokens_per_s: Annotated[
        float,
        FieldMetadata(
            "Maximum output throughput of one replica with full batches. The default of 9,000 is that of Llama-3.1-8B"
            " on an H100; set it for your model. Tokens per second.",
            gt=0,
            le=1e7,
        ),
    ] = 9_000.0
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
            "The size covers this quantile of the largest demand within the lead time. null derives it from"
            " slo_violation_cost_ratio, and lowers it while the measured SLO attainment allows that. Set it for a fixed"
            " margin. Share.",
            gt=0,
            lt=1,
            example=0.95,
        ),
    ] = None
    rate_window_s: Annotated[
        float,
        FieldMetadata(
            "Time over which the source averages its rates. It must equal the source's window_s, hence the same"
            " default of 120. Set both to four scrape intervals. Seconds.",
            gt=0,
            le=3600,
        ),
    ] = 120.0
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
            "Correct size and margin slowly by the share of SLO violations. The default of true compensates for a"
            " wrong capacity model; false keeps the full margin."
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
