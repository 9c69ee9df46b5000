"""An endless simulated world on the daemon's clock. Every read advances it to the present.

Time is divided into *eras* of a week. An era starts with the ready replicas and open requests of the previous one, and
with the start of the traffic. So memory stays bounded, and 63 bits of picoseconds suffice. Results do not depend on the
times of reads: the same seed and the same resizes at the same times give the same world.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from policies.model import PoolName
from scaler.ports import Clock, Misconfigured
from scaler.telemetry.log import log
from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.kernel.jit import CACHE
from simulators.engine.models import catalogue
from simulators.engine.models.service import PS_PER_S
from simulators.engine.tables import RequestEnd
from simulators.quickstart.kinds import EmbeddedSource, Traffic
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.queue import SimulatedQueue
from simulators.world.rng import streams, within
from simulators.world.telemetry import Telemetry
from simulators.world.traffic.generate import CHUNK_S, Generator, Mix
from simulators.world.traffic.lengths import Lengths
from simulators.world.traffic.shapes import Daily, FlashCrowd, OnOff
from simulators.world.traffic.trace import RequestTrace
from simulators.world.world import World

ERA_S: Final = 7 * 86_400.0
"""Length of an era: whole days, so that the daily wave is continuous. A terminated replica keeps about 4 kB until its
era ends: a few megabytes for the quickstart."""
BUFFER_S: Final = 1800.0
"""Capacity of the world, as time at the peak rate: the current chunk, the next one, and ten minutes of backlog. A
request takes 72 bytes: 19 MB for the quickstart's chat."""
MIN_SLOTS: Final = 4096
"""Minimum capacity in requests, for those that are added by hand."""
SLICE_S: Final = 15.0
SLICE_REQUESTS: Final = 3000
"""Maximum simulated time and requests between two iterations of the asyncio loop: 1 ms of work, at most 10 ms."""
CROWD_SHARE: Final = 0.1
"""Share of the normal traffic from the clients of the flash crowd."""


def generator(traffic: Traffic) -> Generator:
    """Return the traffic's generator."""
    prompt = Lengths(mean_tokens=traffic.prompt_tokens, cv=1.0, max_tokens=65_536)
    output = Lengths(mean_tokens=traffic.output_tokens, cv=1.0, max_tokens=8192)
    if traffic.shape == "batches":
        off_s = traffic.every_s - traffic.batch_s
        return OnOff(on_rps=traffic.mean_rps, on_s=traffic.batch_s, off_s=off_s, prompt=prompt, output=output)
    crowd_rps = CROWD_SHARE * traffic.mean_rps
    wave = Daily(
        mean_rps=traffic.mean_rps - crowd_rps,
        swing=traffic.swing,
        peak_hour=6.0,  # the world starts at the mean rate, rising
        weekend_share=1.0,
        prompt=prompt,
        output=output,
    )
    crowd = FlashCrowd(
        base_rps=crowd_rps,
        factor=1 + (traffic.crowd_factor - 1) / CROWD_SHARE,
        at_s=traffic.crowd_at_s,
        hold_s=traffic.crowd_s,
        prompt=prompt,
        output=output,
    )
    return Mix(clients={"wave": wave, "crowd": crowd})


def peak_rps(traffic: Traffic) -> float:
    """Return the maximum expected rate without noise. Requests per second.

    By default, it is 10 * (0.6 + 3) = 36.
    """
    if traffic.shape == "batches":
        return traffic.mean_rps
    return traffic.mean_rps * (traffic.swing + traffic.crowd_factor)


def warm_up() -> None:
    """Compile the kernel, or load it from the cache, by serving one request."""
    if CACHE is None or not any(CACHE.rglob("*.nbi")):
        log.info("embedded", doing="compiling the simulator: about 10 s, only at the first start")
    kernel = Kernel([catalogue.load(catalogue.names()[0])], Router(), 0, 1)
    kernel.start(kernel.add(0, 0))
    single = np.ones(1, dtype=np.int32)
    kernel.offer(np.zeros(1, dtype=np.int64), single, single)
    kernel.advance(PS_PER_S)
    kernel.read()


class LiveWorld:
    """An endless world with a name.

    It starts at its first read, with the sources and pools opened until then.

    `full` is the reason why requests are rejected now, or empty.
    """

    def __init__(self, name: str, clock: Clock, seed: int, era_s: float = ERA_S) -> None:
        self.name = name
        self.full = ""
        self._clock = clock
        self._era_s = era_s
        self._advance_lock = asyncio.Lock()
        self._rng_for = streams(seed)
        self._pools: dict[PoolName, tuple[PoolOffer, int]] = {}
        self._queued = False
        self._traffic: Traffic | None = None
        self._world: World | None = None
        self._epoch_s = 0.0
        self._era = 0
        self._generated_s = 0.0
        self._next_chunk: RequestTrace | None = None

    # --- opening

    def read(self, *, queued: bool, traffic: Traffic | None) -> None:
        """Register a reader of the world, or of its queue if `queued`.

        `traffic` is the initial traffic, if given.

        Raises `Misconfigured` if the world has started without a queue.
        """
        if queued and not self._queued and self._world is not None:
            raise Misconfigured(f"embedded world {self.name} started without a queue: restart the daemon")
        self._queued = self._queued or queued
        if self._world is None:
            self.follow(traffic)

    def follow(self, traffic: Traffic | None) -> None:
        """Change the traffic from the next chunk on. None: no change."""
        self._traffic = traffic or self._traffic

    def add(self, pool: PoolName, offer: PoolOffer, replicas: int) -> None:
        """Add a pool with initial `replicas`.

        Raises `Misconfigured` if the world started with another one.
        """
        existing = self._pools.get(pool)
        if existing is not None and existing != (offer, replicas):
            raise Misconfigured(
                f"pool {pool} of embedded world {self.name} started with other settings: restart the daemon"
            )
        if existing is None and self._world is not None:
            raise Misconfigured(f"embedded world {self.name} started without pool {pool}: restart the daemon")
        self._pools[pool] = offer, replicas

    # --- time

    async def present(self) -> World:
        """Return the world, advanced to the present in slices between which other tasks run.

        Raises `Misconfigured` if there is no pool.
        """
        until = self._clock.now()
        async with self._advance_lock:
            world = self._started(until)
            while (remaining_ps := round((until - world.epoch_s) * PS_PER_S) - world.now_ps) > 0:
                await self._feed(world)
                world = self._run_slice(world, remaining_ps)
                await asyncio.sleep(0)
        return world

    def _started(self, now: float) -> World:
        if self._world is None:
            if not self._pools:
                raise Misconfigured(
                    f"embedded world {self.name} has no pool: add a pool of kind embedded with world: {self.name}"
                )
            self._epoch_s = now
            self._world = self._new_world({name: replicas for name, (_, replicas) in self._pools.items()})
        return self._world

    def _run_slice(self, world: World, remaining_ps: int) -> World:
        """Run the world for a slice, or for `remaining_ps` if that is less."""
        slice_s = min(SLICE_S, SLICE_REQUESTS / max(peak_rps(self._traffic_or_default), 1.0))
        end_ps = round(self._era_s * PS_PER_S)
        world.run_until(min(world.now_ps + min(remaining_ps, round(slice_s * PS_PER_S)), end_ps))
        if world.now_ps == end_ps:
            self._world = world = self._next_era(world)
        return world

    # --- traffic

    @property
    def _traffic_or_default(self) -> Traffic:
        return Traffic() if self._traffic is None else self._traffic

    async def _feed(self, world: World) -> None:
        """Offer the next chunk of requests ahead of time.

        While it does not fit, requests in the past are rejected.
        """
        now_s = world.now_ps / PS_PER_S
        while self._next_chunk is not None or self._generated_s < min(now_s + CHUNK_S, self._era_s):
            if self._next_chunk is None:
                until_s = min(self._generated_s + CHUNK_S, self._era_s)
                generate = generator(self._traffic_or_default).requests
                self._next_chunk = await asyncio.to_thread(generate, self._rng, self._generated_s, until_s)
                self._generated_s = until_s
            remaining = self._next_chunk.between(now_s, self._generated_s)
            try:
                world.offer(remaining)
            except ValueError as e:
                if len(remaining) < len(self._next_chunk):
                    self.full = (
                        f"embedded world {self.name} rejects requests: {e}; lower mean_rps or raise max_replicas"
                    )
                return
            self.full = "" if len(remaining) else self.full
            self._next_chunk = None

    def _rng(self, name: str) -> np.random.Generator:
        return within(self._rng_for, f"era/{self._era}")(name)

    # --- eras

    def _new_world(self, replicas: Mapping[PoolName, int]) -> World:
        names = dict.fromkeys(offer.model for offer, _ in self._pools.values())
        models = {name: catalogue.load(name) for name in names}
        limit = min(model.max_seqs for model in models.values()) if self._queued else None
        return World(
            models=models,
            pools={name: offer for name, (offer, _) in self._pools.items()},
            initial_replicas=replicas,
            router=Router(limit=limit),
            queue=SimulatedQueue() if self._queued else None,
            telemetry=Telemetry(rate_window_s=EmbeddedSource.window_s),
            seed=int(self._rng("seed").integers(2**62)),
            epoch_s=self._epoch_s + self._era * self._era_s,
            slots=max(MIN_SLOTS, math.ceil(BUFFER_S * peak_rps(self._traffic_or_default))),
        )

    def _next_era(self, old: World) -> World:
        """Return the next era's world.

        Ready replicas stay, starting ones start again, and open requests come first.
        """
        sizes = {name: old.status(name) for name in old.pools}
        self._era += 1
        self._generated_s, self._next_chunk = 0.0, None
        world = self._new_world({name: size.ready for name, size in sizes.items()})
        for name, size in sizes.items():
            world.resize(name, size.desired)
        world.offer(unfinished(old))
        return world


def unfinished(world: World) -> RequestTrace:
    """Return the open requests in order of arrival, all with arrival time 0."""
    requests = world.kernel.requests
    open_requests = requests[requests.ended_as(RequestEnd.OPEN) & requests.has_arrived]
    ordered = open_requests[np.argsort(open_requests.arrived_ps, kind="stable")]
    return RequestTrace(np.zeros(len(ordered)), ordered.prompt_tokens, ordered.output_tokens, ordered.cached_tokens)
