"""Pools of Azure's managed serving: Machine Learning endpoints, provisioned OpenAI."""

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
RESOURCE_NAME: Final = Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{1,63}$", "2 to 64 letters, digits and _ . -, with a letter or digit first"
)
MODEL_DEPLOYMENT: Final = Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", "at most 64 letters, digits and _ . -, with a letter or digit first"
)


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


@dataclass(frozen=True, kw_only=True)
class AzureOpenAiPtu(AzurePool):
    """The provisioned throughput units (PTUs) of an Azure OpenAI deployment."""

    resource_group: Annotated[str, FieldMetadata("Resource group of the resource.", pattern=GROUP, example="llm")]
    resource: Annotated[
        str, FieldMetadata("Name of the Azure OpenAI or Foundry resource.", pattern=RESOURCE_NAME, example="llm-eastus")
    ]
    deployment: Annotated[
        str, FieldMetadata("Name of the provisioned deployment.", pattern=MODEL_DEPLOYMENT, example="gpt-41")
    ]
    release_capacity: Annotated[
        bool,
        FieldMetadata("Allow a smaller size. Default: false, as PTUs that are given back may not be available again."),
    ] = False
    change_interval_s: Annotated[
        float,
        FieldMetadata(
            "Minimum time between two changes of the size. The default of 86400, a day, follows Azure's advice not to"
            " follow the traffic with PTUs. Seconds.",
            ge=0,
            le=2_592_000,
        ),
    ] = 86_400.0
    spillover_deployment: Annotated[
        str | None,
        FieldMetadata(
            "Name of the standard deployment that takes the requests beyond the PTUs. Information for errors, and for"
            " check --live, which compares it with Azure's spilloverDeploymentName. Default: null, not known.",
            pattern=MODEL_DEPLOYMENT,
            example=None,
        ),
    ] = None
    quantum: Annotated[
        int,
        FieldMetadata(
            "Step of the size. The default of 5 is that of global and data zone deployments of most models. PTUs.",
            ge=1,
        ),
    ] = 5
    min_replicas: Annotated[
        int,
        FieldMetadata(
            "Minimum number of PTUs. The default of 15 is the minimum of global and data zone deployments of most"
            " models. Zero means to delete the deployment, which is not done. PTUs.",
            ge=1,
        ),
    ] = 15
    gpus_per_replica: Annotated[
        int, FieldMetadata("GPUs that one PTU counts as, for GPU budgets. Default: 0, none. GPUs.", ge=0, le=1024)
    ] = 0
    lead_time_s: Annotated[
        float,
        FieldMetadata(
            "Time from the decision to serving PTUs, used until three changes have been measured. The default of 300"
            " is a guess. Seconds.",
            ge=0,
            le=7200,
        ),
    ] = 300.0
    min_billed_s: Annotated[
        float,
        FieldMetadata(
            "Time for which added PTUs stay. The default of 86400 matches change_interval_s; Azure bills by the"
            " minute. Seconds.",
            ge=0,
            le=86_400,
        ),
    ] = 86_400.0
    other_writer_yield_s: OtherWriterYield = YIELD_S

    @property
    def resource_path(self) -> str:
        """The resource's id, which Azure calls an account."""
        return path_of(self.account, self.resource_group, "Microsoft.CognitiveServices/accounts", self.resource)

    @property
    def path(self) -> str:
        """The deployment's resource id."""
        return f"{self.resource_path}/deployments/{self.deployment}"

    def keeps_replicas(self) -> bool:
        return not self.release_capacity

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("Azure OpenAI deployment", (), self.path.lower()),)  # Azure ignores case

    def locks(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("Azure OpenAI account", (), self.resource_path.lower()),)  # it runs one change at a time
