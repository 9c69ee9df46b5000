"""The quickstart's cloud: a queue, engines and traffic in one process, behind the daemon's own ports.

Small on purpose: requests wait in one queue, a replica works on `slots` of them at once for exponentially distributed
times, and a new replica needs a log-normally distributed time to serve. The world moves in steps of one second, so
what happens does not depend on when it is looked at: the same seed gives the same world.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import numpy as np

from policies.model import Absent, Fresh, PoolName, PoolStatus, WorkloadName
from policies.rules import Rule
from policies.spec import NAME, Pool
from scaler.ports import Clock, Context

STEP_S: Final = 1.0
DAY_S: Final = 86_400.0
BUSY_UTILIZATION: Final = 0.97
"""What a GPU reads while any request runs, however few: measured on an H100 with a batching engine."""
STREAMS: Final = 3
"""Arrivals, service, start-up: each cause has its own stream of chance."""

WorldName = Annotated[str, Rule("The embedded world; sources and pools of one name share it.", pattern=NAME)]


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How requests arrive, in requests a second, by the time since the world began."""

    shape: Annotated[
        Literal["daily", "batches"], Rule("daily: a day's wave with a flash crowd; batches: a burst, then nothing.")
    ] = "daily"
    mean_rps: Annotated[float, Rule("Mean rate of the wave, or rate within a batch. Requests a second.", ge=0)] = 4.0
    swing: Annotated[float, Rule("Share of the mean by which the day's wave swings.", ge=0, le=1)] = 0.6
    crowd_at_s: Annotated[float, Rule("When the flash crowd comes, after the world's start. Seconds.", ge=0)] = 600.0
    crowd_s: Annotated[float, Rule("How long it stays. Seconds.", ge=0)] = 600.0
    crowd_factor: Annotated[float, Rule("How many times the usual rate it brings.", ge=1)] = 3.0
    every_s: Annotated[float, Rule("From one batch to the next. Seconds.", gt=0)] = 1800.0
    batch_s: Annotated[float, Rule("How long a batch arrives. Seconds.", gt=0)] = 300.0

    def rate_rps(self, t: float) -> float:
        """The rate at `t` seconds after the start."""
        if self.shape == "batches":
            return self.mean_rps if t % self.every_s < self.batch_s else 0.0
        wave = self.mean_rps * (1 + self.swing * math.sin(2 * math.pi * t / DAY_S))
        return wave * (self.crowd_factor if 0 <= t % DAY_S - self.crowd_at_s < self.crowd_s else 1.0)


@dataclass(slots=True)
class Fleet:
    """A pool's replicas, each by the time from which it serves."""

    slots: int
    start_up_s: float
    ready_at: list[float] = field(default_factory=list)

    def ready(self, now: float) -> int:
        return sum(t <= now for t in self.ready_at)

    def resize(self, replicas: int, now: float, chance: np.random.Generator) -> None:
        """Grow by replicas that start now; shrink by those furthest from serving."""
        self.ready_at.sort()
        del self.ready_at[replicas:]
        while len(self.ready_at) < replicas:
            self.ready_at.append(now + self.start_up_s * float(chance.lognormal(0.0, 0.25)))


class World:
    """One queue and the fleets that serve it."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self.clock = clock
        self.traffic = Traffic(mean_rps=0.0)
        self.service_s = 8.0
        self.fleets: dict[PoolName, Fleet] = {}
        self._began = self._now = clock.now()
        self._waiting: deque[float] = deque()
        self._running = 0
        streams = np.random.SeedSequence(seed).spawn(STREAMS)
        self._arrivals, self._service, self.start_up = (np.random.default_rng(s) for s in streams)

    def advance(self) -> float:
        """Let the world run up to the present; gives the time it has reached."""
        until = self.clock.now()
        while self._now + STEP_S <= until:
            self._step()
        return until

    def _step(self) -> None:
        self._now += STEP_S
        done = int(self._service.binomial(self._running, -math.expm1(-STEP_S / self.service_s)))
        self._running -= done
        self.enqueue(int(self._arrivals.poisson(self.traffic.rate_rps(self._now - self._began) * STEP_S)))
        while self._waiting and self._running < self.capacity:
            self._waiting.popleft()
            self._running += 1

    def enqueue(self, requests: int) -> None:
        """Let so many requests arrive now; a negative number takes the newest away."""
        self._waiting.extend([self._now] * requests)
        for _ in range(-requests):
            self._waiting.pop()

    @property
    def capacity(self) -> int:
        """Requests that can run at once."""
        return sum(fleet.ready(self._now) * fleet.slots for fleet in self.fleets.values())

    def queue(self) -> dict[str, float]:
        oldest_s = self._now - self._waiting[0] if self._waiting else 0.0
        return {"visible": len(self._waiting), "in_flight": self._running, "delayed": 0, "oldest_age_s": oldest_s}

    def engines(self) -> dict[str, float] | None:
        """What the engines tell, or None while none is there to tell it."""
        if not self.capacity:
            return None
        busy = min(1.0, self._running / self.capacity)
        return {
            "running": self._running,
            "waiting": len(self._waiting),
            "kv_cache_usage": 0.8 * busy,
            "utilization": BUSY_UTILIZATION if self._running else 0.0,
        }


async def _world(context: Context, name: str, seed: int) -> World:
    @asynccontextmanager
    async def begin() -> AsyncIterator[World]:
        yield World(context.clock, seed)

    return await context.shared(("embedded", name), begin)


@dataclass(frozen=True, kw_only=True)
class EmbeddedSource:
    """A queue, or the engines, of an embedded world; the first one opened sets its traffic."""

    world: WorldName = "demo"
    offers: Annotated[Literal["queue", "engines"], Rule("Which side of the world is read.")] = "queue"
    seed: Annotated[int, Rule("Of all chance in the world; the same seed gives the same world.", ge=0)] = 1
    service_s: Annotated[float, Rule("Mean time a request runs. Seconds.", gt=0)] = 8.0
    traffic: Annotated[Traffic, Rule("How requests arrive.")] = field(default_factory=Traffic)
    max_age_s: Annotated[float, Rule("Older readings are stale. Seconds.", gt=0)] = 60.0

    def quantities(self) -> Mapping[str, float]:
        queue = ("visible", "in_flight", "delayed", "oldest_age_s")
        engines = ("running", "waiting", "kv_cache_usage", "utilization")
        return dict.fromkeys(queue if self.offers == "queue" else engines, self.max_age_s)

    async def open(self, context: Context) -> EmbeddedReader:
        world = await _world(context, self.world, self.seed)
        if self.offers == "queue":
            world.traffic, world.service_s = self.traffic, self.service_s
        return EmbeddedReader(self, world)


class EmbeddedReader:
    """The source's port."""

    def __init__(self, spec: EmbeddedSource, world: World) -> None:
        self.world = world
        self._spec = spec

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        now = self.world.advance()
        found = self.world.queue() if self._spec.offers == "queue" else self.world.engines()
        if found is None:
            return dict.fromkeys(self._spec.quantities(), Absent("no engine serves yet"))
        return {quantity: Fresh(float(value), now) for quantity, value in found.items()}


@dataclass(frozen=True, kw_only=True)
class EmbeddedPool(Pool):
    """Replicas in an embedded world."""

    world: WorldName = "demo"
    seed: Annotated[int, Rule("Of all chance in the world, if this pool opens it first.", ge=0)] = 1
    slots: Annotated[int, Rule("Requests a replica runs at once.", ge=1)] = 16
    start_up_s: Annotated[float, Rule("Median time from asked for to serving. Seconds.", gt=0)] = 90.0
    initial_replicas: Annotated[int, Rule("Replicas that serve from the start.", ge=0)] = 1

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> EmbeddedResizer:
        world = await _world(context, self.world, self.seed)
        fleet = world.fleets.setdefault(pool, Fleet(self.slots, self.start_up_s, [0.0] * self.initial_replicas))
        fleet.slots, fleet.start_up_s = self.slots, self.start_up_s
        return EmbeddedResizer(world, fleet)


class EmbeddedResizer:
    """The actuator's port."""

    def __init__(self, world: World, fleet: Fleet) -> None:
        self.fleet = fleet
        self._world = world

    async def status(self) -> Fresh[PoolStatus]:
        now = self._world.advance()
        return Fresh(PoolStatus(len(self.fleet.ready_at), self.fleet.ready(now)), now)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        now = self._world.advance()
        self.fleet.resize(replicas, now, self._world.start_up)
