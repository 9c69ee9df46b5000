"""Comparison of policies in one scenario.

All policies get the same requests and random streams. Replication r uses the seed ``seed + r`` for every contender
(common random numbers), so contenders are compared pair by pair. Means have t intervals over the replications.
Quantiles are not averaged: the report shows their median over the replications and its range.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.model.spec import Slo
from simulators.engine.models.service import PS_PER_S
from simulators.experiments import statistics
from simulators.experiments.contenders.contenders import Contender
from simulators.experiments.invariants import InvariantBroken
from simulators.experiments.results import CountedRequests, ResultSummary, summarize
from simulators.experiments.run import Progress, SimulationRun, replaying, simulate, traffic_of
from simulators.experiments.statistics import LEVEL, Difference, Estimate
from simulators.reporting.run_data import RunData, run_data
from simulators.world.traffic.shapes import Poisson
from simulators.world.traffic.trace import RequestTrace

REPLICATIONS: Final = 5
"""Five values bracket their median in 93.75 % of cases (1 - 2 / 2**5). Tail quantiles need about 20 replications."""
MEASURES: Final[Mapping[str, Callable[[ResultSummary], float]]] = {
    "cost_usd": lambda s: s.cost_usd,
    "attainment": lambda s: s.attainment.get("all", math.nan),
}
"""The measures by which contenders are compared."""


@dataclass(frozen=True, slots=True)
class Replication:
    """One contender's run under one seed.

    `unsettled_s` is the time after the scenario's warm-up until the TTFT is steady by MSER-5. Seconds; None where the
    traffic changes by design, -1 where the run never settles. `bound_usd` is the oracle's lower bound: no policy that
    meets the SLO target costs less.
    """

    summary: ResultSummary
    unsettled_s: float | None = None
    bound_usd: float | None = None
    run_data: RunData | None = None


@dataclass(frozen=True, slots=True)
class Contrast:
    """The difference of one policy from the first in one measure.

    `p` is adjusted by Holm for all contrasts.
    """

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
    """A policy's cost above the oracle's.

    `usd` is None where `missed` replications violate the SLO.

    A policy that costs less because it violates the SLO has no regret to report. `share` is relative to the oracle's
    cost: 12 USD against 10 USD gives 0.2.
    """

    usd: Estimate | None
    share: float
    missed: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The replications of each contender, one for each seed.

    `replayed` is true if all seeds had the same requests.
    """

    scenario: str
    slo: Slo | None
    seeds: tuple[int, ...]
    replayed: bool
    oracle: str | None
    runs: Mapping[str, tuple[Replication, ...]]

    @property
    def names(self) -> list[str]:
        """The contenders that met the SLO, by mean cost, then the others, by mean cost.

        Without an SLO, all of them by mean cost.
        """
        return sorted(self.runs, key=lambda n: (self.slo is not None and not self.met(n), self.mean_cost_usd(n)))

    @property
    def policies(self) -> list[str]:
        """The contenders without the oracle, which no user can deploy."""
        return [name for name in self.names if name != self.oracle]

    @property
    def base(self) -> str:
        """The first policy given, with which the others are compared. Empty if there is none."""
        return next((name for name in self.runs if name != self.oracle), "")

    @property
    def measures(self) -> Mapping[str, Callable[[ResultSummary], float]]:
        """The measures by which policies are compared: without an SLO, the cost alone."""
        return {key: measure for key, measure in MEASURES.items() if key == "cost_usd" or self.slo is not None}

    def met(self, name: str) -> bool:
        """Return whether a contender met the SLO in every replication."""
        return all(r.summary.slo_met for r in self.runs[name])

    def missed_by(self, name: str) -> float:
        """Return the largest share by which a replication missed the target.

        It is 0 if all met it, and NaN if none is judged.
        """
        return max((m for r in self.runs[name] if not math.isnan(m := r.summary.missed_by)), default=math.nan)

    def mean_cost_usd(self, name: str) -> float:
        return float(np.mean(self.values(name, MEASURES["cost_usd"])))

    def mean_api_usd(self, name: str) -> float:
        """Return the mean price of the requests to token APIs; NaN without a route."""
        return float(np.mean(self.values(name, lambda s: s.api_usd)))

    def values(self, name: str, measure: Callable[[ResultSummary], float]) -> list[float]:
        """Return a measure of a contender, one value for each seed."""
        return [measure(r.summary) for r in self.runs[name]]

    def contrasts(self) -> list[Contrast]:
        """Return each policy's difference from the first one in each measure.

        The intervals hold jointly (Bonferroni); the p-values are adjusted by Holm. Two policies compared with the first
        in two measures make 4 contrasts, each with an interval at 1 - 0.05 / 4 = 98.75 %.
        """
        pairs = [(name, measure) for name in self.policies if name != self.base for measure in self.measures]
        level = 1 - (1 - LEVEL) / max(1, len(pairs))
        differences = [self._difference(name, self.base, measure, level) for name, measure in pairs]
        adjusted = statistics.holm([d.p for d in differences])
        return [
            Contrast(name, measure, d.estimate, p)
            for (name, measure), d, p in zip(pairs, differences, adjusted, strict=True)
        ]

    def _difference(self, a: str, b: str, measure: str, level: float) -> Difference:
        measured = MEASURES[measure]
        return statistics.paired(self.values(a, measured), self.values(b, measured), level)

    def regrets(self) -> dict[str, Regret]:
        """Return each policy's cost above the oracle's.

        A replication counts as missed if its attainment is below both the target and the oracle's. With a target of
        0.99 and an oracle at 0.985, a policy at 0.987 is not missed.
        """
        if self.oracle is None or self.slo is None:
            return {}
        oracle_attainment = self.values(self.oracle, MEASURES["attainment"])
        oracle_costs = self.values(self.oracle, MEASURES["cost_usd"])
        regrets = {}
        for name in self.policies:
            attainment = self.values(name, MEASURES["attainment"])
            missed = sum(not (a >= min(self.slo.share, o)) for a, o in zip(attainment, oracle_attainment, strict=True))
            over = statistics.paired(self.values(name, MEASURES["cost_usd"]), oracle_costs).estimate
            oracle_cost = float(np.mean(oracle_costs))
            regrets[name] = Regret(
                None if missed else over, over.mean / oracle_cost if oracle_cost else math.nan, missed
            )
        return regrets


def compare(  # noqa: PLR0913 - the comparison's inputs and its execution options
    contenders: Sequence[Contender],
    seeds: Sequence[int],
    trace: RequestTrace | None = None,
    *,
    jobs: int = 1,
    with_run_data: bool = False,
    progress: Progress = lambda _: None,
) -> Comparison:
    """Run every contender under every seed, in up to `jobs` processes.

    The result does not depend on `jobs`.

    `trace` replaces the scenario's traffic. `with_run_data` keeps the page data of the first seed's runs. Raises
    `TraceError`, `SloUnreachable` from the oracle, and `InvariantBroken` if contenders did not face the same requests.
    """
    tasks = [(k, r) for r in range(len(seeds)) for k in range(len(contenders))]
    specs = [(contenders[k], seeds[r], trace, with_run_data and r == 0) for k, r in tasks]
    replications = (
        _run_in_process(specs, progress) if min(jobs, len(tasks)) <= 1 else _run_in_processes(specs, jobs, progress)
    )
    runs = {
        c.name: tuple(replications[r * len(contenders) + k] for r in range(len(seeds)))
        for k, c in enumerate(contenders)
    }
    for r, seed in enumerate(seeds):
        if len({replication[r].summary.trace for replication in runs.values()}) > 1:
            raise InvariantBroken(f"simulator bug: seed {seed} gave policies different requests. Please report it")
    case = contenders[0].case
    return Comparison(
        scenario=case.scenario.scenario,
        slo=case.scenario.slo,
        seeds=tuple(seeds),
        replayed=len({replication.summary.trace for replication in replications}) == 1,
        oracle=next((c.name for c in contenders if c.oracle), None),
        runs=runs,
    )


ReplicationSpec = tuple[Contender, int, RequestTrace | None, bool]


def _run_in_process(specs: Sequence[ReplicationSpec], progress: Progress) -> list[Replication]:
    def share_of(k: int) -> Progress:
        return lambda share: progress((k + share) / len(specs))

    return [_replicate(spec, share_of(k)) for k, spec in enumerate(specs)]


def _run_in_processes(specs: Sequence[ReplicationSpec], jobs: int, progress: Progress) -> list[Replication]:
    """Run in spawned processes, which inherit no state from this one on any platform."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(specs)), mp_context=context) as pool:
        futures = [pool.submit(_replicate, spec) for spec in specs]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                progress(done / len(futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _replicate(spec: ReplicationSpec, progress: Progress = lambda _: None) -> Replication:
    contender, seed, replayed, with_run_data = spec
    case = contender.case if replayed is None else replaying(contender.case, replayed)
    trace = traffic_of(case, seed) if replayed is None else replayed.with_prefix_hits(case.scenario.prefix_hit_share)
    bound_usd = None
    if contender.oracle:
        from simulators.experiments.oracle.plan import plan  # noqa: PLC0415 - slow to import, and rarely needed

        planned = plan(case, seed, trace, progress)
        run, bound_usd = planned.run, planned.bound_usd
    else:
        run = simulate(case, seed, trace, progress=progress)
    steady = replayed is None and isinstance(case.scenario.traffic, Poisson) and not contender.oracle
    data = run_data(contender.name, run) if with_run_data else None
    return Replication(
        summary=data.summary if data else summarize(run),
        unsettled_s=_unsettled_s(run) if steady else None,
        bound_usd=bound_usd,
        run_data=data,
    )


def _unsettled_s(run: SimulationRun) -> float:
    """Return the time after the warm-up until the TTFT is steady; -1 if it never is. Seconds.

    A warm-up of 60 s whose first 10 counted requests MSER-5 drops, the 11th arriving at 95 s, gives 35 s.
    """
    requests = CountedRequests(run)
    has_ttft = np.isfinite(requests.ttft_s)
    dropped = statistics.warm_up(requests.ttft_s[has_ttft])
    if dropped < 0:
        return -1.0
    first_s = round(run.case.scenario.warm_up_s * PS_PER_S) / PS_PER_S
    return float(round(requests.arrival_s[has_ttft][dropped] - first_s, 3)) if dropped else 0.0
