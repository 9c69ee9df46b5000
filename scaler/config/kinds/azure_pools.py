"""Pools on Azure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.pool import Pool, Target
from scaler.clouds.azure.account import (
    EVENTS_DOC,
    EVENTS_EXAMPLE,
    EVENTS_URL,
    GROUP,
    NAME,
    AzureAccount,
    path_of,
)


@dataclass(frozen=True, kw_only=True)
class AzurePool(Pool):
    """Settings of every pool on Azure."""

    account: Annotated[
        AzureAccount, FieldMetadata("Azure subscription, identity and endpoints. subscription_id is required.")
    ] = field(default_factory=AzureAccount)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.account.subscription_id is None:
            yield "account", "requires subscription_id, the ID of the Azure subscription; az account show prints it"


@dataclass(frozen=True, kw_only=True)
class AksAgentPool(AzurePool):
    """The nodes of an AKS agent pool."""

    resource_group: Annotated[
        str,
        FieldMetadata(
            "Resource group of the AKS cluster, not the node resource group (MC_...).", pattern=GROUP, example="llm"
        ),
    ]
    cluster: Annotated[str, FieldMetadata("Name of the AKS cluster.", pattern=NAME, example="llm")]
    agent_pool: Annotated[
        str,
        FieldMetadata(
            "Name of the agent pool.",
            pattern=Pattern(r"^[a-z][a-z0-9]{0,11}$", "at most 12 lowercase letters and digits, with a letter first"),
            example="h100spot",
        ),
    ]
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

    def locks(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("AKS cluster", (), self.cluster_path.lower()),)  # it runs one operation at a time


@dataclass(frozen=True, kw_only=True)
class Vmss(AzurePool):
    """The virtual machines of an Azure scale set."""

    resource_group: Annotated[str, FieldMetadata("Resource group of the scale set.", pattern=GROUP, example="llm")]
    name: Annotated[str, FieldMetadata("Name of the scale set.", pattern=NAME, example="llama-spot")]
    events_url: Annotated[str | None, FieldMetadata(EVENTS_DOC, pattern=EVENTS_URL, example=EVENTS_EXAMPLE)] = None

    @property
    def path(self) -> str:
        """The scale set's resource id."""
        return path_of(self.account, self.resource_group, "Microsoft.Compute/virtualMachineScaleSets", self.name)

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("virtual machine scale set", (), self.path.lower()),)  # Azure ignores case


@dataclass(frozen=True, kw_only=True)
class VmssStandbyPool(AzurePool):
    """An Azure standby pool of a scale set: running, deallocated or hibernated virtual machines."""

    resource_group: Annotated[str, FieldMetadata("Resource group of the standby pool.", pattern=GROUP, example="llm")]
    name: Annotated[str, FieldMetadata("Name of the standby pool.", pattern=NAME, example="llama-standby")]

    @property
    def path(self) -> str:
        """The standby pool's resource id."""
        kind = "Microsoft.StandbyPool/standbyVirtualMachinePools"
        return path_of(self.account, self.resource_group, kind, self.name)

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("standby pool", (), self.path.lower()),)  # Azure ignores case
