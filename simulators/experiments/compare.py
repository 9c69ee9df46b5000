"""Several policies in one scenario, with the same requests and chance for all, and which differences are real.

Replication r has the seed ``seed + r``, for every contender the same (common random numbers), so that contenders are
compared pair by pair. Means have t intervals over replications; quantiles are never averaged: their median over the
replications is told, with its range.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.engine.models.service import PS_PER_S
from simulators.experiments import statistics
from simulators.experiments.contenders.contenders import Contender
from simulators.experiments.invariants import InvariantBroken
from simulators.experiments.results import CountedRequests, ResultSummary, summarize
from simulators.experiments.run import Progress, SimulationRun, replaying, simulate, traffic_of
from simulators.experiments.statistics import LEVEL, Difference, Estimate
from simulators.reporting.run_data import Sheet, sheet
from simulators.world.traffic.shapes import Poisson
from simulators.world.traffic.trace import RequestTrace

REPLICATIONS: Final = 5
"""Enough for an interval, and for the range of five to hold the median in 94 of 100 cases; tails want 20."""
MEASURES: Final[Mapping[str, Callable[[ResultSummary], float]]] = {
    "cost_usd": lambda s: s.cost_usd,
    "attainment": lambda s: s.attainment.get("all", math.nan),
}
"""What contenders are compared by."""


@dataclass(frozen=True, slots=True)
class Replication:
    """One contender's run under one seed.

    `unsettled_s` is what MSER-5 would drop of the times to first token beyond the scenario's warm-up; None where the
    traffic is meant to change, -1 where the run never settles. `bound_usd` is what the oracle proved that nobody can
    undercut while the SLO's target is met.
    """

    summary: ResultSummary
    unsettled_s: float | None = None
    bound_usd: float | None = None
    sheet: Sheet | None = None


@dataclass(frozen=True, slots=True)
class Contrast:
    """One policy less the first in one measure. `p` is adjusted by Holm for all contrasts of the comparison."""

    name: str
    measure: str
    estimate: Estimate
    p: float

    @property
    def equal(self) -> bool:
        """Whether no replication differs."""
        return self.estimate.mean == 0 and not self.estimate.half_width > 0

    @property
    def significant(self) -> bool:
        return self.p < 1 - LEVEL


@dataclass(frozen=True, slots=True)
class Regret:
    """Cost over the oracle's. None where the SLO was missed in a replication: cheaper and worse is no regret of 0."""

    usd: Estimate | None
    share: float
    missed: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it: by contender, one replication a seed. `replayed` if all seeds had the same requests."""

    scenario: str
    slo_share: float
    seeds: tuple[int, ...]
    replayed: bool
    oracle: str | None
    runs: Mapping[str, tuple[Replication, ...]]

    @property
    def names(self) -> list[str]:
        return list(self.runs)

    @property
    def policies(self) -> list[str]:
        """All but the oracle, which is no policy: nobody can choose it."""
        return [name for name in self.runs if name != self.oracle]

    def values(self, name: str, measure: Callable[[ResultSummary], float]) -> list[float]:
        """Return a figure of a contender, one value a seed."""
        return [measure(r.summary) for r in self.runs[name]]

    def contrasts(self) -> list[Contrast]:
        """Return every policy against the first: intervals that hold together (Bonferroni), p-values by Holm."""
        first, *others = self.policies or [""]
        pairs = [(name, measure) for name in others for measure in MEASURES]
        level = 1 - (1 - LEVEL) / max(1, len(pairs))
        found = [self._difference(name, first, measure, level) for name, measure in pairs]
        adjusted = statistics.holm([d.p for d in found])
        return [
            Contrast(name, measure, d.estimate, p) for (name, measure), d, p in zip(pairs, found, adjusted, strict=True)
        ]

    def _difference(self, a: str, b: str, measure: str, level: float) -> Difference:
        figure = MEASURES[measure]
        return statistics.paired(self.values(a, figure), self.values(b, figure), level)

    def regrets(self) -> dict[str, Regret]:
        """Return every policy's cost over the oracle's, where it kept the SLO as well, or met its target."""
        if self.oracle is None:
            return {}
        kept = self.values(self.oracle, MEASURES["attainment"])
        costs = self.values(self.oracle, MEASURES["cost_usd"])
        found = {}
        for name in self.policies:
            own = self.values(name, MEASURES["attainment"])
            missed = sum(not (a >= min(self.slo_share, o)) for a, o in zip(own, kept, strict=True))
            over = statistics.paired(self.values(name, MEASURES["cost_usd"]), costs).estimate
            base = float(np.mean(costs))
            found[name] = Regret(None if missed else over, over.mean / base if base else math.nan, missed)
        return found


def compare(  # noqa: PLR0913 - what is compared, and how it is to be done
    contenders: Sequence[Contender],
    seeds: Sequence[int],
    trace: RequestTrace | None = None,
    *,
    jobs: int = 1,
    sheets: bool = False,
    progress: Progress = lambda _: None,
) -> Comparison:
    """Run every contender under every seed, in up to `jobs` processes: the result does not depend on how many.

    `trace` takes the place of the scenario's traffic. `sheets` keeps what a page shows of the first seed's runs. Raises
    `TraceError`, `SloUnreachable` from the oracle, and `InvariantBroken` if contenders did not face the same requests.
    """
    tasks = [(k, r) for r in range(len(seeds)) for k in range(len(contenders))]
    asked = [(contenders[k], seeds[r], trace, sheets and r == 0) for k, r in tasks]
    done = _here(asked, progress) if min(jobs, len(tasks)) <= 1 else _apart(asked, jobs, progress)
    runs = {c.name: tuple(done[r * len(contenders) + k] for r in range(len(seeds))) for k, c in enumerate(contenders)}
    for r, seed in enumerate(seeds):
        if len({found[r].summary.trace for found in runs.values()}) > 1:
            raise InvariantBroken(f"broken: seed {seed} gave contenders different requests: please report this")
    case = contenders[0].case
    return Comparison(
        scenario=case.scenario.scenario,
        slo_share=case.scenario.slo.share,
        seeds=tuple(seeds),
        replayed=len({found.summary.trace for found in done}) == 1,
        oracle=next((c.name for c in contenders if c.oracle), None),
        runs=runs,
    )


Asked = tuple[Contender, int, RequestTrace | None, bool]


def _here(asked: Sequence[Asked], progress: Progress) -> list[Replication]:
    def share_of(k: int) -> Progress:
        return lambda share: progress((k + share) / len(asked))

    return [_replicate(one, share_of(k)) for k, one in enumerate(asked)]


def _apart(asked: Sequence[Asked], jobs: int, progress: Progress) -> list[Replication]:
    """In processes that are spawned, on any platform alike: nothing of this one's state comes with them."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(asked)), mp_context=context) as pool:
        futures = [pool.submit(_replicate, one) for one in asked]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                progress(done / len(futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _replicate(asked: Asked, progress: Progress = lambda _: None) -> Replication:
    contender, seed, given, with_sheet = asked
    case = contender.case if given is None else replaying(contender.case, given)
    trace = traffic_of(case, seed) if given is None else given.with_prefix_hits(case.scenario.prefix_hit_share)
    bound_usd = None
    if contender.oracle:
        from simulators.experiments.oracle.plan import plan  # noqa: PLC0415 - only who asks for it pays for it

        found = plan(case, seed, trace, progress)
        run, bound_usd = found.run, found.bound_usd
    else:
        run = simulate(case, seed, trace, progress=progress)
    steady = given is None and isinstance(case.scenario.traffic, Poisson) and not contender.oracle
    drawn = sheet(contender.name, run) if with_sheet else None
    return Replication(
        summary=drawn.summary if drawn else summarize(run),
        unsettled_s=_unsettled_s(run) if steady else None,
        bound_usd=bound_usd,
        sheet=drawn,
    )


def _unsettled_s(run: SimulationRun) -> float:
    """Return how long after the warm-up the times to first token were not yet those of a steady state. Seconds."""
    requests = CountedRequests(run)
    told = np.isfinite(requests.ttft_s)
    dropped = statistics.warm_up(requests.ttft_s[told])
    if dropped < 0:
        return -1.0
    first_s = round(run.case.scenario.warm_up_s * PS_PER_S) / PS_PER_S
    return float(round(requests.arrival_s[told][dropped] - first_s, 3)) if dropped else 0.0
