"""The daemon's ledger of the replicas that each workload holds, needs and removed.

It computes grants from these.

A tick calls `grant`, decides, and calls `reserve` without an await in between: two workloads never get the same
capacity. The decision is reserved before it is carried out; `record` then corrects it by the tick's outcomes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from policies.guard.blast_radius import removable
from policies.model import Absent, Decision, Grant, Observation, PoolName, Result, RuleId, Tick, WorkloadName
from policies.model.spec import WorkloadSpec
from policies.model.tick import PUBLISHED
from policies.quota import fleet_quota, resource_claims
from policies.quota.fleet_quota import FleetLimits
from policies.quota.resource_claims import NO_GROUP, ResourceClaim, ResourceClaims
from policies.quota.shard_shares import HeldShare, ShardNeed, within_share

REMOVED: Final = frozenset({Result.UNCHANGED, Result.ACCEPTED, Result.UNAVAILABLE})
"""Results after which a removal counts: the platform applied it, or may have."""
NEVER: Final = float("-inf")


class Shares(Protocol):
    """The shares of the fleet's limits that this daemon holds, of several daemons."""

    def shard(self, workload: WorkloadName) -> int:
        """Return a workload's shard."""

    def held_share(self, shard: int) -> HeldShare:
        """Return the share of a shard, and what is used of it."""


@dataclass(slots=True)
class LedgerEntry:
    """One workload in the ledger.

    It has its pools' last observed or decided sizes, and its need in replicas. `absent` are the pools whose size the
    last tick could not observe. `published` are the observed sizes of the pools whose last decided size another
    autoscaler was to apply, and `applied_removals` the replicas that it removed since. `blocked`: whether the fleet's
    blast radius prevented a removal.
    """

    spec: WorkloadSpec
    sizes: dict[PoolName, int] = field(default_factory=dict)
    measured_at: dict[PoolName, float] = field(default_factory=dict)
    absent: set[PoolName] = field(default_factory=set)
    need: float | None = None
    blocked: bool = False
    decided_at: float = NEVER
    published: dict[PoolName, int] = field(default_factory=dict)
    applied_removals: int = 0

    def update_sizes(self, observation: Observation) -> None:
        """Update the sizes from one tick's observation.

        An absent size stays as it was. A size measured before the last decision does not include its outcome: the
        larger of the two counts. Example: 4 replicas, decided 6 at 100 s; a status of 4 measured at 95 s leaves 6.
        """
        self.absent = {name for name, status in observation.pools.items() if isinstance(status, Absent)}
        for name, status in observation.pools.items():
            if not isinstance(status, Absent):
                known = self.sizes.get(name, 0) if status.measured_at <= self.decided_at else 0
                self.sizes[name] = max(known, status.value.desired)
                self.measured_at[name] = status.measured_at

    def is_measured_since(self, at: float) -> bool:
        """Return whether all sizes were measured at that time or later."""
        return all(self.measured_at.get(name, NEVER) >= at for name in self.spec.pools)

    def claim(self) -> ResourceClaim:
        known = self.sizes.keys() >= self.spec.pools.keys()
        sizes = {name: self.sizes[name] for name in self.spec.pools} if known else None
        present = self.sizes.keys() & self.spec.pools.keys() - self.absent
        observed = {name: self.sizes[name] for name in present} if self.absent else None
        return resource_claims.claim(self.spec, sizes, self.need, observed)


class QuotaLedger:
    """All workloads of a daemon under the fleet's limits."""

    def __init__(self, limits: FleetLimits) -> None:
        self._limits = limits
        self._entries: dict[WorkloadName, LedgerEntry] = {}
        self._claims = ResourceClaims()
        self._removed: dict[tuple[float, WorkloadName], int] = {}
        self._sizes: deque[tuple[float, int]] = deque()
        self._stepped_s = 0.0
        self._remote: dict[WorkloadName, int] = {}
        self.shares: Shares | None = None
        """The shares of the limits that this daemon holds; None where it counts all workloads itself."""

    @property
    def limits(self) -> FleetLimits:
        return self._limits

    def set_limits(self, limits: FleetLimits) -> None:
        """Replace the fleet's limits."""
        self._limits = limits
        self._claims, self._remote = ResourceClaims(), {}
        for name in self._entries:
            self._claim(name)

    def register(self, name: WorkloadName, spec: WorkloadSpec) -> None:
        """Add a workload, or replace its specification."""
        self._entries.setdefault(name, LedgerEntry(spec)).spec = spec
        if self.shares is not None:
            shard = self.shares.shard(name)
            self._drop_remote([remote for remote, of in self._remote.items() if of == shard])
        self._claim(name)

    def forget(self, name: WorkloadName) -> None:
        """Remove a workload: its replicas are no longer this daemon's."""
        self._entries.pop(name, None)
        self._claims.drop(name)

    def grant(self, name: WorkloadName, observation: Observation) -> Grant | None:
        """Return the limits on the amounts that the workload may hold and remove now.

        Returns None without limits of the fleet.
        """
        entry = self._entries[name]
        entry.update_sizes(observation)
        entry.applied_removals = sum(max(0, n - entry.sizes.get(pool, n)) for pool, n in entry.published.items())
        if not self.limits.limits:
            return None
        self._claim(name)
        since = observation.at - self.limits.blast_radius.window_s
        self._removed = {(at, name): n for (at, name), n in self._removed.items() if at >= since}
        largest = self._largest_since(since, observation.at)
        granted = fleet_quota.grant(self.limits, name, self._claims, sum(self._removed.values()), largest)
        if self.shares is None:
            return granted
        share = self.shares.held_share(self.shares.shard(name))
        return within_share(granted, self._claims[name], share, max(pool.quantum for pool in entry.spec.pools.values()))

    def reserve(self, name: WorkloadName, decision: Decision) -> None:
        """Count a decision before it is written.

        Added replicas count as held, removed ones as removed and still held. Example: a pool of 10 that is to shrink to
        7 holds 10, and 3 count as removed, until `record`.
        """
        entry = self._entries[name]
        removed = sum(max(0, entry.sizes[pool] - target) for pool, target in decision.targets.items())
        self._set_removed(name, decision.at, removed + entry.applied_removals)
        entry.sizes |= {pool: max(target, entry.sizes[pool]) for pool, target in decision.targets.items()}
        entry.need, entry.decided_at = resource_claims.need(entry.spec, decision), decision.at
        entry.blocked = any(step.rule == RuleId.FLEET_BLAST_RADIUS for step in decision.steps)
        self._claim(name)

    def record(self, tick: Tick) -> None:
        """Record a tick's outcomes: the sizes that the platform has accepted, or may have accepted.

        The removal of a published size counts once the other autoscaler has applied it, not in every tick before.
        """
        entry = self._entries[tick.workload]
        entry.update_sizes(tick.observation)
        entry.sizes |= {o.pool: o.possible_replicas for o in tick.outcomes}
        entry.need = resource_claims.need(entry.spec, tick.decision)
        written = [o for o in tick.outcomes if o.result in REMOVED]
        decided_at = tick.at if entry.decided_at == NEVER else entry.decided_at  # `shift` may have moved it
        removed = entry.applied_removals + sum(max(0, o.before - o.after) for o in written)
        self._set_removed(tick.workload, decided_at, removed)
        entry.published = {o.pool: o.before for o in tick.outcomes if o.result in PUBLISHED}
        entry.applied_removals = 0
        self._claim(tick.workload)

    def _claim(self, name: WorkloadName) -> None:
        if self.limits.limits:
            shard = NO_GROUP if self.shares is None else self.shares.shard(name)
            self._claims.set(name, self._entries[name].claim(), shard)

    def _largest_since(self, since: float, at: float) -> int:
        """Return the fleet's largest size in replicas since then, by a monotonic queue.

        The queue retains only sizes that exceed all later ones. Example: after 5, 9, 4 and 6 it holds 9 and 6.
        """
        size = self._claims.replicas
        while self._sizes and self._sizes[-1][1] <= size:
            self._sizes.pop()
        self._sizes.append((at, size))
        while self._sizes[0][0] < since:
            self._sizes.popleft()
        return self._sizes[0][1]

    def _set_removed(self, name: WorkloadName, at: float, removed: int) -> None:
        self._removed.pop((at, name), None)
        if removed > 0 and self.limits.blast_radius.share < 1.0:
            self._removed[at, name] = removed

    def shift(self, stepped_s: float) -> None:
        """Shift the times of removals and decisions after a jump of the clock.

        `stepped_s` is the sum of all jumps.
        """
        step_s, self._stepped_s = stepped_s - self._stepped_s, stepped_s
        if not step_s:
            return
        for entry in self._entries.values():
            entry.decided_at += step_s
            entry.measured_at = {pool: at + step_s for pool, at in entry.measured_at.items()}
        self._removed = {(at + step_s, name): n for (at, name), n in self._removed.items()}
        self._sizes = deque((at + step_s, size) for at, size in self._sizes)

    def held(self) -> Mapping[str, float]:
        """Return the GPUs and USD per hour that the fleet holds.

        Only workloads whose sizes are known count. Those of other daemons count as these last reported them.
        """
        claims = [entry.claim() for entry in self._entries.values()] + [self._claims[name] for name in self._remote]
        known = [claim for claim in claims if not claim.unread]
        return {"gpus": sum(c.gpus.held for c in known), "usd_per_hour": sum(c.usd_per_hour.held for c in known)}

    # --- shares of several daemons

    def set_remote(self, claims: Mapping[tuple[int, WorkloadName], ResourceClaim]) -> None:
        """Replace the claims of shards without workloads here, as their holders last reported them.

        The claims of a shard whose workloads are here are ignored: it would count twice.
        """
        shards = set() if self.shares is None else {self.shares.shard(name) for name in self._entries}
        remote = {name: shard for shard, name in claims if shard not in shards}
        self._drop_remote(self._remote.keys() - remote.keys())
        for name, shard in remote.items():
            self._claims.set(name, claims[shard, name])
        self._remote = remote

    def _drop_remote(self, names: Collection[WorkloadName]) -> None:
        for name in names:
            del self._remote[name]
            self._claims.drop(name)

    def claim_of(self, name: WorkloadName, since: float) -> ResourceClaim | None:
        """Return a workload's claim.

        Returns None where it is not run here, or a size was not measured since then.
        """
        entry = self._entries.get(name)
        return entry.claim() if entry is not None and entry.is_measured_since(since) else None

    def shard_amounts(self, shard: int) -> tuple[int, float, float]:
        """Return the number of a shard's workloads here, and their GPUs and USD per hour."""
        return self._claims.held(shard)

    def removed(self, names: Collection[WorkloadName]) -> int:
        """Return the replicas of some workloads that were removed within the window."""
        return sum(n for (_, name), n in self._removed.items() if name in names)

    def removals(self, names: Collection[WorkloadName]) -> ShardNeed:
        """Return the replicas removed within the window, and those to be removed."""
        blocked = [entry for n in names if (entry := self._entries.get(n)) is not None and entry.blocked]
        quanta = [max(pool.quantum for pool in entry.spec.pools.values()) for entry in blocked]
        sizes = [sum(entry.sizes.values()) for entry in blocked]
        wanted = sum(max(q, n - (e.need or 0.0)) for e, n, q in zip(blocked, sizes, quanta, strict=True))
        removed = self.removed(names)
        return ShardNeed(0, removed, 0.0, removed + wanted, max(quanta, default=1))

    def removal_limit(self, at: float) -> float | None:
        """Return the replicas that the fleet may remove within the window; None without a limit."""
        radius = self.limits.blast_radius
        return None if radius.share >= 1.0 else removable(radius, self._largest_since(at - radius.window_s, at), 0)
