"""Fault injection between the daemon and the world.

It injects random faults of real services at the ports.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np

from policies.model import Absent, Fresh, PoolStatus
from policies.model.field_metadata import FieldMetadata
from scaler.ports import Actuator, Clock, Misconfigured, OutOfCapacity, PortError, Source, Unavailable
from scaler.setup import Setup
from simulators.world.fault_period import FaultPeriod
from simulators.world.rng import stream

RNG_STREAM: Final = "weather"
"""Prefix of the names of the random streams. Another prefix would draw other faults for the same seed."""
Fault = Literal["unavailable", "throttled", "hang", "garble", "zero", "misconfigured", "out_of_capacity"]
ERRORS: Final[Mapping[str, Callable[[], PortError]]] = {
    "unavailable": lambda: Unavailable("simulated: connection reset"),
    "throttled": lambda: Unavailable("simulated: too many requests", retry_after_s=5.0),
    "misconfigured": lambda: Misconfigured("simulated: not permitted"),
}


@dataclass(frozen=True, kw_only=True)
class FaultSettings(FaultPeriod):
    """One kind of fault, in a share of the calls between two times."""

    fault: Annotated[
        Fault,
        FieldMetadata(
            "Kind of fault. unavailable, throttled and misconfigured fail the call; hang exceeds its deadline. garble"
            " returns invalid data, zero returns 0 for all quantities, and out_of_capacity rejects scale-out."
        ),
    ]
    share: Annotated[float, FieldMetadata("Share of calls with this fault. Share.", ge=0, le=1)] = 0.05
    where: Annotated[Literal["sources", "pools", "both"], FieldMetadata("Calls with this fault.")] = "both"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.fault == "out_of_capacity" and self.where == "sources":
            yield "where", "must be pools or both: sources have no capacity"
        if self.fault == "zero" and self.where == "pools":
            yield "where", "must be sources or both: pools never report false zeros"


class FaultInjector:
    """Faults of one port.

    Each port has its own random stream and draws once per call, independent of other ports.
    """

    def __init__(
        self, settings: Sequence[FaultSettings], clock: Clock, epoch_s: float, rng: np.random.Generator
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._epoch_s = epoch_s
        self._rng = rng

    def fault(self) -> Fault | None:
        """Return the fault of a call made now, or None. The first of several in the settings wins."""
        now_s = self._clock.now() - self._epoch_s
        fault: Fault | None = None
        for setting, draw in zip(self._settings, self._rng.random(len(self._settings)).tolist(), strict=True):
            active = setting.since_s <= now_s and (setting.until_s is None or now_s < setting.until_s)
            if active and draw < setting.share and fault is None:
                fault = setting.fault
        return fault

    def raise_error(self, fault: Fault | None) -> None:
        """Raise the error of the fault, if it has one. A hang is a deadline that has passed."""
        if fault == "hang":
            raise TimeoutError
        if fault is not None and fault in ERRORS:
            raise ERRORS[fault]()


class FaultySource:
    """A source with injected faults."""

    def __init__(self, source: Source, injector: FaultInjector) -> None:
        self._source = source
        self._injector = injector

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        fault = self._injector.fault()
        self._injector.raise_error(fault)
        sample = await self._source.sample()
        if fault == "garble":
            return dict.fromkeys(sample, Absent("simulated: nan is not finite"))
        if fault == "zero":
            return {q: Fresh(0.0, r.measured_at) if isinstance(r, Fresh) else r for q, r in sample.items()}
        return sample


class FaultyActuator:
    """A pool with injected faults."""

    def __init__(self, actuator: Actuator, injector: FaultInjector) -> None:
        self._actuator = actuator
        self._injector = injector

    async def status(self) -> Fresh[PoolStatus]:
        self._injector.raise_error(self._injector.fault())
        return await self._actuator.status()

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        fault = self._injector.fault()
        self._injector.raise_error(fault)
        if fault == "garble":
            raise Unavailable("simulated: truncated response")
        if fault == "out_of_capacity" and replicas > observed.desired:
            raise OutOfCapacity("simulated: no capacity of this type in this zone")
        await self._actuator.resize(replicas, observed)


def with_faults(setup: Setup, settings: Sequence[FaultSettings], clock: Clock, epoch_s: float, seed: int) -> Setup:
    """Return a workload's adapters with faults injected into those that the settings name."""
    sources, actuators = dict(setup.sources), dict(setup.actuators)

    def injector(where: str, name: str) -> FaultInjector:
        own = [s for s in settings if s.where in {where, "both"}]
        return FaultInjector(own, clock, epoch_s, stream(seed, f"{RNG_STREAM} {where}", name))

    if any(s.where != "pools" for s in settings):
        sources = {name: FaultySource(s, injector("sources", name)) for name, s in sources.items()}
    if any(s.where != "sources" for s in settings):
        actuators = {name: FaultyActuator(a, injector("pools", name)) for name, a in actuators.items()}
    return dataclasses.replace(setup, sources=sources, actuators=actuators)
