"""Generates runs of a fleet for property tests: workloads that share limits, overlapping ticks and failing writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from policies.guard.budget import gpus, usd_per_hour
from policies.history.ticks import History
from policies.model import (
    Decision,
    Fresh,
    Observation,
    Outcome,
    PolicyName,
    PoolName,
    PoolStatus,
    Result,
    SignalName,
    Tick,
    WorkloadName,
)
from policies.model.limits import BlastRadius, Budget, Override
from policies.model.pool import Pool
from policies.model.spec import ScaleDown, ScaleUp, WorkloadSpec
from policies.pipeline import decide
from policies.quota.fleet_quota import FleetLimits
from policies.recommend.peers.static import Static
from policies.recommend.threshold import QueueDepth
from scaler.quota_ledger import QuotaLedger
from tests.policies.random_workloads import START, Dice

INTERVAL_S = 15.0


@dataclass
class Member:
    """One workload: its true sizes, and the running tick if there is one."""

    spec: WorkloadSpec
    sizes: dict[PoolName, int]
    history: History = field(default_factory=lambda: History(7200.0))
    running: Running | None = None
    ticks: list[Tick] = field(default_factory=list)

    @property
    def name(self) -> WorkloadName:
        return WorkloadName(self.spec.workload)

    def possible(self) -> Mapping[PoolName, int]:
        """Return the sizes that the running tick requests, or that the last one may have got."""
        if self.running:
            return self.running.decision.targets
        return {o.pool: o.possible_replicas for tick in self.ticks[-1:] for o in tick.outcomes}

    def gpus(self) -> float:
        return sum(n * gpus(self.spec.pools[p]) for p, n in self.sizes.items())

    def gpus_over_budget(self) -> float:
        budget = self.spec.budget.gpus
        return 0.0 if budget is None else max(0.0, self.gpus() - budget)

    def usd(self) -> float:
        return sum(n * usd_per_hour(self.spec.pools[p]) for p, n in self.sizes.items())


@dataclass
class Change:
    """The effect of one write: its time, the fleet's requested replicas then, the number of removed ones,
    the quantum of the pool if only one shrank (else 1), and the fleet's GPUs and USD per hour before and after.

    `unread_excess` are the GPUs beyond their own budget of workloads that were not read yet at the decision."""

    at: float
    requested: int
    removed: int
    quantum: int
    before: tuple[float, float]
    after: tuple[float, float]
    unread_excess: float


@dataclass
class Running:
    """A tick that decided, and has not written yet."""

    observation: Observation
    decision: Decision
    requested: int
    unread_excess: float


@dataclass(repr=False)
class FleetLife:
    """A daemon's workloads under one ledger."""

    limits: FleetLimits
    members: Sequence[Member]
    ledger: QuotaLedger
    now: float = START
    changes: list[Change] = field(default_factory=list)

    def __repr__(self) -> str:
        specs = ", ".join(f"{m.name} {m.spec.priority} {m.spec.policies} {m.spec.pools}" for m in self.members)
        return f"FleetLife({self.limits}, {len(self.changes)} changes, {specs})"

    def totals(self) -> tuple[float, float]:
        return sum(m.gpus() for m in self.members), sum(m.usd() for m in self.members)

    def requested(self) -> int:
        """Return the replicas that exist, that running ticks are about to request, or that the last writes may hold.

        What a failed write holds is not known before the next reading.
        """
        return sum(max(n, m.possible().get(p, 0)) for m in self.members for p, n in m.sizes.items())

    def begin(self, member: Member, dice: Dice) -> None:
        """Observe, decide and reserve. The write comes later, maybe after other workloads' ticks."""
        visible = float(dice.pick((0, 0, 3, 20, 90, 400)))
        depth = {
            SignalName("queue.visible"): Fresh(visible, self.now),
            SignalName("queue.in_flight"): Fresh(0.0, self.now),
        }
        pools = {name: Fresh(PoolStatus(n, n), self.now) for name, n in member.sizes.items()}
        observation = Observation(member.name, self.now, depth if not dice.one_in(12) else {}, pools)
        observation = replace(observation, grant=self.ledger.grant(member.name, observation))
        decision = decide(member.spec, member.history, observation)
        self.ledger.reserve(member.name, decision)
        excess = sum(m.gpus_over_budget() for m in self.members if m is not member and not (m.running or m.ticks))
        member.running = Running(observation, decision, 0, excess)
        member.running.requested = self.requested()

    def end(self, member: Member, dice: Dice) -> None:
        """Write, and record the outcome."""
        assert member.running is not None
        run, member.running = member.running, None
        observation, decision = run.observation, run.decision
        before, held = self.totals(), sum(member.sizes.values())
        outcomes = tuple(self._write(member, pool, target, dice) for pool, target in decision.targets.items())
        tick = Tick("abc", observation, decision, outcomes, len(member.history), 0.0, 0.0)
        member.history.append(tick)
        member.ticks.append(tick)
        self.ledger.record(tick)
        if observation.grant is not None:
            removed = held - sum(member.sizes.values())
            shrank = [o.pool for o in outcomes if o.after < o.before]
            quantum = member.spec.pools[shrank[0]].quantum if len(shrank) == 1 else 1
            after = self.totals()
            self.changes.append(Change(decision.at, run.requested, removed, quantum, before, after, run.unread_excess))

    def _write(self, member: Member, pool: PoolName, target: int, dice: Dice) -> Outcome:
        before = member.sizes[pool]
        if before == target:
            return Outcome(pool, before, target, Result.UNCHANGED)
        failure = dice.pick(range(12))
        if failure == 10:
            return Outcome(pool, before, target, Result.OUT_OF_CAPACITY, "none of this type")
        if failure != 11:
            member.sizes[pool] = target
            return Outcome(pool, before, target, Result.ACCEPTED)
        if dice.one_in(2):  # no response: only the next read shows the result
            member.sizes[pool] = target
        return Outcome(pool, before, target, Result.UNAVAILABLE, "no answer")

    def round(self, dice: Dice) -> None:
        """Run a tick of every workload in any order, with overlaps."""
        waiting = list(self.members)
        while waiting or any(m.running for m in self.members):
            busy = [m for m in self.members if m.running]
            if waiting and (not busy or dice.one_in(2)):
                self.begin(waiting.pop(dice.pick(range(len(waiting)))), dice)
            else:
                self.end(dice.pick(busy), dice)
            self.now += 0.001
        self.now += INTERVAL_S * dice.pick((1, 1, 1, 1, 8))


@st.composite
def members(draw: st.DrawFn, number: int) -> Member:
    price = draw(st.sampled_from((1.0, 2.5, 98.32)))
    pools = {
        PoolName(name): Pool(
            gpus_per_replica=draw(st.sampled_from((1, 1, 2, 8))),
            price_usd_per_hour=price,
            market=draw(st.sampled_from(("on_demand", "on_demand", "reserved"))),
            max_replicas=draw(st.none() | st.integers(4, 8)),
            quantum=draw(st.sampled_from((1, 1, 1, 2, 4))),
        )
        for name in draw(st.sampled_from((("a",), ("a",), ("a", "b"))))
    }
    max_size = sum(p.max_replicas or 12 for p in pools.values())
    policy = draw(st.sampled_from((QueueDepth(source="queue"), QueueDepth(source="queue"), Static(replicas=6))))
    owns_stabilization = isinstance(policy, Static)
    spec = WorkloadSpec(
        workload=f"w{number}",
        min_replicas=draw(st.integers(0, min(2, max_size))),
        max_replicas=12,
        sources={},
        policies={PolicyName("p"): policy},
        pools=pools,
        priority=draw(st.sampled_from((0, 0, 1, 5))),
        budget=Budget(gpus=draw(st.sampled_from((None, None, 12)))),
        blast_radius=BlastRadius(share=draw(st.sampled_from((1.0, 0.3))), window_s=120.0),
        override=draw(st.sampled_from((None, None, None, Override(replicas=5, until="2027-01-15T08:02Z")))),
        scale_up=ScaleUp() if owns_stabilization else ScaleUp(max_replicas=draw(st.sampled_from((2, 100)))),
        scale_down=ScaleDown()
        if owns_stabilization
        else ScaleDown(window_s=draw(st.sampled_from((0.0, 60.0))), max_replicas=100),
        tolerance=0.1,
    )
    return Member(spec, {name: draw(st.integers(0, 6)) for name in pools})


@st.composite
def fleets(draw: st.DrawFn) -> FleetLife:
    """Draw two to four workloads under random limits, and up to sixteen rounds."""
    limits = FleetLimits(
        max_gpus=draw(st.sampled_from((None, 12, 24, 48))),
        max_usd_per_hour=draw(st.sampled_from((None, 10.0, 300.0))),
        blast_radius=BlastRadius(
            share=draw(st.sampled_from((1.0, 0.25, 0.5))), window_s=draw(st.sampled_from((60.0, 300.0)))
        ),
    )
    ledger = QuotaLedger(limits)
    life = FleetLife(limits, [draw(members(i)) for i in range(draw(st.integers(2, 4)))], ledger)
    for member in life.members:
        ledger.register(member.name, member.spec)
    seeds = st.just(0) | st.binary(min_size=24, max_size=24).map(lambda b: int.from_bytes(b, "big"))
    for number in draw(st.lists(seeds, min_size=4, max_size=16)):
        life.round(Dice(number))
    return life
