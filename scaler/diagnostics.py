"""What each source and pool of a configuration answers now, and what it may do: asked once, and nothing written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from policies.model import Absent, Fresh, PoolStatus, WorkloadName
from scaler.adapters import naming_workload, open_pool, open_source, opening_context
from scaler.clock import stopwatch_s
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
    Source,
    Throttled,
    Unavailable,
)
from scaler.registry import kind_of
from scaler.shared_resources import Resources

SECOND_LOOK_S: Final = 2.0
"""A rate needs two looks; engines answer anew by then."""
AT_ONCE: Final = 32
"""Adapters asked at once: a configuration of thousands must not storm its clouds."""
REMEDIES: Final[Mapping[type[PortError], str]] = {
    Unavailable: "passing: it is asked again every turn",
    Throttled: "passing: it is asked less often for a while",
    Conflict: "somebody else writes there: see who",
    Misconfigured: "needs you: the configuration, a permission, a name",
}


Role: TypeAlias = Literal["source", "pool"]


@dataclass(frozen=True, slots=True)
class Examined:
    """One adapter's answer. `readings` of a source, `status` of a pool; `error` where there is none, by its `remedy`.

    `at` is when it answered, `took_s` how long that took (seconds), `permits` what it may do, as far as it can tell.
    """

    workload: WorkloadName
    role: Role
    name: str
    kind: str
    at: float = 0.0
    took_s: float = 0.0
    readings: Mapping[str, Fresh[float] | Absent] = field(default_factory=dict)
    status: Fresh[PoolStatus] | None = None
    error: str = ""
    remedy: str = ""
    permits: tuple[Permit, ...] = ()
    permits_error: str = ""

    @property
    def well(self) -> bool:
        """Whether it answered, and nothing that it needs is known to be denied."""
        told = [r for r in self.readings.values() if isinstance(r, Fresh)]
        answered = not self.error and (self.role == "pool" or bool(told))
        return answered and not any(p.granted is False for p in self.permits)


async def examine(config: Config, clock: Clock) -> list[Examined]:
    """Return every adapter of every workload, in the order configured. No error of one hides another's answer.

    All are opened before any is asked, as in the daemon.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    async with Resources() as resources:
        opening = [one for w in config.workloads.values() for one in _open(w, resources, clock, gate)]
        asking = [_ask(*one, clock, gate) for one in await asyncio.gather(*opening)]
        return list(await asyncio.gather(*asking))


Opened: TypeAlias = tuple[Examined, Any, float]
"""What is to be examined, its adapter, and how long one read may take. Seconds."""


def _open(
    workload: Workload, resources: Resources, clock: Clock, gate: asyncio.Semaphore
) -> Iterator[Coroutine[Any, Any, Opened]]:
    context = opening_context(workload, resources, clock)

    async def one(role: Role, name: str, spec: object, opening: Callable[[], Awaitable[Any]]) -> Opened:
        blank = Examined(workload.name, role, name, kind_of(role, spec))
        try:
            async with gate, asyncio.timeout(context.deadline_s):
                with naming_workload(workload.name):
                    return blank, await opening(), context.deadline_s
        except (TimeoutError, PortError) as e:
            return replace(blank, **_wrong(e, context.deadline_s)), None, context.deadline_s

    for name, source in workload.spec.sources.items():
        yield one("source", name, source, partial(open_source, source, context))
    for name, pool in workload.spec.pools.items():
        yield one("pool", name, pool, partial(open_pool, pool, context, workload.name, name))


async def _ask(one: Examined, adapter: Any, limit_s: float, clock: Clock, gate: asyncio.Semaphore) -> Examined:
    if one.error:
        return one
    async with gate:
        began = stopwatch_s()
        try:
            answer = await (_sample if one.role == "source" else _status)(adapter, limit_s)
        except (TimeoutError, PortError) as e:
            answer = _wrong(e, limit_s)
        took_s = stopwatch_s() - began
        return replace(one, at=clock.now(), took_s=took_s, **answer, **await _permits(adapter, limit_s))


async def _sample(source: Source, limit_s: float) -> dict[str, Any]:
    """Return its readings; a second look where the first could not tell all, for rates need two."""
    async with asyncio.timeout(limit_s):
        first = await source.sample()
    if all(isinstance(reading, Fresh) for reading in first.values()):
        return {"readings": _masked(first)}
    await asyncio.sleep(SECOND_LOOK_S)
    async with asyncio.timeout(limit_s):
        return {"readings": _masked(await source.sample())}


async def _status(actuator: Actuator, limit_s: float) -> dict[str, Any]:
    async with asyncio.timeout(limit_s):
        return {"status": masked_status(await actuator.status())}


def _masked(sample: Mapping[str, Fresh[float] | Absent]) -> Mapping[str, Fresh[float] | Absent]:
    return {quantity: masked_reading(reading) for quantity, reading in sample.items()}


def _wrong(error: TimeoutError | PortError, limit_s: float) -> dict[str, Any]:
    if isinstance(error, PortError):
        return {"error": str(error), "remedy": REMEDIES.get(type(error), "")}
    return {"error": f"no answer within {limit_s:g} s", "remedy": REMEDIES[Unavailable]}


async def _permits(adapter: object, limit_s: float) -> dict[str, Any]:
    """Return what the adapter knows of its permissions; nothing where it has no way to ask."""
    if not isinstance(adapter, Permitted):
        return {}
    try:
        async with asyncio.timeout(limit_s):
            return {"permits": tuple(replace(p, detail=mask(p.detail)) for p in await adapter.permits())}
    except (TimeoutError, PortError) as e:
        return {"permits_error": _wrong(e, limit_s)["error"]}
