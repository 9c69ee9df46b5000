"""Context of a pool: another autoscaler's settings, a capacity reservation, and our role's permissions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from scaler.clouds.azure.errors import ROLE
from scaler.clouds.azure.session import Arm
from scaler.clouds.azure.shared_reads import SLOW_S, RecentAnswers
from scaler.clouds.response_validation import whole
from scaler.clouds.rest import Body
from scaler.ports import Permit, PortError

READ_SETTINGS: Final = "Microsoft.Insights/autoscaleSettings/read"
READ_RESERVATIONS: Final = "Microsoft.Compute/capacityReservationGroups/capacityReservations/read"
READ_PERMISSIONS: Final = "Microsoft.Authorization/permissions/read"


async def other_autoscaler(arm: Arm, recent: RecentAnswers, path: str) -> str | None:
    """Return the name of the enabled autoscale setting that sizes the scale set at `path`.

    Raises port errors.
    """
    listed = f"{_group(path)}/providers/Microsoft.Insights/autoscaleSettings"
    settings, _ = await recent.get(listed, SLOW_S, lambda: arm.all(READ_SETTINGS, listed))
    for setting in settings:
        properties = setting.get("properties") or {}
        target = str(properties.get("targetResourceUri") or "")
        if properties.get("enabled") and target.lower() == path.lower():
            return f"Azure autoscale setting {setting.get('name')}"
    return None


async def reserved(arm: Arm, recent: RecentAnswers, group: str | None, sku: object, zones: object) -> int | None:
    """Return the machines of this size that a reservation group holds in these zones.

    None where unknown.

    It is paid whether used or not, until it is deleted. One that does not answer leaves the number unknown.
    """
    if not group:
        return None
    listed = f"{group}/capacityReservations"
    try:
        found, _ = await recent.get(listed, SLOW_S, lambda: arm.all(READ_RESERVATIONS, listed))
    except PortError:
        return None
    try:
        (size,), wanted = _names([sku]), _names(zones)
        return sum(_held(r) for r in found if _size(r) == size.lower() and (not wanted or _zones(r) <= wanted))
    except (AttributeError, LookupError, PortError, TypeError):  # of another shape: missing is not zero
        return None


def _held(reservation: Body) -> int:
    (state,) = _names([reservation["properties"].get("provisioningState")])
    return whole("Azure capacity reservation", reservation["sku"].get("capacity")) if state == "Succeeded" else 0


def _size(reservation: Body) -> str:
    (size,) = _names([reservation["sku"].get("name")])
    return size.lower()


def _zones(reservation: Body) -> set[str]:
    return _names(reservation.get("zones") or ())


def _names(values: object) -> set[str]:
    """Return a list of names. Raises `TypeError` where it is none."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) and value for value in values):
        raise TypeError(f"{values!r} are no names")
    return set(values)


def _group(path: str) -> str:
    return path.partition("/providers/")[0]


async def check_permissions(arm: Arm, path: str, actions: Sequence[str]) -> Sequence[Permit]:
    """Return whether our roles grant each action on the resource at `path`. Raises port errors."""
    roles = await arm.all(READ_PERMISSIONS, f"{path}/providers/Microsoft.Authorization/permissions")
    return [
        Permit(action, granted=True)
        if any(_grants(role, action) for role in roles)
        else Permit(action, granted=False, detail=f"not on {path} ({ROLE})")
        for action in actions
    ]


def _grants(role: Mapping[str, Any], action: str) -> bool:
    return _any(role.get("actions"), action) and not _any(role.get("notActions"), action)


def _any(patterns: object, action: str) -> bool:
    """Return whether a pattern grants the action.

    A star stands for any characters, case does not matter.
    """
    listed = patterns if isinstance(patterns, list) else []
    return any(re.fullmatch(".*".join(map(re.escape, str(p).split("*"))), action, flags=re.IGNORECASE) for p in listed)
