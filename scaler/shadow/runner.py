"""A shadow: a second policy that decides on what the first one saw, acts never, and is compared with it.

It is the same `Controller` over other ports: sources and pools that tell what the first one's turn saw, and a clock
that stands at that turn. So it sees the real size, whatever it asked for itself; what it would hold is kept apart,
open-loop (`scaler.shadow.counterfactual`). It runs after the first one's turn and in a task of its own: whatever it
does wrong, and however long its own sources take, the first goes on.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policies.history.ticks import History
from policies.model import (
    Absent,
    Decision,
    Fresh,
    Grant,
    Observation,
    PoolName,
    PoolStatus,
    SignalName,
    Tick,
    WorkloadName,
)
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from policies.quota.fleet_quota import FleetLimits
from scaler.config.load import Workload
from scaler.controller import Controller, Setup
from scaler.ports import Misconfigured, Source, Unavailable
from scaler.quota_ledger import QuotaLedger
from scaler.shadow.counterfactual import ComparedSide, HypotheticalQueue, HypotheticalSizes, ShadowTurn, Totals
from scaler.shadow.late_requests import LateRequestContext, LateRequestEstimator
from scaler.telemetry.log import log

MAX_BEHIND: Final = 64
"""Turns that may wait for a slow shadow; older ones are passed over: a quarter of an hour at the default interval."""
MAX_TOLD: Final = 20
"""Different errors of a shadow that are logged, each once."""
DRAIN_S: Final = 5.0
"""How long turns that wait may take when the daemon ends."""


class ReplayClock:
    """The first one's turn, as a clock and the origin of readings. It also hands on what the fleet granted."""

    def __init__(self, at: float) -> None:
        self._at = at
        self._stepped_s = 0.0
        self._tick: Tick | None = None

    def show(self, tick: Tick) -> None:
        self._tick, self._at = tick, tick.at
        self._stepped_s += tick.clock_step_s

    @property
    def seen(self) -> Observation:
        assert self._tick is not None  # noqa: S101 - a turn is shown before it is taken
        return self._tick.observation

    def now(self) -> float:
        return self._at

    async def sleep_until(self, t: float) -> None:
        raise NotImplementedError("a shadow's turns follow those of the first")

    def step_s(self) -> float:
        return self._stepped_s


@dataclass(frozen=True, slots=True)
class RecordedSource:
    """A source as the first one's turn saw it, under the name that it has there."""

    mirror: ReplayClock
    name: str
    quantities: Sequence[str]

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        """Return what was fresh. The rest is absent here, and becomes stale by the last value that the shadow knows."""
        seen = self.mirror.seen
        if (error := seen.source_errors.get(self.name)) is not None:
            raise Unavailable(error)
        found = {q: seen.readings.get(SignalName(f"{self.name}.{q}"), Absent("never read")) for q in self.quantities}
        return {q: r if isinstance(r, Fresh | Absent) else Absent(f"{r.age_s:.0f} s old") for q, r in found.items()}


@dataclass(frozen=True, slots=True)
class RecordedPool:
    """A pool as the first one's turn saw it."""

    mirror: ReplayClock
    name: PoolName

    async def status(self) -> Fresh[PoolStatus]:
        reading = self.mirror.seen.pools.get(self.name, Absent("not among the pools of the policy that is run"))
        if isinstance(reading, Fresh):
            return reading
        told = reading.reason if isinstance(reading, Absent) else f"{reading.age_s:.0f} s old"
        raise Unavailable(self.mirror.seen.pool_errors.get(self.name, told))

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        raise Misconfigured("a shadow resizes nothing")


class SameGrant(QuotaLedger):
    """What the fleet granted the first holds for its shadow, which takes nothing from the fleet."""

    def __init__(self, mirror: ReplayClock) -> None:
        super().__init__(FleetLimits())
        self._mirror = mirror

    def enter(self, name: WorkloadName, spec: WorkloadSpec) -> None:
        """Hold nothing: a shadow has no replicas."""

    def grant(self, name: WorkloadName, seen: Observation) -> Grant | None:
        return self._mirror.seen.grant

    def reserve(self, name: WorkloadName, decision: Decision) -> None:
        """Reserve nothing: a shadow takes no replicas."""

    def note(self, tick: Tick) -> None:
        """Nor is anything written."""

    def shift(self, step_s: float) -> None:
        """And it keeps no times."""


class Shadow:
    """One workload's shadow. `own` are sources that the first lacks; `same` are the others by their names there."""

    def __init__(
        self,
        workload: Workload,
        first: Controller,
        record: Callable[[ShadowTurn], None],
        *,
        own: Mapping[str, Source],
        same: Mapping[str, str],
    ) -> None:
        self.first = first
        self.totals = Totals()
        self.last: ShadowTurn | None = None
        self._record = record
        self._mirror = ReplayClock(first.last_tick_ended_at)
        self._controller = Controller(
            self._setup(workload, own, same), self._mirror, History(), lambda _: None, dry_run=True
        )
        self._waiting: asyncio.Queue[Tick] = asyncio.Queue(MAX_BEHIND)
        self._told: set[str] = set()
        self._steps_s = 0.0
        self._ruler = LateRequestEstimator()
        self._held = {"first": HypotheticalSizes(), "shadow": HypotheticalSizes()}
        self._queues = {"first": HypotheticalQueue(), "shadow": HypotheticalQueue()}

    @property
    def workload(self) -> Workload:
        return self._controller.workload

    def _setup(self, workload: Workload, own: Mapping[str, Source], same: Mapping[str, str]) -> Setup:
        sources: dict[str, Source] = {}
        for name, spec in workload.spec.sources.items():
            sources[name] = (
                own[name] if name in own else RecordedSource(self._mirror, same[name], tuple(spec.quantities()))
            )
        pools = {name: RecordedPool(self._mirror, name) for name in workload.spec.pools}
        return Setup(workload, sources, pools, ledger=SameGrant(self._mirror))

    def adopt(self, workload: Workload, *, own: Mapping[str, Source], same: Mapping[str, str]) -> None:
        """Decide by another specification from the next turn on. The past is kept."""
        self._controller.adopt(self._setup(workload, own, same))

    def see(self, tick: Tick) -> None:
        """Take over a finished tick of the workload. Never waits and never fails."""
        if self._waiting.full():
            self._waiting.get_nowait()
            self._waiting.task_done()
            self._failed("it fell behind: turns are passed over")
        self._waiting.put_nowait(tick)

    async def run(self, begin: Callable[[], Awaitable[History]]) -> None:
        """Turn after turn, without end, from the history that `begin` gives."""
        try:
            self._controller.history = await begin()
        except Exception as e:  # noqa: BLE001 - it starts cold, and the first goes on
            self._failed(f"its past could not be read, so it starts without: {e!r}")
        while True:
            tick = await self._waiting.get()
            try:
                await self.turn(tick)
            except Exception as e:  # noqa: BLE001 - whatever a shadow does wrong, the first goes on
                self._failed(repr(e))
            finally:
                self._waiting.task_done()

    async def drained(self) -> None:
        """Return when no turn waits, or after `DRAIN_S`."""
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._waiting.join()
        except TimeoutError:
            self._failed("turns were still waiting at the end")

    async def turn(self, tick: Tick) -> ShadowTurn:
        """Return one turn of the first, decided anew and compared."""
        self._mirror.show(tick)
        own = await self._controller.tick(tick.at)
        if own.clock_step_s:
            self._shift(own.clock_step_s)
        turn = self._compared(tick, own)
        self.totals.note(turn, self.last)
        self.last, self._steps_s = turn, 0.0
        self._record(turn)
        return turn

    def _compared(self, tick: Tick, own: Tick) -> ShadowTurn:
        spec, before = self.first.workload.spec, self.last
        over_s = 0.0 if before is None else max(0.0, tick.at - before.tick.at - self._steps_s)
        here = LateRequestContext(self.workload.spec, self._controller.history, own)
        load, told_by = self._ruler.measure([here, LateRequestContext(spec, self.first.history, tick)])
        late: dict[str, float | None] = {"first": None, "shadow": None}
        if load is not None and before is not None:
            sides = {"first": before.first, "shadow": before.shadow}
            late = {who: self._queues[who].let(over_s, side.serving, load) for who, side in sides.items()}
        if tick.dry_run:
            self._held["first"].follow(tick, spec, self.first.history)
        else:
            self._held["first"].find(tick)
        self._held["shadow"].follow(own, spec, self._controller.history)
        now = {
            who: ComparedSide(h.asked, h.serving(spec), h.usd_per_hour(spec), late[who])
            for who, h in self._held.items()
        }
        return ShadowTurn(own, now["first"], now["shadow"], over_s, tick.dry_run, told_by)

    def _shift(self, step_s: float) -> None:
        """Shift all times after the wall clock jumped: ages stay what they were."""
        self._steps_s += step_s
        self._ruler.shift(step_s)
        for held in self._held.values():
            held.shift(step_s)

    def _failed(self, why: str) -> None:
        self.totals.failed += 1
        if why not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(why)
            remedy = "the policy that is run goes on, and so does the shadow; this error is told once"
            log.error("shadow", workload=self.first.workload.name, error=why, remedy=remedy)


def rebuild_history(workload: Workload, history: History, ticks: Sequence[Tick]) -> History:
    """Return the history with the last turns on record, as the workload's specification would have decided them.

    Turns with other pools than it has now are left out.
    """
    spec = workload.spec
    for tick in ticks:
        if tick.observation.pools.keys() >= spec.pools.keys():
            if tick.clock_step_s:
                history.shift(tick.clock_step_s)
            decision = decide(spec, history, tick.observation)
            history.append(dataclasses.replace(tick, spec=workload.fingerprint, decision=decision, outcomes=()))
    return history
