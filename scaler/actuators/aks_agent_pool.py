"""AKS agent pools: the count written by PUT of the whole profile under its etag, nodes read from the pool's scale set.

All agent pools of a cluster are one read. A node is ready when its machine runs and its provisioning, which ends with
its joining the cluster, succeeded. AKS takes one operation at a time and grants one write a minute in the long run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.azure.errors import validated
from scaler.clouds.azure.operations import ENDED, Operation
from scaler.clouds.azure.pool_context import check_permissions, reserved
from scaler.clouds.azure.pool_status import PoolView, kind_of
from scaler.clouds.azure.scheduled_events import ScheduledEventsListener, listener
from scaler.clouds.azure.session import AKS_PUT, Arm, arm, through
from scaler.clouds.azure.shared_reads import SLOW_S, TURN_S, RecentAnswers, recent
from scaler.clouds.azure.virtual_machines import READ, READ_INSTANCES, Vm, machines
from scaler.clouds.interruptions import board
from scaler.clouds.response_validation import whole
from scaler.clouds.rest import Body, Rest, RestResponse
from scaler.config.kinds.azure_pools import AksAgentPool
from scaler.ports import Conflict, Context, Misconfigured, Permit, Unavailable

READ_CLUSTER: Final = "Microsoft.ContainerService/managedClusters/read"
READ_POOLS: Final = "Microsoft.ContainerService/managedClusters/agentPools/read"
WRITE: Final = "Microsoft.ContainerService/managedClusters/agentPools/write"
DELETE: Final = "Microsoft.ContainerService/managedClusters/agentPools/deleteMachines/action"
READ_OPERATION: Final = "Microsoft.ContainerService/locations/operations/read"
TOLD: Final = frozenset({"currentOrchestratorVersion", "eTag", "nodeImageVersion", "provisioningState", "status"})
"""Of a profile: what AKS tells and is not told."""
POOL_TAG: Final = "aks-managed-poolName"
"""By which a scale set names the agent pool that it belongs to."""


async def open_aks_agent_pool(
    spec: AksAgentPool, context: Context, workload: WorkloadName, pool: PoolName
) -> AksResizer:
    """Open an AKS agent pool. Nothing is read yet. Raises `Misconfigured`."""
    view = PoolView(await board(context))
    heard = await listener(context, spec.events_url) if spec.events_url else None
    puts = await through(context, spec.account, AKS_PUT, spec.path)
    made = await arm(context, spec.account)
    return AksResizer(spec, context, made, puts, await recent(context), view, heard)


class AksResizer:
    """The actuator's port. Remembers the last write that it had accepted, and which nodes served."""

    def __init__(  # noqa: PLR0913 - what one pool works with
        self,
        spec: AksAgentPool,
        context: Context,
        arm: Arm,
        puts: Rest,
        recent: RecentAnswers,
        view: PoolView,
        heard: ScheduledEventsListener | None,
    ) -> None:
        self._spec = spec
        self._clock = context.clock
        self._arm = arm
        self._puts = puts
        self._recent = recent
        self._view = view
        self._heard = heard
        self._operation = Operation(arm, context.clock, READ_OPERATION)
        self._nodes = ""

    @validated
    async def status(self) -> Fresh[PoolStatus]:
        (profile, at), (scale_set, path) = await asyncio.gather(self._profile(), self._scale_set())
        self._nodes = path
        late = await self._late(profile)
        vms: list[Vm] = []
        if scale_set is not None:
            vms, vms_at = await self._recent.get(
                (path, "machines"), TURN_S, lambda: machines(self._arm, path, scale_set, self._clock.now())
            )
            at = min(at, vms_at)
        if self._heard is not None:
            self._heard.watch(self, [vm.host for vm in vms if vm.state == "ready"])
        zones = profile.get("availabilityZones") or ()
        group = profile.get("capacityReservationGroupID")
        self._view.kind = kind_of(profile.get("vmSize"), profile.get("scaleSetPriority") == "Spot", zones)
        held = await reserved(self._arm, self._recent, group, profile.get("vmSize"), zones)
        other = "the AKS cluster autoscaler" if profile.get("enableAutoScaling") else None
        version = str(profile.get("eTag") or "")
        found = self._view.status(count(profile), vms, late, other_writer=other, version=version, reserved=held)
        return Fresh(found, at)

    @validated
    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        """The profile is read anew: what is written back is the whole of it, and nothing in it may be old."""
        body = await self._arm.get(READ_POOLS, self._spec.path, urgent=True)
        profile = _properties(self._spec.path, body)
        if count(profile) == replicas:
            return
        if count(profile) != seen.desired:
            text = f"{self._spec.agent_pool} was {seen.desired} nodes, and is {count(profile)} now"
            raise Conflict(text)
        state = profile.get("provisioningState")
        if state not in ENDED:
            raise Conflict(f"{self._spec.agent_pool}: AKS is at work on it ({state}), and takes one write at a time")
        broken = self._view.broken[: max(0, seen.desired - replicas)]
        try:
            with self._view.naming():
                answer = await (self._remove(broken) if broken else self._put(profile, replicas))
        finally:
            self._recent.forget(self._spec.cluster_path)
            self._recent.forget((self._nodes, "machines"))
        self._operation.accepted(answer)
        self._view.remove(0 if broken else seen.ready - replicas)

    async def _put(self, profile: Mapping[str, Any], replicas: int) -> RestResponse:
        told = {k: v for k, v in profile.items() if k not in TOLD}
        body = {"properties": {**told, "count": replicas}}
        version = str(profile.get("eTag") or "")
        return await self._arm.write("PUT", WRITE, self._spec.path, body, version=version, through=self._puts)

    async def _remove(self, broken: Sequence[Vm]) -> RestResponse:
        """Nodes that failed or were evicted go first, by name: left to AKS, it might remove those that serve."""
        asked = {"machineNames": [vm.host for vm in broken]}
        return await self._arm.write("POST", DELETE, f"{self._spec.path}/deleteMachines", asked)

    @validated
    async def permits(self) -> Sequence[Permit]:
        nodes = await self._node_group()
        return [
            *await check_permissions(
                self._arm, self._spec.path, (READ_CLUSTER, READ_POOLS, READ_OPERATION, WRITE, DELETE)
            ),
            *await check_permissions(self._arm, nodes, (READ, READ_INSTANCES)),
        ]

    async def _profile(self) -> tuple[Body, float]:
        path = self._spec.cluster_path
        pools, at = await self._recent.get(path, TURN_S, lambda: self._arm.all(READ_POOLS, f"{path}/agentPools"))
        for body in pools:
            if body.get("name") == self._spec.agent_pool:
                return _properties(self._spec.path, body), at
        names = ", ".join(sorted(str(b.get("name")) for b in pools))
        raise Misconfigured(f"Azure: cluster {self._spec.cluster} has no agent pool {self._spec.agent_pool}: {names}")

    async def _node_group(self) -> str:
        """The path of the group that the cluster's nodes are in."""
        path = self._spec.cluster_path
        body, _ = await self._recent.get((path, "self"), SLOW_S, lambda: self._arm.get(READ_CLUSTER, path))
        group = (body.get("properties") or {}).get("nodeResourceGroup")
        if not group:
            raise Unavailable(f"Azure {READ_CLUSTER} of {self._spec.cluster}: an answer without nodeResourceGroup")
        return f"{self._spec.account.group_path}/{group}"

    async def _scale_set(self) -> tuple[Body | None, str]:
        """The agent pool's scale set and its path; none where the pool has no machine yet."""
        group = await self._node_group()
        listed = f"{group}/providers/Microsoft.Compute/virtualMachineScaleSets"
        for max_age_s in (SLOW_S, TURN_S):
            sets, _ = await self._recent.get(listed, max_age_s, lambda: self._arm.all(READ, listed))
            for body in sets:
                if (body.get("tags") or {}).get(POOL_TAG) == self._spec.agent_pool:
                    return body, f"{listed}/{body.get('name')}"
        return None, ""

    async def _late(self, profile: Mapping[str, Any]) -> Shortfall | None:
        """Why nodes do not come: by the write's fate, or the profile's own word where that write is not known."""
        late = await self._operation.shortfall()
        if late is None and profile.get("provisioningState") == "Failed":
            error = (profile.get("status") or {}).get("provisioningError")
            return self._operation.failed(error if isinstance(error, Mapping) else {})
        return late


def count(profile: Mapping[str, Any]) -> int:
    """The size that the agent pool was last asked for. Raises `Unavailable`."""
    return whole("Azure agent pool", profile.get("count"))


def _properties(path: str, body: Body) -> Body:
    properties = body.get("properties")
    if not isinstance(properties, dict):
        raise Unavailable(f"Azure {READ_POOLS} of {path}: an answer without properties")
    if properties.get("type") == "VirtualMachines":
        raise Misconfigured(
            f"Azure: {path} is of type VirtualMachines, which has no one size; use VirtualMachineScaleSets"
        )
    return properties
