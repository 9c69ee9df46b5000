"""vLLM engines that sleep: the size is how many are awake. Waking takes a second, loading anew a minute and more.

Where the engines run is given; they are woken and put to sleep through their own endpoints. One that has requests, or
does not tell whether it has, is never put to sleep: vLLM ends what is running.
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
from scaler.ports import Clock, Conflict, Context, Misconfigured, OutOfCapacity, Permit, PortError, Unavailable

LOOK_SHARE: Final = 0.35
"""The share of a turn's deadline for each of the two questions of a look."""
TELL_SHARE: Final = 0.4
"""The share that telling an engine may take before the turn goes on; the call itself goes on too."""


class _Closing:
    """Calls under way, ended with the daemon."""

    def __init__(self) -> None:
        self._flights = Singleflight()

    async def __aenter__(self) -> Singleflight:
        return self._flights

    async def __aexit__(self, *_: object) -> None:
        await self._flights.aclose()


@dataclass(frozen=True, slots=True)
class EngineState:
    """What is known of an engine: None where it does not tell. `error` is why."""

    url: URL
    awake: bool | None
    ready: bool = False
    error: PortError | None = None


async def open_vllm_sleep(
    spec: VllmSleep, context: Context, workload: WorkloadName, pool: PoolName
) -> VllmSleepResizer:
    """Open the engines of one pool. Raises `Misconfigured`."""
    if spec.tier != "serving":
        raise Misconfigured(f"{pool}: tier is {spec.tier}, but its size is how many serve: leave tier out")
    opened = await session(context, ("vllm sleep", spec.urls), spec.access.ca_file)
    look_s = LOOK_SHARE * context.deadline_s
    mode = SleepMode(context, opened, spec.access, look_s)
    loads = await load.loads(context, ("vllm sleep", spec.urls), spec.access, "vllm", look_s)
    flights = await context.shared(("vllm sleep", workload, pool), _Closing)
    return VllmSleepResizer(spec, context, mode, loads, flights)


class VllmSleepResizer:
    """The actuator's port. Remembers what each engine told last, for while it does not answer."""

    def __init__(self, spec: VllmSleep, context: Context, mode: SleepMode, loads: Loads, flights: Singleflight) -> None:
        self._urls = tuple(map(URL, spec.urls))
        self._clock: Clock = context.clock
        self._tell_s = TELL_SHARE * context.deadline_s
        self._mode = mode
        self._loads = loads
        self._flights = flights
        self._last: dict[URL, bool] = {}

    async def status(self) -> Fresh[PoolStatus]:
        at = self._clock.now()
        found = await self._look()
        wanted = sum(map(self._is_wanted, found))
        silent = [engine for engine in found if engine.awake is None and engine.url not in self._last]
        missing = f"{len(silent)} of {len(found)} engines did not answer: {silent[0].error}" if silent else ""
        return Fresh(PoolStatus(wanted, sum(engine.ready for engine in found)), at, missing)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        found = await self._look()
        wanted = [engine for engine in found if self._is_wanted(engine)]
        if len(wanted) not in {seen.desired, replicas}:
            raise Conflict(f"{seen.desired} engines were awake; another writer made it {len(wanted)}")
        if replicas > len(wanted):
            await self._wake(replicas - len(wanted), [engine for engine in found if engine.awake is False])
        elif replicas < len(wanted):
            await self._sleep(len(wanted) - replicas, [engine for engine in wanted if engine.awake])

    async def permits(self) -> Sequence[Permit]:
        """Whether the engines have these endpoints; what they let us do, they tell only when it is done."""
        found = await self._look()
        return [
            Permit(f"sleep mode of {engine.url}", True if engine.awake is not None else None, str(engine.error or ""))
            for engine in found
        ]

    # --- what they are

    async def _look(self) -> list[EngineState]:
        """All engines. Raises the port errors where none answers."""
        found = await asyncio.gather(*map(self._engine, self._urls))
        errors = [engine.error for engine in found if engine.error is not None]
        if len(errors) == len(found):
            raise next((e for e in errors if isinstance(e, Unavailable)), errors[0])
        for engine in found:
            if engine.awake is not None:
                self._last[engine.url] = engine.awake
        return found

    async def _engine(self, url: URL) -> EngineState:
        try:
            awake = not await self._mode.is_asleep(url)
        except PortError as e:
            return EngineState(url, None, error=e)
        return EngineState(url, awake, ready=awake and await self._mode.is_healthy(url))

    def _is_wanted(self, engine: EngineState) -> bool:
        """Whether it counts towards the size: as it was told last, then as it is, then as it was."""
        for awake in (True, False):
            if self._flights.under_way((engine.url, awake)):
                return awake
        return engine.awake if engine.awake is not None else self._last.get(engine.url, False)

    # --- what is done to them

    async def _wake(self, count: int, asleep: list[EngineState]) -> None:
        chosen = [e for e in asleep if not self._is_wanted(e)][:count]
        await asyncio.gather(*(self._tell(engine, awake=True) for engine in chosen))
        if len(chosen) < count:
            raise OutOfCapacity(f"{count} more engines are wanted, and {len(chosen)} were asleep")

    async def _sleep(self, count: int, awake: list[EngineState]) -> None:
        """Put the idle ones to sleep. Raises `Unavailable` where fewer are idle: the next turn looks again."""
        loads = await asyncio.gather(*(self._loads.of(engine.url / "metrics") for engine in awake))
        idle = [engine for engine, load in zip(awake, loads, strict=True) if load == 0]
        chosen = idle[::-1][:count]
        await asyncio.gather(*(self._tell(engine, awake=False) for engine in chosen))
        if len(chosen) < count:
            silent = sum(load is None for load in loads)
            busy = len(awake) - len(idle) - silent
            text = (
                f"{count} engines are to sleep and {len(chosen)} were idle; {busy} have requests, {silent} do not tell"
            )
            raise Unavailable(text)

    async def _tell(self, engine: EngineState, *, awake: bool) -> None:
        """Wake it or put it to sleep; what takes longer than the turn goes on, and shows in the next ones."""
        call = self._mode.wake if awake else self._mode.sleep
        try:
            async with asyncio.timeout(self._tell_s):
                await self._flights.share((engine.url, awake), lambda: call(engine.url))
        except TimeoutError as e:
            if awake:
                raise Unavailable(f"{engine.url}: not awake within {self._tell_s:g} s; it is looked at again") from e
