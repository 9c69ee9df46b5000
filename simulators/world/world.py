"""The simulated world, with requests, engines, pools, telemetry and queue.

Requests arrive, engines serve them, pools grow and shrink, and telemetry and queue can be read.

Time is picoseconds from the world's start, and moves only in `run_until`. At each time, the kernel first handles all
events before it, then pools and scrapes handle theirs, then the caller acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from policies.model import PoolName, PoolStatus, WorkloadName
from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.models.service import PS_PER_S, ServiceModel
from simulators.engine.tables import RequestTable, as_of, delayed
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.infrastructure.node_lifecycle import Tier
from simulators.world.infrastructure.pool import FleetPool
from simulators.world.infrastructure.update_lock import UpdateLock
from simulators.world.queue import QueueCounts, QueueView, SimulatedQueue
from simulators.world.rng import stream, streams
from simulators.world.routing.gateway import Backends, Gateway, Receiver, merged
from simulators.world.routing.inbox import DirectFeed, EngineInbox, Requests
from simulators.world.telemetry import EngineTelemetry, Telemetry
from simulators.world.traffic.trace import RequestTrace

MAX_S: Final = 9.0e6
"""Maximum duration, 104 days: 63 bits of picoseconds are 106.7 days, and the last requests need time to end."""
NO_ROUND_TRIPS: Final[Mapping[str, float]] = {}


class World:
    """One simulated world.

    `epoch_s` is the Unix time of its start; `slots` the requests it holds at once. `backends` are those of the
    workload's route; None without a route. `round_trip_s` has the time from the gateway to each region and back.
    `is_member` is whether other workloads may send requests to its engines.
    """

    def __init__(  # noqa: PLR0913 - all parts of a world
        self,
        *,
        models: Mapping[str, ServiceModel],
        pools: Mapping[PoolName, PoolOffer],
        initial_replicas: Mapping[PoolName, int],
        router: Router,
        queue: SimulatedQueue | None,
        telemetry: Telemetry,
        seed: int,
        epoch_s: float,
        slots: int,
        folder: Path = Path(),
        backends: Backends | None = None,
        round_trip_s: Mapping[str, float] = NO_ROUND_TRIPS,
        is_member: bool = False,
    ) -> None:
        self.epoch_s = epoch_s
        self.now_ps = 0
        self.kernel = Kernel(list(models.values()), router, seed, slots, 1 if backends is None else len(pools))
        self.queue = queue
        self.gateway: Gateway | None = None
        """The gateway that splits the requests; None without a route."""
        self.feed: Gateway | DirectFeed | None = None
        """The gateway, or what else sends requests as they arrive; None where all are offered to the engines before."""
        self.inbox = EngineInbox(self.kernel)
        self._is_member = is_member
        self._together: tuple[World, ...] = (self,)
        self._senders: list[Mapping[str, float]] = [round_trip_s]
        self.lost_requests = 0
        shared = {offer.updates.lock for offer in pools.values() if offer.updates}
        locks = {lock: UpdateLock() for lock in shared if lock is not None}
        self._backends = backends
        self._round_trip_s = round_trip_s
        self._seed = seed
        numbers = {name: number for number, name in enumerate(models)}
        self.pools = {
            name: FleetPool(
                name,
                offer,
                _Engines(self, 0 if backends is None else number),
                model=numbers[offer.model],
                seed=seed,
                folder=folder,
                epoch_s=epoch_s,
                lock=locks.get(offer.updates.lock) if offer.updates and offer.updates.lock else None,
            )
            for number, (name, offer) in enumerate(pools.items())
        }
        self.engines = EngineTelemetry(telemetry, self.kernel, stream(seed, "telemetry", "engines"), epoch_s)
        self.queue_view = QueueView(queue or SimulatedQueue(), stream(seed, "telemetry", "queue"), epoch_s)
        self._accepted = next(iter(models.values())).accepted_per_step
        self._speculation = stream(seed, "speculation", "requests")
        self._delay_ps = round((queue.delay_s if queue else 0.0) * PS_PER_S)
        self._clocks = [(round(telemetry.scrape_interval_s * PS_PER_S), self.engines.scrape)]
        if self.queue_view.sampling_s is not None and queue is not None:
            self._clocks.append(
                (round(self.queue_view.sampling_s * PS_PER_S), lambda: self.queue_view.sample(self.counts()))
            )
        self._due = [0] * len(self._clocks)
        for name, pool in self.pools.items():
            pool.begin(initial_replicas.get(name, 0))
        self.advance_to(0)

    # --- time

    @property
    def now(self) -> float:
        """The present as a Unix time."""
        return self.epoch_s + self.now_ps / PS_PER_S

    def run_until(self, until_ps: int) -> None:
        """Run the world to a time, including the events of pools and scrapes at that time.

        Worlds that send requests to one another run together: at each event of one, all of them have split the
        requests before it.
        """
        while self.now_ps < until_ps:
            t = min(until_ps, *(world.next_event_ps() for world in self._together))
            for world in self._together:
                world.split(t)
            for world in self._together:
                world.advance_to(t)

    def next_event_ps(self) -> int:
        """Return the time of the next event of a pool or a scrape. Picoseconds."""
        due = min(self._due)
        for pool in self.pools.values():
            event = pool.next_event_ps()
            if event is not None and event < due:
                due = event
        return due

    def split(self, t: int) -> None:
        """Send the requests that arrive before a time to their backends."""
        if self.feed is not None:
            self.feed.split(t)

    def advance_to(self, t: int) -> None:
        """Serve the requests until a time, and handle the events of pools and scrapes at that time."""
        self.inbox.deliver()
        self.kernel.advance(t)
        self.now_ps = t
        for pool in self.pools.values():
            event = pool.next_event_ps()
            if event is not None and event <= t:
                pool.advance(t)
        for k, (interval, act) in enumerate(self._clocks):
            if self._due[k] <= t:
                act()
                self._due[k] = t + interval

    # --- traffic

    def offer(self, trace: RequestTrace, since_ps: int = 0) -> None:
        """Offer a trace's requests. The trace's time 0 is `since_ps`.

        With a route, the gateway splits them as they arrive.
        """
        arrival = np.round(trace.arrival_s * PS_PER_S).astype(np.int64) + (since_ps + self._delay_ps)
        strides = self._strides(len(trace))
        prompt, output, cached = trace.prompt_tokens, trace.output_tokens, trace.cached_tokens
        if self._backends is None and not self._is_member:
            self.kernel.offer(arrival, prompt, output, cached, strides)
            return
        cached = np.zeros(len(trace), np.int32) if cached is None else cached
        strides = np.ones(len(trace), np.int32) if strides is None else strides
        requests = Requests(arrival, prompt, output, cached, strides)
        if self._backends is None:
            self.feed = DirectFeed(requests, self.inbox)
            return
        numbers = {name: number for number, name in enumerate(self.pools)}
        rngs = streams(self._seed)
        self.feed = self.gateway = Gateway(
            self.kernel, self.inbox, requests, self._backends, numbers, self._round_trip_s, rngs
        )

    @property
    def arrived_at_gateway(self) -> int:
        """The requests of the workload's own users that have arrived, wherever they are served."""
        return self.kernel.arrived if self.feed is None else self.feed.handled

    def as_receiver(self, round_trip_s: Mapping[str, float]) -> Receiver:
        """Return this world as a backend of another one's gateway.

        `round_trip_s` has the round trips from there.
        """
        self._senders.append(round_trip_s)
        return Receiver(self.inbox, len(self._senders) - 1)

    @property
    def arrived_requests(self) -> RequestTable:
        """The requests that have arrived, in order of arrival, with times as at the gateway.

        They include those that no pool got.
        """
        at_pools = self.kernel.arrived_requests
        if any(self._senders):
            at_pools = self._at_gateway(at_pools)
        if self.gateway is None:
            return at_pools
        return merged((at_pools, self.gateway.requests(self.now_ps)))

    def _at_gateway(self, served: RequestTable) -> RequestTable:
        """Return requests with the round trip from gateway to replica added to their latency."""
        # the last column is that of requests without a replica
        delay_ps = np.zeros((len(self._senders), len(self.kernel.read()) + 1), np.int64)
        for pool in self.pools.values():
            engines = [node.engine for node in pool.ledger.nodes if node.engine >= 0]
            for row, round_trip_s in zip(delay_ps, self._senders, strict=True):
                row[engines] = round(round_trip_s.get(pool.offer.region or "", 0.0) * PS_PER_S)
        sender = 0 if self.feed is None else self.inbox.senders[: len(served)]
        return as_of(delayed(served, delay_ps[sender, served.replica]), self.now_ps)

    def connect(self, worlds: Mapping[WorkloadName, World]) -> None:
        """Run together with the other worlds of a group, and send requests to their engines."""
        self._together = tuple(worlds.values())
        if self.gateway is not None and self._backends is not None:
            members = self._backends.members
            self.gateway.connect(
                {name: worlds[workload].as_receiver(self._round_trip_s) for name, workload in members.items()}
            )

    def _strides(self, requests: int) -> NDArray[np.int32] | None:
        """Return the tokens per decode step of each request: whole numbers with the model's mean.

        A mean of 2.3 gives 3 with probability 0.3, and 2 otherwise.
        """
        whole, part = divmod(self._accepted, 1.0)
        if not part and whole == 1:
            return None
        return np.asarray(whole + (self._speculation.random(requests) < part), np.int32)

    def counts(self) -> QueueCounts:
        """Return the true counts of the queue."""
        kernel, now_ps = self.kernel, self.now_ps
        oldest_ps = kernel.oldest_queued_ps
        return QueueCounts(
            at_s=now_ps / PS_PER_S,
            visible=kernel.queued,
            in_flight=int(kernel.totals().outstanding) + kernel.awaiting_redelivery,
            delayed=kernel.arriving_within(self._delay_ps) if self._delay_ps else 0,
            dead_letter=kernel.dead_letters,
            oldest_age_s=0.0 if oldest_ps is None else (now_ps - oldest_ps) / PS_PER_S,
        )

    # --- pools

    def status(self, pool: PoolName) -> PoolStatus:
        return self.pools[pool].status(self.now_ps)

    def resize(self, pool: PoolName, replicas: int) -> None:
        """Request a size. Raises the port's errors."""
        self.pools[pool].resize(replicas, self.now_ps)

    def headroom_status(self, pool: PoolName, tier: Tier) -> PoolStatus:
        """Return the status of a tier of a pool's headroom."""
        return self.pools[pool].headroom_status(tier, self.now_ps)

    def resize_headroom(self, pool: PoolName, tier: Tier, nodes: int) -> None:
        """Set the target of a tier of a pool's headroom."""
        self.pools[pool].resize_headroom(tier, nodes, self.now_ps)

    def lose_requests(self, slots: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """Handle requests of a lost replica.

        A queue redelivers them or gives them up. Without a queue they are lost.
        """
        self.lost_requests += len(slots)
        if self.queue is None or not len(slots):
            return
        spent = self.kernel.requests[slots].deliveries >= self.queue.max_receives
        self.kernel.move_to_dead_letters(slots[spent])
        self.kernel.retry(slots[~spent], self.now_ps + round(self.queue.visibility_timeout_s * PS_PER_S))


def connect(worlds: Mapping[WorkloadName, World]) -> None:
    """Let worlds send requests to one another's engines, and run together."""
    for world in worlds.values():
        world.connect(worlds)


class _Engines:
    """The kernel's replicas as a pool's `ServingEngines`.

    `pool` is the kernel's number of the pool.
    """

    def __init__(self, world: World, pool: int) -> None:
        self._world = world
        self._pool = pool
        self.start = world.kernel.start
        self.drain = world.kernel.drain
        self.outstanding = world.kernel.outstanding
        self.emptied_ps = world.kernel.emptied_ps

    @property
    def now_ps(self) -> int:
        return self._world.now_ps

    def add(self, model: int, key: int) -> int:
        return self._world.kernel.add(model, key, self._pool)

    def kill(self, replica: int) -> int:
        slots = self._world.kernel.kill(replica)
        self._world.lose_requests(slots)
        return len(slots)
