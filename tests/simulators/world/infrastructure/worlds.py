"""A world around one pool: fake engines with known work, and a clock that stops at every event."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulators.world.infrastructure.billing import Bill
from simulators.world.infrastructure.invariants import problems
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.infrastructure.node_lifecycle import Phase, StartUp
from simulators.world.infrastructure.pool import FleetPool
from simulators.world.infrastructure.units import to_ps

QUICK = StartUp(
    node=Phase(median_s=100),
    image=Phase(median_s=50),
    weights=Phase(median_s=20),
    compile=Phase(median_s=10),
    ready=Phase(median_s=5),
    restart=Phase(median_s=40),
    sleep=Phase(median_s=11),
    wake=Phase(median_s=1),
)
"""Start-ups without randomness: 185 s cold, 35 s from a warm node, 75 s from a stopped one, 1 s from sleep."""


class FakeEngines:
    """Replicas with given drain times (`left_s`) and numbers of requests (`load`)."""

    def __init__(self) -> None:
        self.now_ps = 0
        self.left_s: dict[int, float] = {}
        self.load: dict[int, int] = {}
        self.keys: list[int] = []
        self.started: dict[int, int] = {}
        self.drained: dict[int, int] = {}
        self.killed: dict[int, int] = {}

    def add(self, model: int, key: int) -> int:
        self.keys.append(key)
        return len(self.keys) - 1

    def start(self, replica: int) -> None:
        assert replica not in self.started
        self.started[replica] = self.now_ps

    def drain(self, replica: int) -> None:
        assert replica in self.started
        assert replica not in self.drained
        assert replica not in self.killed
        self.drained[replica] = self.now_ps

    def kill(self, replica: int) -> int:
        assert replica in self.started
        assert replica not in self.killed
        assert self.emptied_ps(replica) < 0
        self.killed[replica] = self.now_ps
        return self.outstanding(replica)

    def outstanding(self, replica: int) -> int:
        return self.load.get(replica, 0)

    def emptied_ps(self, replica: int) -> int:
        if replica not in self.drained:
            return -1
        at_ps = self.drained[replica] + to_ps(self.left_s.get(replica, 0.0))
        return at_ps if at_ps <= self.now_ps else -1

    def busy_ps(self, replica: int) -> int:
        """Return half of the serving time plus the drain time."""
        begin = self.started[replica]
        drained = self.drained.get(replica, self.killed.get(replica, self.now_ps))
        end = min(drained + to_ps(self.left_s.get(replica, 0.0)), self.killed.get(replica, self.now_ps))
        return (drained - begin) // 2 + max(0, end - drained)


class World:
    """One pool, run from event to event."""

    def __init__(self, offer: PoolOffer, seed: int = 1, folder: Path = Path(), begin: int | None = None) -> None:
        self.engines = FakeEngines()
        self.pool = FleetPool("pool-a", offer, self.engines, model=0, seed=seed, folder=folder)
        if begin is not None:
            self.pool.begin(begin)

    @property
    def now_ps(self) -> int:
        return self.engines.now_ps

    def until(self, at_s: float, watch: Callable[[], object] = lambda: None) -> None:
        """Run to a time, and call `watch` after each event."""
        end_ps = to_ps(at_s)
        while (due_ps := self.pool.next_event_ps()) is not None and due_ps <= end_ps:
            self.engines.now_ps = due_ps
            self.pool.advance(due_ps)
            watch()
        self.engines.now_ps = end_ps
        self.pool.advance(end_ps)
        watch()

    def resize(self, replicas: int) -> None:
        self.pool.resize(replicas, self.now_ps)

    def sizes(self) -> tuple[int, int]:
        """Return the desired and ready replicas."""
        status = self.pool.status(self.now_ps)
        return status.desired, status.ready

    def bill(self) -> Bill:
        """Return the bill after a check of all invariants."""
        bill = self.pool.bill(self.now_ps, self.engines.busy_ps)
        assert list(problems(self.pool, bill, self.now_ps)) == []
        return bill

    def events(self) -> list[tuple[float, str, int, int]]:
        """Return the events as (seconds, kind, node, lost requests)."""
        return [(e.at_ps / 1e12, str(e.kind), e.number, e.lost_requests) for e in self.pool.events]


def offer(**settings: Any) -> PoolOffer:
    """Return an offer at 3.60 USD per hour: 1,000 micro-dollars per second."""
    return PoolOffer(**{"model": "m", "price_usd_per_hour": 3.6, "start_up": QUICK, **settings})
