"""The daemon's ledger of what every workload holds, needs and removed: where each grant is computed from.

It is asked and told within one turn without an await between reading and deciding, so that two workloads never grow
into the same room: a decision is reserved before it is carried out, and the tick then says what came of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from policies.model import Absent, Decision, Grant, Observation, Outcome, PoolName, Result, Tick, WorkloadName
from policies.model.spec import WorkloadSpec
from policies.quota import fleet_quota, resource_claims
from policies.quota.fleet_quota import FleetLimits
from policies.quota.resource_claims import ResourceClaim, ResourceClaims

TAKEN: Final = frozenset({Result.UNCHANGED, Result.ACCEPTED})
"""Outcomes after which the platform has the size that was decided."""
UNKNOWN: Final = frozenset({Result.UNAVAILABLE})
"""Outcomes after which it may have: it holds the larger size then, and what was to be removed counts as removed."""

NEVER: Final = float("-inf")


@dataclass(slots=True)
class LedgerEntry:
    """What is known of one workload: its pools' sizes as last seen or decided, and its need in replicas.

    `absent` are the pools whose size the last tick did not know.
    """

    spec: WorkloadSpec
    sizes: dict[PoolName, int] = field(default_factory=dict)
    absent: set[PoolName] = field(default_factory=set)
    need: float | None = None
    decided_at: float = NEVER

    def see(self, seen: Observation) -> None:
        """Take the sizes of one turn. One that could not be read stays what it was, and one that was read before the
        last decision cannot know what came of it: the larger counts."""
        self.absent = {name for name, status in seen.pools.items() if isinstance(status, Absent)}
        for name, status in seen.pools.items():
            if not isinstance(status, Absent):
                known = self.sizes.get(name, 0) if status.measured_at <= self.decided_at else 0
                self.sizes[name] = max(known, status.value.desired)

    def claim(self) -> ResourceClaim:
        known = self.sizes.keys() >= self.spec.pools.keys()
        sizes = {name: self.sizes[name] for name in self.spec.pools} if known else None
        shown = self.sizes.keys() & self.spec.pools.keys() - self.absent
        read = {name: self.sizes[name] for name in shown} if self.absent else None
        return resource_claims.claim(self.spec, sizes, self.need, read)


class QuotaLedger:
    """All workloads of a daemon under the limits that span them."""

    def __init__(self, limits: FleetLimits) -> None:
        self._limits = limits
        self._entries: dict[WorkloadName, LedgerEntry] = {}
        self._claims = ResourceClaims()
        self._removed: dict[tuple[float, WorkloadName], int] = {}
        self._sizes: deque[tuple[float, int]] = deque()
        self._stepped_s = 0.0

    @property
    def limits(self) -> FleetLimits:
        return self._limits

    def limit(self, limits: FleetLimits) -> None:
        """Hold the fleet to these limits from now on."""
        self._limits = limits
        self._claims = ResourceClaims(
            {name: entry.claim() for name, entry in self._entries.items()} if limits.limits else {}
        )

    def enter(self, name: WorkloadName, spec: WorkloadSpec) -> None:
        """Count a workload from now on, or by another specification."""
        self._entries.setdefault(name, LedgerEntry(spec)).spec = spec
        self._claim(name)

    def forget(self, name: WorkloadName) -> None:
        """Count a workload no more: what it holds is no longer this daemon's."""
        self._entries.pop(name, None)
        self._claims.drop(name)

    def grant(self, name: WorkloadName, seen: Observation) -> Grant | None:
        """Return what the workload may hold and remove now; None where nothing spans workloads."""
        self._entries[name].see(seen)
        if not self.limits.limits:
            return None
        self._claim(name)
        since = seen.at - self.limits.blast_radius.window_s
        self._removed = {turn: n for turn, n in self._removed.items() if turn[0] >= since}
        largest = self._largest_since(since, seen.at)
        return fleet_quota.grant(self.limits, name, self._claims, sum(self._removed.values()), largest)

    def reserve(self, name: WorkloadName, decision: Decision) -> None:
        """Count a decision before it is written: growth as held, removals as done and still held."""
        entry = self._entries[name]
        removed = sum(max(0, entry.sizes[pool] - target) for pool, target in decision.targets.items())
        self._count(name, decision.at, removed)
        entry.sizes |= {pool: max(target, entry.sizes[pool]) for pool, target in decision.targets.items()}
        entry.need, entry.decided_at = resource_claims.need(entry.spec, decision), decision.at
        self._claim(name)

    def note(self, tick: Tick) -> None:
        """Record the outcome of a tick: the sizes that the platform has accepted, or may have accepted."""
        entry = self._entries[tick.workload]
        entry.see(tick.observation)
        entry.sizes |= {o.pool: held_replicas(o) for o in tick.outcomes}
        entry.need = resource_claims.need(entry.spec, tick.decision)
        written = [o for o in tick.outcomes if o.result in TAKEN | UNKNOWN]
        decided_at = tick.at if entry.decided_at == NEVER else entry.decided_at  # it has moved where the clock jumped
        self._count(tick.workload, decided_at, sum(max(0, o.before - o.after) for o in written))
        self._claim(tick.workload)

    def _claim(self, name: WorkloadName) -> None:
        if self.limits.limits:
            self._claims.set(name, self._entries[name].claim())

    def _largest_since(self, since: float, at: float) -> int:
        """Return the most replicas that the fleet was asked for since then.

        Only sizes that none later exceeds are kept.
        """
        size = self._claims.replicas
        while self._sizes and self._sizes[-1][1] <= size:
            self._sizes.pop()
        self._sizes.append((at, size))
        while self._sizes[0][0] < since:
            self._sizes.popleft()
        return self._sizes[0][1]

    def _count(self, name: WorkloadName, at: float, removed: int) -> None:
        self._removed.pop((at, name), None)
        if removed > 0 and self.limits.blast_radius.share < 1.0:
            self._removed[at, name] = removed

    def shift(self, stepped_s: float) -> None:
        """Shift removals and decisions by the wall clock's total jump, so that they keep their age."""
        step_s, self._stepped_s = stepped_s - self._stepped_s, stepped_s
        if not step_s:
            return
        for entry in self._entries.values():
            entry.decided_at += step_s
        self._removed = {(at + step_s, name): n for (at, name), n in self._removed.items()}
        self._sizes = deque((at + step_s, size) for at, size in self._sizes)

    def held(self) -> Mapping[str, float]:
        """GPUs and USD per hour that the fleet holds, as far as its sizes were ever read."""
        read = [claim for entry in self._entries.values() if not (claim := entry.claim()).unread]
        return {"gpus": sum(c.gpus.held for c in read), "usd_per_hour": sum(c.usd_per_hour.held for c in read)}


def held_replicas(outcome: Outcome) -> int:
    """Return the size to count after a write: the larger one where it is not known whether it came through."""
    if outcome.result in TAKEN:
        return outcome.after
    return outcome.before if outcome.result is Result.DRY_RUN else max(outcome.before, outcome.after)
