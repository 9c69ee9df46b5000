"""An EKS managed node group: sized through EKS, its nodes read from its Auto Scaling group.

EKS runs one update at a time, for some tens of seconds. Later ticks follow it: until it ends, its size is the desired
size; if it fails, the group's own size is, and the shortfall has the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.aws import auto_scaling_groups, session
from scaler.clouds.aws.auto_scaling_groups import AutoScalingGroup, AutoScalingGroups
from scaler.clouds.aws.launch_failures import launch_failure
from scaler.clouds.aws.resizer import AwsResizer
from scaler.clouds.aws.writes import require_within
from scaler.clouds.response_validation import MALFORMED, machine_count
from scaler.config.kinds.aws_pools import EksNodeGroup
from scaler.ports import Conflict, Context, PortError, Unavailable

MARKETS: Final[Mapping[str, str]] = {"ON_DEMAND": "on_demand", "SPOT": "spot", "CAPACITY_BLOCK": "reserved"}
SCALING_ISSUES: Final = frozenset(
    {
        "AsgInstanceLaunchFailures",
        "AutoScalingGroupRateLimitExceeded",
        "Ec2InstanceTypeDoesNotExist",
        "InstanceLimitExceeded",
        "InsufficientFreeAddresses",
        "LimitExceeded",
        "NodeCreationFailure",
    }
)
"""Health issues that prevent new nodes. The others concern existing nodes and settings."""


@dataclass(frozen=True, slots=True)
class NodeGroupState:
    """A node group as described."""

    min_size: int
    max_size: int
    desired: int
    market: str
    status: str
    arn: str
    group: str
    issues: tuple[tuple[str, str], ...]


async def open_eks_node_group(
    spec: EksNodeGroup, context: Context, workload: WorkloadName, pool: PoolName
) -> EksResizer:
    """Open an EKS managed node group. Raises `Misconfigured`."""
    return await EksResizer(spec, context).connect()


class EksResizer(AwsResizer):
    """The actuator's port."""

    _groups: AutoScalingGroups
    _eks: session.AwsService

    def __init__(self, spec: EksNodeGroup, context: Context) -> None:
        super().__init__(spec, context, f"EKS node group {spec.cluster}/{spec.node_group}")
        self._spec = spec
        self._name: dict[str, Any] = {"clusterName": spec.cluster, "nodegroupName": spec.node_group}
        self._about = f"{spec.cluster}/{spec.node_group}"
        self._arn = "*"
        self._update: tuple[str, int] | None = None
        self._failed: Shortfall | None = None
        self._dated_issues: tuple[tuple[tuple[str, str], ...], float] | None = None

    async def _connect(self) -> None:
        self._groups = await auto_scaling_groups.groups(self._context, self._spec.account)
        self._eks = await session.service(self._context, "eks", self._spec.account)

    async def _status(self) -> Fresh[PoolStatus]:
        requested_at = self._context.clock.now()
        nodes = await self._describe()
        self._arn = nodes.arn
        group = await self._groups.group(nodes.group, nodes.market)
        desired = await self._requested_size(nodes)
        shortfall = self._failed
        if desired > sum(m.units for m in group.machines):
            shortfall = await self._shortfall(nodes, group) or shortfall
        group_writer = self._group_writer(nodes, group)
        other_writer = self._writes.observe(desired) or group_writer
        return await self._pool_status(
            min(requested_at, group.at), desired, group.machines, shortfall, other_writer=other_writer
        )

    async def _describe(self, *, urgent: bool = False) -> NodeGroupState:
        response = await self._eks.call("DescribeNodegroup", self._about, write=urgent, repeat=True, **self._name)
        try:
            return _parse_node_group(response["nodegroup"])
        except MALFORMED as e:
            raise Unavailable(f"AWS eks:DescribeNodegroup of {self._about}: malformed node group: {e!r}") from e

    async def _requested_size(self, nodes: NodeGroupState) -> int:
        """Return the size of this process's update while it is in progress.

        Otherwise return the node group's own size.
        """
        if self._update is None:
            return nodes.desired
        update, size = self._update
        response = await self._eks.call(
            "DescribeUpdate", self._about, name=self._spec.cluster, nodegroupName=self._spec.node_group, updateId=update
        )
        details = response.get("update", {})
        if details.get("status") == "InProgress":
            return size
        if details.get("status") not in {"Successful", "Failed", "Cancelled"}:
            raise Unavailable(f"AWS eks:DescribeUpdate of {self._about}: the response has no status")
        self._update = None
        if details.get("status") == "Successful":
            return size  # the node group may have been described before the update ended
        self._writes.expect(nodes.desired)
        if details.get("status") == "Failed":
            errors = [f"{e.get('errorCode')}: {e.get('errorMessage')}" for e in details.get("errors", ())]
            cause = launch_failure(
                "; ".join(errors) or "the update failed, and EKS reports no reason", market=nodes.market
            )
            self._failed = Shortfall(self._context.clock.now(), cause.reason, cause.lasting)
        return nodes.desired

    async def _shortfall(self, nodes: NodeGroupState, group: AutoScalingGroup) -> Shortfall | None:
        """Return why requested nodes are missing.

        It is the failure of the group's last launch, or else EKS's health issue.
        """
        launch_shortfall = await self._groups.shortfall(group.name, self._writes.raised_at, nodes.market)
        issues = tuple(issue for issue in nodes.issues if issue[0] in SCALING_ISSUES)
        if launch_shortfall is not None or not issues:
            self._dated_issues = None
            return launch_shortfall
        if self._dated_issues is None or self._dated_issues[0] != issues:  # EKS reports no time
            self._dated_issues = issues, self._context.clock.now()
        code, message = issues[0]
        cause = launch_failure(message, code, market=nodes.market)
        return Shortfall(self._dated_issues[1], cause.reason, cause.lasting)

    def _group_writer(self, nodes: NodeGroupState, group: AutoScalingGroup) -> str | None:
        """Return the other writer of the Auto Scaling group, if there is one.

        It has set a size that differs from the one that EKS requested.
        """
        if self._update is not None or nodes.status != "ACTIVE" or group.desired == nodes.desired:
            return None
        return f"another writer, probably a Cluster Autoscaler, set Auto Scaling group {group.name} to {group.desired}"

    async def _resize(self, replicas: int, observed: PoolStatus) -> None:
        nodes = await self._describe(urgent=True)
        present = nodes.desired if self._update is None else self._update[1]
        self._writes.check(present, observed.desired)
        if present == replicas:
            return
        require_within(self._what, replicas, nodes.min_size, nodes.max_size, "minSize and maxSize")
        if nodes.status == "UPDATING":
            raise Conflict(
                f"{self._what}: an update is in progress, and EKS accepts one at a time; the next tick retries"
            )
        self._writes.request(present, [replicas])
        try:
            response = await self._eks.call(
                "UpdateNodegroupConfig",
                self._about,
                write=True,
                scalingConfig={"desiredSize": replicas},
                clientRequestToken=self._tokens.token_for(present, replicas),
                **self._name,
            )
        except PortError as e:
            if not isinstance(e, Unavailable):
                self._tokens.discard(present, replicas)
            raise
        update = response.get("update", {}).get("id")
        if not update:  # truncated: the repeated call has the same token
            raise Unavailable(f"AWS eks:UpdateNodegroupConfig of {self._about}: the response has no update")
        self._tokens.discard(present, replicas)
        self._update, self._failed = (str(update), replicas), None

    def _actions(self) -> Mapping[str, str]:
        return {
            "autoscaling:DescribeAutoScalingGroups": "*",
            "autoscaling:DescribeScalingActivities": "*",
            "eks:DescribeNodegroup": self._arn,
            "eks:DescribeUpdate": self._arn,
            "eks:UpdateNodegroupConfig": self._arn,
        }


def _parse_node_group(description: Mapping[str, Any]) -> NodeGroupState:
    sizes = description["scalingConfig"]
    issues: Sequence[Mapping[str, Any]] = description.get("health", {}).get("issues", ())
    return NodeGroupState(
        min_size=machine_count("AWS eks: minSize", sizes["minSize"]),
        max_size=machine_count("AWS eks: maxSize", sizes["maxSize"]),
        desired=machine_count("AWS eks: desiredSize", sizes["desiredSize"]),
        market=MARKETS.get(str(description.get("capacityType")), "on_demand"),
        status=str(description["status"]),
        arn=str(description.get("nodegroupArn", "*")),
        group=str(description["resources"]["autoScalingGroups"][0]["name"]),
        issues=tuple((str(i.get("code")), str(i.get("message", ""))) for i in issues),
    )
