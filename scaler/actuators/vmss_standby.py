"""Azure standby pools: what a pool of this kind is told. `vmss_standby_resizer` does the work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from policies.model import PoolName, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Pool, Target
from scaler.clouds.azure.account import GROUP, NAME, AzureAccount, path_of
from scaler.ports import Context

if TYPE_CHECKING:
    from scaler.actuators.vmss_standby_resizer import StandbyResizer


@dataclass(frozen=True, kw_only=True)
class VmssStandbyPool(Pool):
    """The machines that an Azure standby pool keeps for a scale set: running, deallocated or hibernated."""

    resource_group: Annotated[str, FieldMetadata("Its resource group.", pattern=GROUP, example="llm")]
    name: Annotated[str, FieldMetadata("Name of the standby pool.", pattern=NAME, example="llama-standby")]
    account: Annotated[AzureAccount, FieldMetadata("Subscription and identity.")] = field(default_factory=AzureAccount)

    @property
    def path(self) -> str:
        """The standby pool's resource id."""
        kind = "Microsoft.StandbyPool/standbyVirtualMachinePools"
        return path_of(self.account, self.resource_group, kind, self.name)

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("standby pool", (), self.path.lower()),)  # Azure ignores case

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> StandbyResizer:
        from scaler.actuators import vmss_standby_resizer  # noqa: PLC0415 - no SDK until needed

        return await vmss_standby_resizer.opened(self, context)
