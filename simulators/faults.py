"""Bad weather for simulated ports: the faults that real services have, at the same seams."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from policies.model import Absent, Fresh, PoolStatus
from scaler.ports import Actuator, Misconfigured, OutOfCapacity, PortError, Source, Unavailable

Fault = Literal["garble", "hang", "unavailable", "throttled", "misconfigured", "out_of_capacity"]
FOREVER_S: Final = 1e9
ERRORS: Final[Mapping[str, PortError]] = {
    "unavailable": Unavailable("simulated: connection reset"),
    "throttled": Unavailable("simulated: too many requests"),
    "misconfigured": Misconfigured("simulated: not permitted"),
}


@dataclass(slots=True)
class Weather:
    """The fault that a port has at present, if any."""

    fault: Fault | None = None

    async def strike(self) -> None:
        """Hang or raise as the fault wants. `garble` and `out_of_capacity` are the wrappers' own."""
        if self.fault == "hang":
            await asyncio.sleep(FOREVER_S)
        error = ERRORS.get(self.fault or "")
        if error is not None:
            raise type(error)(*error.args)


class FaultySource:
    """A source in some weather."""

    def __init__(self, source: Source, weather: Weather) -> None:
        self._source = source
        self._weather = weather

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        await self._weather.strike()
        sample = await self._source.sample()
        if self._weather.fault == "garble":
            return dict.fromkeys(sample, Absent("simulated: nan is not finite"))
        return sample


class FaultyActuator:
    """An actuator in some weather."""

    def __init__(self, actuator: Actuator, weather: Weather) -> None:
        self._actuator = actuator
        self._weather = weather

    async def status(self) -> Fresh[PoolStatus]:
        if self._weather.fault not in {"misconfigured", "out_of_capacity"}:
            await self._weather.strike()
        return await self._actuator.status()

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        await self._weather.strike()
        if self._weather.fault == "garble":
            raise Unavailable("simulated: an answer that is cut short")
        if self._weather.fault == "out_of_capacity" and replicas > seen.desired:
            raise OutOfCapacity("simulated: no capacity of this type in this zone")
        await self._actuator.resize(replicas, seen)
