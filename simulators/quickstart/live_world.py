"""A world on the daemon's clock: opened bit by bit, let run up to the present whenever it is looked at, without end.

Time is cut into *eras* of a week. Each begins with the replicas that serve and the requests that were left, and with
the traffic from its start; so memory stays bounded, and 63 bits of picoseconds hold. What happens does not depend on
when anybody looks: the same seed and the same resizes at the same times give the same world.
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
from simulators.quickstart.kinds import Traffic
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
"""A whole number of days, so that the day's wave has no seam. A replica that is gone keeps about 4 kB until its era
ends: a few megabytes for the quickstart's."""
HOLD_S: Final = 1800.0
"""The world holds the requests of so long at the highest rate: the chunk that runs, the one ahead, and ten minutes of
backlog. 72 bytes a request: 19 MB for the quickstart's chat."""
LEAST_SLOTS: Final = 4096
"""Requests that the smallest world holds: room for some that are added by hand."""
SLICE_S: Final = 15.0
SLICE_REQUESTS: Final = 3000
"""The world runs for so long, or so many requests, between two turns of the event loop: 1 ms of work, 10 ms at most."""
CROWD_SHARE: Final = 0.1
"""Share of the usual traffic that comes from the clients who make the flash crowd."""


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
        peak_hour=6.0,  # so that the world begins at the mean, on the rise
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
    """Return the highest rate that is expected, noise aside. Requests a second."""
    if traffic.shape == "batches":
        return traffic.mean_rps
    return traffic.mean_rps * (traffic.swing + traffic.crowd_factor)


def warm_up() -> None:
    """Compile the kernel, or read what was compiled before, by serving one request."""
    if CACHE is None or not any(CACHE.rglob("*.nbi")):
        log.info("embedded", doing="compiling the simulator: about 10 s, this once")
    kernel = Kernel([catalogue.load(catalogue.names()[0])], Router(), 0, 1)
    kernel.start(kernel.add(0, 0))
    one = np.ones(1, dtype=np.int32)
    kernel.offer(np.zeros(1, dtype=np.int64), one, one)
    kernel.advance(PS_PER_S)
    kernel.read()


class LiveWorld:
    """A world without end, by its name. It begins when it is first looked at, with all that was opened until then.

    `full` says why requests are turned away at present, if they are.
    """

    def __init__(self, name: str, clock: Clock, seed: int, era_s: float = ERA_S) -> None:
        self.name = name
        self.full = ""
        self._clock = clock
        self._era_s = era_s
        self._moving = asyncio.Lock()
        self._chance = streams(seed)
        self._pools: dict[PoolName, tuple[PoolOffer, int]] = {}
        self._queued = False
        self._traffic: Traffic | None = None
        self._world: World | None = None
        self._epoch_s = 0.0
        self._era = 0
        self._made_s = 0.0
        self._coming: RequestTrace | None = None

    # --- opening

    def read(self, *, queued: bool, traffic: Traffic | None) -> None:
        """Somebody reads the world, its queue if `queued`; `traffic`, if given, is what the world begins with.

        Raises `Misconfigured` where the world has begun without a queue.
        """
        if queued and not self._queued and self._world is not None:
            raise Misconfigured(f"world {self.name} began without a queue to read: restart the daemon")
        self._queued = self._queued or queued
        if self._world is None:
            self.follow(traffic)

    def follow(self, traffic: Traffic | None) -> None:
        """Let other traffic come from the next chunk on, or the same if None is given."""
        self._traffic = traffic or self._traffic

    def add(self, pool: PoolName, offer: PoolOffer, replicas: int) -> None:
        """Add a pool that begins with `replicas`. Raises `Misconfigured` where the world began with another one."""
        known = self._pools.get(pool)
        if known is not None and known != (offer, replicas):
            raise Misconfigured(f"pool {pool} of world {self.name} was opened with other settings: restart the daemon")
        if known is None and self._world is not None:
            raise Misconfigured(f"world {self.name} began without a pool {pool}: restart the daemon")
        self._pools[pool] = offer, replicas

    # --- time

    async def present(self) -> World:
        """The world at the present. One that is behind catches up in slices, between which others have their turn.

        Raises `Misconfigured` where nothing could serve.
        """
        until = self._clock.now()
        async with self._moving:
            world = self._begun(until)
            while (left_ps := round((until - world.epoch_s) * PS_PER_S) - world.now_ps) > 0:
                await self._feed(world)
                world = self._run(world, left_ps)
                await asyncio.sleep(0)
        return world

    def _begun(self, now: float) -> World:
        if self._world is None:
            if not self._pools:
                raise Misconfigured(
                    f"world {self.name} has no replicas: give a pool of kind embedded, world {self.name}"
                )
            self._epoch_s = now
            self._world = self._new({name: replicas for name, (_, replicas) in self._pools.items()})
        return self._world

    def _run(self, world: World, left_ps: int) -> World:
        """Let the world run for a slice, or for what is left until the present if that is less."""
        slice_s = min(SLICE_S, SLICE_REQUESTS / max(peak_rps(self._spec), 1.0))
        end_ps = round(self._era_s * PS_PER_S)
        world.run_until(min(world.now_ps + min(left_ps, round(slice_s * PS_PER_S)), end_ps))
        if world.now_ps == end_ps:
            self._world = world = self._renewed(world)
        return world

    # --- traffic

    @property
    def _spec(self) -> Traffic:
        return Traffic() if self._traffic is None else self._traffic

    async def _feed(self, world: World) -> None:
        """Keep a chunk of requests ahead. While there is no room for it, those whose time passes are turned away."""
        now_s = world.now_ps / PS_PER_S
        while self._coming is not None or self._made_s < min(now_s + CHUNK_S, self._era_s):
            if self._coming is None:
                until_s = min(self._made_s + CHUNK_S, self._era_s)
                make = generator(self._spec).requests
                self._coming = await asyncio.to_thread(make, self._rng, self._made_s, until_s)
                self._made_s = until_s
            left = self._coming.between(now_s, self._made_s)
            try:
                world.offer(left)
            except ValueError as e:
                if len(left) < len(self._coming):
                    self.full = f"world {self.name} turns requests away: {e}; lower mean_rps or allow more replicas"
                return
            self.full = "" if len(left) else self.full
            self._coming = None

    def _rng(self, name: str) -> np.random.Generator:
        return within(self._chance, f"era/{self._era}")(name)

    # --- eras

    def _new(self, replicas: Mapping[PoolName, int]) -> World:
        names = dict.fromkeys(offer.model for offer, _ in self._pools.values())
        models = {name: catalogue.load(name) for name in names}
        limit = min(model.max_seqs for model in models.values()) if self._queued else None
        return World(
            models=models,
            pools={name: offer for name, (offer, _) in self._pools.items()},
            initial_replicas=replicas,
            router=Router(limit=limit),
            queue=SimulatedQueue() if self._queued else None,
            telemetry=Telemetry(),
            seed=int(self._rng("seed").integers(2**62)),
            epoch_s=self._epoch_s + self._era * self._era_s,
            slots=max(LEAST_SLOTS, math.ceil(HOLD_S * peak_rps(self._spec))),
        )

    def _renewed(self, old: World) -> World:
        """The next era's world: what serves goes on, what starts begins anew, what was not finished comes first."""
        sizes = {name: old.status(name) for name in old.pools}
        self._era += 1
        self._made_s, self._coming = 0.0, None
        world = self._new({name: size.ready for name, size in sizes.items()})
        for name, size in sizes.items():
            world.resize(name, size.desired)
        world.offer(unfinished(old))
        return world


def unfinished(world: World) -> RequestTrace:
    """Return the requests that have come and not ended, in order of arrival, as if all came at time 0."""
    requests = world.kernel.requests
    still_open = requests[requests.ended_as(RequestEnd.OPEN) & requests.has_arrived]
    found = still_open[np.argsort(still_open.arrived_ps, kind="stable")]
    return RequestTrace(np.zeros(len(found)), found.prompt_tokens, found.output_tokens, found.cached_tokens)
