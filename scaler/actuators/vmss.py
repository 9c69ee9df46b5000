"""Azure virtual machine scale sets: what a pool of this kind is told. `vmss_resizer` does the work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from policies.model import PoolName, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Pool, Target
from scaler.clouds.azure.account import EVENTS_DOC, EVENTS_EXAMPLE, EVENTS_URL, GROUP, NAME, AzureAccount, path_of
from scaler.ports import Context

if TYPE_CHECKING:
    from scaler.actuators.vmss_resizer import VmssResizer


@dataclass(frozen=True, kw_only=True)
class Vmss(Pool):
    """The machines of an Azure virtual machine scale set."""

    resource_group: Annotated[str, FieldMetadata("Its resource group.", pattern=GROUP, example="llm")]
    name: Annotated[str, FieldMetadata("Name of the scale set.", pattern=NAME, example="llama-spot")]
    account: Annotated[AzureAccount, FieldMetadata("Subscription and identity.")] = field(default_factory=AzureAccount)
    events_url: Annotated[str | None, FieldMetadata(EVENTS_DOC, pattern=EVENTS_URL, example=EVENTS_EXAMPLE)] = None

    @property
    def path(self) -> str:
        """The scale set's resource id."""
        return path_of(self.account, self.resource_group, "Microsoft.Compute/virtualMachineScaleSets", self.name)

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("virtual machine scale set", (), self.path.lower()),)  # Azure ignores case

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> VmssResizer:
        from scaler.actuators import vmss_resizer  # noqa: PLC0415 - no SDK until needed

        return await vmss_resizer.opened(self, context)
