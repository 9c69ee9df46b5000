"""Settings of the weekly plans of provisioned throughput."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata
from policies.model.names import NAME


@dataclass(frozen=True, kw_only=True)
class WeeklyPlan:
    """A plan that the daemon makes each week of the tokens of one workload in its journal."""

    workload: Annotated[str, FieldMetadata("Workload to plan.", pattern=NAME, example="llama-chat")]
    offers: Annotated[
        str,
        FieldMetadata(
            "File of units, terms and prices, as of `forescale plan --offers`, relative to the working directory.",
            example="offers.yaml",
        ),
    ]
    offer: Annotated[str | None, FieldMetadata("Offer of the file to plan. Default: null, all of them.")] = None
    directory: Annotated[
        str,
        FieldMetadata("Directory of the reports, relative to the working directory. Default: plans."),
    ] = "plans"
    input: Annotated[
        str | None,
        FieldMetadata(
            "Signal with the prompt tokens per second, as source.quantity. Default: null, prompt_tokens_per_s of the"
            " source that also has generation_tokens_per_s."
        ),
    ] = None
    output: Annotated[
        str | None,
        FieldMetadata("Signal with the output tokens per second. Default: null, generation_tokens_per_s, likewise."),
    ] = None
    cached: Annotated[
        str | None, FieldMetadata("Signal with the cached prompt tokens per second. Default: null, not known.")
    ] = None
    utilization: Annotated[
        str | None,
        FieldMetadata(
            "Signal with the utilization of the held units, 1 for full use. It is compared with the table of units."
            " Default: null, not known."
        ),
    ] = None
    allow_short: Annotated[
        bool,
        FieldMetadata("Plan from less than a week of observations, to try it. Default: false."),
    ] = False
