"""AKS agent pools: what a pool of this kind is told. `aks_resizer` does the work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from policies.model import PoolName, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Pool, Target
from scaler.clouds.azure.account import EVENTS_DOC, EVENTS_EXAMPLE, EVENTS_URL, GROUP, NAME, AzureAccount, path_of
from scaler.ports import Context

if TYPE_CHECKING:
    from scaler.actuators.aks_resizer import AksResizer


@dataclass(frozen=True, kw_only=True)
class AksAgentPool(Pool):
    """The nodes of an AKS agent pool."""

    resource_group: Annotated[
        str, FieldMetadata("The cluster's resource group, not the one of its nodes.", pattern=GROUP, example="llm")
    ]
    cluster: Annotated[str, FieldMetadata("Name of the cluster.", pattern=NAME, example="llm")]
    agent_pool: Annotated[
        str, FieldMetadata("Name of the agent pool.", pattern=r"^[a-z][a-z0-9]{0,11}$", example="h100spot")
    ]
    account: Annotated[AzureAccount, FieldMetadata("Subscription and identity.")] = field(default_factory=AzureAccount)
    events_url: Annotated[str | None, FieldMetadata(EVENTS_DOC, pattern=EVENTS_URL, example=EVENTS_EXAMPLE)] = None

    @property
    def cluster_path(self) -> str:
        """The cluster's resource id."""
        return path_of(self.account, self.resource_group, "Microsoft.ContainerService/managedClusters", self.cluster)

    @property
    def path(self) -> str:
        """The agent pool's resource id."""
        return f"{self.cluster_path}/agentPools/{self.agent_pool}"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("AKS agent pool", (), self.path.lower()),)  # Azure ignores case

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> AksResizer:
        from scaler.actuators import aks_resizer  # noqa: PLC0415 - no SDK until needed

        return await aks_resizer.opened(self, context)
