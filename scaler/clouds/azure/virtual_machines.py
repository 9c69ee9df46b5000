"""Machines of a scale set: state, zone, market, and the reason of a failed start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from policies.model import Shortfall
from scaler.clouds.azure.errors import error_of_code
from scaler.clouds.azure.session import Arm
from scaler.clouds.response_validation import one_line
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Conflict, OutOfQuota, Unavailable

READ: Final = "Microsoft.Compute/virtualMachineScaleSets/read"
READ_INSTANCES: Final = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read"
READ_MACHINES: Final = "Microsoft.Compute/virtualMachines/read"
STOPPED: Final = frozenset({"deallocated", "deallocating", "stopped", "stopping"})
"""Power states of machines that do not restart by themselves, such as a spot machine evicted by deallocation."""

State = Literal["ready", "creating", "failed", "stopped", "deleting"]


@dataclass(frozen=True, slots=True)
class Vm:
    """A machine.

    `name` is its name in scheduled events, `host` its host name, `instance` the scale set's id of it.
    """

    name: str
    host: str
    instance: str
    zone: str
    market: str
    state: State
    shortfall: Shortfall | None = None


async def machines(arm: Arm, path: str, scale_set: Mapping[str, Any], now: float) -> list[Vm]:
    """Return the machines of the scale set at `path`, in either orchestration mode.

    Raises port errors.
    """
    properties = scale_set.get("properties")
    if not isinstance(properties, Mapping):
        raise Unavailable(f"Azure {READ} of {path}: the response has no properties")
    market = str((properties.get("virtualMachineProfile") or {}).get("priority") or "Regular")
    expand = {"$expand": "instanceView"}
    if properties.get("orchestrationMode") == "Flexible":
        group = path.partition("/providers/")[0]
        query = {**expand, "$filter": f"'virtualMachineScaleSet/id' eq '{path}'"}
        bodies = await arm.list_all(READ_MACHINES, f"{group}/providers/Microsoft.Compute/virtualMachines", query)
        return [_parse_vm(str(body.get("name")), str(body.get("name")), body, market, now) for body in bodies]
    bodies = await arm.list_all(READ_INSTANCES, f"{path}/virtualMachines", expand)
    set_name = path.rpartition("/")[2]
    return [
        _parse_vm(f"{set_name}_{body.get('instanceId')}", str(body.get("instanceId")), body, market, now)
        for body in bodies
    ]


def _parse_vm(name: str, instance: str, body: Mapping[str, Any], market: str, now: float) -> Vm:
    properties = body.get("properties")
    if not isinstance(properties, Mapping):
        raise Unavailable(f"Azure: malformed response: virtual machine {name} has no properties")
    view = properties.get("instanceView") or {}
    statuses = [s for s in view.get("statuses") or () if isinstance(s, Mapping)]
    failure = _failure(statuses, now)
    return Vm(
        name=name.lower(),
        instance=instance,
        host=str((properties.get("osProfile") or {}).get("computerName") or name).lower(),
        zone=str(next(iter(body.get("zones") or ()), "")),
        market="spot" if str(properties.get("priority") or market) == "Spot" else "on_demand",
        state="failed" if failure else _state(str(properties.get("provisioningState")), statuses),
        shortfall=failure,
    )


def _state(provisioning: str, statuses: Iterable[Mapping[str, Any]]) -> State:
    codes = [str(s.get("code")) for s in statuses]
    power = next((c.partition("/")[2].lower() for c in codes if c.startswith("PowerState/")), "")
    match provisioning:
        case "Deleting":
            return "deleting"
        case "Failed" | "Canceled":
            return "failed"
    if power in STOPPED:
        return "stopped"
    return "ready" if provisioning == "Succeeded" and power == "running" else "creating"


def _failure(statuses: Iterable[Mapping[str, Any]], now: float) -> Shortfall | None:
    """Return the reason of a failed provisioning.

    Example of a status: ``ProvisioningState/failed/AllocationFailed``.
    """
    for status in statuses:
        kind, _, result_code = str(status.get("code")).partition("/")
        result, _, code = result_code.partition("/")
        if kind == "ProvisioningState" and result.lower() == "failed":
            text = f"{code or 'failed'}: {one_line(status.get('message') or status.get('displayStatus') or '')}"
            return shortfall(code, text, seconds_of(status.get("time"), now))
    return None


def shortfall(code: str, text: str, at: float) -> Shortfall | None:
    """Return a failure as a shortfall of quota or capacity.

    Returns None where a newer write replaced the failed one.
    """
    error = error_of_code(code, text)
    if isinstance(error, Conflict):
        return None
    return Shortfall(at, text, quota=isinstance(error, OutOfQuota))
