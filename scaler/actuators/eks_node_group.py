"""An EKS managed node group: what configuration says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from policies.model import PoolName, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Target
from scaler.actuators.aws_pool import AwsPool
from scaler.ports import Context

if TYPE_CHECKING:
    from scaler.actuators.eks_resizer import EksResizer


@dataclass(frozen=True, kw_only=True)
class EksNodeGroup(AwsPool):
    """The nodes of an EKS managed node group."""

    cluster: Annotated[
        str, FieldMetadata("Name of the cluster.", pattern=r"^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$", example="serving")
    ]
    node_group: Annotated[
        str, FieldMetadata("Name of the node group.", pattern=r"^[0-9A-Za-z][A-Za-z0-9_-]{0,62}$", example="h100-spot")
    ]

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("EKS node group", self.account.identity, f"{self.cluster}/{self.node_group}"),)

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> EksResizer:
        from scaler.actuators.eks_resizer import EksResizer  # noqa: PLC0415 - no SDK until needed

        resizer = EksResizer(self, context)
        await resizer.connect()
        return resizer
