"""Memory of each pool.

It has lead times, added replicas, interruptions, refusals and the ceiling of its capacity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from policies.history.added_replicas import AddedReplicas
from policies.history.capacity_backoff import CapacityBackoff
from policies.history.capacity_ceiling import CapacityCeiling
from policies.history.interruption_rate import InterruptionRate
from policies.history.lead_times import LeadTimes
from policies.model import Fresh, PoolStatus, Result
from policies.model.tick import NOT_WRITTEN, PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import Outcome, PoolName, Shortfall, Tick
    from policies.model.pool import Pool

REFUSALS: Final = frozenset({Result.OUT_OF_CAPACITY, Result.OUT_OF_QUOTA, Result.MISCONFIGURED})
"""Results of a request for more after which other pools are tried. The wait after a quota error is the longest. A
missing permission or a bound that a person has to change is retried like a shortage: no platform reports the change."""
UNAPPLIED_S: Final = 60.0
"""Maximum time from publication to its application that counts as lead time: four periods of an HPA. Seconds."""


class PoolMemory:
    """One pool's memory, built from ticks alone.

    `backoff` follows refusals and replicas that never arrived, in every market; `interruption_backoff` follows
    interruptions, and matters for spot pools only. `ceiling` is the size at which the pool last granted no more.
    `requested` is the size after the last write, `possible` the one that the platform may hold after it.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.lead_times = LeadTimes()
        self.added = AddedReplicas()
        self.interruption_rate = InterruptionRate()
        self.backoff = CapacityBackoff()
        self.interruption_backoff = CapacityBackoff()
        self.ceiling = CapacityCeiling()
        self.requested = 0
        self.possible = 0
        self._at = 0.0
        self._status: PoolStatus | None = None
        self._notice_at: float | None = None
        self._write_was_refused = False

    @property
    def is_known(self) -> bool:
        """Whether a tick has read the pool's size."""
        return self._status is not None

    def lost(self, status: PoolStatus) -> int:
        """Return the replicas lost since the last tick, by the counter or the ready replicas.

        A counter that fell has restarted. Example: 5 were ready and 5 are still desired, but only 3 are ready: 2 were
        lost. Where 3 are desired now, none was.
        """
        if self._status is None:
            return 0
        counted = status.interrupted - self._status.interrupted
        counted = min(status.interrupted, self._status.ready) if counted < 0 else counted
        expected = min(self._status.ready, self.requested)
        missing = max(0, expected - status.ready) if status.desired >= self.requested else 0
        return max(counted, missing)

    def new_shortfall(self, status: PoolStatus) -> Shortfall | None:
        """Return the shortfall that the platform reports, unless the last tick saw the same one."""
        return status.shortfall if self._status is None or self._status.shortfall != status.shortfall else None

    def expected_pending(self, status: PoolStatus, now: float, patience_s: float, *, interruptible: bool) -> int:
        """Return the pending replicas that may arrive; without substitutes if `interruptible`.

        A replica that no remembered tick requested counts as requested now: another writer may have requested it.
        """
        if not self.is_known:
            return status.pending
        unknown = status.pending - self.lead_times.pending
        arrived = max(0, -unknown)
        known = len(self.lead_times.pending_since(now, patience_s, arrived=arrived, without_replacements=interruptible))
        new = max(0, unknown - (self.lost(status) if interruptible else 0))
        return min(status.pending, known + new)

    def note(self, at: float, status: PoolStatus, outcome: Outcome | None, abandoned: int, spec: str) -> None:
        """Record one tick: the observed size, the outcome of a write, and the abandoned requests."""
        lost, passed_s = self.lost(status), max(0.0, at - self._at) if self.is_known else 0.0
        shortfall = self.new_shortfall(status)
        if status.interruption_pending and self._notice_at is None:
            self._notice_at = at
        if self._status is not None:
            notice_s = 0.0 if self._notice_at is None else at - self._notice_at
            self.interruption_rate.note(passed_s, self._status.ready, lost, notice_s)
            self.backoff = self.backoff.decayed(passed_s)
            self.interruption_backoff = self.interruption_backoff.decayed(passed_s)
            self._note_ceiling(status, lost, abandoned, passed_s)
        if not status.interruption_pending:
            self._notice_at = None
        was_raised = self.is_known and status.desired > self.requested
        was_written = outcome is not None and not outcome.result.refused and outcome.result not in NOT_WRITTEN
        self.requested = outcome.after if outcome is not None and was_written else status.desired
        self.possible = status.desired if outcome is None else outcome.possible_replicas
        arrived = self.lead_times.note(at, self.requested, status.ready, lost)
        self.added.note(at, status.desired, self.requested)
        if outcome is not None and outcome.result in PUBLISHED and outcome.after > outcome.before:
            self.lead_times.limit_age(status.pending, at - UNAPPLIED_S)
        self._status, self._at = status, at
        if arrived:
            self.backoff = self.backoff.granted(arrived, at)
            self.interruption_backoff = self.interruption_backoff.granted(arrived, at)
        is_refused = abandoned > 0 or (shortfall is not None and not shortfall.quota) or self._write_was_refused
        if is_refused and not status.ready:
            self.interruption_rate.renew()
        if lost:
            self.interruption_backoff = self.interruption_backoff.refused(at, f"{lost} replicas were interrupted")
        if (unreported := abandoned - status.failed) > 0:  # the platform itself reports the failed ones
            self.backoff = self.backoff.refused(at, f"{unreported} requested replicas did not arrive")
        if self.backoff.quota_spec and (was_raised or self.backoff.quota_spec != spec):
            self.backoff = self.backoff.without_wait()
        self._note_refusals(at, shortfall, outcome, spec)
        self._write_was_refused = outcome is not None and outcome.result is Result.OUT_OF_CAPACITY

    def _note_ceiling(self, status: PoolStatus, lost: int, abandoned: int, passed_s: float) -> None:
        """Record the size at which the pool grants no more; the tick after a refused write shows it."""
        ceiling, shortfall = self.ceiling.aged(passed_s).passed(status.ready), self.new_shortfall(status)
        if lost:
            ceiling = ceiling.hit(status.ready)
        if self._write_was_refused or abandoned > status.failed or (shortfall is not None and not shortfall.quota):
            ceiling = ceiling.hit(status.desired - max(status.failed, abandoned))
        self.ceiling = ceiling

    def _note_refusals(self, at: float, shortfall: Shortfall | None, outcome: Outcome | None, spec: str) -> None:
        """Record refusals by the platform, in a write's outcome or, later, in the pool's status."""
        refusals = [] if shortfall is None else [(shortfall.quota, shortfall.reason)]
        if outcome is not None and outcome.after > outcome.before and outcome.result in REFUSALS:
            refusals.append((outcome.result is Result.OUT_OF_QUOTA, outcome.reason))
        if refusals:
            self.lead_times.mark_shortage()
        for is_quota, reason in refusals:
            backoff = self.backoff
            self.backoff = backoff.over_quota(at, reason, spec, self.name) if is_quota else backoff.refused(at, reason)

    def shift(self, step_s: float) -> None:
        """Shift all times after a jump of the wall clock, so that ages stay the same."""
        self.lead_times.shift(step_s)
        self.added.shift(step_s)
        self.backoff = self.backoff.shifted(step_s)
        self.interruption_backoff = self.interruption_backoff.shifted(step_s)
        self._at += step_s
        if self._notice_at is not None:
            self._notice_at += step_s


class PoolMemories:
    """The memory of every pool of a workload. A pool that a tick could not read stays as it was."""

    def __init__(self) -> None:
        self._pools: dict[PoolName, PoolMemory] = {}

    def of(self, pool: PoolName) -> PoolMemory:
        """Return the pool's memory; an empty one for a pool that no tick has read."""
        return self._pools.get(pool) or PoolMemory()

    def pending_since(self, pools: Mapping[PoolName, Pool], now: float) -> list[float]:
        """Return the request times of these pools' replicas that may still arrive, oldest first."""
        since: list[float] = []
        for name, pool in pools.items():
            lead_times = self.of(name).lead_times
            patience_s = lead_times.patience_s(pool.lead_time_s)
            since += lead_times.pending_since(now, patience_s, without_replacements=pool.market == "spot")
        return sorted(since)

    def note(self, tick: Tick) -> None:
        """Record one tick. Pools that the workload no longer has are forgotten."""
        outcomes = {o.pool: o for o in tick.outcomes}
        self._pools = {n: m for n, m in self._pools.items() if n in tick.observation.pools}
        for name, reading in tick.observation.pools.items():
            if isinstance(reading, Fresh):
                memory = self._pools.get(name)
                if memory is None:
                    memory = self._pools[name] = PoolMemory(name)
                abandoned = tick.decision.abandoned.get(name, 0)
                memory.note(tick.decision.at, reading.value, outcomes.get(name), abandoned, tick.spec)

    def shift(self, step_s: float) -> None:
        for memory in self._pools.values():
            memory.shift(step_s)
