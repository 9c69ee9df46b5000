"""What another policy would have led to, by arithmetic: sizes held open-loop, and the requests that they answer late.

*Open-loop* means that the world does not answer: what a policy asked for is taken to be its size, ready after the lead
time that its pool has shown. Nothing is lost, refused or out of capacity, and what was measured stays what the real
size made of it. Waiting is a fluid queue, first come first served, drained at what one replica is known to answer.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from policies.history.ticks import History
from policies.model import Absent, PoolName, Tick
from policies.model.spec import WorkloadSpec
from scaler.quota_ledger import held_replicas
from scaler.shadow.late_requests import EngineLoadLine

MAX_STEPS: Final = 32
"""Parts that a turn is cut into at the most, each shorter than half the patience: a wait of a second shows in 15 s."""
MAX_COHORTS: Final = 20_000
"""Cohorts that wait at once, at the most; the oldest then count as late."""


@dataclass(slots=True)
class _Pool:
    """One pool's size: what is asked for, and when what of it starts to serve."""

    asked: int
    starting: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def ready(self) -> int:
        return self.asked - sum(n for _, n in self.starting)

    def hold(self, at: float, target: int, lead_s: float) -> None:
        """Ask for `target` from `at` on: what is started last goes first."""
        while self.starting and self.starting[0][0] <= at:
            self.starting.popleft()
        if target > self.asked:
            self.starting.append((at + lead_s, target - self.asked))
        excess = self.asked - target
        while excess > 0 and self.starting:
            ready_at, n = self.starting.pop()
            if n > excess:
                self.starting.append((ready_at, n - excess))
            excess -= min(n, excess)
        self.asked = target


class HypotheticalSizes:
    """One policy's sizes over all pools, begun from those found at its first turn."""

    def __init__(self) -> None:
        self._pools: dict[PoolName, _Pool] = {}

    @property
    def known(self) -> bool:
        return bool(self._pools)

    @property
    def asked(self) -> int:
        """Replicas asked for."""
        return sum(pool.asked for pool in self._pools.values())

    def serving(self, spec: WorkloadSpec) -> float:
        """Return what would serve, in replicas' worth."""
        pools = ((pool.ready, spec.pools[name]) for name, pool in self._pools.items() if name in spec.pools)
        return float(sum(ready * pool.work_per_replica for ready, pool in pools if pool.tier == "serving"))

    def usd_per_hour(self, spec: WorkloadSpec) -> float | None:
        """Return what is asked for costs; None where the price of some of it is not known."""
        prices = {name: pool.price_usd_per_hour for name, pool in spec.pools.items()}
        total = 0.0
        for name, pool in self._pools.items():
            price = prices.get(name)
            if price is None and pool.asked:
                return None
            total += pool.asked * (price or 0.0)
        return total

    def find(self, tick: Tick) -> None:
        """Take the sizes that a turn found, and what it wrote."""
        written = {o.pool: held_replicas(o) for o in tick.outcomes}
        for name, reading in tick.observation.pools.items():
            if not isinstance(reading, Absent):
                status = reading.value
                asked = written.get(name, status.desired)
                pending = max(0, asked - status.ready)
                self._pools[name] = _Pool(asked, deque([(math.inf, pending)] if pending else []))

    def follow(self, tick: Tick, spec: WorkloadSpec, history: History) -> None:
        """Take what a turn asked for as the size. A pool that it left alone keeps its own."""
        for name, reading in tick.observation.pools.items():
            prior_s = spec.pools[name].lead_time_s if name in spec.pools else 0.0
            lead_s = history.pool_memories.of(name).lead_times.usual_s(prior_s)
            if name not in self._pools and not isinstance(reading, Absent):
                status = reading.value
                starting = [(tick.at + lead_s, status.pending)] if status.pending else []
                self._pools[name] = _Pool(status.desired, deque(starting))
            if name in self._pools:
                pool = self._pools[name]
                pool.hold(tick.at, tick.decision.targets.get(name, pool.asked), lead_s)

    def shift(self, step_s: float) -> None:
        """Shift all times after the wall clock jumped."""
        for pool in self._pools.values():
            pool.starting = deque((at + step_s, n) for at, n in pool.starting)


class HypotheticalQueue:
    """Requests that wait for a size. `late` ones waited longer than their patience, and are counted once."""

    def __init__(self) -> None:
        self._cohorts: deque[tuple[float, float]] = deque()
        self._overdue = 0.0

    @property
    def waiting(self) -> float:
        return self._overdue + sum(n for _, n in self._cohorts)

    def let(self, over_s: float, serving: float, load: EngineLoadLine) -> float | None:
        """Return the requests that get late in the next `over_s`; None where `serving` may be too few and nobody knows.

        Ages are kept by the time that passed, so that a jump of the clock does not touch them.
        """
        most_rps = serving * load.each_rps
        if not load.sure and most_rps < load.arrivals_rps:
            return None
        steps = max(1, min(MAX_STEPS, math.ceil(2.0 * over_s / load.patience_s)))
        step_s, share = over_s / steps, load.late_share(serving)
        return sum(self._step(step_s, load.arrivals_rps * step_s, most_rps * step_s, share, load) for _ in range(steps))

    def _step(self, step_s: float, arriving: float, served: float, share: float, load: EngineLoadLine) -> float:
        self._cohorts = deque((age_s + step_s, n) for age_s, n in self._cohorts)
        first = min(self._overdue, served)
        self._overdue -= first
        served -= first
        late = 0.0
        while served > 0 and self._cohorts:
            age_s, n = self._cohorts.popleft()
            done = min(n, served)
            served -= done
            late += done * share
            if n > done:
                self._cohorts.appendleft((age_s, n - done))
        done = min(arriving, served)
        late += done * share
        if arriving > done:
            self._cohorts.append((step_s / 2, arriving - done))
        while self._cohorts and (self._cohorts[0][0] > load.patience_s or len(self._cohorts) > MAX_COHORTS):
            _, n = self._cohorts.popleft()
            self._overdue += n
            late += n
        return late


@dataclass(frozen=True, slots=True)
class ComparedSide:
    """One policy's part of a turn: replicas asked for from now on, the worth that serves, what that costs, and the
    requests that got late since the turn before. None where it is not known.
    """

    asked: int
    serving: float
    usd_per_hour: float | None
    late: float | None


@dataclass(frozen=True, slots=True)
class ShadowTurn:
    """The record of one turn of a shadow: its own tick, and its size beside that of the policy that is run.

    `over_s` is the time since the shadow's turn before, `open_loop` whether the size of the one that is run is held
    open-loop too (a dry run) and not the one found, `told_by` how late requests were told, or why they were not.
    """

    tick: Tick
    first: ComparedSide
    shadow: ComparedSide
    over_s: float
    open_loop: bool
    told_by: str


@dataclass(slots=True)
class Totals:
    """What a shadow came to over a run, less what the policy that is run did. Unknown parts are left out, and told."""

    turns: int = 0
    differing: int = 0
    failed: int = 0
    span_s: float = 0.0
    late_known_s: float = 0.0
    usd_known_s: float = 0.0
    replica_hours: dict[str, float] = field(default_factory=lambda: {"first": 0.0, "shadow": 0.0})
    usd: dict[str, float] = field(default_factory=lambda: {"first": 0.0, "shadow": 0.0})
    late: dict[str, float] = field(default_factory=lambda: {"first": 0.0, "shadow": 0.0})
    told_by: str = ""

    def note(self, turn: ShadowTurn, before: ShadowTurn | None) -> None:
        """Record one more tick; until it, the sizes of the one `before` were held."""
        self.turns += 1
        self.differing += turn.first.asked != turn.shadow.asked
        self.told_by = turn.told_by
        if turn.first.late is not None and turn.shadow.late is not None and turn.over_s:
            self.late_known_s += turn.over_s
            self.late["first"] += turn.first.late
            self.late["shadow"] += turn.shadow.late
        if before is None:
            return
        self.span_s += turn.over_s
        hours, sides = turn.over_s / 3600.0, {"first": before.first, "shadow": before.shadow}
        prices = {who: side.usd_per_hour for who, side in sides.items()}
        self.usd_known_s += turn.over_s if None not in prices.values() else 0.0
        for who, side in sides.items():
            self.replica_hours[who] += side.asked * hours
            if None not in prices.values():
                self.usd[who] += (side.usd_per_hour or 0.0) * hours

    @property
    def more_replica_hours(self) -> float:
        return self.replica_hours["shadow"] - self.replica_hours["first"]

    @property
    def more_usd(self) -> float | None:
        """None where no price is known."""
        return self.usd["shadow"] - self.usd["first"] if self.usd_known_s else None

    @property
    def more_late(self) -> float | None:
        """None where it could not be told in any turn."""
        return self.late["shadow"] - self.late["first"] if self.late_known_s else None

    def as_dict(self) -> Mapping[str, object]:
        late = self.more_late
        return {
            "turns": self.turns,
            "differing": self.differing,
            "failed": self.failed,
            "span_s": round(self.span_s, 3),
            "replica_hours": {who: round(hours, 4) for who, hours in self.replica_hours.items()},
            "more_replica_hours": round(self.more_replica_hours, 4),
            "usd": {who: round(usd, 4) for who, usd in self.usd.items()} if self.usd_known_s else None,
            "more_usd": None if self.more_usd is None else round(self.more_usd, 4),
            "more_late": None if late is None else round(late, 1),
            "late": None if late is None else {who: round(n, 1) for who, n in self.late.items()},
            "late_known_s": round(self.late_known_s, 3),
            "told_by": self.told_by,
        }

    def text(self) -> str:
        """In words."""
        if not self.turns:
            return f"no turn came through ({self.failed} failed)" if self.failed else "no turn yet"
        found = self.replica_hours
        words = f"{self.turns} turns, another size in {self.differing}; {found['shadow']:.2f} replica-hours for"
        words += f" {found['first']:.2f} ({self.more_replica_hours:+.2f})"
        if self.more_usd is not None:
            words += f", {self.more_usd:+.2f} USD"
        if self.more_late is None:
            words += f"; late requests: not known ({self.told_by})"
        else:
            part = self.late_known_s / self.span_s if self.span_s else 1.0
            known = "" if part > 0.995 else f", known for {part:.0%} of the time"
            words += f"; late requests predicted: {self.late['shadow']:.0f} for {self.late['first']:.0f}{known}"
        return words + (f"; {self.failed} turns failed" if self.failed else "")
