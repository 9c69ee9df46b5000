"""One turn with its past: what the invariants are asked about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from policies.allocate import quantum
from policies.allocate.candidates import differ_in_cost
from policies.history.ticks import History
from policies.model import Absent, Decision, Fresh, PoolName, PoolStatus, Tick
from policies.model.limits import Override
from policies.model.spec import WorkloadSpec
from policies.model.weekly_window import local_time
from policies.signals.demand import signal_names
from policies.signals.zero_suspicion import source_of


@dataclass(frozen=True, slots=True)
class Seen:
    """A turn as it was recorded, and which of its sources the world made say 0 of work that was there to be told."""

    tick: Tick
    lies: frozenset[str] = frozenset()

    @property
    def at(self) -> float:
        return self.tick.at

    @property
    def decision(self) -> Decision:
        return self.tick.decision


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn to be judged, those before it (oldest first), and the history that their records give.

    `spec` has the bounds that hold now: a size set by hand may widen them.
    """

    spec: WorkloadSpec
    now: Seen
    past: Sequence[Seen]
    history: History

    @property
    def tick(self) -> Tick:
        return self.now.tick

    @property
    def decision(self) -> Decision:
        return self.now.tick.decision

    @property
    def found(self) -> dict[PoolName, PoolStatus]:
        """The pools' sizes, as far as they are known."""
        pools = self.tick.observation.pools
        return {name: r.value for name, r in pools.items() if not isinstance(r, Absent)}

    @property
    def changes(self) -> list[tuple[PoolName, int, int]]:
        """Every target of a pool whose size is known: (pool, size found, target)."""
        found = self.found
        return [(name, found[name].desired, n) for name, n in self.decision.targets.items() if name in found]

    @property
    def simple(self) -> bool:
        """Whether pools differ in nothing, so that a size is a number of replicas and every one of them counts.

        Where money decides, a size is replicas' worth of work, and pools hold spares and what others replace beyond it.
        """
        return not differ_in_cost(self.spec)

    @property
    def least(self) -> int:
        """What the pools' and the workload's minimums ask for, whatever is needed."""
        pools = self.spec.pools
        lifts = {name: quantum.round_up(pools[name].min_replicas, pools[name].quantum) for name in self.found}
        lifted: int = sum(max(status.desired, lifts[name]) for name, status in self.found.items())
        return max(self.spec.min_replicas, lifted)

    @property
    def rounding(self) -> int:
        """What whole quanta may add to a size: in each pool less than one."""
        return sum(pool.quantum - 1 for pool in self.spec.pools.values())

    def by_hand(self) -> Override | None:
        """The size set by hand that is in force, if any."""
        given = self.spec.override
        return given if given is not None and given.in_force(self.now.at) else None

    def forbids(self, *modes: str) -> bool:
        """Whether a maintenance window of one of these modes is open."""
        maintenance = self.spec.maintenance
        local = local_time(self.now.at, maintenance.time_zone)
        return any(w.mode in modes and w.covers(local) for w in maintenance.windows) and self.by_hand() is None

    def shrinks(self) -> bool:
        """Whether the size decided is below the one found."""
        d = self.decision
        return d.target is not None and d.current is not None and d.target < d.current

    def grows(self) -> bool:
        d = self.decision
        return d.target is not None and d.current is not None and d.target > d.current

    def since(self, span_s: float) -> Iterator[Seen]:
        """The turns before this one in [now - span_s, now], latest first."""
        since = self.now.at - span_s
        for seen in reversed(self.past):
            if seen.at < since:
                return
            yield seen


def asked(spec: WorkloadSpec) -> frozenset[str]:
    """The sources that policies read."""
    return frozenset(p.source for p in spec.policies.values() if p.needs() and p.source is not None)


def lacking(spec: WorkloadSpec, tick: Tick) -> list[str]:
    """What a workload is configured to see and this turn did not see, fresh, whole and believed: signals and sizes."""
    wanted = {s for p in spec.policies.values() if p.needs() for s in signal_names(p.source, p.needs())}
    readings, pools = tick.observation.readings, tick.observation.pools
    found = []
    for signal in sorted(wanted):
        reading = readings.get(signal)
        if source_of(signal) in tick.decision.suspected_zeros:
            found.append(f"{signal} is {reading} and not believed")
        elif not isinstance(reading, Fresh) or reading.missing:
            found.append(f"{signal} is {reading}")
    return found + [f"{name} is {r}" for name, r in pools.items() if not isinstance(r, Fresh)]
