"""Pools on Amazon SageMaker: the variants and the inference components of endpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.pool import Target
from scaler.config.kinds.aws_pools import AwsAccountPool

NAME: Final = Pattern(r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$", "at most 63 letters, digits and inner hyphens")


@dataclass(frozen=True, kw_only=True)
class SageMakerPool(AwsAccountPool):
    """Settings of every SageMaker pool."""

    native: Annotated[
        Literal["refuse", "take_over", "floor"],
        FieldMetadata(
            "Action where Application Auto Scaling also resizes the pool. The default, refuse, leaves the pool to it."
            " take_over suspends its policies, and resumes them when the daemon stops or the pool is removed. floor"
            " leaves them in place and sets only their MinCapacity, which outlives the daemon."
        ),
    ] = "refuse"


@dataclass(frozen=True, kw_only=True)
class SageMakerVariant(SageMakerPool):
    """The instances of a production variant of a SageMaker endpoint."""

    endpoint: Annotated[str, FieldMetadata("Name of the endpoint.", pattern=NAME, example="llama-chat")]
    variant: Annotated[str, FieldMetadata("Name of the production variant.", pattern=NAME, example="h100")]
    min_replicas: Annotated[
        int,
        FieldMetadata(
            "Minimum number of instances of the variant. The default of 1 is the minimum of a real-time endpoint. Set"
            " 0 only for an asynchronous endpoint. Replicas.",
            ge=0,
        ),
    ] = 1
    lead_time_s: Annotated[
        float,
        FieldMetadata(
            "Time from the decision to a serving instance, used until three starts have been measured. The default of"
            " 420 is typical for a GPU instance with its image and weights. Seconds.",
            ge=0,
            le=7200,
        ),
    ] = 420.0

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("SageMaker variant", self.account.identity, f"{self.endpoint}/{self.variant}"),)


@dataclass(frozen=True, kw_only=True)
class SageMakerInferenceComponent(SageMakerPool):
    """The copies of an inference component of a SageMaker endpoint."""

    component: Annotated[
        str,
        FieldMetadata(
            "Name of the inference component.",
            pattern=Pattern(
                r"^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$", "at most 63 letters, digits and inner hyphens"
            ),
            example="llama-8b",
        ),
    ]
    lead_time_s: Annotated[
        float,
        FieldMetadata(
            "Time from the decision to a serving copy, used until three starts have been measured. The default of 150"
            " is typical for a copy on a present instance; where SageMaker first adds an instance, it takes minutes"
            " more. Seconds.",
            ge=0,
            le=7200,
        ),
    ] = 150.0

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("SageMaker inference component", self.account.identity, self.component),)
