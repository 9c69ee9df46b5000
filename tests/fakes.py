"""Fakes of the ports' own shape, for tests of what stands before them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from policies.model import Absent, Fresh, PoolStatus
from policies.model.names import BackendName
from policies.model.route import BackendTraffic, RouteDecision, RouteStatus
from scaler.clock import SystemClock
from scaler.ports import PortError
from tests.factories import NOW


class ManualClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self, now: float = NOW) -> None:
        self._now = now
        self._stepped_s = 0.0
        self.jump_s = 0.0
        """By how much the wall clock has jumped, and nobody noticed yet."""

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds

    async def sleep_until(self, t: float) -> None:
        self._now = max(self._now, t)
        await asyncio.sleep(0)

    def step_s(self) -> float:
        step, self.jump_s = self.jump_s, 0.0
        self._now += step
        self._stepped_s += step
        return self._stepped_s


class HeldClock(SystemClock):
    """A clock whose sleeps end when the test releases them."""

    def __init__(self) -> None:
        super().__init__()
        self.due = asyncio.Event()

    async def sleep_until(self, t: float) -> None:
        self.due.clear()
        await self.due.wait()


@dataclass
class FakeSource:
    """Gives `values` as measured now, or raises `error`; `before` runs first, and may hang."""

    clock: ManualClock
    values: dict[str, float | Absent] = field(default_factory=dict)
    error: PortError | None = None
    age_s: float = 0.0
    hang: bool = False
    calls: int = 0

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        self.calls += 1
        if self.hang:
            await asyncio.sleep(3600)
        if self.error is not None:
            raise self.error
        at = self.clock.now() - self.age_s
        return {q: v if isinstance(v, Absent) else Fresh(v, at) for q, v in self.values.items()}


@dataclass
class FakeActuator:
    """A pool that takes every size at once, or raises."""

    clock: ManualClock
    desired: int = 1
    ready: int | None = None
    foreign: str | None = None
    status_error: PortError | None = None
    resize_error: PortError | None = None
    hang: bool = False
    looks: int = 0
    writes: list[int] = field(default_factory=list)
    on_resize: Callable[[int], None] = field(default=lambda _: None)

    async def status(self) -> Fresh[PoolStatus]:
        self.looks += 1
        if self.status_error is not None:
            raise self.status_error
        ready = self.desired if self.ready is None else self.ready
        return Fresh(PoolStatus(self.desired, ready, self.foreign), self.clock.now())

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        if self.hang:
            await asyncio.sleep(3600)
        if self.resize_error is not None:
            raise self.resize_error
        assert observed.desired == self.desired
        self.desired = replicas
        self.writes.append(replicas)
        self.on_resize(replicas)


@dataclass
class FakeRoute:
    """A gateway that applies every split at once. Its requests since the last tick are `traffic` within 15 s."""

    clock: ManualClock
    weights: Mapping[BackendName, int] = field(default_factory=dict)
    traffic: Mapping[BackendName, BackendTraffic] = field(default_factory=dict)
    apply_error: PortError | None = None
    writes: list[Mapping[BackendName, int]] = field(default_factory=list)

    async def status(self) -> Fresh[RouteStatus]:
        return Fresh(RouteStatus(self.weights, self.traffic, 15.0), self.clock.now())

    async def apply(self, split: RouteDecision, observed: RouteStatus) -> None:
        if self.apply_error is not None:
            raise self.apply_error
        self.weights = split.weights
        self.writes.append(split.weights)
