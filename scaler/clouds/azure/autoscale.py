"""Autoscale settings of Azure Monitor, the native autoscaler of managed deployments.

A setting is taken over by its `enabled`. It is enabled again when the daemon ends, or once no pool has used it for a
while (`take_overs.py`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from scaler.clouds.azure.pool_context import READ_SETTINGS, autoscale_setting, settings_path
from scaler.clouds.azure.session import Arm, short_name
from scaler.clouds.azure.shared_reads import SLOW_S, RecentAnswers
from scaler.clouds.response_validation import list_of, machine_count
from scaler.clouds.rest import Body
from scaler.clouds.take_overs import TakeOvers
from scaler.ports import Context, Misconfigured, Unavailable

WRITE: Final = "Microsoft.Insights/autoscaleSettings/write"
NAME: Final = re.compile(r"[^/?#\s%]{1,260}")
READ_ONLY: Final = frozenset({"etag", "id", "name", "systemData", "type"})
"""Fields of a setting that Azure reports and does not accept."""


class AutoscaleSettings:
    """The autoscale settings of one subscription, and those that this daemon took over."""

    def __init__(self, context: Context, arm: Arm, recent: RecentAnswers) -> None:
        self._arm = arm
        self._recent = recent
        remedy = "enable it with az monitor autoscale update --enabled true"
        self.taken_over: TakeOvers[str, str] = TakeOvers(context.clock, self._enable, short_name, remedy)
        """The paths of disabled settings, by the resource that they size."""

    async def of(self, path: str, *, urgent: bool = False) -> Body | None:
        """Return the enabled setting that sizes the resource at `path`; None without one.

        Raises port errors.
        """
        self.taken_over.use(path)
        return await autoscale_setting(self._arm, self._recent, path, 0.0 if urgent else SLOW_S)

    async def take_over(self, path: str, setting: Body) -> None:
        """Disable the setting of the resource at `path`. Raises port errors.

        After a lost response the next write reads the setting: it is disabled then, or disabled again.
        """
        setting_path = _path_of(path, setting)
        self.taken_over.remember(path, setting_path)
        await self._put(setting_path, setting, {"enabled": False})

    async def set_minimum(self, path: str, setting: Body, replicas: int) -> None:
        """Set the minimum of each profile of a setting. Raises port errors."""
        profiles = [_with_minimum(p, replicas) for p in _profiles(setting)]
        await self._put(_path_of(path, setting), setting, {"profiles": profiles})

    async def _enable(self, _path: str, setting_path: str) -> None:
        body = await self._arm.get(READ_SETTINGS, setting_path, urgent=True)
        await self._put(setting_path, body, {"enabled": True})

    async def _put(self, setting_path: str, setting: Body, changes: Mapping[str, Any]) -> None:
        writable = {k: v for k, v in setting.items() if k not in READ_ONLY}
        body = {**writable, "properties": {**(setting.get("properties") or {}), **changes}}
        try:
            await self._arm.write("PUT", WRITE, setting_path, body)
        finally:
            self._recent.forget(setting_path.rpartition("/")[0])


async def autoscale_settings(context: Context, arm: Arm, recent: RecentAnswers) -> AutoscaleSettings:
    """Return the subscription's autoscale settings, which all pools share."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[AutoscaleSettings]:
        settings = AutoscaleSettings(context, arm, recent)
        async with settings.taken_over.open(context.tasks):
            yield settings

    return await context.shared(("azure-autoscale", arm.account), opening)


def _path_of(path: str, setting: Body) -> str:
    name = setting.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Unavailable(f"Azure {READ_SETTINGS}: malformed response: a setting has no valid name")
    return f"{settings_path(path)}/{name}"


def minimum_of(setting: Body) -> int:
    """Return the largest minimum of a setting's profiles. Raises `Unavailable`."""
    return max(_capacity(profile, "minimum") for profile in _profiles(setting))


def require_maximum(what: str, setting: Body | None, replicas: int) -> Body:
    """Return the setting whose minimum is to be set.

    Raises `Misconfigured` where that cannot reach `replicas`.
    """
    if setting is None:
        raise Misconfigured(f"{what} has no enabled autoscale setting, which native: floor needs")
    maximum = min(_capacity(profile, "maximum") for profile in _profiles(setting))
    if replicas > maximum:
        raise Misconfigured(
            f"{what}: the maximum {maximum} of autoscale setting {setting.get('name')} does not allow {replicas}"
            " replicas; raise it, or lower the pool's max_replicas"
        )
    return setting


def _profiles(setting: Body) -> list[Body]:
    profiles = list_of(f"Azure {READ_SETTINGS}", setting.get("properties"), "profiles")
    if not profiles:
        raise Unavailable(f"Azure {READ_SETTINGS}: malformed response: a setting has no profiles")
    return profiles


def _capacity(profile: Body, bound: str) -> int:
    value = (profile.get("capacity") or {}).get(bound)
    return machine_count(f"Azure {READ_SETTINGS}: {bound}", value, digits=True)


def _with_minimum(profile: Body, replicas: int) -> Body:
    """Return a profile with a minimum; its default must not be below it."""
    default = max(_capacity(profile, "default"), replicas)
    capacity = {**profile["capacity"], "minimum": str(replicas), "default": str(default)}
    return {**profile, "capacity": capacity}
