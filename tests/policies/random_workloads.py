"""Random histories of a workload for the laws: a random specification, and ticks with random faults.

One integer, read digit by digit, determines a tick. Zero gives the simplest tick (all readings fresh, no load, no
other writer), so that Hypothesis shrinks a counterexample to the few ticks that matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from hypothesis import strategies as st

from policies.allocate.quantum import round_up
from policies.history.ticks import History
from policies.model import (
    Absent,
    Decision,
    Fresh,
    Observation,
    Outcome,
    PolicyName,
    PoolName,
    PoolStatus,
    Reading,
    Result,
    SignalName,
    Stale,
    Tick,
    WorkloadName,
)
from policies.model.pool import Pool
from policies.model.spec import ScaleDown, ScaleUp, WorkloadSpec
from policies.pipeline import decide
from policies.recommend.schedule import Schedule, Window
from policies.recommend.threshold import Concurrency, GpuUtilization, Headroom, KvCacheUsage, Metric, QueueDepth

T = TypeVar("T")
START = 1_800_000_000.0
SIGNALS = {
    "queue.visible": (0, 0, 0, 1, 2, 7, 40, 300),
    "queue.in_flight": (0, 0, 1, 3),
    "queue.delayed": (0, 5),
    "queue.groups_in_flight": (0, 1, 4, 9),
    "engine.running": (0, 0, 2, 30),
    "engine.waiting": (0, 0, 1, 90),
    "engine.kv_cache_usage": (0.0, 0.1, 0.79, 0.8, 1.0),
    "engine.utilization": (0.0, 0.05, 0.6, 1.0),
    "engine.tokens_per_s": (0.0, 10.0, 2500.0, 9000.0),
}
"""Signals, and the values of each."""


class Dice:
    """An integer read digit by digit."""

    def __init__(self, number: int) -> None:
        self._left = number

    def pick(self, among: Sequence[T]) -> T:
        self._left, digit = divmod(self._left, len(among))
        return among[digit]

    def one_in(self, n: int) -> bool:
        return self.pick(range(n)) == n - 1


@dataclass
class RunTick:
    """One tick as the controller records it."""

    observation: Observation
    decision: Decision
    record: Tick


@dataclass
class WorkloadRun:
    """A workload's ticks so far. `sizes` are the actual sizes, `known` the last statuses reported."""

    spec: WorkloadSpec
    sizes: dict[PoolName, int]
    calm: bool
    now: float = START
    history: History = field(default_factory=lambda: History(7200.0))
    known: dict[PoolName, PoolStatus] = field(default_factory=dict)
    ticks: list[RunTick] = field(default_factory=list)

    def observe(self, dice: Dice) -> Observation:
        readings = {SignalName(name): self._reading(dice, values) for name, values in SIGNALS.items()}
        pools = {name: self._status(dice, name) for name in self.spec.pools}
        errors = {"queue": "no answer"} if dice.one_in(8) else {}
        return Observation(
            WorkloadName("llm"), self.now, readings, pools, errors, {PoolName("main"): "no answer"} if errors else {}
        )

    def _reading(self, dice: Dice, values: Sequence[float]) -> Reading[float]:
        value = float(dice.pick(values))
        match dice.pick(range(24)):
            case 21:
                return Fresh(value, self.now, "one replica did not answer")
            case 22:
                return Stale(value, self.now - 100.0, 100.0)
            case 23:
                return Absent("gone")
        return Fresh(value, self.now)

    def _status(self, dice: Dice, pool: PoolName) -> Reading[PoolStatus]:
        size = self.sizes[pool]
        foreign = None if self.calm else dice.pick((*[None] * 15, "hpa/llm"))
        status = PoolStatus(size, dice.pick((size, size, size // 2, 0)), foreign, version=str(len(self.ticks)))
        fault = 0 if self.calm else dice.pick(range(24))
        if fault == 23:
            return Absent("no answer")
        if fault == 22 and pool in self.known:
            return Stale(self.known[pool], self.now - 90.0, 90.0)
        self.known[pool] = status
        return Fresh(status, self.now)

    def tick(self, dice: Dice) -> RunTick:
        """Run one tick as the controller does; a write fails at random unless `calm`."""
        observation = self.observe(dice)
        decision = decide(self.spec, self.history, observation)
        outcomes = tuple(self._write(dice, pool, target) for pool, target in decision.targets.items())
        record = Tick("abc", observation, decision, outcomes, len(self.history), 0.25, 0.125)
        self.history.append(record)
        self.ticks.append(RunTick(observation, decision, record))
        if not self.calm and dice.one_in(12):  # another writer, or a failing node
            pool = dice.pick(list(self.sizes))
            self.sizes[pool] = dice.pick((0, 1, 5, 12))
        self.now += self.spec.interval_s * dice.pick((1, 1, 1, 1, 1, 1, 1, 5))
        return self.ticks[-1]

    def _write(self, dice: Dice, pool: PoolName, target: int) -> Outcome:
        before = self.sizes[pool]
        if target == before:
            return Outcome(pool, before, target, Result.UNCHANGED)
        if not self.calm and dice.one_in(10):
            return Outcome(pool, before, target, Result.OUT_OF_CAPACITY, "none of this type")
        self.sizes[pool] = target
        return Outcome(pool, before, target, Result.ACCEPTED)


@st.composite
def specs(draw: st.DrawFn, quanta: Sequence[int] = (1,)) -> WorkloadSpec:
    """Draw a specification that the loader accepts."""
    pools: dict[PoolName, Pool] = {}
    for name in draw(st.sampled_from((("a",), ("a",), ("a", "b"), ("a", "b", "c")))):
        minimum, quantum = draw(st.integers(0, 2)), draw(st.sampled_from(quanta))
        maximum = draw(st.none() | st.integers(max(1, round_up(minimum, quantum)), 12))
        pools[PoolName(name)] = Pool(
            min_replicas=minimum,
            max_replicas=maximum,
            quantum=quantum,
            on_other_writer=draw(st.sampled_from(("yield", "take_over"))),
        )
    high = draw(st.integers(max(1, sum(round_up(p.min_replicas, p.quantum) for p in pools.values())), 20))
    max_total = sum(high if p.max_replicas is None else p.max_replicas for p in pools.values())
    return WorkloadSpec(
        workload="llm",
        min_replicas=draw(st.integers(0, min(3, high, max_total))),
        max_replicas=high,
        sources={},
        policies=draw(policies()),
        pools=pools,
        interval_s=draw(st.sampled_from((15.0, 5.0, 30.0))),
        cooldown_s=draw(st.sampled_from((0.0, 60.0, 300.0))),
        tolerance=draw(st.sampled_from((0.0, 0.1, 0.4))),
        scale_up=ScaleUp(
            window_s=draw(st.sampled_from((0.0, 60.0))),
            period_s=draw(st.sampled_from((15.0, 40.0))),
            max_replicas=draw(st.integers(1, 5)),
            max_share=draw(st.sampled_from((0.0, 0.5, 1.0))),
        ),
        scale_down=ScaleDown(
            window_s=draw(st.sampled_from((0.0, 60.0, 200.0))),
            period_s=draw(st.sampled_from((60.0, 15.0))),
            max_replicas=draw(st.integers(1, 5)),
            max_share=draw(st.sampled_from((0.0, 0.5, 1.0))),
            max_evidence_gap_s=draw(st.sampled_from((60.0, 20.0))),
        ),
    )


def policies() -> st.SearchStrategy[Mapping[PolicyName, Any]]:
    """Draw a queue policy and up to three other policies."""
    queue = st.builds(
        QueueDepth,
        source=st.just("queue"),
        target_per_replica=st.sampled_from((5.0, 1.0, 16.0)),
        activation=st.sampled_from((0.0, 4.0)),
        groups_per_replica=st.sampled_from((None, None, 2.0)),
    )
    others: dict[str, st.SearchStrategy[Any]] = {
        "concurrency": st.builds(Concurrency, source=st.just("engine"), target_per_replica=st.just(20.0)),
        "kv": st.builds(KvCacheUsage, source=st.just("engine")),
        "gpu": st.builds(GpuUtilization, source=st.just("engine")),
        "tokens": st.just(Metric(source="engine", quantity="tokens_per_s", target=2500.0)),
        "room": st.builds(Headroom, share=st.sampled_from((0.3, 0.5))),
        "office": st.just(Schedule(windows=(Window(start="08:00", end="08:05", replicas=3),))),
    }
    some = st.lists(st.sampled_from(sorted(others)), unique=True, max_size=3)
    more = some.flatmap(lambda names: st.fixed_dictionaries({n: others[n] for n in names}))
    return st.builds(lambda q, m: {PolicyName(n): p for n, p in {"queue": q, **m}.items()}, queue, more)


@st.composite
def workload_runs(
    draw: st.DrawFn, *, calm: bool = False, paused: bool = False, quanta: Sequence[int] = (1,)
) -> WorkloadRun:
    """Draw a history of 10 to 60 ticks; a `calm` one has no other writer, and every write is accepted."""
    spec = replace(draw(specs(quanta)), paused=paused)
    run = WorkloadRun(spec, {name: draw(st.integers(0, 12)) for name in spec.pools}, calm)
    seeds = st.just(0) | st.binary(min_size=24, max_size=24).map(lambda b: int.from_bytes(b, "big"))
    for number in draw(st.lists(seeds, min_size=10, max_size=60)):
        run.tick(Dice(number))
    return run
