"""Manages the shadows of a daemon.

It loads their files, opens their own sources, and starts and stops them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from policies.history.ticks import History
from policies.model import Tick, WorkloadName
from policies.signals.latency_quantities import LATE_SHARES
from scaler.config.daemon import DaemonSpec
from scaler.config.load import Workload, load
from scaler.config.problems import ConfigError, Problem
from scaler.config.watch import FileSnapshot, snapshot
from scaler.controller import Controller
from scaler.journal import history_backfill
from scaler.ports import Clock, Misconfigured, PortError, Source
from scaler.registry import did_you_mean, kind_of
from scaler.setup import Setup
from scaler.shadow.counterfactual import ShadowTick, ShadowTotals
from scaler.shadow.runner import Shadow, rebuild_history
from scaler.supervised_tasks import Tasks
from scaler.telemetry.log import log

OPTION: Final = "--shadow"
EMBEDDED: Final = "embedded"
State = tuple[FileSnapshot, list[tuple[WorkloadName, int, str]]]
RecordShadow = Callable[[ShadowTick, ShadowTotals, Workload], None]
"""Receives each tick of a shadow, the shadow's totals so far, and its workload."""


class Shadows:
    """The shadows by workload. `open_sources` opens the sources of a workload without pools."""

    def __init__(  # noqa: PLR0913 - resources that the daemon shares with its shadows
        self,
        paths: Sequence[Path],
        clock: Clock,
        daemon: DaemonSpec,
        open_sources: Callable[[Workload], Awaitable[Setup]],
        record: RecordShadow,
        tasks: Tasks,
    ) -> None:
        self.paths = list(paths)
        self.all: dict[WorkloadName, Shadow] = {}
        self._clock = clock
        self._daemon = daemon
        self._open = open_sources
        self._record = record
        self._supervised = tasks
        self._loaded: State | None = None
        self._tasks: dict[WorkloadName, asyncio.Task[None]] = {}
        self._logged_sizes: dict[WorkloadName, tuple[int | None, int]] = {}

    def observe(self, tick: Tick) -> None:
        """Pass a finished tick of a workload to its shadow."""
        if (shadow := self.all.get(tick.workload)) is not None:
            shadow.observe(tick)

    async def load(
        self, controllers: Mapping[WorkloadName, Controller], tails: Mapping[WorkloadName, Sequence[Tick]]
    ) -> None:
        """Load the shadows' files, and start, update or stop the shadows.

        `tails` are the last recorded ticks.

        Raises `ConfigError` and `Misconfigured`, and leaves the shadows as they were.
        """
        if not self.paths:
            return
        state = await self._state(controllers)
        config = await asyncio.to_thread(load, self.paths, check_members=False)
        live_workloads = {name: controller.workload for name, controller in controllers.items()}
        if errors := list(problems(config.workloads, live_workloads)):
            raise ConfigError(errors)
        opened = {name: await self._open_own(w, live_workloads[name]) for name, w in config.workloads.items()}
        for name in self.all.keys() - opened.keys():
            await self._stop(name)
        for name, (own, shared) in opened.items():
            workload, shadow, live = config.workloads[name], self.all.get(name), controllers[name]
            if shadow is not None and shadow.live is live:
                shadow.adopt(workload, own=own, shared=shared)
                continue
            await self._stop(name)
            self.all[name] = shadow = Shadow(workload, live, self._recorder(name), own=own, shared=shared)
            sources = {**{n: live.sources[live_name] for n, live_name in shared.items()}, **own}
            build_history = functools.partial(self._initial_history, workload, sources, tails.get(name, ()))
            run = functools.partial(shadow.run, build_history)
            self._tasks[name] = self._supervised.start(f"shadow {name}", run)
        self._loaded = state

    async def reload(self, controllers: Mapping[WorkloadName, Controller]) -> None:
        """Reload the shadows where their files or their workloads have changed.

        The current shadows stay if that fails.

        A shadow stops in any case where its workload is removed.
        """
        if not self.paths:
            return
        state = await self._state(controllers)
        if state == self._loaded:
            return
        for name in [n for n, shadow in self.all.items() if controllers.get(n) is not shadow.live]:
            await self._stop(name)
        try:
            if state[0].problem:
                raise Misconfigured(state[0].problem)
            await self.load(controllers, {})
        except (ConfigError, PortError) as e:
            log.error("shadow", error=str(e), remedy="the current shadows stay in use until this is fixed")
        self._loaded = state

    async def _state(self, controllers: Mapping[WorkloadName, Controller]) -> State:
        """Return the state that the shadows depend on: their files, and the live workloads."""
        files = await asyncio.to_thread(snapshot, self.paths)
        return files, [(n, id(c), c.workload.fingerprint) for n, c in controllers.items()]

    async def close(self) -> None:
        """Run the queued ticks, then stop all shadows."""
        for name in list(self.all):
            await self._stop(name)

    async def _stop(self, name: WorkloadName) -> None:
        shadow, task = self.all.get(name), self._tasks.pop(name, None)
        if shadow is not None and task is not None:
            await shadow.drain()
            del self.all[name]  # after the drain: the record of a queued tick needs it
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._supervised.forget(f"shadow {name}")

    async def _open_own(self, shadow: Workload, live: Workload) -> tuple[Mapping[str, Source], Mapping[str, str]]:
        """Open the sources that the live workload lacks.

        Return them, and the live names of the shared ones.
        """
        shared = share_sources(shadow, live)
        own = {name: spec for name, spec in shadow.spec.sources.items() if name not in shared}
        if not own:
            return {}, shared
        spec = dataclasses.replace(shadow.spec, sources=own, pools={}, routes={})
        return (await self._open(dataclasses.replace(shadow, spec=spec))).sources, shared

    async def _initial_history(
        self, workload: Workload, sources: Mapping[str, Source], tail: Sequence[Tick]
    ) -> History:
        """Return the history of a new shadow.

        It has seeded forecasts, and the last ticks as the shadow decides them.
        """
        now, spec = self._clock.now(), workload.spec
        history = History(max(self._daemon.history_s, spec.lookback_s), step_s=spec.interval_s)
        recent = [tick for tick in tail if now - spec.lookback_s <= tick.at <= now]
        setup = Setup(workload, sources, {})
        seeds = await history_backfill.seeds([setup], {workload.name: recent}, self._daemon, now)
        for policy, seed in seeds.get(workload.name, {}).items():
            history.seed_forecast(policy, seed)
        return rebuild_history(workload, history, recent)

    def _recorder(self, name: WorkloadName) -> Callable[[ShadowTick], None]:
        def record(shadow_tick: ShadowTick) -> None:
            shadow = self.all[name]
            self._record(shadow_tick, shadow.totals, shadow.workload)
            sizes = shadow_tick.tick.decision.target, shadow_tick.first.requested
            if sizes != self._logged_sizes.get(name):
                self._logged_sizes[name] = sizes
                log_shadow_tick(shadow_tick, shadow.totals)

        return record


def log_shadow_tick(shadow_tick: ShadowTick, totals: ShadowTotals) -> None:
    """Log a shadow's decision and its totals in one line."""
    late = totals.more_late
    log.info(
        "shadow",
        workload=shadow_tick.tick.workload,
        target=shadow_tick.tick.decision.target,
        size=shadow_tick.shadow.requested,
        first=shadow_tick.first.requested,
        reason=shadow_tick.tick.decision.reason,
        more_replica_hours=round(totals.more_replica_hours, 3),
        **({} if totals.more_usd is None else {"more_usd": round(totals.more_usd, 2)}),
        more_late="unknown" if late is None else round(late, 1),
    )


def share_sources(shadow: Workload, live: Workload) -> dict[str, str]:
    """Return the live name of each source of the shadow that the live workload reads too.

    A source of an equal name comes first. The live one may read more, as for a policy that needs more.

    A source of late requests is not shared between different SLO limits.
    """
    live_sources = live.spec.sources
    has_same_limits = shadow.spec.slo_limits_s == live.spec.slo_limits_s
    shared: dict[str, str] = {}
    for name, spec in shadow.spec.sources.items():
        if not has_same_limits and not LATE_SHARES.isdisjoint(spec.quantities()):
            continue
        match = next((n for n in (name, *live_sources) if _has_readings_of(live_sources.get(n), spec)), None)
        if match is not None:
            shared[name] = match
    return shared


def _has_readings_of(live: Any, shadow: Any) -> bool:
    """Return whether a live source has all readings of a shadow's, and differs in `read` only."""
    if type(live) is not type(shadow) or not hasattr(live, "read"):
        return bool(live == shadow)
    has_all = shadow.quantities().keys() <= live.quantities().keys()
    return bool(has_all and dataclasses.replace(shadow, read=live.read) == live)


def problems(shadows: Mapping[WorkloadName, Workload], live: Mapping[WorkloadName, Workload]) -> Iterator[Problem]:
    """Yield the reasons why these workloads cannot shadow the live ones."""
    for name, shadow in shadows.items():
        live_workload = live.get(name)
        if live_workload is None:
            hint = did_you_mean(name, list(live)) or f"there are {', '.join(sorted(live))}"
            yield Problem(OPTION, 1, "workload", name, "is not a workload of this daemon", hint)
            continue
        if shadow.spec.pools.keys() != live_workload.spec.pools.keys():
            pools = ", ".join(shadow.spec.pools)
            rule = f"must be the pools of the live workload: {', '.join(live_workload.spec.pools)}"
            yield Problem(OPTION, 1, f"{name}.pools", pools, rule, "a shadow reads the live pools and resizes none")
        yield from _route_problems(shadow, live_workload)
        shared = share_sources(shadow, live_workload)
        for source, spec in shadow.spec.sources.items():
            if source not in shared and kind_of("source", spec) == EMBEDDED:
                rule = "must equal the live workload's source, because each embedded source changes the simulated world"
                yield Problem(OPTION, 1, f"{name}.sources.{source}", "", rule, "copy the source from the live workload")


def _route_problems(shadow: Workload, live: Workload) -> Iterator[Problem]:
    """Yield the routes of a shadow that the live workload does not have."""
    hint = "a shadow reads the live routes and writes none"
    for name, route in shadow.spec.routes.items():
        live_route, key = live.spec.routes.get(name), f"{shadow.name}.routes.{name}"
        if live_route is None:
            routes = ", ".join(live.spec.routes) or "none"
            yield Problem(OPTION, 1, key, "", f"must be a route of the live workload, which has {routes}", hint)
        elif route.backends.keys() != live_route.backends.keys():
            rule = f"must be the backends of the live route: {', '.join(live_route.backends)}"
            yield Problem(OPTION, 1, f"{key}.backends", ", ".join(route.backends), rule, hint)
