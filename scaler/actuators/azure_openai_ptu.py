"""The provisioned throughput units (PTUs) of an Azure OpenAI or Foundry deployment.

Azure runs one change at a time in the whole account, and may report minutes later that another one was first. Capacity
that is given back may be gone for good, so the size changes rarely, and falls only where the configuration allows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from policies.model import PoolName, WorkloadName
from scaler.clouds.azure.errors import validated
from scaler.clouds.azure.managed_deployments import (
    Deployment,
    DeploymentClients,
    ManagedDeployment,
    parse_deployment,
    state_of,
)
from scaler.clouds.azure.operations import ENDED
from scaler.clouds.azure.session import arm
from scaler.clouds.azure.shared_reads import SLOW_S, TICK_S, recent
from scaler.clouds.lock_queue import lock_queue
from scaler.clouds.response_validation import machine_count
from scaler.clouds.timestamps import seconds_of
from scaler.config.kinds.azure_managed_pools import AzureOpenAiPtu
from scaler.ports import Conflict, Context, Misconfigured, OutOfCapacity, PortError, Unavailable

READ: Final = "Microsoft.CognitiveServices/accounts/deployments/read"
READ_ACCOUNT: Final = "Microsoft.CognitiveServices/accounts/read"
READ_SKUS: Final = "Microsoft.CognitiveServices/accounts/deployments/skus/read"
READ_CAPACITIES: Final = "Microsoft.CognitiveServices/locations/modelCapacities/read"
READ_OPERATION: Final = "Microsoft.CognitiveServices/locations/operationResults/read"
WRITE: Final = "Microsoft.CognitiveServices/accounts/deployments/write"


async def open_azure_openai_ptu(
    spec: AzureOpenAiPtu, context: Context, workload: WorkloadName, pool: PoolName
) -> PtuDeployment:
    """Open a provisioned deployment without reading it. Raises `Misconfigured`."""
    key = ("azure-openai", spec.account.arm, spec.resource_path.lower())
    queue = await lock_queue(context, key, f"Azure OpenAI account {spec.resource}")
    clients = DeploymentClients(
        context, await arm(context, spec.account), await recent(context), queue, f"{workload}/{pool}"
    )
    return PtuDeployment(spec, clients)


class PtuDeployment(ManagedDeployment):
    """The actuator's port."""

    write_action = WRITE
    operation_action = READ_OPERATION
    holds_lock = True

    def __init__(self, spec: AzureOpenAiPtu, clients: DeploymentClients) -> None:
        super().__init__(spec, clients, f"Azure OpenAI deployment {spec.resource}/{spec.deployment}")
        self._spec = spec
        self._read_key = f"{spec.resource_path}/deployments"
        self._void_until = float("-inf")
        """Changes up to this time failed, so they do not count. Seconds since the Unix epoch."""

    async def _read(self, *, urgent: bool = False) -> Deployment:
        """Return the deployment from the list of the account's: the others show who holds the lock."""
        deployments, _ = await self._recent.get(
            self._read_key, 0.0 if urgent else TICK_S, lambda: self._arm.list_all(READ, self._read_key, urgent=urgent)
        )
        by_name = {str(d.get("name")).lower(): d for d in deployments}
        body = by_name.pop(self._spec.deployment.lower(), None)
        if body is None:
            names = ", ".join(sorted(by_name)) or "none"
            raise Misconfigured(f"{self._what}: the account has no such deployment; it has {names}")
        changing = [name for name, other in by_name.items() if state_of(self._what, other) not in ENDED]
        locked = f"the account is changing its deployment {changing[0]}" if changing else ""
        deployment = parse_deployment(self._what, body, locked)
        if "provisioned" not in str(deployment.sku.get("name")).lower():
            raise Misconfigured(f"{self._what} is of type {deployment.sku.get('name')}, which has no PTUs")
        return deployment

    async def _ready(self, deployment: Deployment) -> tuple[int, str]:
        """Return the PTUs that serve.

        Where Azure does not report them, a deployment that succeeded has the requested ones.
        """
        current = deployment.properties.get("currentCapacity")
        if current is None and deployment.state == "Succeeded":
            return deployment.capacity, ""
        return machine_count(f"{self._what}: currentCapacity", current), ""

    async def _require_possible(self, deployment: Deployment, replicas: int) -> None:
        if replicas < deployment.capacity and not self._spec.release_capacity:
            raise Misconfigured(
                f"{self._what}: it has {deployment.capacity} PTUs and {replicas} are requested; PTUs that are given"
                " back may not return. Set release_capacity: true to allow it, or raise min_replicas"
            )
        self._require_interval(deployment, replicas)
        await self._require_step(deployment, replicas)
        if replicas > deployment.capacity:
            await self._require_stock(deployment, replicas - deployment.capacity)

    def _require_interval(self, deployment: Deployment, replicas: int) -> None:
        """Raise where the last change, by whomever, is too recent.

        The other pools take a growth meanwhile.
        """
        changed_at = seconds_of((deployment.body.get("systemData") or {}).get("lastModifiedAt"), float("-inf"))
        interval_s, ago_s = self._spec.change_interval_s, self._clock.now() - changed_at
        if changed_at <= self._void_until or ago_s >= interval_s:
            return
        text = f"{self._what} changes at most once in {interval_s:g} s, and it changed {max(0.0, ago_s):.0f} s ago"
        if replicas < deployment.capacity:
            raise Conflict(text)
        rest = self._spec.spillover_deployment
        raise OutOfCapacity(f"{text}; {rest} takes the rest" if rest else text)

    async def _require_step(self, deployment: Deployment, replicas: int) -> None:
        """Raise `Misconfigured` for a size that the deployment's type does not have."""
        skus, _ = await self._recent.get(
            f"{self._path}/skus", SLOW_S, lambda: self._arm.list_all(READ_SKUS, f"{self._path}/skus")
        )
        name = deployment.sku.get("name")
        bounds = next((s.get("capacity") for s in skus if (s.get("sku") or {}).get("name") == name), None)
        if not isinstance(bounds, Mapping):
            return  # Azure refuses a size that the type does not have
        if text := self._off_step(bounds, replicas):
            raise Misconfigured(f"{self._what}: {replicas} PTUs are not possible for {name}: {text}")

    def _off_step(self, bounds: Mapping[str, Any], replicas: int) -> str:
        allowed = bounds.get("allowedValues")
        if isinstance(allowed, list) and allowed:
            return "" if replicas in allowed else f"the sizes are {', '.join(map(str, allowed))}"
        minimum, step = (machine_count(f"{self._what}: {k}", bounds.get(k)) for k in ("minimum", "step"))
        maximum = bounds.get("maximum")
        if isinstance(maximum, int) and replicas > maximum:
            return f"the maximum is {maximum}; set max_replicas: {maximum}"
        if replicas < minimum or (step and (replicas - minimum) % step):
            return f"they come in steps of {step} from {minimum}; set quantum: {step} and min_replicas: {minimum}"
        return ""

    async def _require_stock(self, deployment: Deployment, missing: int) -> None:
        """Raise `OutOfCapacity` where the region has fewer PTUs of the model than are missing.

        A model that Azure does not list has an unknown stock.
        """
        account, _ = await self._recent.get(
            self._spec.resource_path, SLOW_S, lambda: self._arm.get(READ_ACCOUNT, self._spec.resource_path)
        )
        location, model = str(account.get("location") or ""), deployment.properties.get("model") or {}
        if not location.isalnum():
            raise Unavailable(f"{self._what}: malformed response: its account has no location")
        path = f"/subscriptions/{self._spec.account.subscription_id}/providers/Microsoft.CognitiveServices"
        query = {f"model{k.capitalize()}": str(model.get(k) or "") for k in ("format", "name", "version")}
        stock = await self._arm.list_all(READ_CAPACITIES, f"{path}/locations/{location}/modelCapacities", query)
        for item in stock:
            properties = item.get("properties") or {}
            if properties.get("skuName") == deployment.sku.get("name"):
                available = machine_count(f"{self._what}: availableCapacity", properties.get("availableCapacity"))
                if available < missing:
                    raise OutOfCapacity(f"{self._what}: {available} of {missing} PTUs are available in {location}")

    def _end(self, error: PortError | None, text: str, *sizes: int) -> None:
        super()._end(error, text, *sizes)
        self._void_until = self._clock.now()

    @validated
    async def scale_out_refusals(self) -> Sequence[str]:
        """Return why a scale-out would be refused, with remedies."""
        deployment = await self._read()
        refusals = []
        try:
            await self._require_step(deployment, self._spec.max_replicas or deployment.capacity)
        except Misconfigured as e:
            refusals.append(str(e))
        rest, spillover = self._spec.spillover_deployment, deployment.properties.get("spilloverDeploymentName")
        if rest is not None and spillover != rest:
            present = f"it is {spillover}" if spillover else "it is not set"
            refusals.append(f"{self._what}: spilloverDeploymentName must be {rest} in Azure, and {present}")
        return refusals

    def _actions(self) -> Sequence[str]:
        return (READ, READ_ACCOUNT, READ_SKUS, READ_CAPACITIES, READ_OPERATION, WRITE)
