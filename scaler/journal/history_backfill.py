"""Backfills the history of policies that forecast seasons.

It does so at a start or when a policy is added: from the journal, then from sources.
"""

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
from scaler.journal.past_work import Grid, RecordedWork, WorkSamples, means, work_since
from scaler.ports import PastSource, PortError
from scaler.setup import Setup
from scaler.telemetry.log import log

if TYPE_CHECKING:
    from numpy.typing import NDArray

Seeds = dict[WorkloadName, dict[PolicyName, HistorySeed]]
TIMEOUT_S: Final = 30.0
"""Maximum time of all requests to sources: the start waits for them, and sizes stay as they are. Seconds."""
MAX_CONCURRENT: Final = 4
"""Maximum number of concurrent requests: each costs a server as much as a dashboard over two weeks."""
MIN_GAP_S: Final = 3600.0
"""Minimum length of the unknown steps that is requested: seasons are half-hour means and medians over days. Seconds."""
COLD: Final = "the policy starts without seasonal history and learns it while it runs"


@dataclass(slots=True)
class Backfill:
    """One policy's work on a grid before `until` (Unix time).

    The work is in replica equivalents; NaN where it is unknown.
    """

    setup: Setup
    name: PolicyName
    policy: LooksFarBack
    memory: Mapping[str, float]
    grid: Grid
    until: float
    work: NDArray[np.float64]

    @staticmethod
    def of(setup: Setup, name: PolicyName, tail: Sequence[Tick], since: float, now: float) -> Backfill:
        """Return an empty backfill from `since` to the first tick of the tail.

        The history contains the tail's ticks.

        The grid starts at a multiple of its step. Example: with a step of 300 s and `since` 1000 s it starts at 900 s.
        """
        step_s = DemandSeries(setup.workload.spec.interval_s).coarse_step_s
        until = min(now, tail[0].at) if tail else now
        start_s = math.floor(since / step_s) * step_s
        steps = max(0, math.ceil((until - start_s) / step_s))
        recommendations = tail[-1].decision.recommendations if tail else ()
        memory = next((r.memory for r in recommendations if r.policy == name), {})
        policy: LooksFarBack = setup.workload.spec.policies[name]
        return Backfill(setup, name, policy, memory, Grid(start_s, step_s, steps), until, np.full(steps, np.nan))

    @property
    def workload(self) -> WorkloadName:
        return self.setup.workload.name

    def fill_from_journal(self, recorded: RecordedWork) -> None:
        """Fill steps from recorded ticks, and the remaining gaps from earlier starts' seeds.

        The seeds of the latest start come first.
        """
        starts = [start for start in recorded.starts if start.workload == self.workload and self.name in start.seeds]
        samples = recorded.work.get((self.workload, self.name), WorkSamples())
        self._fill_gaps(means(np.array(samples.at), np.array(samples.work), self.grid, self.until))
        for start in sorted(starts, key=lambda start: -start.at):
            seed = start.seeds[self.name]
            self._fill_gaps(means(seed.at, seed.work, self.grid, self.until))

    async def fill_from_source(self) -> None:
        """Request the whole steps that are unknown from the policy's source. Raises port errors."""
        grid = self.grid
        unknown = np.flatnonzero(np.isnan(self.work[: math.floor((self.until - grid.start_s) / grid.step_s)]))
        source = self.setup.sources.get(self.policy.source or "")
        if not isinstance(source, PastSource) or unknown.size * grid.step_s < MIN_GAP_S:
            return
        first, last = int(unknown[0]), int(unknown[-1]) + 1
        since, until = (grid.start_s + grid.step_s * step for step in (first, last))
        values = await source.past(self.policy.past_needs(), since, until, grid.step_s)
        work = np.full(len(self.work), np.nan)
        work[first:last] = self.policy.past_work(values, self.setup.workload.spec, self.memory)
        self._fill_gaps(work)

    def _fill_gaps(self, work: NDArray[np.float64]) -> None:
        self.work = np.where(np.isnan(self.work), work, self.work)

    def seed(self) -> HistorySeed:
        return HistorySeed.of(self.grid.start_s, self.grid.step_s, self.work)


def added_policies(setup: Setup, history: History) -> frozenset[PolicyName]:
    """Return the policies that look far back and have no forecast in the history yet."""
    policies = setup.workload.spec.policies
    return frozenset(n for n, p in policies.items() if isinstance(p, LooksFarBack) and not history.forecasts_for(n))


async def seeds(
    setups: Iterable[Setup],
    tails: Mapping[WorkloadName, Sequence[Tick]],
    daemon: DaemonSpec,
    now: float,
    only: Mapping[WorkloadName, Set[PolicyName]] | None = None,
) -> Seeds:
    """Return the seed of each policy that looks far back, from the time before the `tails`.

    With `only`, only these policies get a seed.

    A policy gets no seed where its reads fail.
    """
    backfills = [
        Backfill.of(setup, name, tails.get(setup.workload.name, ()), now - daemon.history_backfill_s, now)
        for setup in setups
        for name, policy in setup.workload.spec.policies.items()
        if isinstance(policy, LooksFarBack) and (only is None or name in only[setup.workload.name])
    ]
    if not backfills or not daemon.history_backfill_s:
        return {}
    if daemon.journal.directory:
        await _from_journal(backfills, Path(daemon.journal.directory))
    await _from_sources(backfills)
    result: Seeds = {}
    for backfill in backfills:
        seed = backfill.seed()
        if seed.known_s:
            log.info(
                "history backfill",
                workload=backfill.workload,
                policy=backfill.name,
                known_h=round(seed.known_s / 3600.0, 1),
            )
            result.setdefault(backfill.workload, {})[backfill.name] = seed
    return result


async def _from_journal(backfills: Sequence[Backfill], directory: Path) -> None:
    policies: dict[WorkloadName, set[PolicyName]] = {}
    for backfill in backfills:
        policies.setdefault(backfill.workload, set()).add(backfill.name)
    since = min(backfill.grid.start_s for backfill in backfills)
    try:
        recorded = await asyncio.to_thread(work_since, directory, since, policies)
    except OSError as e:
        log.warning("history backfill", error=f"{directory}: {e.strerror}", remedy=COLD)
        return
    for backfill in backfills:
        backfill.fill_from_journal(recorded)


async def _from_sources(backfills: Sequence[Backfill]) -> None:
    semaphore = asyncio.Semaphore(MAX_CONCURRENT)

    async def fill(backfill: Backfill) -> None:
        async with semaphore:
            await backfill.fill_from_source()

    tasks = {asyncio.create_task(fill(backfill)): backfill for backfill in backfills}
    _, unfinished = await asyncio.wait(tasks, timeout=TIMEOUT_S)
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)
    for task, backfill in tasks.items():
        error = f"no response within {TIMEOUT_S:g} s" if task in unfinished else task.exception()
        if isinstance(error, PortError | str):
            log.warning(
                "history backfill", workload=backfill.workload, policy=backfill.name, error=str(error), remedy=COLD
            )
        elif error is not None:
            raise error
