"""AKS agent pools.

The count is written by PUT of the whole profile. The nodes are those of the pool's scale set.

One read covers all agent pools of a cluster. A node is ready when its machine runs and its provisioning succeeded,
which ends when the node joins the cluster. AKS runs one operation at a time and grants one write a minute in the long
run.
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
from scaler.clouds.azure.shared_reads import SLOW_S, TICK_S, RecentAnswers, recent
from scaler.clouds.azure.virtual_machines import READ, READ_INSTANCES, Vm, machines
from scaler.clouds.interruptions import board
from scaler.clouds.response_validation import machine_count
from scaler.clouds.rest import Body, Rest, RestResponse
from scaler.config.kinds.azure_pools import AksAgentPool
from scaler.ports import Conflict, Context, Misconfigured, Permit, Unavailable

READ_CLUSTER: Final = "Microsoft.ContainerService/managedClusters/read"
READ_POOLS: Final = "Microsoft.ContainerService/managedClusters/agentPools/read"
WRITE: Final = "Microsoft.ContainerService/managedClusters/agentPools/write"
DELETE: Final = "Microsoft.ContainerService/managedClusters/agentPools/deleteMachines/action"
READ_OPERATION: Final = "Microsoft.ContainerService/locations/operations/read"
READ_ONLY: Final = frozenset({"currentOrchestratorVersion", "eTag", "nodeImageVersion", "provisioningState", "status"})
"""Fields of a profile that AKS reports and does not accept."""
POOL_TAG: Final = "aks-managed-poolName"
"""Tag of a scale set with the name of its agent pool."""


async def open_aks_agent_pool(
    spec: AksAgentPool, context: Context, workload: WorkloadName, pool: PoolName
) -> AksResizer:
    """Open an AKS agent pool without reading it. Raises `Misconfigured`."""
    view = PoolView(await board(context))
    events = await listener(context, spec.events_url) if spec.events_url else None
    puts = await through(context, spec.account, AKS_PUT, spec.path)
    resource_manager = await arm(context, spec.account)
    return AksResizer(spec, context, resource_manager, puts, await recent(context), view, events)


class AksResizer:
    """The actuator's port.

    It remembers the last accepted write and the nodes that served.
    """

    def __init__(  # noqa: PLR0913 - its components
        self,
        spec: AksAgentPool,
        context: Context,
        arm: Arm,
        puts: Rest,
        recent: RecentAnswers,
        view: PoolView,
        events: ScheduledEventsListener | None,
    ) -> None:
        self._spec = spec
        self._clock = context.clock
        self._arm = arm
        self._puts = puts
        self._recent = recent
        self._view = view
        self._events = events
        self._operation = Operation(arm, context.clock, READ_OPERATION)
        self._scale_set_path = ""

    @validated
    async def status(self) -> Fresh[PoolStatus]:
        (profile, at), (scale_set, path) = await asyncio.gather(self._profile(), self._scale_set())
        self._scale_set_path = path
        write_failure = await self._write_failure(profile)
        vms: list[Vm] = []
        if scale_set is not None:
            vms, vms_at = await self._recent.get(
                (path, "machines"), TICK_S, lambda: machines(self._arm, path, scale_set, self._clock.now())
            )
            at = min(at, vms_at)
        if self._events is not None:
            self._events.watch(self, [vm.host for vm in vms if vm.state == "ready"])
        zones = profile.get("availabilityZones") or ()
        group = profile.get("capacityReservationGroupID")
        self._view.kind = kind_of(profile.get("vmSize"), profile.get("scaleSetPriority") == "Spot", zones)
        capacity_reserved = await reserved(self._arm, self._recent, group, profile.get("vmSize"), zones)
        other_writer = "the AKS cluster autoscaler" if profile.get("enableAutoScaling") else None
        version = str(profile.get("eTag") or "")
        pool_status = self._view.status(
            count(profile), vms, write_failure, other_writer=other_writer, version=version, reserved=capacity_reserved
        )
        return Fresh(pool_status, at)

    @validated
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        """Read the profile and write it back whole with the new count.

        It is read first because none of its fields may be stale.
        """
        body = await self._arm.get(READ_POOLS, self._spec.path, urgent=True)
        profile = _properties(self._spec.path, body)
        if count(profile) == replicas:
            return
        if count(profile) != observed.desired:
            change = f"from {observed.desired} to {count(profile)} nodes"
            raise Conflict(f"{self._spec.agent_pool} changed {change}: another writer set it")
        state = profile.get("provisioningState")
        if state not in ENDED:
            raise Conflict(
                f"{self._spec.agent_pool}: AKS is still applying an operation ({state}); it accepts one at a time"
            )
        broken = self._view.broken[: max(0, observed.desired - replicas)]
        try:
            with self._view.name_kind_in_errors():
                response = await (self._remove(broken) if broken else self._put(profile, replicas))
        finally:
            self._recent.forget(self._spec.cluster_path)
            self._recent.forget((self._scale_set_path, "machines"))
        self._operation.follow(response)
        self._view.expect_removals(0 if broken else observed.ready - replicas)

    async def _put(self, profile: Mapping[str, Any], replicas: int) -> RestResponse:
        writable = {k: v for k, v in profile.items() if k not in READ_ONLY}
        body = {"properties": {**writable, "count": replicas}}
        version = str(profile.get("eTag") or "")
        return await self._arm.write("PUT", WRITE, self._spec.path, body, version=version, through=self._puts)

    async def _remove(self, broken: Sequence[Vm]) -> RestResponse:
        """Remove failed or evicted nodes by name; otherwise AKS might remove serving ones."""
        body = {"machineNames": [vm.host for vm in broken]}
        return await self._arm.write("POST", DELETE, f"{self._spec.path}/deleteMachines", body)

    @validated
    async def permits(self) -> Sequence[Permit]:
        node_group = await self._node_group()
        return [
            *await check_permissions(
                self._arm, self._spec.path, (READ_CLUSTER, READ_POOLS, READ_OPERATION, WRITE, DELETE)
            ),
            *await check_permissions(self._arm, node_group, (READ, READ_INSTANCES)),
        ]

    async def _profile(self) -> tuple[Body, float]:
        path = self._spec.cluster_path
        pools, at = await self._recent.get(path, TICK_S, lambda: self._arm.list_all(READ_POOLS, f"{path}/agentPools"))
        for body in pools:
            if body.get("name") == self._spec.agent_pool:
                return _properties(self._spec.path, body), at
        names = ", ".join(sorted(str(b.get("name")) for b in pools))
        raise Misconfigured(
            f"Azure: cluster {self._spec.cluster} has no agent pool {self._spec.agent_pool}; it has {names}"
        )

    async def _node_group(self) -> str:
        """Return the path of the resource group of the cluster's nodes."""
        path = self._spec.cluster_path
        body, _ = await self._recent.get((path, "self"), SLOW_S, lambda: self._arm.get(READ_CLUSTER, path))
        group = (body.get("properties") or {}).get("nodeResourceGroup")
        if not group:
            raise Unavailable(f"Azure {READ_CLUSTER} of {self._spec.cluster}: the response has no nodeResourceGroup")
        return f"{self._spec.account.group_path}/{group}"

    async def _scale_set(self) -> tuple[Body | None, str]:
        """Return the agent pool's scale set and its path; None while the pool has no machine yet."""
        list_path = f"{await self._node_group()}/providers/Microsoft.Compute/virtualMachineScaleSets"
        for max_age_s in (SLOW_S, TICK_S):
            sets, _ = await self._recent.get(list_path, max_age_s, lambda: self._arm.list_all(READ, list_path))
            for body in sets:
                if (body.get("tags") or {}).get(POOL_TAG) == self._spec.agent_pool:
                    return body, f"{list_path}/{body.get('name')}"
        return None, ""

    async def _write_failure(self, profile: Mapping[str, Any]) -> Shortfall | None:
        """Return why nodes are missing.

        It is the failure of the write, or else the one that the profile reports.
        """
        failure = await self._operation.shortfall()
        if failure is None and profile.get("provisioningState") == "Failed":
            error = (profile.get("status") or {}).get("provisioningError")
            return self._operation.report_failure(error if isinstance(error, Mapping) else {})
        return failure


def count(profile: Mapping[str, Any]) -> int:
    """Return the agent pool's last requested size. Raises `Unavailable`."""
    return machine_count("Azure agent pool", profile.get("count"))


def _properties(path: str, body: Body) -> Body:
    properties = body.get("properties")
    if not isinstance(properties, dict):
        raise Unavailable(f"Azure {READ_POOLS} of {path}: the response has no properties")
    if properties.get("type") == "VirtualMachines":
        raise Misconfigured(
            f"Azure: {path} has type VirtualMachines, which has no single size; use type VirtualMachineScaleSets"
        )
    return properties
