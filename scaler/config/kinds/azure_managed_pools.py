"""Pools of Azure's managed serving: Azure Machine Learning online endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.pool import YIELD_S, OtherWriterYield, Target
from scaler.clouds.azure.account import GROUP, path_of
from scaler.config.kinds.azure_pools import AzurePool

MAX_INSTANCES: Final = 50
"""Maximum instances of a managed online deployment."""
WORKSPACE: Final = Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9_-]{1,32}$", "2 to 33 letters, digits and _ -, with a letter or digit first"
)
ONLINE: Final = Pattern(
    r"^[A-Za-z]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$",
    "at most 32 letters, digits and -, with a letter first and a letter or digit last",
)
"""Name of an online endpoint or of one of its deployments."""


@dataclass(frozen=True, kw_only=True)
class AzureMlDeployment(AzurePool):
    """The instances of a managed online deployment of Azure Machine Learning."""

    resource_group: Annotated[str, FieldMetadata("Resource group of the workspace.", pattern=GROUP, example="llm")]
    workspace: Annotated[
        str, FieldMetadata("Name of the Azure Machine Learning workspace.", pattern=WORKSPACE, example="llm")
    ]
    endpoint: Annotated[str, FieldMetadata("Name of the online endpoint.", pattern=ONLINE, example="llama-chat")]
    deployment: Annotated[str, FieldMetadata("Name of the managed online deployment.", pattern=ONLINE, example="h100")]
    native: Annotated[
        Literal["refuse", "take_over", "floor"],
        FieldMetadata(
            "Action where an enabled autoscale setting of Azure Monitor also resizes the deployment. The default,"
            " refuse, leaves the pool to it. take_over disables the setting, and enables it when the daemon stops or"
            " the pool is removed. floor leaves it in place and sets only the minimum of its profiles, which outlives"
            " the daemon."
        ),
    ] = "refuse"
    ready_states: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Values of the dimension State of the metric DeploymentCapacity that count as ready, in any case. Azure"
            " does not document them. If no instance is in one of them, the pool reports the states that it found.",
            example=["Healthy", "Ready", "Running"],
        ),
    ] = ("Healthy", "Ready", "Running")
    min_replicas: Annotated[
        int,
        FieldMetadata(
            "Minimum number of instances. The default of 1 is Azure's own minimum: a deployment without instances"
            " does not exist. Replicas.",
            ge=1,
            le=MAX_INSTANCES,
        ),
    ] = 1
    lead_time_s: Annotated[
        float,
        FieldMetadata(
            "Time from the decision to a serving instance, used until three starts have been measured. The default of"
            " 900 is typical for a GPU instance: users report 12 to 18 minutes. Seconds.",
            ge=0,
            le=7200,
        ),
    ] = 900.0
    other_writer_yield_s: OtherWriterYield = YIELD_S

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.max_replicas is not None and self.max_replicas > MAX_INSTANCES:
            yield "max_replicas", f"must be at most {MAX_INSTANCES}, Azure's maximum of instances of a deployment"
        if not self.ready_states:
            yield "ready_states", "must name at least one state, such as Healthy"

    @property
    def endpoint_path(self) -> str:
        """The endpoint's resource id."""
        kind = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
        return path_of(self.account, self.resource_group, kind, self.workspace, self.endpoint)

    @property
    def path(self) -> str:
        """The deployment's resource id."""
        return f"{self.endpoint_path}/deployments/{self.deployment}"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("Azure ML deployment", (), self.path.lower()),)  # Azure ignores case

    def locks(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("Azure ML endpoint", (), self.endpoint_path.lower()),)  # its update blocks all deployments
