"""A workload over pools that differ, lived turn by turn: a small cloud that gives, delays, refuses and takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from policies.history.ticks import History
from policies.model import (
    Decision,
    Evidence,
    Fresh,
    Observation,
    Outcome,
    PolicyName,
    PoolName,
    PoolStatus,
    Reading,
    Recommendation,
    Result,
    Shortfall,
    SignalName,
    Tick,
    WorkloadName,
)
from policies.model.spec import Pool, WorkloadSpec
from policies.pipeline import decide
from policies.recommend.context import PolicyContext
from policies.recommend.threshold import QueueDepth
from tests.factories import NOW, spec

POOLS: Mapping[str, Pool] = {
    "reserved": Pool(market="reserved", price_usd_per_hour=2.0, max_replicas=2, accelerator="h100", zone="a"),
    "spot-a": Pool(market="spot", price_usd_per_hour=1.0, accelerator="h100", zone="a"),
    "spot-b": Pool(market="spot", price_usd_per_hour=1.0, accelerator="h100", zone="b"),
    "on-demand": Pool(price_usd_per_hour=3.0, accelerator="h100", zone="a"),
}


def ladder(pools: Mapping[str, Pool] | None = None, **settings: Any) -> WorkloadSpec:
    """A workload over the pools given, or the usual four; a message is a tenth of a replica's work."""
    policies = {"queue": QueueDepth(source="queue")}
    return spec(policies, pools or POOLS, **{"max_replicas": 20, **settings})


@dataclass
class Place:
    """One pool as its platform has it. `room` is what may run, `start_turns` how long a start takes."""

    desired: int = 0
    ready: int = 0
    room: int = 99
    start_turns: int = 8
    refuses: Result | None = None
    doomed: int = 0
    interrupted: int = 0
    reserved: int | None = None
    short: Shortfall | None = None
    starts: list[int] = field(default_factory=list)

    def status(self) -> PoolStatus:
        failed = 0 if self.short is None else self.desired - self.ready
        return PoolStatus(
            self.desired,
            self.ready,
            interruption_pending=self.doomed,
            interrupted=self.interrupted,
            failed=failed,
            shortfall=self.short,
            reserved=self.reserved,
        )

    def fail(self, at: float, *, quota: bool = False) -> None:
        """The platform says that nothing of what it accepted will come."""
        self.short, self.room, self.starts = Shortfall(at, "none to be had", quota), self.ready, []

    def turn(self) -> None:
        """Starts go on, and what is asked for and may run begins to start."""
        self.starts = [left - 1 for left in self.starts]
        self.ready += sum(left <= 0 for left in self.starts)
        self.starts = [left for left in self.starts if left > 0]
        while self.ready + len(self.starts) < min(self.desired, self.room):
            self.starts.append(self.start_turns)

    def resize(self, replicas: int) -> Result:
        if replicas > self.desired and self.refuses is not None:
            return self.refuses
        self.desired = replicas
        while self.ready + len(self.starts) > replicas:
            if self.starts:
                self.starts.pop()
            else:
                self.ready -= 1
        return Result.ACCEPTED

    def lose(self, replicas: int) -> None:
        """The cloud takes ready ones, and has no room for others."""
        self.ready -= replicas
        self.room = self.ready + len(self.starts)
        self.interrupted += replicas
        self.doomed = max(0, self.doomed - replicas)


@dataclass
class Lived:
    """A workload's turns over its places."""

    workload: WorkloadSpec
    places: dict[PoolName, Place]
    now: float = NOW
    history: History = field(default_factory=lambda: History(7200.0))
    decisions: list[Decision] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    fingerprint: str = "abc"

    @classmethod
    def of(cls, workload: WorkloadSpec, **sizes: int) -> Lived:
        """Pools that serve already, by name with an underscore for a dash."""
        found = {n.replace("_", "-"): size for n, size in sizes.items()}
        return cls(workload, {n: Place(found.get(n, 0), found.get(n, 0)) for n in workload.pools})

    def turn(self, work: float, *, blind: bool = False) -> Decision:
        """One turn with `work` replicas' worth in the queue."""
        for place in self.places.values():
            place.turn()
        readings: dict[SignalName, Reading[float]] = {} if blind else self._queue(work)
        pools: dict[PoolName, Reading[PoolStatus]] = {n: Fresh(p.status(), self.now) for n, p in self.places.items()}
        seen = Observation(WorkloadName("llm"), self.now, readings, pools)
        decision = decide(self.workload, self.history, seen)
        outcomes = []
        for name, target in decision.targets.items():
            before = self.places[name].desired
            result = self.places[name].resize(target) if target != before else Result.UNCHANGED
            outcomes.append(Outcome(name, before, target, result, "none to be had" if result.refused else ""))
        self.ticks.append(Tick(self.fingerprint, seen, decision, tuple(outcomes), len(self.history), 0.0, 0.0))
        self.history.append(self.ticks[-1])
        self.decisions.append(decision)
        self.now += self.workload.interval_s
        return decision

    def _queue(self, work: float) -> dict[SignalName, Reading[float]]:
        return {
            SignalName("queue.visible"): Fresh(work * 10, self.now),
            SignalName("queue.in_flight"): Fresh(0.0, self.now),
        }

    def turns(self, count: int, work: float) -> Decision:
        for _ in range(count):
            decision = self.turn(work)
        return decision

    def sizes(self) -> dict[str, int]:
        return {name: place.desired for name, place in self.places.items() if place.desired}

    def told(self, rule: str) -> str:
        """What the last decision says of a rule; empty where it says nothing."""
        return next((s.reason for s in self.decisions[-1].steps if s.rule == rule), "")


@dataclass(frozen=True, kw_only=True)
class Foresees:
    """A policy that wants what it is told to, and foresees peaks."""

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0
    wants: float
    peaks: tuple[tuple[float, float], ...] = ()

    def needs(self) -> tuple[str, ...]:
        return ()

    def recommend(self, name: PolicyName, view: PolicyContext) -> Recommendation:
        return Recommendation(name, self.wants, Evidence.FULL, True, "as told", peaks=self.peaks)
