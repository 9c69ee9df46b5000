"""A managed online deployment of Azure Machine Learning: its instances.

An update of the endpoint blocks all its deployments, so their writes share a queue. The capacity is absolute, and its
PATCH has no precondition. Azure Monitor's autoscale settings may resize it too (`AzureMlDeployment.native`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from policies.model import PoolName, PoolStatus, WorkloadName
from scaler.clouds.azure import autoscale, metrics
from scaler.clouds.azure.autoscale import AutoscaleSettings, autoscale_settings, minimum_of, require_maximum
from scaler.clouds.azure.errors import validated
from scaler.clouds.azure.managed_deployments import (
    Deployment,
    DeploymentClients,
    ManagedDeployment,
    parse_deployment,
    state_of,
)
from scaler.clouds.azure.online_deployments import MAX_SAMPLE_AGE_S, METRIC, ReadyInstances
from scaler.clouds.azure.operations import ENDED
from scaler.clouds.azure.pool_context import READ_SETTINGS
from scaler.clouds.azure.session import arm
from scaler.clouds.azure.shared_reads import TICK_S, recent
from scaler.clouds.lock_queue import lock_queue
from scaler.config.kinds.azure_managed_pools import MAX_INSTANCES, AzureMlDeployment
from scaler.ports import Context, Misconfigured, Unavailable

READ: Final = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments/read"
READ_ENDPOINT: Final = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/read"
WRITE: Final = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments/write"
READ_OPERATION: Final = "Microsoft.MachineLearningServices/locations/mfeOperationsStatus/read"


async def open_azure_ml_deployment(
    spec: AzureMlDeployment, context: Context, workload: WorkloadName, pool: PoolName
) -> MlDeployment:
    """Open an online deployment without reading it. Raises `Misconfigured`."""
    resource_manager, answers = await arm(context, spec.account), await recent(context)
    key = ("azure-ml", spec.account.arm, spec.endpoint_path.lower())
    queue = await lock_queue(context, key, f"Azure ML endpoint {spec.endpoint}")
    clients = DeploymentClients(context, resource_manager, answers, queue, f"{workload}/{pool}")
    return MlDeployment(spec, clients, await autoscale_settings(context, resource_manager, answers))


class MlDeployment(ManagedDeployment):
    """The actuator's port."""

    write_action = WRITE
    operation_action = READ_OPERATION

    def __init__(self, spec: AzureMlDeployment, clients: DeploymentClients, native: AutoscaleSettings) -> None:
        super().__init__(spec, clients, f"Azure ML deployment {spec.endpoint}/{spec.deployment}")
        self._spec = spec
        self._native = native
        self._instances = ReadyInstances(clients.arm, clients.recent, self._clock, spec.path, spec.ready_states)
        self._last_ready: int | None = None
        self._floor = 0
        """The minimum of the autoscale setting, with native: floor."""

    async def _read(self, *, urgent: bool = False) -> Deployment:
        if not urgent:
            body, _ = await self._recent.get(self._path, TICK_S, lambda: self._arm.get(READ, self._path))
            return parse_deployment(self._what, body)
        body, endpoint = await asyncio.gather(
            self._arm.get(READ, self._path, urgent=True),
            self._arm.get(READ_ENDPOINT, self._spec.endpoint_path, urgent=True),
        )
        state = state_of(f"Azure ML endpoint {self._spec.endpoint}", endpoint)
        locked = "" if state in ENDED else f"its endpoint {self._spec.endpoint} is {state}"
        return parse_deployment(self._what, body, locked)

    async def _ready(self, deployment: Deployment) -> tuple[int, str]:
        """Return the ready instances, and why they are a lower bound.

        Example: after a scale-out from 2 to 5 the samples still count 2, until the new instances appear in them.
        """
        counts = await self._instances.newest()
        if counts is not None:
            self._last_ready, sampled = counts
            has_others = sampled < deployment.capacity and deployment.state != "Failed"  # a failed size was not reached
            reason = f"Azure Monitor has samples of {sampled} of {deployment.capacity} instances"
            return self._last_ready, reason if has_others else ""
        reason = f"Azure Monitor has no sample of {METRIC} in the last {MAX_SAMPLE_AGE_S:g} s"
        if self._last_ready is not None and 0 <= self._clock.now() - self._writes.raised_at < MAX_SAMPLE_AGE_S:
            return self._last_ready, f"{reason}, and instances were added since"
        raise Unavailable(f"{self._what}: the ready instances are unknown: {reason}")

    async def _require_possible(self, deployment: Deployment, replicas: int) -> None:
        self._require_size(replicas)
        scale_type = (deployment.properties.get("scaleSettings") or {}).get("scaleType")
        if scale_type not in {None, "Default"}:
            raise Misconfigured(f"{self._what} has scaleSettings of type {scale_type}; only Default has a fixed size")

    def _require_size(self, replicas: int) -> None:
        if not 1 <= replicas <= MAX_INSTANCES:
            remedy = f"set min_replicas and max_replicas within 1 and {MAX_INSTANCES}"
            raise Misconfigured(f"{self._what}: Azure does not allow {replicas} instances; {remedy}")

    async def _rival(self, *, urgent: bool = False) -> str:
        setting = await self._native.of(self._path, urgent=urgent)
        self._has_rival = setting is not None
        if self._spec.native == "floor":
            self._floor = minimum_of(require_maximum(self._what, setting, 0))
        if setting is None or self._spec.native == "floor":
            return ""
        if self._spec.native == "refuse":
            return (
                f"Azure autoscale setting {setting.get('name')} resizes it; disable it, or set native to take_over or"
                " floor"
            )
        if urgent:
            await self._native.take_over(self._path, setting)
        return ""

    def _desired(self, deployment: Deployment) -> int:
        return max(super()._desired(deployment), self._floor)

    @validated
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        if self._spec.native != "floor":
            await super().resize(replicas, observed)
            return
        self._require_size(replicas)
        setting = require_maximum(self._what, await self._native.of(self._path, urgent=True), replicas)
        if minimum_of(setting) != replicas:
            self._writes.request(observed.desired, [replicas])
            await self._native.set_minimum(self._path, setting, replicas)

    @validated
    async def scale_out_refusals(self) -> Sequence[str]:
        """Return why a scale-out would be refused, with remedies."""
        if self._spec.native == "floor":
            try:
                require_maximum(self._what, await self._native.of(self._path), self._spec.max_replicas or 0)
            except Misconfigured as e:
                return [str(e)]
            return []
        rival = await self._rival()
        return [f"{self._what}: {rival}"] if rival else []

    def _actions(self) -> Sequence[str]:
        reads = (READ, READ_ENDPOINT, READ_OPERATION, READ_SETTINGS, metrics.READ)
        writes = {"refuse": (WRITE,), "take_over": (WRITE, autoscale.WRITE), "floor": (autoscale.WRITE,)}
        return (*reads, *writes[self._spec.native])
