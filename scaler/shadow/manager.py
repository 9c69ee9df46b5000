"""All shadows of a daemon: which workloads have one, what it reads of its own, and where its record goes."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from policies.history.ticks import History
from policies.model import Tick, WorkloadName
from policies.recommend.predictive.latency_model import slo_limits_s
from policies.signals.latency_quantities import LATE_SHARES
from scaler.config.daemon import DaemonSpec
from scaler.config.load import Workload, load
from scaler.config.problems import ConfigError, Problem
from scaler.config.watch import Look, look
from scaler.controller import Controller, Setup
from scaler.journal import history_backfill
from scaler.ports import Clock, Misconfigured, PortError, Source
from scaler.registry import did_you_mean, kind_of
from scaler.shadow.counterfactual import ShadowTurn, Totals
from scaler.shadow.runner import Shadow, rebuild_history
from scaler.supervised_tasks import Tasks
from scaler.telemetry.log import log

OPTION: Final = "--shadow"
EMBEDDED: Final = "embedded"
State = tuple[Look, list[tuple[WorkloadName, int, str]]]
Told = Callable[[ShadowTurn, Totals, Workload], None]
"""Is given each turn of a shadow, what the shadow came to so far, and the workload that it decided by."""


class Shadows:
    """Shadows by the workload that each belongs to. `open_sources` opens a workload's sources and nothing else."""

    def __init__(  # noqa: PLR0913 - what the daemon shares with its shadows
        self,
        paths: Sequence[Path],
        clock: Clock,
        daemon: DaemonSpec,
        open_sources: Callable[[Workload], Awaitable[Setup]],
        tell: Told,
        tasks: Tasks,
    ) -> None:
        self.paths = list(paths)
        self.all: dict[WorkloadName, Shadow] = {}
        self._clock = clock
        self._daemon = daemon
        self._open = open_sources
        self._tell = tell
        self._supervised = tasks
        self._taken: State | None = None
        self._tasks: dict[WorkloadName, asyncio.Task[None]] = {}
        self._shown: dict[WorkloadName, tuple[int | None, int]] = {}

    def see(self, tick: Tick) -> None:
        """Pass a finished tick of a workload to its shadows."""
        if (shadow := self.all.get(tick.workload)) is not None:
            shadow.see(tick)

    async def take(
        self, controllers: Mapping[WorkloadName, Controller], tails: Mapping[WorkloadName, Sequence[Tick]]
    ) -> None:
        """Read the shadows' files and shadow these workloads by them. `tails` are the last turns on record.

        Raises `ConfigError` and `Misconfigured`; then the shadows stay what they were.
        """
        if not self.paths:
            return
        state = await self._state(controllers)
        config = await asyncio.to_thread(load, self.paths)
        present = {name: controller.workload for name, controller in controllers.items()}
        if found := list(problems(config.workloads, present)):
            raise ConfigError(found)
        opened = {name: await self._opened(shadow, present[name]) for name, shadow in config.workloads.items()}
        for name in self.all.keys() - opened.keys():
            await self._stop(name)
        for name, (own, same) in opened.items():
            known, first = self.all.get(name), controllers[name]
            if known is not None and known.first is first:
                known.adopt(config.workloads[name], own=own, same=same)
                continue
            await self._stop(name)
            shadow = Shadow(config.workloads[name], first, self._told(name), own=own, same=same)
            self.all[name] = shadow
            sources = {**{n: first.sources[there] for n, there in same.items()}, **own}
            begin = functools.partial(self._begin, config.workloads[name], sources, tails.get(name, ()))
            run = functools.partial(shadow.run, begin)
            self._tasks[name] = self._supervised.start(f"shadow {name}", run)
        self._taken = state

    async def reload(self, controllers: Mapping[WorkloadName, Controller]) -> None:
        """Take changed files, of shadows or of the workloads that they belong to; keep the present ones while in error.

        A shadow whose workload is gone ends all the same. Returns at once where nothing has changed.
        """
        if not self.paths:
            return
        state = await self._state(controllers)
        if state == self._taken:
            return
        for name in [n for n, shadow in self.all.items() if controllers.get(n) is not shadow.first]:
            await self._stop(name)
        try:
            if state[0].problem:
                raise Misconfigured(state[0].problem)
            await self.take(controllers, {})
        except (ConfigError, PortError) as e:
            log.error("shadow", error=str(e), remedy="the shadows in use stay until this is mended")
        self._taken = state

    async def _state(self, controllers: Mapping[WorkloadName, Controller]) -> State:
        """Return what the shadows depend on: their files, and the workloads that they belong to."""
        found = await asyncio.to_thread(look, self.paths)
        return found, [(n, id(c), c.workload.fingerprint) for n, c in controllers.items()]

    async def close(self) -> None:
        """Let turns that wait come through, then end."""
        for name in list(self.all):
            await self._stop(name)

    async def _stop(self, name: WorkloadName) -> None:
        shadow, task = self.all.get(name), self._tasks.pop(name, None)
        if shadow is not None and task is not None:
            await shadow.drained()
            del self.all[name]  # only now: the turns that waited were still recorded
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._supervised.forget(f"shadow {name}")

    async def _opened(self, shadow: Workload, present: Workload) -> tuple[Mapping[str, Source], Mapping[str, str]]:
        """Return the sources that the present workload lacks, open, and the others by their names there."""
        same = share_sources(shadow, present)
        lacking = {name: spec for name, spec in shadow.spec.sources.items() if name not in same}
        if not lacking:
            return {}, same
        spec = dataclasses.replace(shadow.spec, sources=lacking, pools={})
        return (await self._open(dataclasses.replace(shadow, spec=spec))).sources, same

    async def _begin(self, workload: Workload, sources: Mapping[str, Source], tail: Sequence[Tick]) -> History:
        """Return the past that a shadow begins with: seasons, and the last turns as it would have decided them."""
        now, spec = self._clock.now(), workload.spec
        history = History(max(self._daemon.history_s, spec.lookback_s), step_s=spec.interval_s)
        lately = [tick for tick in tail if now - spec.lookback_s <= tick.at <= now]
        setup = Setup(workload, sources, {})
        seeds = await history_backfill.seeds([setup], {workload.name: lately}, self._daemon, now)
        for policy, seed in seeds.get(workload.name, {}).items():
            history.seed_forecast(policy, seed)
        return rebuild_history(workload, history, lately)

    def _told(self, name: WorkloadName) -> Callable[[ShadowTurn], None]:
        def record(turn: ShadowTurn) -> None:
            shadow = self.all[name]
            self._tell(turn, shadow.totals, shadow.workload)
            sizes = turn.tick.decision.target, turn.first.asked
            if sizes != self._shown.get(name):
                self._shown[name] = sizes
                log_turn(turn, shadow.totals)

        return record


def log_turn(turn: ShadowTurn, totals: Totals) -> None:
    """Log one line where a shadow's target, or the size it is compared with, has changed."""
    late = totals.more_late
    log.info(
        "shadow",
        workload=turn.tick.workload,
        target=turn.tick.decision.target,
        size=turn.shadow.asked,
        first=turn.first.asked,
        reason=turn.tick.decision.reason,
        more_replica_hours=round(totals.more_replica_hours, 3),
        **({} if totals.more_usd is None else {"more_usd": round(totals.more_usd, 2)}),
        more_late="not known" if late is None else round(late, 1),
    )


def share_sources(shadow: Workload, present: Workload) -> dict[str, str]:
    """Return the shadow's sources that the present workload reads as well, by their names there; equal names go first.

    One that tells how many are late is another, where another promise is made.
    """
    known = present.spec.sources
    agreed = slo_limits_s(shadow.spec) == slo_limits_s(present.spec)
    found: dict[str, str] = {}
    for name, spec in shadow.spec.sources.items():
        if not agreed and not LATE_SHARES.isdisjoint(spec.quantities()):
            continue
        there = [name, *known]
        match = next((n for n in there if n in known and known[n] == spec), None)
        if match is not None:
            found[name] = match
    return found


def problems(shadows: Mapping[WorkloadName, Workload], present: Mapping[WorkloadName, Workload]) -> Iterator[Problem]:
    """Why these cannot shadow the present workloads."""
    for name, shadow in shadows.items():
        first = present.get(name)
        if first is None:
            hint = did_you_mean(name, list(present)) or f"there are {', '.join(sorted(present))}"
            yield Problem(OPTION, 1, "workload", name, "is none of the workloads that are run", hint)
            continue
        if shadow.spec.pools.keys() != first.spec.pools.keys():
            told = ", ".join(shadow.spec.pools)
            rule = f"must be the pools of the workload that is run: {', '.join(first.spec.pools)}"
            yield Problem(
                OPTION, 1, f"{name}.pools", told, rule, "a shadow sees their sizes, and sizes none of its own"
            )
        same = share_sources(shadow, first)
        for source, spec in shadow.spec.sources.items():
            if source not in same and kind_of("source", spec) == EMBEDDED:
                rule = "must be as in the workload that is run: reading an embedded world otherwise changes it"
                yield Problem(OPTION, 1, f"{name}.sources.{source}", "", rule, "copy the source from there")
