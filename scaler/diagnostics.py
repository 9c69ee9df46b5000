"""Reads every source, pool and route of a configuration once, and writes nothing.

It also checks the permissions of each adapter, and those of settings of the daemon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from policies.model import Absent, Fresh, PoolStatus, WorkloadName
from policies.model.route import RouteStatus
from scaler.adapters import adapter_context, name_in_errors, open_pool, open_route, open_source
from scaler.clock import stopwatch_s
from scaler.config.daemon import DaemonSpec
from scaler.config.load import Config, Workload
from scaler.masking import mask, masked_reading, masked_status
from scaler.ports import (
    Actuator,
    Clock,
    Conflict,
    Misconfigured,
    Permit,
    Permitted,
    PortError,
    RouteActuator,
    ScaleOutChecked,
    Source,
    Throttled,
    Unavailable,
)
from scaler.registry import import_object, kind_of
from scaler.shared_resources import AdapterContext, Resources

SECOND_SAMPLE_S: Final = 2.0
"""Delay before the second sample, which rates need: engines have updated their metrics by then. Seconds."""
MAX_CONCURRENT: Final = 32
"""Maximum number of adapters read at a time: a configuration of thousands must not flood its clouds."""
SETTING_S: Final = 10.0
"""Time limit of the calls for one setting of the daemon. Seconds."""
SETTINGS: Final[Mapping[str, str]] = {
    "kubernetes_workloads": "scaler.kubernetes_workloads:workload_permits",
    "ha": "scaler.leases.opening:lease_permits",
    "snapshots": "scaler.snapshots.opening:snapshot_permits",
}
"""Settings of the daemon that need permissions, each with the function that returns its permits."""
REMEDIES: Final[Mapping[type[PortError], str]] = {
    Unavailable: "temporary: the daemon retries at every tick",
    Throttled: "temporary: the daemon polls less often for a while",
    Conflict: "another writer changes this object: find out which one",
    Misconfigured: "needs a fix: check the name, the permission and the configuration",
}


Role: TypeAlias = Literal["source", "pool", "route"]


@dataclass(frozen=True, slots=True)
class AdapterCheck:
    """Result of reading one adapter.

    It has the `readings` of a source, the `status` of a pool, the `split` of a route, or an `error` and `remedy`.

    `at` is the time of the response (Unix time) and `took_s` its duration in seconds. `permits` are the actions that
    the adapter needs, where it can check them, and `refusals` the reasons why a pool cannot scale out.
    """

    workload: WorkloadName
    role: Role
    name: str
    kind: str
    at: float = 0.0
    took_s: float = 0.0
    readings: Mapping[str, Fresh[float] | Absent] = field(default_factory=dict)
    status: Fresh[PoolStatus] | None = None
    split: Fresh[RouteStatus] | None = None
    error: str = ""
    remedy: str = ""
    permits: tuple[Permit, ...] = ()
    permits_error: str = ""
    refusals: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the adapter responded, and nothing that it needs is known to be denied or refused."""
        is_fresh = self.role != "source" or any(isinstance(r, Fresh) for r in self.readings.values())
        return not self.error and is_fresh and not self.refusals and all(p.granted is not False for p in self.permits)


async def check_adapters(config: Config, clock: Clock) -> list[AdapterCheck]:
    """Check every adapter of every workload, in the order of the configuration.

    Errors stay with their adapter.

    All adapters are opened before any is read, as in the daemon.
    """
    semaphore = asyncio.Semaphore(MAX_CONCURRENT)
    async with Resources() as resources:
        opening = [adapter for w in config.workloads.values() for adapter in _open(w, resources, clock, semaphore)]
        checks = [_check(*opened, clock, semaphore) for opened in await asyncio.gather(*opening)]
        return list(await asyncio.gather(*checks))


OpenedAdapter: TypeAlias = tuple[AdapterCheck, Any, float]
"""The check to complete, the open adapter, and the maximum time of one read in seconds."""


def _open(
    workload: Workload, resources: Resources, clock: Clock, semaphore: asyncio.Semaphore
) -> Iterator[Coroutine[Any, Any, OpenedAdapter]]:
    context = adapter_context(workload, resources, clock)

    async def open_one(role: Role, name: str, spec: object, opening: Callable[[], Awaitable[Any]]) -> OpenedAdapter:
        check = AdapterCheck(workload.name, role, name, kind_of(role, spec))
        try:
            async with semaphore, asyncio.timeout(context.deadline_s):
                with name_in_errors(workload.name):
                    return check, await opening(), context.deadline_s
        except (TimeoutError, PortError) as e:
            return replace(check, **_error_fields(e, context.deadline_s)), None, context.deadline_s

    for name, source in workload.spec.sources.items():
        yield open_one("source", name, source, partial(open_source, source, context))
    for name, pool in workload.spec.pools.items():
        yield open_one("pool", name, pool, partial(open_pool, pool, context, workload.name, name))
    for name, route in workload.spec.routes.items():
        yield open_one("route", name, route, partial(open_route, route, context, workload.name, name))


async def _check(
    check: AdapterCheck, adapter: Any, limit_s: float, clock: Clock, semaphore: asyncio.Semaphore
) -> AdapterCheck:
    if check.error:
        return check
    async with semaphore:
        began_s = stopwatch_s()
        try:
            response = await READS[check.role](adapter, limit_s)
        except (TimeoutError, PortError) as e:
            response = _error_fields(e, limit_s)
        took_s = stopwatch_s() - began_s
        return replace(check, at=clock.now(), took_s=took_s, **response, **await _check_permits(adapter, limit_s))


async def _sample(source: Source, limit_s: float) -> dict[str, Any]:
    """Return the source's readings.

    They come from a second sample where the first is incomplete: rates need two.
    """
    async with asyncio.timeout(limit_s):
        first = await source.sample()
    if all(isinstance(reading, Fresh) for reading in first.values()):
        return {"readings": _masked(first)}
    await asyncio.sleep(SECOND_SAMPLE_S)
    async with asyncio.timeout(limit_s):
        return {"readings": _masked(await source.sample())}


async def _status(actuator: Actuator, limit_s: float) -> dict[str, Any]:
    async with asyncio.timeout(limit_s):
        status = masked_status(await actuator.status())
        refusals = await actuator.scale_out_refusals() if isinstance(actuator, ScaleOutChecked) else ()
        return {"status": status, "refusals": tuple(map(mask, refusals))}


async def _split(route: RouteActuator, limit_s: float) -> dict[str, Any]:
    async with asyncio.timeout(limit_s):
        return {"split": await route.status()}


READS: Final[Mapping[Role, Callable[[Any, float], Awaitable[dict[str, Any]]]]] = {
    "source": _sample,
    "pool": _status,
    "route": _split,
}
"""The read of each kind of adapter."""


def _masked(sample: Mapping[str, Fresh[float] | Absent]) -> Mapping[str, Fresh[float] | Absent]:
    return {quantity: masked_reading(reading) for quantity, reading in sample.items()}


def _error_fields(error: TimeoutError | PortError, limit_s: float) -> dict[str, Any]:
    if isinstance(error, PortError):
        return {"error": str(error), "remedy": REMEDIES.get(type(error), "")}
    return {"error": f"no response within {limit_s:g} s", "remedy": REMEDIES[Unavailable]}


async def _check_permits(adapter: object, limit_s: float) -> dict[str, Any]:
    """Return the adapter's permits; nothing where it cannot check them."""
    if not isinstance(adapter, Permitted):
        return {}
    try:
        async with asyncio.timeout(limit_s):
            return {"permits": tuple(replace(p, detail=mask(p.detail)) for p in await adapter.permits())}
    except (TimeoutError, PortError) as e:
        return {"permits_error": _error_fields(e, limit_s)["error"]}


@dataclass(frozen=True, slots=True)
class SettingCheck:
    """The permits of one setting of the daemon, or an `error` and `remedy`."""

    setting: str
    permits: tuple[Permit, ...] = ()
    error: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing that the setting needs is known to be denied."""
        return not self.error and all(p.granted is not False for p in self.permits)


async def check_settings(daemon: DaemonSpec, clock: Clock) -> list[SettingCheck]:
    """Check the permissions of each setting that needs some. Errors stay with their setting."""
    async with Resources() as resources:
        context = AdapterContext(resources, clock, SETTING_S)
        used = [name for name in SETTINGS if getattr(daemon, name) is not None]
        return list(await asyncio.gather(*(_check_setting(name, daemon, context) for name in used)))


async def _check_setting(name: str, daemon: DaemonSpec, context: AdapterContext) -> SettingCheck:
    try:
        with name_in_errors(f"daemon.{name}"):
            permits_of = import_object(SETTINGS[name])
        async with asyncio.timeout(SETTING_S):
            return SettingCheck(name, tuple(await permits_of(daemon, context)))
    except (TimeoutError, PortError) as e:
        return SettingCheck(name, **_error_fields(e, SETTING_S))
