"""Runs a shadow: a second policy that decides on the observations of the live policy.

It never acts, and is compared.

It is the same `Controller` on other ports: sources and pools that return the live tick's observation, and a clock that
stands at that tick. It observes the real size, not the one that it would hold, which is estimated open-loop
(`scaler.shadow.counterfactual`). It runs after the live tick in a task of its own: its errors and slow sources do not
affect the live policy.
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
from policies.model.names import RouteName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from policies.quota.fleet_quota import FleetLimits
from scaler.config.load import Workload
from scaler.controller import Controller
from scaler.group_board import GroupBoard
from scaler.ports import Misconfigured, Source, Unavailable
from scaler.quota_ledger import QuotaLedger
from scaler.setup import Setup
from scaler.shadow.counterfactual import ComparedSide, HypotheticalQueue, HypotheticalSizes, ShadowTick, ShadowTotals
from scaler.shadow.hypothetical_splits import decided_splits, live_splits
from scaler.shadow.late_requests import LateRequestContext, LateRequestEstimator
from scaler.telemetry.log import log

MAX_BEHIND: Final = 64
"""Maximum number of queued ticks of a slow shadow; older ones are skipped. 16 minutes at an interval of 15 s."""
MAX_LOGGED: Final = 20
"""Maximum number of different errors of a shadow that are logged, each once."""
DRAIN_S: Final = 5.0
"""Maximum time that queued ticks get when the shadow stops. Seconds."""


class ReplayClock:
    """The clock and the observation of the live tick that a shadow repeats."""

    def __init__(self, at: float) -> None:
        self._at = at
        self._stepped_s = 0.0
        self._tick: Tick | None = None

    def show(self, tick: Tick) -> None:
        self._tick, self._at = tick, tick.at
        self._stepped_s += tick.clock_step_s

    @property
    def observation(self) -> Observation:
        assert self._tick is not None  # noqa: S101 - `show` comes first
        return self._tick.observation

    def now(self) -> float:
        return self._at

    async def sleep_until(self, t: float) -> None:
        raise NotImplementedError("a shadow's ticks follow those of the live workload")

    def step_s(self) -> float:
        return self._stepped_s


@dataclass(frozen=True, slots=True)
class RecordedSource:
    """A source of the live workload, by its live name, as the live tick observed it."""

    clock: ReplayClock
    name: str
    quantities: Sequence[str]

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        """Return the fresh readings.

        A stale one is returned as absent; the controller grades it by its last value.
        """
        observation = self.clock.observation
        if (error := observation.source_errors.get(self.name)) is not None:
            raise Unavailable(error)
        signals = {q: SignalName(f"{self.name}.{q}") for q in self.quantities}
        readings = {q: observation.readings.get(signal, Absent("never read")) for q, signal in signals.items()}
        return {q: r if isinstance(r, Fresh | Absent) else Absent(f"{r.age_s:.0f} s old") for q, r in readings.items()}


@dataclass(frozen=True, slots=True)
class RecordedPool:
    """A pool as the live tick observed it."""

    clock: ReplayClock
    name: PoolName

    async def status(self) -> Fresh[PoolStatus]:
        reading = self.clock.observation.pools.get(self.name, Absent("not a pool of the live workload"))
        if isinstance(reading, Fresh):
            return reading
        reason = reading.reason if isinstance(reading, Absent) else f"{reading.age_s:.0f} s old"
        raise Unavailable(self.clock.observation.pool_errors.get(self.name, reason))

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        raise Misconfigured("a shadow resizes nothing")


@dataclass(frozen=True, slots=True)
class RecordedRoute:
    """A route as the live tick observed it."""

    clock: ReplayClock
    name: RouteName

    async def status(self) -> Fresh[RouteStatus]:
        observation = self.clock.observation
        reading = observation.routes.get(self.name, Absent("not a route of the live workload"))
        if isinstance(reading, Fresh):
            return reading
        reason = reading.reason if isinstance(reading, Absent) else f"{reading.age_s:.0f} s old"
        raise Unavailable(observation.route_errors.get(self.name, reason))

    async def apply(self, split: RouteDecision, observed: RouteStatus) -> None:
        raise Misconfigured("a shadow splits nothing")


class LiveGrant(QuotaLedger):
    """A ledger that repeats the live tick's grant.

    The shadow holds and reserves nothing in the fleet.
    """

    def __init__(self, clock: ReplayClock) -> None:
        super().__init__(FleetLimits())
        self._clock = clock

    def register(self, name: WorkloadName, spec: WorkloadSpec) -> None:
        """Register nothing: a shadow has no replicas."""

    def grant(self, name: WorkloadName, observation: Observation) -> Grant | None:
        return self._clock.observation.grant

    def reserve(self, name: WorkloadName, decision: Decision) -> None:
        """Reserve nothing: a shadow requests no replicas."""

    def record(self, tick: Tick) -> None:
        """Record nothing: a shadow writes nothing."""

    def shift(self, stepped_s: float) -> None:
        """Shift nothing: the ledger keeps no times."""


class LiveMembers(GroupBoard):
    """A board that repeats the live tick's members of the group."""

    def __init__(self, clock: ReplayClock) -> None:
        super().__init__()
        self._clock = clock

    def register(self, name: WorkloadName, spec: WorkloadSpec) -> None:
        """Register nothing: a shadow takes no requests."""

    def with_members(self, name: WorkloadName, observation: Observation) -> Observation:
        return dataclasses.replace(observation, members=self._clock.observation.members)


class Shadow:
    """A workload's shadow.

    `own` are open sources that the live workload lacks, `shared` the live names of the rest.
    """

    def __init__(
        self,
        workload: Workload,
        live: Controller,
        record: Callable[[ShadowTick], None],
        *,
        own: Mapping[str, Source],
        shared: Mapping[str, str],
    ) -> None:
        self.live = live
        self.totals = ShadowTotals()
        self.last: ShadowTick | None = None
        self._record = record
        self._clock = ReplayClock(live.last_tick_ended_s)
        self._controller = Controller(
            self._setup(workload, own, shared), self._clock, History(), lambda _: None, dry_run=True
        )
        self._copy_slo_record()
        self._pending: asyncio.Queue[Tick] = asyncio.Queue(MAX_BEHIND)
        self._logged: set[str] = set()
        self._steps_s = 0.0
        self._estimator = LateRequestEstimator()
        self._sizes = {"first": HypotheticalSizes(), "shadow": HypotheticalSizes()}
        self._queues = {"first": HypotheticalQueue(), "shadow": HypotheticalQueue()}

    @property
    def workload(self) -> Workload:
        return self._controller.workload

    def _setup(self, workload: Workload, own: Mapping[str, Source], shared: Mapping[str, str]) -> Setup:
        sources: dict[str, Source] = {}
        for name, spec in workload.spec.sources.items():
            sources[name] = (
                own[name] if name in own else RecordedSource(self._clock, shared[name], tuple(spec.quantities()))
            )
        pools = {name: RecordedPool(self._clock, name) for name in workload.spec.pools}
        routes = {name: RecordedRoute(self._clock, name) for name in workload.spec.routes}
        return Setup(
            workload, sources, pools, ledger=LiveGrant(self._clock), groups=LiveMembers(self._clock), routes=routes
        )

    def _copy_slo_record(self) -> None:
        """Begin with the live error budget, where the limits of the SLO are the same."""
        live, shadow = self.live.slo_record, self._controller.slo_record
        history = None if live is None else live.history(self.live.workload.name)
        if shadow is not None and history is not None:
            shadow.restore(history)

    def adopt(self, workload: Workload, *, own: Mapping[str, Source], shared: Mapping[str, str]) -> None:
        """Decide by another specification from the next tick on. The history stays."""
        self._controller.adopt(self._setup(workload, own, shared))

    def observe(self, tick: Tick) -> None:
        """Queue a finished tick of the live workload. The method never waits and never fails."""
        if self._pending.full():
            self._pending.get_nowait()
            self._pending.task_done()
            self._report_failure("the shadow is slower than the live workload: ticks are skipped")
        self._pending.put_nowait(tick)

    async def run(self, build_history: Callable[[], Awaitable[History]]) -> None:
        """Run a tick of the shadow for each queued tick, until cancelled.

        The history is that of `build_history`.
        """
        try:
            self._controller.history = await build_history()
        except Exception as e:  # noqa: BLE001 - the shadow starts without history, and the live policy goes on
            self._report_failure(f"the history could not be read, so the shadow starts without it: {e!r}")
        while True:
            tick = await self._pending.get()
            try:
                await self.tick(tick)
            except Exception as e:  # noqa: BLE001 - no defect of a shadow may end the live policy
                self._report_failure(repr(e))
            finally:
                self._pending.task_done()

    async def drain(self) -> None:
        """Wait until no tick is queued, at most `DRAIN_S`."""
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._pending.join()
        except TimeoutError:
            self._report_failure("ticks were still queued when the shadow stopped")

    async def tick(self, live_tick: Tick) -> ShadowTick:
        """Decide on the live tick's observation, and compare the sizes."""
        self._clock.show(live_tick)
        tick = await self._controller.tick(live_tick.at)
        if tick.clock_step_s:
            self._shift(tick.clock_step_s)
        shadow_tick = self._compare(live_tick, tick)
        self.totals.add(shadow_tick, self.last)
        self.last, self._steps_s = shadow_tick, 0.0
        self._record(shadow_tick)
        return shadow_tick

    def _compare(self, live_tick: Tick, tick: Tick) -> ShadowTick:
        spec, previous = self.live.workload.spec, self.last
        interval_s = 0.0 if previous is None else max(0.0, live_tick.at - previous.tick.at - self._steps_s)
        shadow_context = LateRequestContext(self.workload.spec, self._controller.history, tick)
        live_context = LateRequestContext(spec, self.live.history, live_tick)
        load, estimated_by = self._estimator.estimate([shadow_context, live_context])
        late: dict[str, float | None] = {"first": None, "shadow": None}
        if load is not None and previous is not None:
            serving = {"first": previous.first.serving, "shadow": previous.shadow.serving}
            late = {name: queue.advance(interval_s, serving[name], load) for name, queue in self._queues.items()}
        if live_tick.dry_run:
            self._sizes["first"].apply_targets(live_tick, spec, self.live.history)
        else:
            self._sizes["first"].set_observed(live_tick)
        self._sizes["shadow"].apply_targets(tick, spec, self._controller.history)
        splits = {"first": live_splits(live_tick), "shadow": decided_splits(tick)}
        sides = {
            name: ComparedSide(
                sizes.requested, sizes.serving(spec), sizes.usd_per_hour(spec), late[name], *splits[name]
            )
            for name, sizes in self._sizes.items()
        }
        return ShadowTick(tick, sides["first"], sides["shadow"], interval_s, live_tick.dry_run, estimated_by)

    def _shift(self, step_s: float) -> None:
        """Shift all times after a jump of the wall clock, so that ages stay as they were."""
        self._steps_s += step_s
        self._estimator.shift(step_s)
        for sizes in self._sizes.values():
            sizes.shift(step_s)

    def _report_failure(self, reason: str) -> None:
        self.totals.failed += 1
        if reason not in self._logged and len(self._logged) < MAX_LOGGED:
            self._logged.add(reason)
            remedy = "the live policy and the shadow continue; this error is logged once"
            log.error("shadow", workload=self.live.workload.name, error=reason, remedy=remedy)


def rebuild_history(workload: Workload, history: History, ticks: Sequence[Tick]) -> History:
    """Append the ticks to the history, decided by the workload's specification.

    Ticks without its pools are skipped.
    """
    spec = workload.spec
    for tick in ticks:
        if tick.observation.pools.keys() >= spec.pools.keys():
            if tick.clock_step_s:
                history.shift(tick.clock_step_s)
            decision = decide(spec, history, tick.observation)
            history.append(dataclasses.replace(tick, spec=workload.fingerprint, decision=decision, outcomes=()))
    return history
