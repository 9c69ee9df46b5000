"""An EKS managed node group: sized through EKS, its nodes read from the Auto Scaling group that EKS made for it.

EKS takes one update at a time, and each for some tens of seconds. It is followed by the statuses of later turns: until
it ends, what it asks for is the size; where it fails, the group's own size is, and why stands in `short`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.aws import auto_scaling_groups, session
from scaler.clouds.aws.auto_scaling_groups import AutoScalingGroup, AutoScalingGroups
from scaler.clouds.aws.launch_failures import failure
from scaler.clouds.aws.resizer import AwsResizer
from scaler.clouds.aws.writes import require_within
from scaler.clouds.response_validation import MALFORMED, whole
from scaler.config.kinds.aws_pools import EksNodeGroup
from scaler.ports import Conflict, Context, PortError, Unavailable

MARKETS: Final[Mapping[str, str]] = {"ON_DEMAND": "on_demand", "SPOT": "spot", "CAPACITY_BLOCK": "reserved"}
LACKS: Final = frozenset(
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
"""Health issues that keep nodes from coming. The others are of nodes and settings that are there."""


@dataclass(frozen=True, slots=True)
class NodeGroupState:
    """A node group as described."""

    least: int
    most: int
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
        self._issues: tuple[tuple[tuple[str, str], ...], float] | None = None

    async def _connect(self) -> None:
        self._groups = await auto_scaling_groups.groups(self._context, self._spec.account)
        self._eks = await session.service(self._context, "eks", self._spec.account)

    async def _status(self) -> Fresh[PoolStatus]:
        asked_at = self._context.clock.now()
        nodes = await self._nodes()
        self._arn = nodes.arn
        group = await self._groups.group(nodes.group, nodes.market)
        desired = await self._wanted(nodes)
        short = self._failed
        if desired > sum(m.units for m in group.machines):
            short = await self._why(nodes, group) or short
        rival = self._rival(nodes, group)
        other = self._writes.observe(desired) or rival
        return await self._pool_status(min(asked_at, group.at), desired, group.machines, short, other_writer=other)

    async def _nodes(self, *, urgent: bool = False) -> NodeGroupState:
        answer = await self._eks.call("DescribeNodegroup", self._about, write=urgent, repeat=True, **self._name)
        try:
            return _nodes(answer["nodegroup"])
        except MALFORMED as e:
            raise Unavailable(f"AWS eks:DescribeNodegroup of {self._about}: no node group: {e!r}") from e

    async def _wanted(self, nodes: NodeGroupState) -> int:
        """The size asked for: that of our update while it is under way, else the node group's own."""
        if self._update is None:
            return nodes.desired
        update, size = self._update
        answer = await self._eks.call(
            "DescribeUpdate", self._about, name=self._spec.cluster, nodegroupName=self._spec.node_group, updateId=update
        )
        found = answer.get("update", {})
        if found.get("status") == "InProgress":
            return size
        if found.get("status") not in {"Successful", "Failed", "Cancelled"}:
            raise Unavailable(f"AWS eks:DescribeUpdate of {self._about}: an answer without a status")
        self._update = None
        if found.get("status") == "Successful":
            return size  # the node group was described before, maybe
        self._writes.expect(nodes.desired)
        if found.get("status") == "Failed":
            said = [f"{e.get('errorCode')}: {e.get('errorMessage')}" for e in found.get("errors", ())]
            why = failure("; ".join(said) or "the update failed, and EKS does not say why", market=nodes.market)
            self._failed = Shortfall(self._context.clock.now(), why.reason, why.lasting)
        return nodes.desired

    async def _why(self, nodes: NodeGroupState, group: AutoScalingGroup) -> Shortfall | None:
        """Why nodes that were asked for do not come: what the group's last launch said, else what EKS says."""
        told = await self._groups.shortfall(group.name, self._writes.raised_at, nodes.market)
        issues = tuple(issue for issue in nodes.issues if issue[0] in LACKS)
        if told is not None or not issues:
            self._issues = None
            return told
        if self._issues is None or self._issues[0] != issues:  # EKS does not say since when
            self._issues = issues, self._context.clock.now()
        code, message = issues[0]
        why = failure(message, code, market=nodes.market)
        return Shortfall(self._issues[1], why.reason, why.lasting)

    def _rival(self, nodes: NodeGroupState, group: AutoScalingGroup) -> str | None:
        """Who sizes the group behind EKS's back, if it is not what EKS asked for."""
        if self._update is not None or nodes.status != "ACTIVE" or group.desired == nodes.desired:
            return None
        return f"another writer set Auto Scaling group {group.name} to {group.desired}: a Cluster Autoscaler does that"

    async def _resize(self, replicas: int, seen: PoolStatus) -> None:
        nodes = await self._nodes(urgent=True)
        present = nodes.desired if self._update is None else self._update[1]
        self._writes.check(present, seen.desired)
        if present == replicas:
            return
        require_within(self._what, replicas, nodes.least, nodes.most, "minSize and maxSize")
        if nodes.status == "UPDATING":
            raise Conflict(f"{self._what}: an update is under way, and EKS takes one at a time")
        self._writes.request(present, [replicas])
        try:
            answer = await self._eks.call(
                "UpdateNodegroupConfig",
                self._about,
                write=True,
                scalingConfig={"desiredSize": replicas},
                clientRequestToken=self._tokens.of(present, replicas),
                **self._name,
            )
        except PortError as e:
            if not isinstance(e, Unavailable):
                self._tokens.answered(present, replicas)
            raise
        update = answer.get("update", {}).get("id")
        if not update:  # cut short: said again, it has the same token
            raise Unavailable(f"AWS eks:UpdateNodegroupConfig of {self._about}: an answer without an update")
        self._tokens.answered(present, replicas)
        self._update, self._failed = (str(update), replicas), None

    def _actions(self) -> Mapping[str, str]:
        return {
            "autoscaling:DescribeAutoScalingGroups": "*",
            "autoscaling:DescribeScalingActivities": "*",
            "eks:DescribeNodegroup": self._arn,
            "eks:DescribeUpdate": self._arn,
            "eks:UpdateNodegroupConfig": self._arn,
        }


def _nodes(found: Mapping[str, Any]) -> NodeGroupState:
    sizes = found["scalingConfig"]
    issues: Sequence[Mapping[str, Any]] = found.get("health", {}).get("issues", ())
    return NodeGroupState(
        least=whole("AWS eks: minSize", sizes["minSize"]),
        most=whole("AWS eks: maxSize", sizes["maxSize"]),
        desired=whole("AWS eks: desiredSize", sizes["desiredSize"]),
        market=MARKETS.get(str(found.get("capacityType")), "on_demand"),
        status=str(found["status"]),
        arn=str(found.get("nodegroupArn", "*")),
        group=str(found["resources"]["autoScalingGroups"][0]["name"]),
        issues=tuple((str(i.get("code")), str(i.get("message", ""))) for i in issues),
    )
