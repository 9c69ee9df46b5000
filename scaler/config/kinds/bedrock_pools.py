"""Provisioned throughput of Amazon Bedrock: model units that an approved plan buys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.pool import Target
from scaler.config.kinds.aws_pools import AwsAccountPool
from scaler.config.purchase import ID_DIGITS, bedrock_commitment, pool_plan_id, purchase_id

WORD: Final = Pattern(r"^\S{1,200}$", "without spaces")
UNIT: Final = ("bedrock", "MU", "")
"""System, unit and SKU of a Bedrock model unit in the table of `forescale plan`."""


@dataclass(frozen=True, kw_only=True)
class BedrockProvisioned(AwsAccountPool):
    """Model units of a Bedrock model, bought for a term by an approved plan."""

    name: Annotated[
        str,
        FieldMetadata(
            "Beginning of the names of the provisioned throughputs. The identifier of the plan follows it.",
            pattern=Pattern(r"^([0-9a-zA-Z][_-]?){1,24}$", "at most 24 letters or digits, each perhaps with _ or -"),
            example="claude-chat",
        ),
    ]
    model: Annotated[
        str,
        FieldMetadata(
            "Identifier or ARN of the model.",
            pattern=Pattern(r"^\S{1,1000}$", "without spaces"),
            example="anthropic.claude-3-5-sonnet-20241022-v2:0:18k",
        ),
    ]
    parameter: Annotated[
        str,
        FieldMetadata(
            "Parameter of the Systems Manager from which the applications read the ARN that they call. It must exist.",
            pattern=Pattern(r"^[a-zA-Z0-9/_.-]{1,1000}$", "letters, digits and / _ . -"),
            example="/llm/claude-chat",
        ),
    ]
    offer: Annotated[
        str, FieldMetadata("Name of the offer in the file of `forescale plan`.", example="claude", pattern=WORD)
    ]
    term: Annotated[str, FieldMetadata("Name of the term in that offer.", example="month", pattern=WORD)]
    term_h: Annotated[
        float,
        FieldMetadata(
            "Length of the term: 1 for none, 730 for a month, 4380 for six months. Hours.", gt=0, le=8784, example=730.0
        ),
    ]
    approve: Annotated[
        str | None,
        FieldMetadata(
            "Identifier of the approved plan, which `forescale approve` writes. Units are bought and given back only if"
            " it is that of workload, pool, account, name, model, offer, term, term_h, price_usd_per_hour and units."
            " The default of null approves nothing.",
            pattern=Pattern(rf"^[0-9a-f]{{{ID_DIGITS}}}$", f"{ID_DIGITS} hexadecimal digits"),
            example=None,
        ),
    ] = None
    drain_s: Annotated[
        float,
        FieldMetadata(
            "Time from a change of `parameter` until the old provisioned throughput is deleted. It must be longer than"
            " the applications keep the ARN. The default is 600. Seconds.",
            ge=0,
            le=86_400,
        ),
    ] = 600.0
    min_replicas: Annotated[
        int, FieldMetadata("Model units of the plan; equal to max_replicas. Default: 1. Model units.", ge=1)
    ] = 1
    max_replicas: Annotated[
        int | None, FieldMetadata("Model units of the plan; equal to min_replicas. Default: 1. Model units.", ge=1)
    ] = 1
    market: Annotated[
        Literal["reserved", "on_demand", "spot"],
        FieldMetadata("The default, reserved, means that the units are paid for whether used or not."),
    ] = "reserved"
    gpus_per_replica: Annotated[
        int, FieldMetadata("GPUs that a unit counts as, for GPU budgets. Default: 0, none. GPUs.", ge=0, le=1024)
    ] = 0
    lead_time_s: Annotated[
        float,
        FieldMetadata("Time until bought units serve. The default of 1800 is a guess. Seconds.", ge=0, le=7200),
    ] = 1800.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.max_replicas != self.min_replicas:
            yield "max_replicas", f"must equal min_replicas, {self.min_replicas}: units follow a plan, not the load"
        if self.price_usd_per_hour is None:
            yield "price_usd_per_hour", "is required: set the plan's price of a unit and hour, which is approved"
        if self.market != "reserved":
            yield "market", "must be reserved: units are paid for whether used or not"
        if bedrock_commitment(self.term_h) is None:
            yield "term_h", "must be at most 24 (no commitment), about 730 (a month) or about 4380 (six months)"

    @property
    def units(self) -> int:
        """Model units of the plan."""
        return self.min_replicas

    @property
    def purchase_id(self) -> str:
        """Identifier of units, term and price, as `forescale plan` reports it."""
        terms = {self.term: (float(self.term_h), float(self.price_usd_per_hour or 0.0))}
        return purchase_id(self.offer, UNIT, {self.term: self.units}, terms)

    def plan_id(self, workload: str, pool: str) -> str:
        """Return the identifier of the plan, which is that of this pool alone.

        So a copy of the file for another pool, account or model is another plan, and not approved.
        """
        place = {"pool": f"{workload}/{pool}", "account": self.account.identity, "name": self.name, "model": self.model}
        return pool_plan_id(self.purchase_id, place)

    def plan_text(self, workload: str, pool: str) -> str:
        """Return the plan with its identifier, as a person reviews it."""
        region = self.account.identity[0] or "the region of the AWS profile"
        return (
            f"plan {self.plan_id(workload, pool)} ({self.units} units of {self.model} in {region} for the term"
            f" {self.term} at {self.price_usd_per_hour:g} USD per unit and hour; purchase {self.purchase_id})"
        )

    def keeps_replicas(self) -> bool:
        return True

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        identity = self.account.identity
        return (
            Target("Bedrock provisioned throughput", identity, self.name),
            Target("Systems Manager parameter", identity, self.parameter),
        )
