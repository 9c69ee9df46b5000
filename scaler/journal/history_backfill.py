"""The older past that policies are given at a start or when added: from the journal, else from sources."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.forecast.history_seed import HistorySeed
from policies.forecast.series import DemandSeries
from policies.history.ticks import History
from policies.model import PolicyName, Tick, WorkloadName
from policies.recommend.context import LooksFarBack
from scaler.config.daemon import DaemonSpec
from scaler.controller import Setup
from scaler.journal.past_work import Grid, Measured, RecordedWork, means, work_since
from scaler.ports import PastSource, PortError
from scaler.telemetry.log import log

if TYPE_CHECKING:
    from numpy.typing import NDArray

Seeds = dict[WorkloadName, dict[PolicyName, HistorySeed]]
ASKED_S: Final = 30.0
"""All sources together may take so long: nobody decides meanwhile, and sizes stay what they are."""
AT_ONCE: Final = 4
"""Pasts asked for at a time: each costs a server what a dashboard of two weeks does."""
LEAST_S: Final = 3600.0
"""A past that lacks less than this is not asked for: seasons are means over half an hour and medians over days."""
COLD: Final = "it starts without seasons, and learns them as it goes"


@dataclass(slots=True)
class Plot:
    """One policy's older past on a grid, as far as it is known before `until`: `work` is NaN where it is not."""

    setup: Setup
    name: PolicyName
    policy: LooksFarBack
    memory: Mapping[str, float]
    grid: Grid
    until: float
    work: NDArray[np.float64]

    @staticmethod
    def of(setup: Setup, name: PolicyName, tail: Sequence[Tick], since: float, now: float) -> Plot:
        """Return nothing is known yet; up to the turns that are taken over whole."""
        step_s = DemandSeries(setup.workload.spec.interval_s).coarse_step_s
        until = min(now, tail[0].at) if tail else now
        start_s = math.floor(since / step_s) * step_s
        steps = max(0, math.ceil((until - start_s) / step_s))
        said = tail[-1].decision.recommendations if tail else ()
        memory = next((r.memory for r in said if r.policy == name), {})
        policy: LooksFarBack = setup.workload.spec.policies[name]
        return Plot(setup, name, policy, memory, Grid(start_s, step_s, steps), until, np.full(steps, np.nan))

    @property
    def workload(self) -> WorkloadName:
        return self.setup.workload.name

    def fill(self, found: RecordedWork) -> None:
        """By what the journal tells: ticks, and where none are left, what was known at earlier starts, last first."""
        starts = [past for past in found.starts if past.workload == self.workload and self.name in past.seeds]
        told = found.work.get((self.workload, self.name), Measured())
        self._add(means(np.array(told.at), np.array(told.work), self.grid, self.until))
        for past in sorted(starts, key=lambda past: -past.at):
            seed = past.seeds[self.name]
            self._add(means(seed.at, seed.work, self.grid, self.until))

    async def ask(self) -> None:
        """Ask the policy's source for the whole steps that are not known. Raises the port errors."""
        grid = self.grid
        unknown = np.flatnonzero(np.isnan(self.work[: math.floor((self.until - grid.start_s) / grid.step_s)]))
        source = self.setup.sources.get(self.policy.source or "")
        if not isinstance(source, PastSource) or unknown.size * grid.step_s < LEAST_S:
            return
        first, last = int(unknown[0]), int(unknown[-1]) + 1
        since, until = (grid.start_s + grid.step_s * place for place in (first, last))
        values = await source.past(self.policy.past_needs(), since, until, grid.step_s)
        told = np.full(len(self.work), np.nan)
        told[first:last] = self.policy.past_work(values, self.setup.workload.spec, self.memory)
        self._add(told)

    def _add(self, told: NDArray[np.float64]) -> None:
        """Fill gaps."""
        self.work = np.where(np.isnan(self.work), told, self.work)

    def seed(self) -> HistorySeed:
        return HistorySeed.of(self.grid.start_s, self.grid.step_s, self.work)


def added_policies(setup: Setup, history: History) -> frozenset[PolicyName]:
    """Return the policies that look far back and have not been watched so far."""
    policies = setup.workload.spec.policies
    return frozenset(n for n, p in policies.items() if isinstance(p, LooksFarBack) and not history.forecasts_for(n))


async def seeds(
    setups: Iterable[Setup],
    tails: Mapping[WorkloadName, Sequence[Tick]],
    daemon: DaemonSpec,
    now: float,
    only: Mapping[WorkloadName, Set[PolicyName]] | None = None,
) -> Seeds:
    """Return what each policy that looks far back (or `only` these) is given of the past before the `tails`.

    What fails leaves it cold.
    """
    plots = [
        Plot.of(setup, name, tails.get(setup.workload.name, ()), now - daemon.history_backfill_s, now)
        for setup in setups
        for name, policy in setup.workload.spec.policies.items()
        if isinstance(policy, LooksFarBack) and (only is None or name in only[setup.workload.name])
    ]
    if not plots or not daemon.history_backfill_s:
        return {}
    if daemon.journal.directory:
        await _from_journal(plots, Path(daemon.journal.directory))
    await _from_sources(plots)
    found: Seeds = {}
    for plot in plots:
        seed = plot.seed()
        if seed.known_s:
            log.info("seed", workload=plot.workload, policy=plot.name, known_h=round(seed.known_s / 3600.0, 1))
            found.setdefault(plot.workload, {})[plot.name] = seed
    return found


async def _from_journal(plots: Sequence[Plot], directory: Path) -> None:
    wanted: dict[WorkloadName, set[PolicyName]] = {}
    for plot in plots:
        wanted.setdefault(plot.workload, set()).add(plot.name)
    try:
        found = await asyncio.to_thread(work_since, directory, min(plot.grid.start_s for plot in plots), wanted)
    except OSError as e:
        log.warning("seed", error=f"{directory}: {e.strerror}", remedy=COLD)
        return
    for plot in plots:
        plot.fill(found)


async def _from_sources(plots: Sequence[Plot]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(plot: Plot) -> None:
        async with gate:
            await plot.ask()

    asking = {asyncio.create_task(ask(plot)): plot for plot in plots}
    _, late = await asyncio.wait(asking, timeout=ASKED_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task, plot in asking.items():
        error = f"no answer within {ASKED_S:g} s" if task in late else task.exception()
        if isinstance(error, PortError | str):
            log.warning("seed", workload=plot.workload, policy=plot.name, error=str(error), remedy=COLD)
        elif error is not None:
            raise error
