"""What each pool's market has shown: how soon it serves, what it takes away, what it would not give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from policies.history.capacity_backoff import CapacityBackoff
from policies.history.capacity_ceiling import CapacityCeiling
from policies.history.interruption_rate import InterruptionRate
from policies.history.lead_times import LeadTimes
from policies.model import Fresh, PoolStatus, Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import Outcome, PoolName, Shortfall, Tick
    from policies.model.spec import Pool

REFUSALS: Final = frozenset({Result.OUT_OF_CAPACITY, Result.OUT_OF_QUOTA, Result.MISCONFIGURED})
"""Results of an ask for more after which it is worth asking elsewhere. The wait after a quota error is longer than the
others. A permission or a bound that a person has to change is retried as a shortage is, since no platform reports the
change."""


class PoolMemory:
    """One pool's memory, built from ticks alone.

    `short` remembers what was refused or never came, `taken` what the cloud took back: the first concerns every market,
    the second is for the reader to heed where nodes may be taken. `ceiling` is how many there were then.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.lead_times = LeadTimes()
        self.interruption_rate = InterruptionRate()
        self.backoff = CapacityBackoff()
        self.interruption_backoff = CapacityBackoff()
        self.ceiling = CapacityCeiling()
        self._at = 0.0
        self._status: PoolStatus | None = None
        self.requested = 0
        self._notice_at: float | None = None
        self._refused = False

    @property
    def was_seen(self) -> bool:
        """Whether the pool has been seen at all."""
        return self._status is not None

    def lost(self, status: PoolStatus) -> int:
        """Replicas taken since the pool was last seen: as the platform tells, or ready ones gone that are still wanted.

        A counter that fell begins anew.
        """
        if self._status is None:
            return 0
        told = status.interrupted - self._status.interrupted
        told = min(status.interrupted, self._status.ready) if told < 0 else told
        wanted = min(self._status.ready, self.requested)
        gone = max(0, wanted - status.ready) if status.desired >= self.requested else 0
        return max(told, gone)

    def shortfall_news(self, status: PoolStatus) -> Shortfall | None:
        """Return what the platform says now that it cannot give, if that is news."""
        return status.shortfall if self._status is None or self._status.shortfall != status.shortfall else None

    def expected_pending(self, status: PoolStatus, now: float, patience_s: float, *, takes: bool) -> int:
        """The pending replicas that may be counted on; `takes` where the cloud takes replicas, and gives none back.

        What nobody asked for in the turns remembered is as good as just asked for: it may be a person's.
        """
        if not self.was_seen:
            return status.pending
        fresh = status.pending - self.lead_times.pending
        counted = len(self.lead_times.pending_since(now, patience_s, came=max(0, -fresh), heed_doubt=takes))
        news = max(0, fresh - (self.lost(status) if takes else 0))
        return min(status.pending, counted + news)

    def note(self, at: float, status: PoolStatus, outcome: Outcome | None, overdue: int, spec: str) -> None:
        """Record one tick: the observed size, the outcome of a write, and the abandoned requests."""
        lost, passed_s = self.lost(status), max(0.0, at - self._at) if self.was_seen else 0.0
        said = self.shortfall_news(status)
        if status.interruption_pending and self._notice_at is None:
            self._notice_at = at
        if self._status is not None:
            notice_s = 0.0 if self._notice_at is None else at - self._notice_at
            self.interruption_rate.note(passed_s, self._status.ready, lost, notice_s)
            self.backoff, self.interruption_backoff = (
                self.backoff.faded(passed_s),
                self.interruption_backoff.faded(passed_s),
            )
            self._note_ceiling(status, lost, overdue, passed_s)
        if not status.interruption_pending:
            self._notice_at = None
        raised = self.was_seen and status.desired > self.requested
        done = outcome is not None and not outcome.result.refused and outcome.result is not Result.DRY_RUN
        self.requested = outcome.after if outcome is not None and done else status.desired
        came = self.lead_times.note(at, self.requested, status.ready, lost)
        self._status, self._at = status, at
        if came:
            self.backoff, self.interruption_backoff = (
                self.backoff.granted(came, at),
                self.interruption_backoff.granted(came, at),
            )
        if lost:
            self.interruption_backoff = self.interruption_backoff.refused(at, f"{lost} of it were taken")
        if (late := overdue - status.failed) > 0:  # of the failed ones the platform itself tells
            self.backoff = self.backoff.refused(at, f"{late} asked for have not come")
        if self.backoff.quota and (raised or self.backoff.quota != spec):
            self.backoff = self.backoff.lifted()
        self._note_refusals(at, said, outcome, spec)
        self._refused = outcome is not None and outcome.result is Result.OUT_OF_CAPACITY

    def _note_ceiling(self, status: PoolStatus, lost: int, overdue: int, passed_s: float) -> None:
        """Record the size at which the pool gives no more. After a refused write the next tick shows what was given."""
        ceiling, said = self.ceiling.faded(passed_s).passed(status.ready), self.shortfall_news(status)
        given = status.desired - max(status.failed, overdue)
        if lost:
            ceiling = ceiling.hit(status.ready)
        if self._refused or overdue > status.failed or (said is not None and not said.quota):
            ceiling = ceiling.hit(given)
        self.ceiling = ceiling

    def _note_refusals(self, at: float, said: Shortfall | None, outcome: Outcome | None, spec: str) -> None:
        """Record what the platform refused, by a write's outcome or, later, by the pool's status."""
        refusals = [] if said is None else [(said.quota, said.reason)]
        if outcome is not None and outcome.after > outcome.before and outcome.result in REFUSALS:
            refusals.append((outcome.result is Result.OUT_OF_QUOTA, outcome.reason))
        if refusals:
            self.lead_times.mark_shortage()
        for quota, reason in refusals:
            short = self.backoff
            self.backoff = short.over_quota(at, reason, spec, self.name) if quota else short.refused(at, reason)

    def shift(self, step_s: float) -> None:
        """After the wall clock jumped, ages stay what they were."""
        self.lead_times.shift(step_s)
        self.backoff, self.interruption_backoff = (
            self.backoff.shifted(step_s),
            self.interruption_backoff.shifted(step_s),
        )
        self._at += step_s
        if self._notice_at is not None:
            self._notice_at += step_s


class PoolMemories:
    """The memory of every pool of a workload. A pool not seen in a turn stays as it was."""

    def __init__(self) -> None:
        self._pools: dict[PoolName, PoolMemory] = {}

    def of(self, pool: PoolName) -> PoolMemory:
        """Return the pool's memory; an empty one for a pool never seen."""
        return self._pools.get(pool) or PoolMemory()

    def pending_since(self, pools: Mapping[PoolName, Pool], now: float) -> list[float]:
        """Since when what these pools were asked for and may be counted on is awaited; first asked for first."""
        since: list[float] = []
        for name, pool in pools.items():
            lead_times = self.of(name).lead_times
            patience_s = lead_times.patience_s(pool.lead_time_s)
            since += lead_times.pending_since(now, patience_s, heed_doubt=pool.market == "spot")
        return sorted(since)

    def note(self, tick: Tick) -> None:
        """Record one tick. Pools that the workload no longer has are forgotten."""
        outcomes = {o.pool: o for o in tick.outcomes}
        self._pools = {n: m for n, m in self._pools.items() if n in tick.observation.pools}
        for name, reading in tick.observation.pools.items():
            if isinstance(reading, Fresh):
                market = self._pools.setdefault(name, PoolMemory(name))
                overdue = tick.decision.abandoned.get(name, 0)
                market.note(tick.decision.at, reading.value, outcomes.get(name), overdue, tick.spec)

    def shift(self, step_s: float) -> None:
        for market in self._pools.values():
            market.shift(step_s)
