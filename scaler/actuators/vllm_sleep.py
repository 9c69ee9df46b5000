"""vLLM engines with sleep mode: the size is the number of awake engines.

Waking takes a second, loading a new engine over a minute. The configuration lists the engines' URLs; their own
endpoints wake them and put them to sleep. An engine with requests, or one that does not report them, is never put to
sleep: vLLM aborts running requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from yarl import URL

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from scaler.clouds.engines import load
from scaler.clouds.engines.load import Loads
from scaler.clouds.engines.sleep import SleepMode
from scaler.clouds.http_client import session
from scaler.clouds.singleflight import Singleflight
from scaler.config.kinds.engines import VllmSleep
from scaler.ports import Clock, Conflict, Context, OutOfCapacity, Permit, PortError, Unavailable

READ_SHARE: Final = 0.35
"""Share of a tick's deadline for each of an engine's two reads."""
WRITE_SHARE: Final = 0.4
"""Share of a tick's deadline to wait for waking or sleeping; the call itself continues afterwards."""


class _Flights:
    """Calls in flight, which end with the daemon."""

    def __init__(self) -> None:
        self._flights = Singleflight()

    async def __aenter__(self) -> Singleflight:
        return self._flights

    async def __aexit__(self, *_: object) -> None:
        await self._flights.aclose()


@dataclass(frozen=True, slots=True)
class EngineState:
    """State of an engine; `awake` is None where the read failed with `error`."""

    url: URL
    awake: bool | None
    ready: bool = False
    error: PortError | None = None


async def open_vllm_sleep(
    spec: VllmSleep, context: Context, workload: WorkloadName, pool: PoolName
) -> VllmSleepResizer:
    """Open the engines of one pool."""
    http = await session(context, ("vllm sleep", spec.urls), spec.access.ca_file)
    read_limit_s = READ_SHARE * context.deadline_s
    mode = SleepMode(context, http, spec.access, read_limit_s)
    loads = await load.loads(context, ("vllm sleep", spec.urls), spec.access, "vllm", read_limit_s)
    flights = await context.shared(("vllm sleep", workload, pool), _Flights)
    return VllmSleepResizer(spec, context, mode, loads, flights)


class VllmSleepResizer:
    """The actuator's port.

    It remembers each engine's last reported state for the time that the engine does not respond.
    """

    def __init__(self, spec: VllmSleep, context: Context, mode: SleepMode, loads: Loads, flights: Singleflight) -> None:
        self._urls = tuple(map(URL, spec.urls))
        self._clock: Clock = context.clock
        self._write_limit_s = WRITE_SHARE * context.deadline_s
        self._mode = mode
        self._loads = loads
        self._flights = flights
        self._last_awake: dict[URL, bool] = {}

    async def status(self) -> Fresh[PoolStatus]:
        requested_at = self._clock.now()
        engines = await self._read_engines()
        awake = sum(map(self._counts_as_awake, engines))
        silent = [engine for engine in engines if engine.awake is None and engine.url not in self._last_awake]
        missing = f"{len(silent)} of {len(engines)} engines did not respond: {silent[0].error}" if silent else ""
        return Fresh(PoolStatus(awake, sum(engine.ready for engine in engines)), requested_at, missing)

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        engines = await self._read_engines()
        awake = [engine for engine in engines if self._counts_as_awake(engine)]
        if len(awake) not in {observed.desired, replicas}:
            raise Conflict(f"awake engines changed from {observed.desired} to {len(awake)}: another writer did that")
        if replicas > len(awake):
            await self._wake(replicas - len(awake), [engine for engine in engines if engine.awake is False])
        elif replicas < len(awake):
            await self._sleep(len(awake) - replicas, [engine for engine in awake if engine.awake])

    async def permits(self) -> Sequence[Permit]:
        """Return whether the engines have these endpoints.

        A call itself would be needed to check permissions.
        """
        engines = await self._read_engines()
        return [
            Permit(f"sleep mode of {engine.url}", True if engine.awake is not None else None, str(engine.error or ""))
            for engine in engines
        ]

    # --- reads

    async def _read_engines(self) -> list[EngineState]:
        """Return all engines' states. Raises a port error where none responds."""
        engines = await asyncio.gather(*map(self._engine, self._urls))
        errors = [engine.error for engine in engines if engine.error is not None]
        if len(errors) == len(engines):
            raise next((e for e in errors if isinstance(e, Unavailable)), errors[0])
        for engine in engines:
            if engine.awake is not None:
                self._last_awake[engine.url] = engine.awake
        return engines

    async def _engine(self, url: URL) -> EngineState:
        try:
            awake = not await self._mode.is_asleep(url)
        except PortError as e:
            return EngineState(url, None, error=e)
        return EngineState(url, awake, ready=awake and await self._mode.is_healthy(url))

    def _counts_as_awake(self, engine: EngineState) -> bool:
        """Return whether the engine counts as awake.

        A call in flight decides, else the engine's present state, else its last one.
        """
        for awake in (True, False):
            if self._flights.in_flight((engine.url, awake)):
                return awake
        return engine.awake if engine.awake is not None else self._last_awake.get(engine.url, False)

    # --- writes

    async def _wake(self, count: int, asleep: list[EngineState]) -> None:
        chosen = [e for e in asleep if not self._counts_as_awake(e)][:count]
        await asyncio.gather(*(self._set_awake(engine, awake=True) for engine in chosen))
        if len(chosen) < count:
            raise OutOfCapacity(f"{count} more engines are required, but only {len(chosen)} were asleep")

    async def _sleep(self, count: int, awake: list[EngineState]) -> None:
        """Put idle engines to sleep.

        Raises `Unavailable` where fewer than `count` are idle: the next tick retries.
        """
        loads = await asyncio.gather(*(self._loads.read(engine.url / "metrics") for engine in awake))
        idle = [engine for engine, load in zip(awake, loads, strict=True) if load == 0]
        chosen = idle[::-1][:count]
        await asyncio.gather(*(self._set_awake(engine, awake=False) for engine in chosen))
        if len(chosen) < count:
            silent = sum(load is None for load in loads)
            busy = len(awake) - len(idle) - silent
            text = f"only {len(chosen)} of {count} engines can sleep: {busy} have requests, {silent} do not report"
            raise Unavailable(text)

    async def _set_awake(self, engine: EngineState, *, awake: bool) -> None:
        """Wake an engine or put it to sleep; a longer call continues, and shows in the next ticks."""
        call = self._mode.wake if awake else self._mode.sleep
        try:
            async with asyncio.timeout(self._write_limit_s):
                await self._flights.share((engine.url, awake), lambda: call(engine.url))
        except TimeoutError as e:
            if awake:
                raise Unavailable(
                    f"{engine.url}: not awake within {self._write_limit_s:g} s; the next tick checks again"
                ) from e
