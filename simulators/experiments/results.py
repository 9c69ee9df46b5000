"""The figures of a run: requests, SLO attainment, latencies, cost and scaling."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from policies.model import Result
from policies.model.spec import Slo
from simulators.engine.models.service import PS_PER_S
from simulators.engine.tables import RequestEnd
from simulators.experiments.run import SimulationRun
from simulators.experiments.warnings import run_warnings
from simulators.world.infrastructure.billing import PARTS, Bill, runs
from simulators.world.infrastructure.events import NodeEventKind
from simulators.world.infrastructure.units import COST_PER_MICRO_USD, MICRO_PER_USD

Floats = NDArray[np.float64]
MAX_OPEN_S: Final = 60.0
"""An open request older than this, and older than the e2e limit, counts as late. Seconds."""
API: Final = "api"
"""Market and use of the price of requests to token APIs."""
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


class CountedRequests:
    """The requests of a run that count: those that arrived after the warm-up.

    Columns, one row a request.
    """

    def __init__(self, run: SimulationRun) -> None:
        arrived = run.world.arrived_requests
        warm_ps = round(run.case.scenario.warm_up_s * PS_PER_S)
        self.table = arrived[int(np.searchsorted(arrived.arrived_ps, warm_ps)) :]
        self.slo = run.case.scenario.slo

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def finished(self) -> NDArray[np.bool_]:
        return self.table.is_finished

    @cached_property
    def arrival_s(self) -> Floats:
        return self.table.arrived_ps / PS_PER_S

    @property
    def span_s(self) -> float:
        """Time from the first arrival to the last end. Seconds."""
        return float(self.table.finished_ps.max() - self.table.arrived_ps.min()) / PS_PER_S

    @cached_property
    def ttft_s(self) -> Floats:
        """Time to first token of each request; infinite where no token came. Seconds."""
        first_ps = self.table.first_token_ps
        return np.where(first_ps >= 0, (first_ps - self.table.arrived_ps) / PS_PER_S, np.inf)

    @cached_property
    def e2e_s(self) -> Floats:
        """End-to-end latency of each request; infinite where it did not finish. Seconds."""
        return np.where(self.finished, (self.table.finished_ps - self.table.arrived_ps) / PS_PER_S, np.inf)

    @cached_property
    def itl_s(self) -> Floats:
        """Mean inter-token latency of each request. Seconds.

        It is NaN for one token, and infinite where the request did not finish. A request with 11 output tokens that
        ends 0.5 s after its first token has 0.5 / 10 = 0.05 s.
        """
        gaps = self.table.output_tokens - 1
        decode_s = (self.table.finished_ps - self.table.first_token_ps) / PS_PER_S
        mean = np.divide(decode_s, gaps, out=np.full(len(gaps), np.nan), where=gaps > 0)
        return np.where(self.finished, mean, np.inf)

    @cached_property
    def met(self) -> Mapping[str, NDArray[np.bool_]]:
        """The requests that met each limit of the SLO, and ``all`` of them.

        A failed request meets none. Empty without an SLO.
        """
        if self.slo is None:
            return {}
        met: dict[str, NDArray[np.bool_]] = {}
        if self.slo.ttft_s is not None:
            met["ttft"] = self.finished & (self.ttft_s <= self.slo.ttft_s)
        if self.slo.itl_s is not None:
            met["itl"] = self.finished & ~(self.itl_s > self.slo.itl_s)
        if self.slo.e2e_s is not None:
            met["e2e"] = self.e2e_s <= self.slo.e2e_s
        met["all"] = np.logical_and.reduce(list(met.values()))
        return met

    @property
    def outside_share(self) -> float:
        """The share of the requests that a token API served, not a replica."""
        return float(((self.table.replica < 0) & (self.table.entered_ps >= 0)).mean())

    def judged(self, now_s: float) -> NDArray[np.bool_]:
        """Return the requests whose lateness is decided: finished, failed, or open for too long."""
        ended = self.finished | self.table.has_failed
        e2e_s = 0.0 if self.slo is None else self.slo.e2e_s or 0.0
        return ended | (self.arrival_s < now_s - max(MAX_OPEN_S, e2e_s))

    def ended_as(self, end: RequestEnd) -> int:
        """Return the number of requests that ended as `end`."""
        return int(self.table.ended_as(end).sum())


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Mean and quantiles of one latency over the requests that have it.

    Seconds; NaN where no request has it.
    """

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float

    @staticmethod
    def of(values: Floats) -> LatencySummary:
        known = values[np.isfinite(values)]
        if not known.size:
            return LatencySummary(*[float("nan")] * 5)
        return LatencySummary(float(known.mean()), *(float(q) for q in np.quantile(known, list(QUANTILES.values()))))


@dataclass(frozen=True, slots=True)
class ResultSummary:
    """The figures of a run.

    Requests and tokens are counted after the warm-up, all else over the whole run.

    TTFT covers the requests that got a first token, ITL and e2e the finished ones, attainment all that arrived.
    Without an SLO or without requests, `attainment` is empty and `slo_met` None. Costs are NaN without prices.
    `cost_usd` includes `api_usd`, the price of the requests to token APIs. This price and `api_share`, the share of the
    counted requests that they served, are NaN without a route. `route_changes` counts the changes of its weights
    after the first split. `warnings` state the limits of the figures.
    """

    scenario: str
    policy: str
    seed: int
    trace: str
    duration_s: float
    arrived: int
    finished: int
    unfinished: int
    rejected: int
    timed_out: int
    lost: int
    dead_letter: int
    streams_cut: int
    slo: Slo | None
    attainment: Mapping[str, float]
    slo_met: bool | None
    ttft_s: LatencySummary
    itl_s: LatencySummary
    e2e_s: LatencySummary
    token_gap_s: Mapping[str, float]
    output_tokens_per_s: float
    replicas_mean: float
    replicas_max: int
    node_hours: float
    cost_usd: float
    api_usd: float
    api_share: float
    route_changes: int
    cost_by_market_usd: Mapping[str, float]
    cost_by_use_usd: Mapping[str, float]
    waste_share: float
    usd_per_million_tokens: float
    scale_ups: int
    scale_downs: int
    interruptions: int
    refused: int
    blind_ticks: int
    ticks: int
    preemptions: int
    recomputed_tokens: int
    events: int
    warnings: tuple[str, ...] = ()

    @property
    def missed_by(self) -> float:
        """Return the share of requests by which the target is missed.

        It is 0 if the target is met, and NaN if nothing is judged. An attainment of 0.97 misses a target of 0.99 by
        0.02.
        """
        if self.slo is None or not self.attainment:
            return math.nan
        return max(0.0, self.slo.share - self.attainment["all"])

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "slo_missed_by": self.missed_by}


def summarize(run: SimulationRun) -> ResultSummary:
    requests, world, line = CountedRequests(run), run.world, run.timeline
    bills = [pool.bill(world.now_ps, world.kernel.occupied_ps) for pool in world.pools.values()]
    total = sum(b.total for b in bills)
    api_usd = 0.0 if world.gateway is None else round(float(world.gateway.usd.sum()), 6)
    total_usd = usd(total) + api_usd if run.priced else math.nan
    api = {} if world.gateway is None else {API: api_usd}
    finished = int(requests.finished.sum())
    tokens = int(requests.table.output_tokens[requests.finished].sum(dtype=np.int64))
    desired = np.array([d for d in line.desired if not math.isnan(d)])
    steps = np.diff(desired) if desired.size else desired
    replicas = world.kernel.read()
    attainment = {name: float(met.mean()) for name, met in requests.met.items()} if len(requests) else {}
    failures = (RequestEnd.REJECTED, RequestEnd.TIMED_OUT, RequestEnd.LOST, RequestEnd.DEAD_LETTER)
    rejected, timed_out, lost, dead = (requests.ended_as(end) for end in failures)
    return ResultSummary(
        scenario=run.case.scenario.scenario,
        policy=run.case.workload.name,
        seed=run.seed,
        trace=run.trace.digest()[:16],
        duration_s=run.end_s,
        arrived=len(requests),
        finished=finished,
        unfinished=len(requests) - finished - rejected - timed_out - lost - dead,
        rejected=rejected,
        timed_out=timed_out,
        lost=lost,
        dead_letter=dead,
        streams_cut=world.lost_requests,
        slo=requests.slo,
        attainment=attainment,
        slo_met=attainment["all"] >= requests.slo.share if requests.slo and attainment else None,
        ttft_s=LatencySummary.of(requests.ttft_s),
        itl_s=LatencySummary.of(requests.itl_s),
        e2e_s=LatencySummary.of(requests.e2e_s),
        token_gap_s=token_gaps(world.kernel.gaps),
        output_tokens_per_s=tokens / requests.span_s if tokens else 0.0,
        replicas_mean=float(desired.mean()) if desired.size else 0.0,
        replicas_max=int(desired.max()) if desired.size else 0,
        node_hours=node_hours(run),
        cost_usd=total_usd,
        api_usd=math.nan if world.gateway is None else api_usd,
        api_share=math.nan if world.gateway is None or not len(requests) else requests.outside_share,
        route_changes=0 if world.gateway is None else max(0, world.gateway.writes - 1),
        cost_by_market_usd=_by_market(bills) | api if run.priced else {},
        cost_by_use_usd=_by_use(bills) | api if run.priced else {},
        waste_share=_waste_share(bills, api_usd) if run.priced else math.nan,
        usd_per_million_tokens=total_usd / tokens * 1e6 if tokens else math.nan,
        scale_ups=int((steps > 0).sum()),
        scale_downs=int((steps < 0).sum()),
        interruptions=sum(e.kind is NodeEventKind.INTERRUPTED for pool in world.pools.values() for e in pool.events),
        refused=sum(n for result, n in line.results.items() if result.refused and result is not Result.CONFLICT),
        blind_ticks=line.blind,
        ticks=len(line.at_s),
        preemptions=int(replicas.preemptions.sum()),
        recomputed_tokens=int(replicas.recomputed_tokens.sum()),
        events=world.kernel.events,
        warnings=run_warnings(run),
    )


def usd(cost: int) -> float:
    """Return a cost, given in cost units, in dollars rounded to a micro-dollar."""
    return round(cost / COST_PER_MICRO_USD) / MICRO_PER_USD


def _by_use(bills: list[Bill]) -> dict[str, float]:
    return {part: usd(sum(getattr(b, part) for b in bills)) for part in PARTS}


def _waste_share(bills: list[Bill], api_usd: float) -> float:
    """Return the share of the cost that served no request.

    The price of token APIs is for requests alone.
    """
    total, used = sum(b.total for b in bills), sum(b.used for b in bills)
    if not api_usd:
        return 1.0 - used / total if total else 0.0
    return usd(total - used) / (usd(total) + api_usd)


def _by_market(bills: list[Bill]) -> dict[str, float]:
    markets = dict.fromkeys(b.market for b in bills)
    return {market: usd(sum(b.total for b in bills if b.market == market)) for market in markets}


def node_hours(run: SimulationRun) -> float:
    """Return the hours that nodes ran, used or not."""
    now_ps = run.world.now_ps
    spans = (b - a for p in run.world.pools.values() for n in p.ledger.nodes for a, b in runs(n, now_ps))
    return sum(spans) / PS_PER_S / 3600


def token_gaps(gaps: NDArray[np.int64]) -> dict[str, float]:
    """Return quantiles of the time between two tokens, over all tokens. Seconds.

    `gaps` counts gaps in buckets of a sixteenth of a power of two: bucket k = 16 e + f covers
    [(16 + f) 2**(e - 5), (17 + f) 2**(e - 5)) units of 2**20 ps. The middle of the bucket is returned: bucket 256 + 8
    stands for 24.5 * 2**11 units, 52.6 ms.
    """
    total = int(gaps.sum())
    if not total:
        return dict.fromkeys(QUANTILES, float("nan"))
    sums = np.cumsum(gaps)
    quantiles = {}
    for name, q in QUANTILES.items():
        bucket = int(np.searchsorted(sums, q * total))
        exponent, sixteenth = divmod(bucket, 16)
        quantiles[name] = float(np.ldexp(16.5 + sixteenth, exponent - 5)) * 2**20 / PS_PER_S
    return quantiles
