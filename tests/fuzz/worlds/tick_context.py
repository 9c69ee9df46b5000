"""One tick with its past: the input of the invariants."""

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
class RecordedTick:
    """A tick as it was recorded, and the sources for which the world injected a false zero."""

    tick: Tick
    injected_zeros: frozenset[str] = frozenset()

    @property
    def at(self) -> float:
        return self.tick.at

    @property
    def decision(self) -> Decision:
        return self.tick.decision


@dataclass(frozen=True, slots=True)
class TickContext:
    """The tick to be judged, the ticks before it (oldest first), and the history from their records.

    `spec` has the bounds in force: an override may widen them.
    """

    spec: WorkloadSpec
    now: RecordedTick
    past: Sequence[RecordedTick]
    history: History

    @property
    def tick(self) -> Tick:
        return self.now.tick

    @property
    def decision(self) -> Decision:
        return self.now.tick.decision

    @property
    def statuses(self) -> dict[PoolName, PoolStatus]:
        """The known statuses of the pools."""
        pools = self.tick.observation.pools
        return {name: r.value for name, r in pools.items() if not isinstance(r, Absent)}

    @property
    def changes(self) -> list[tuple[PoolName, int, int]]:
        """(pool, observed size, target) of every target of a pool with a known size."""
        statuses = self.statuses
        return [(name, statuses[name].desired, n) for name, n in self.decision.targets.items() if name in statuses]

    @property
    def pools_are_alike(self) -> bool:
        """True if pools do not differ in cost, so that the size is the sum of their replicas.

        Otherwise the size is in replica equivalents, and pools also hold spares and replicas that others will replace.
        """
        return not differ_in_cost(self.spec)

    @property
    def minimum(self) -> int:
        """The size that the minimums of the pools and of the workload require."""
        pools = self.spec.pools
        minimums = {name: quantum.round_up(pools[name].min_replicas, pools[name].quantum) for name in self.statuses}
        total: int = sum(max(status.desired, minimums[name]) for name, status in self.statuses.items())
        return max(self.spec.min_replicas, total)

    @property
    def maximum(self) -> int:
        """The size that the maximums of the pools and of the workload allow, in whole quanta."""
        bounds = (quantum.bounds(pool, self.spec.max_replicas) for pool in self.spec.pools.values())
        return min(self.spec.max_replicas, sum(highest for _, highest in bounds))

    @property
    def rounding(self) -> int:
        """Maximum that whole quanta add to a size: less than one quantum per pool."""
        return sum(pool.quantum - 1 for pool in self.spec.pools.values())

    def override_in_force(self) -> Override | None:
        """Return the override in force, or None."""
        override = self.spec.override
        return override if override is not None and override.in_force(self.now.at) else None

    def forbids(self, *modes: str) -> bool:
        """Return whether a maintenance window of one of these modes is open."""
        maintenance = self.spec.maintenance
        local = local_time(self.now.at, maintenance.time_zone)
        return (
            any(w.mode in modes and w.covers(local) for w in maintenance.windows) and self.override_in_force() is None
        )

    def shrinks(self) -> bool:
        """Return whether the decided size is below the observed one."""
        d = self.decision
        return d.target is not None and d.current is not None and d.target < d.current

    def grows(self) -> bool:
        d = self.decision
        return d.target is not None and d.current is not None and d.target > d.current

    def since(self, duration_s: float) -> Iterator[RecordedTick]:
        """Yield the ticks before this one in [now - duration_s, now], latest first."""
        start_s = self.now.at - duration_s
        for recorded in reversed(self.past):
            if recorded.at < start_s:
                return
            yield recorded


def read_sources(spec: WorkloadSpec) -> frozenset[str]:
    """Return the sources that policies read."""
    return frozenset(p.source for p in spec.policies.values() if p.needs() and p.source is not None)


def missing_evidence(spec: WorkloadSpec, tick: Tick) -> list[str]:
    """Return the configured signals and pool sizes that are not fresh, complete and trusted at this tick."""
    needed = {s for p in spec.policies.values() if p.needs() for s in signal_names(p.source, p.needs())}
    readings, pools = tick.observation.readings, tick.observation.pools
    missing = []
    for signal in sorted(needed):
        reading = readings.get(signal)
        if source_of(signal) in tick.decision.suspected_zeros:
            missing.append(f"{signal} is {reading} and not believed")
        elif not isinstance(reading, Fresh) or reading.missing:
            missing.append(f"{signal} is {reading}")
    return missing + [f"{name} is {r}" for name, r in pools.items() if not isinstance(r, Fresh)]
