"""A workload over pools that differ, and a small cloud that grants, delays, refuses and interrupts."""

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
from policies.model.pool import Pool
from policies.model.spec import WorkloadSpec
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


def workload_over(pools: Mapping[str, Pool] | None = None, **settings: Any) -> WorkloadSpec:
    """Return a workload over `pools` or `POOLS`; a message is a tenth of a replica's work."""
    policies = {"queue": QueueDepth(source="queue")}
    return spec(policies, pools or POOLS, **{"max_replicas": 20, **settings})


@dataclass
class FakePool:
    """One pool of a platform that can run `capacity` replicas, whose start takes `start_ticks`."""

    desired: int = 0
    ready: int = 0
    capacity: int = 99
    start_ticks: int = 8
    refusal: Result | None = None
    interruption_pending: int = 0
    interrupted: int = 0
    reserved: int | None = None
    shortfall: Shortfall | None = None
    starts: list[int] = field(default_factory=list)

    def status(self) -> PoolStatus:
        failed = 0 if self.shortfall is None else self.desired - self.ready
        return PoolStatus(
            self.desired,
            self.ready,
            interruption_pending=self.interruption_pending,
            interrupted=self.interrupted,
            failed=failed,
            shortfall=self.shortfall,
            reserved=self.reserved,
        )

    def fail(self, at: float, *, quota: bool = False) -> None:
        """Report that the pending replicas will not arrive."""
        self.shortfall, self.capacity, self.starts = Shortfall(at, "none to be had", quota), self.ready, []

    def tick(self) -> None:
        """Continue the starts, and start the requested replicas within the capacity."""
        self.starts = [left - 1 for left in self.starts]
        self.ready += sum(left <= 0 for left in self.starts)
        self.starts = [left for left in self.starts if left > 0]
        while self.ready + len(self.starts) < min(self.desired, self.capacity):
            self.starts.append(self.start_ticks)

    def resize(self, replicas: int) -> Result:
        if replicas > self.desired and self.refusal is not None:
            return self.refusal
        self.desired = replicas
        while self.ready + len(self.starts) > replicas:
            if self.starts:
                self.starts.pop()
            else:
                self.ready -= 1
        return Result.ACCEPTED

    def interrupt(self, replicas: int) -> None:
        """Interrupt ready replicas, and leave no capacity for others."""
        self.ready -= replicas
        self.capacity = self.ready + len(self.starts)
        self.interrupted += replicas
        self.interruption_pending = max(0, self.interruption_pending - replicas)


@dataclass
class Simulation:
    """A workload, its pools and its ticks so far."""

    workload: WorkloadSpec
    fake_pools: dict[PoolName, FakePool]
    now: float = NOW
    history: History = field(default_factory=lambda: History(7200.0))
    decisions: list[Decision] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    fingerprint: str = "abc"

    @classmethod
    def of(cls, workload: WorkloadSpec, **sizes: int) -> Simulation:
        """Return a workload whose pools serve `sizes` already, by name with an underscore for a dash."""
        ready = {n.replace("_", "-"): size for n, size in sizes.items()}
        return cls(workload, {n: FakePool(ready.get(n, 0), ready.get(n, 0)) for n in workload.pools})

    def tick(self, work: float, *, blind: bool = False) -> Decision:
        """Run one tick with `work` replica equivalents in the queue."""
        for fake_pool in self.fake_pools.values():
            fake_pool.tick()
        readings: dict[SignalName, Reading[float]] = {} if blind else self._queue(work)
        pools: dict[PoolName, Reading[PoolStatus]] = {
            n: Fresh(p.status(), self.now) for n, p in self.fake_pools.items()
        }
        observation = Observation(WorkloadName("llm"), self.now, readings, pools)
        decision = decide(self.workload, self.history, observation)
        outcomes = []
        for name, target in decision.targets.items():
            before = self.fake_pools[name].desired
            result = self.fake_pools[name].resize(target) if target != before else Result.UNCHANGED
            outcomes.append(Outcome(name, before, target, result, "none to be had" if result.refused else ""))
        self.ticks.append(Tick(self.fingerprint, observation, decision, tuple(outcomes), len(self.history), 0.0, 0.0))
        self.history.append(self.ticks[-1])
        self.decisions.append(decision)
        self.now += self.workload.interval_s
        return decision

    def _queue(self, work: float) -> dict[SignalName, Reading[float]]:
        return {
            SignalName("queue.visible"): Fresh(work * 10, self.now),
            SignalName("queue.in_flight"): Fresh(0.0, self.now),
        }

    def run(self, count: int, work: float) -> Decision:
        for _ in range(count):
            decision = self.tick(work)
        return decision

    def sizes(self) -> dict[str, int]:
        return {name: fake_pool.desired for name, fake_pool in self.fake_pools.items() if fake_pool.desired}

    def reason_of(self, rule: str) -> str:
        """Return the last decision's reason for a rule; empty where the rule had no effect."""
        return next((s.reason for s in self.decisions[-1].steps if s.rule == rule), "")


@dataclass(frozen=True, kw_only=True)
class FixedRecommendation:
    """A policy with a fixed recommendation and fixed peaks."""

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0
    replicas: float
    peaks: tuple[tuple[float, float], ...] = ()

    def needs(self) -> tuple[str, ...]:
        return ()

    def recommend(self, name: PolicyName, view: PolicyContext) -> Recommendation:
        return Recommendation(name, self.replicas, Evidence.FULL, True, "fixed", peaks=self.peaks)
