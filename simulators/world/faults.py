"""Bad weather between the daemon and the world: the faults that real services have, at the same seams, by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np

from policies.model import Absent, Fresh, PoolStatus
from policies.model.field_metadata import FieldMetadata
from scaler.controller import Setup
from scaler.ports import Actuator, Clock, Misconfigured, OutOfCapacity, PortError, Source, Unavailable
from simulators.world.rng import stream

Fault = Literal["unavailable", "throttled", "hang", "garble", "zero", "misconfigured", "out_of_capacity"]
ERRORS: Final[Mapping[str, Callable[[], PortError]]] = {
    "unavailable": lambda: Unavailable("simulated: connection reset"),
    "throttled": lambda: Unavailable("simulated: too many requests", retry_after_s=5.0),
    "misconfigured": lambda: Misconfigured("simulated: not permitted"),
}


@dataclass(frozen=True, kw_only=True)
class FaultSettings:
    """One kind of trouble, in a share of the calls made while it lasts."""

    fault: Annotated[
        Fault,
        FieldMetadata(
            "unavailable, throttled, hang (no answer within the deadline), misconfigured: the call fails so. garble:"
            " what is read is no measurement. zero: what is read is 0 throughout, as throttled services tell."
            " out_of_capacity: growing is refused."
        ),
    ]
    share: Annotated[float, FieldMetadata("Share of calls that it strikes.", ge=0, le=1)] = 0.05
    where: Annotated[Literal["sources", "pools", "both"], FieldMetadata("Whose calls it strikes.")] = "both"
    since_s: Annotated[float, FieldMetadata("From when on. Seconds.", ge=0)] = 0.0
    until_s: Annotated[float | None, FieldMetadata("Until when; null: to the end. Seconds.", gt=0)] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each reason why the fault would have no effect, as (key, rule broken)."""
        if self.until_s is not None and self.until_s <= self.since_s:
            yield "until_s", f"must be above since_s, {self.since_s:g}"
        if self.fault == "out_of_capacity" and self.where == "sources":
            yield "where", "sources have no capacity to run out of: pools, or both"
        if self.fault == "zero" and self.where == "pools":
            yield "where", "pools tell their sizes truly: zero is for sources, or both"


class FaultInjector:
    """What strikes one port. Each has its own stream of chance, drawn once a call, whatever happens elsewhere."""

    def __init__(
        self, weather: Sequence[FaultSettings], clock: Clock, epoch_s: float, chance: np.random.Generator
    ) -> None:
        self._weather = weather
        self._clock = clock
        self._epoch_s = epoch_s
        self._chance = chance

    def fault(self) -> Fault | None:
        """Return the fault that strikes a call made now, if any."""
        now_s = self._clock.now() - self._epoch_s
        found: Fault | None = None
        for weather, draw in zip(self._weather, self._chance.random(len(self._weather)).tolist(), strict=True):
            lasting = weather.since_s <= now_s and (weather.until_s is None or now_s < weather.until_s)
            if lasting and draw < weather.share and found is None:
                found = weather.fault
        return found

    def strike(self, fault: Fault | None) -> None:
        """Fail as the fault wants. A call that hangs is seen when its deadline has passed."""
        if fault == "hang":
            raise TimeoutError
        if fault is not None and fault in ERRORS:
            raise ERRORS[fault]()


class FaultySource:
    """A source in some weather."""

    def __init__(self, source: Source, sky: FaultInjector) -> None:
        self._source = source
        self._sky = sky

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        fault = self._sky.fault()
        self._sky.strike(fault)
        sample = await self._source.sample()
        if fault == "garble":
            return dict.fromkeys(sample, Absent("simulated: nan is not finite"))
        if fault == "zero":
            return {q: Fresh(0.0, r.measured_at) if isinstance(r, Fresh) else r for q, r in sample.items()}
        return sample


class FaultyActuator:
    """A pool in some weather."""

    def __init__(self, actuator: Actuator, sky: FaultInjector) -> None:
        self._actuator = actuator
        self._sky = sky

    async def status(self) -> Fresh[PoolStatus]:
        self._sky.strike(self._sky.fault())
        return await self._actuator.status()

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        fault = self._sky.fault()
        self._sky.strike(fault)
        if fault == "garble":
            raise Unavailable("simulated: an answer that is cut short")
        if fault == "out_of_capacity" and replicas > seen.desired:
            raise OutOfCapacity("simulated: no capacity of this type in this zone")
        await self._actuator.resize(replicas, seen)


def struck(setup: Setup, weather: Sequence[FaultSettings], clock: Clock, epoch_s: float, seed: int) -> Setup:
    """Return a workload's adapters in some weather; the adapters themselves where it is fair."""
    sources, actuators = dict(setup.sources), dict(setup.actuators)

    def sky(on: str, name: str) -> FaultInjector:
        return FaultInjector(
            [w for w in weather if w.where in {on, "both"}], clock, epoch_s, stream(seed, f"weather {on}", name)
        )

    if any(w.where != "pools" for w in weather):
        sources = {name: FaultySource(s, sky("sources", name)) for name, s in sources.items()}
    if any(w.where != "sources" for w in weather):
        actuators = {name: FaultyActuator(a, sky("pools", name)) for name, a in actuators.items()}
    return Setup(setup.workload, sources, actuators, ports_may_wait=setup.ports_may_wait)
