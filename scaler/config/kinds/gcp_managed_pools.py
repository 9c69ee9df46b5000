"""Pools of Google Cloud's managed serving: Vertex AI endpoints and Cloud Run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.pool import YIELD_S, OtherWriterYield, Pool, Target
from scaler.clouds.gcp.settings import NAME
from scaler.config.kinds.gcp_pools import Project

REGION: Final = Pattern(r"^[a-z]+-[a-z]+[0-9]+$", "a Google Cloud region")
ENDPOINT: Final = Pattern(r"^[a-z0-9][a-z0-9-]{0,62}$", "the ID of an endpoint, such as 1234567890123456789")
DEPLOYED_MODEL: Final = Pattern(r"^[A-Za-z0-9-]{1,63}$", "the ID of a deployed model, such as 2345678901234567890")


@dataclass(frozen=True, kw_only=True)
class VertexEndpoint(Pool):
    """The replicas of a model deployed to a Vertex AI endpoint."""

    project: Project
    location: Annotated[str, FieldMetadata("Region of the endpoint.", pattern=REGION, example="us-central1")]
    endpoint: Annotated[
        str, FieldMetadata("ID of the endpoint: digits, or a name.", pattern=ENDPOINT, example="1234567890123456789")
    ]
    deployed_model: Annotated[
        str,
        FieldMetadata(
            "ID of the deployed model, one of the endpoint's deployedModels. A new deployment has a new ID.",
            pattern=DEPLOYED_MODEL,
            example="2345678901234567890",
        ),
    ]
    native: Annotated[
        Literal["refuse", "take_over", "floor"],
        FieldMetadata(
            "Treatment of Vertex AI's autoscaler, which works while minReplicaCount is below maxReplicaCount. The"
            " default, refuse, leaves such a model to it. take_over sets both to the size, which turns it off. floor"
            " writes only minReplicaCount, and the autoscaler still adds replicas above it."
        ),
    ] = "refuse"
    scale_to_zero: Annotated[
        bool,
        FieldMetadata(
            "Allow 0 replicas, by Vertex AI's preview API (v1beta1). Default: false, as only models deployed with a"
            " scaleToZeroSpec support it."
        ),
    ] = False
    min_replicas: Annotated[
        int,
        FieldMetadata(
            "Minimum number of replicas in the pool. The default of 1 is Vertex AI's own minimum. Set 0 only with"
            " scale_to_zero. Replicas.",
            ge=0,
        ),
    ] = 1
    lead_time_s: Annotated[
        float,
        FieldMetadata(
            "Time from the decision to a serving replica, used until three starts have been measured. The default of"
            " 480 is typical for one with GPUs. Set it to your typical start time. Seconds.",
            ge=0,
            le=7200,
        ),
    ] = 480.0
    other_writer_yield_s: OtherWriterYield = YIELD_S

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.min_replicas and not self.scale_to_zero:
            yield "min_replicas", "must be at least 1 without scale_to_zero: true: Vertex AI keeps one replica"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        endpoint = f"projects/{self.project.id}/locations/{self.location}/endpoints/{self.endpoint}"
        return (Target("Vertex AI deployed model", (endpoint,), self.deployed_model),)


@dataclass(frozen=True, kw_only=True)
class CloudRunPool(Pool):
    """The instances of a Cloud Run resource (common settings)."""

    project: Project
    location: Annotated[str, FieldMetadata("Region of the resource.", pattern=REGION, example="us-central1")]
    other_writer_yield_s: OtherWriterYield = YIELD_S


@dataclass(frozen=True, kw_only=True)
class CloudRunService(CloudRunPool):
    """The instances of a Cloud Run service."""

    name: Annotated[str, FieldMetadata("Name of the service.", pattern=NAME, example="vllm-l4")]
    sized_by: Annotated[
        Literal["manual", "minimum"],
        FieldMetadata(
            "manual sets the number of instances of a service with manual scaling. minimum sets the minimum of one with"
            " automatic scaling, and Cloud Run still adds instances above it. Default: manual."
        ),
    ] = "manual"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("Cloud Run service", (f"projects/{self.project.id}/locations/{self.location}",), self.name),)


@dataclass(frozen=True, kw_only=True)
class CloudRunWorkerPool(CloudRunPool):
    """The instances of a Cloud Run worker pool with manual scaling."""

    name: Annotated[str, FieldMetadata("Name of the worker pool.", pattern=NAME, example="vllm-batch")]

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("Cloud Run worker pool", (f"projects/{self.project.id}/locations/{self.location}",), self.name),)
