"""Context of a pool: another autoscaler, a capacity reservation, and permissions.

The module reads the settings of the other autoscaler, and the permissions of the role.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from scaler.clouds.azure.errors import ROLE
from scaler.clouds.azure.session import Arm
from scaler.clouds.azure.shared_reads import SLOW_S, RecentAnswers
from scaler.clouds.response_validation import machine_count
from scaler.clouds.rest import Body
from scaler.ports import Permit, PortError

READ_SETTINGS: Final = "Microsoft.Insights/autoscaleSettings/read"
READ_RESERVATIONS: Final = "Microsoft.Compute/capacityReservationGroups/capacityReservations/read"
READ_PERMISSIONS: Final = "Microsoft.Authorization/permissions/read"


async def other_autoscaler(arm: Arm, recent: RecentAnswers, path: str) -> str | None:
    """Return the name of the enabled autoscale setting that sizes the scale set at `path`.

    Raises port errors.
    """
    setting = await autoscale_setting(arm, recent, path)
    return None if setting is None else f"Azure autoscale setting {setting.get('name')}"


async def autoscale_setting(arm: Arm, recent: RecentAnswers, path: str, max_age_s: float = SLOW_S) -> Body | None:
    """Return the enabled autoscale setting of the resource at `path`; None without one.

    It was read at most `max_age_s` seconds ago. Raises port errors.
    """
    list_path = settings_path(path)
    settings, _ = await recent.get(list_path, max_age_s, lambda: arm.list_all(READ_SETTINGS, list_path))
    for setting in settings:
        properties = setting.get("properties") or {}
        target = str(properties.get("targetResourceUri") or "")
        if properties.get("enabled") and target.lower() == path.lower():
            return setting
    return None


def settings_path(path: str) -> str:
    """Return the path of the autoscale settings in the resource group of the resource at `path`."""
    return f"{path.partition('/providers/')[0]}/providers/Microsoft.Insights/autoscaleSettings"


async def reserved(arm: Arm, recent: RecentAnswers, group: str | None, sku: object, zones: object) -> int | None:
    """Return the machines of this size that a reservation group holds in these zones.

    Returns None where unknown. A reservation is paid for, used or not, until it is deleted.
    """
    if not group:
        return None
    list_path = f"{group}/capacityReservations"
    try:
        reservations, _ = await recent.get(list_path, SLOW_S, lambda: arm.list_all(READ_RESERVATIONS, list_path))
    except PortError:
        return None
    try:
        (size,), pool_zones = _names([sku]), _names(zones)
        return sum(
            _capacity(r)
            for r in reservations
            if _size(r) == size.lower() and (not pool_zones or _names(r.get("zones") or ()) <= pool_zones)
        )
    except (AttributeError, LookupError, PortError, TypeError):  # malformed: missing is not zero
        return None


def _capacity(reservation: Body) -> int:
    (state,) = _names([reservation["properties"].get("provisioningState")])
    return (
        machine_count("Azure capacity reservation", reservation["sku"].get("capacity")) if state == "Succeeded" else 0
    )


def _size(reservation: Body) -> str:
    (size,) = _names([reservation["sku"].get("name")])
    return size.lower()


def _names(values: object) -> set[str]:
    """Return a list of names as a set. Raises `TypeError` for anything else."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) and value for value in values):
        raise TypeError(f"malformed response: {values!r} are not names")
    return set(values)


async def check_permissions(arm: Arm, path: str, actions: Sequence[str]) -> Sequence[Permit]:
    """Return whether the identity's roles grant each action on the resource at `path`.

    Raises port errors.
    """
    roles = await arm.list_all(READ_PERMISSIONS, f"{path}/providers/Microsoft.Authorization/permissions")
    return [
        Permit(action, granted=True)
        if any(_grants(role, action) for role in roles)
        else Permit(action, granted=False, detail=f"not granted on {path}; {ROLE}")
        for action in actions
    ]


def _grants(role: Mapping[str, Any], action: str) -> bool:
    return _matches(role.get("actions"), action) and not _matches(role.get("notActions"), action)


def _matches(patterns: object, action: str) -> bool:
    """Return whether a pattern matches the action.

    A star stands for any characters, and case does not matter. Example: `Microsoft.Compute/*/read` matches
    `Microsoft.Compute/virtualMachines/read`.
    """
    texts = patterns if isinstance(patterns, list) else []
    return any(re.fullmatch(".*".join(map(re.escape, str(p).split("*"))), action, flags=re.IGNORECASE) for p in texts)
