"""The predictive policy's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata
from policies.recommend.threshold import SOURCE


@dataclass(frozen=True, kw_only=True)
class PredictiveParameters:
    """Parameters of the predictive policy."""

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
