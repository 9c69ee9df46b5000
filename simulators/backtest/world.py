"""A recorded workload as a case for the simulator, with simulated sources and pools.

A source becomes a queue or engines, by its quantities and not by its kind. Quantities that the simulator does not have
are left out; the loader refuses a policy that needs one. Pools start with the first recorded sizes, and have the
recorded lead times, prices and interruptions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from policies.history.lead_times import MIN_LEAD_TIMES
from policies.model import PoolName
from policies.model.pool import Pool
from policies.model.spec import Slo, WorkloadSpec
from scaler.config.load import Workload, workload_from
from simulators.backtest.engines import InferredEngine, scaled_times
from simulators.backtest.reconstruct import Rebuilt
from simulators.backtest.recorded_run import RecordedRun
from simulators.backtest.supply import capacity, interruptions_per_hour, lead_times, shortage_share
from simulators.engine.models.service import ServiceModel
from simulators.experiments.run import replaying
from simulators.experiments.scenario import Case, Scenario
from simulators.world import queue as queues
from simulators.world import telemetry
from simulators.world.infrastructure.market import PoolOffer, ZoneOffer
from simulators.world.infrastructure.node_lifecycle import Phase, StartUp
from simulators.world.queue import SimulatedQueue
from simulators.world.telemetry import Telemetry

QUEUE: Final = {"kind": "sqs", "queue_url": "https://sqs.us-east-1.amazonaws.com/000000000000/recorded"}
ENGINES: Final = {"kind": "prometheus", "url": "http://recorded.invalid"}
POOL_FIELDS: Final = tuple(field.name for field in dataclasses.fields(Pool))
INSTANT: Final = Phase(median_s=0.0)
P90: Final = 1.2816
"""Standard deviations from the median to the 90th percentile of a normal."""
SETTLE_S: Final = 300.0
"""The time after the period in which the last requests can end. Seconds."""
ASSUMED_SLO: Final = Slo(ttft_s=1.0, itl_s=0.05)
"""SLO of a replayed workload without one: that of interactive chat. `RebuiltWorld.has_slo` is False then."""


@dataclass(frozen=True, slots=True)
class RebuiltWorld:
    """A case with the requests that it replays, and its assumptions as text.

    `has_prices` means that all pools have a price, `has_slo` that the workload has an SLO.
    """

    case: Case
    rebuilt: Rebuilt
    has_prices: bool
    has_slo: bool
    assumptions: tuple[str, ...]


def rebuild_world(recorded: RecordedRun, engine: InferredEngine, rebuilt: Rebuilt) -> RebuiltWorld:
    """Return the world of a recorded period.

    Raises `ConfigError` if its workload cannot be simulated.
    """
    workload = simulated_workload(recorded.workload, "the recorded workload")
    serving = {name: pool for name, pool in workload.spec.pools.items() if pool.tier == "serving"}
    models: dict[str, ServiceModel] = {}
    offers: dict[PoolName, PoolOffer] = {}
    pool_texts: list[str] = []
    for name, pool in serving.items():
        model = (
            engine.model if pool.work_per_replica == 1.0 else scaled_times(engine.model, 1.0 / pool.work_per_replica)
        )
        models[model.name] = model
        offers[name], text = _offer(recorded, name, pool, model.name)
        pool_texts.append(text)
    scenario = Scenario(
        scenario=workload.name,
        workload="",
        traffic=None,
        pools=offers,
        initial_replicas=_initial(recorded, list(serving)),
        duration_s=recorded.span_s,
        settle_s=SETTLE_S,
        start=datetime.fromtimestamp(recorded.at[0], UTC).isoformat(),
        slo=recorded.spec.slo or ASSUMED_SLO,
        queue=_queue(recorded) if rebuilt.queued else None,
        telemetry=Telemetry(rate_window_s=rebuilt.window_s),
    )
    blank = Case(scenario, workload, models, {}, Path())
    case = replaying(blank.under(workload, "the recorded workload"), rebuilt.trace)
    priced = all(pool.price_usd_per_hour is not None for pool in serving.values())
    return RebuiltWorld(
        case,
        rebuilt,
        priced,
        recorded.spec.slo is not None,
        (f"engines: {engine.origin}", *rebuilt.assumptions, *pool_texts, *_route_texts(recorded.spec)),
    )


def simulated_workload(workload: Workload, file: str) -> Workload:
    """Return the workload with simulated sources and pools, without its routes.

    Raises `ConfigError`.
    """
    document: dict[str, Any] = dict(workload.document)
    document["sources"] = {name: _source(spec) for name, spec in workload.spec.sources.items()}
    document.pop("routes", None)
    document["pools"] = {
        name: {"kind": "kubernetes", "name": name, **{key: pool[key] for key in POOL_FIELDS if key in pool}}
        for name, pool in document["pools"].items()
    }
    return workload_from(document, file)


def _route_texts(spec: WorkloadSpec) -> Iterator[str]:
    if any(route.workloads for route in spec.routes.values()):
        yield "routes: left out; requests that other workloads carried are theirs, and those from others count here"
    elif spec.routes:
        yield "routes: left out, since the requests to token APIs are not recorded one by one"


def _source(spec: Any) -> dict[str, Any]:
    """Return the document of a simulated source with the quantities of a recorded one."""
    quantities = spec.quantities()
    if "visible" in quantities:
        return {**QUEUE, "oldest_age": "oldest_age_s" in quantities}
    known = [quantity for quantity in quantities if quantity in telemetry.QUANTITIES]
    source = {**ENGINES, "queries": dict.fromkeys(known or ["none"], "recorded")}
    windows = {key: getattr(spec, key) for key in ("window_s", "max_age_s") if hasattr(spec, key)}
    return {**source, **windows}


def _offer(recorded: RecordedRun, name: PoolName, pool: Pool, model: str) -> tuple[PoolOffer, str]:
    """Return a pool's offer from the record, and its description."""
    start_up, starts = _start_up(recorded, name, pool)
    interruptions = interruptions_per_hour(recorded, name)
    steps = () if pool.market == "reserved" else capacity(recorded, name)
    offer = PoolOffer(
        model=model,
        price_usd_per_hour=round(pool.price_usd_per_hour or 0.0, 6),
        market=pool.market,
        zones={
            "recorded": ZoneOffer(
                capacity=recorded.reservation(name) if pool.market == "reserved" else None,
                steps=steps,
                losses_per_node_hour=interruptions,
            )
        },
        start_up=start_up,
    )
    shortage = shortage_share(steps, recorded.span_s)
    capacity_text = "capacity is assumed to be available"
    if shortage:
        capacity_text = f"capacity is short for {shortage:.0%} of the time, as recorded"
    losses = f"{interruptions:.3g} losses per replica and hour"
    return offer, f"pool {name}: {starts}; {losses}; {capacity_text}"


def _start_up(recorded: RecordedRun, name: PoolName, pool: Pool) -> tuple[StartUp, str]:
    """Return the pool's start-up, from its recorded lead times if there are enough.

    Otherwise the configured lead time is used. A median of 60 s and a P90 of 90 s give a sigma of ln(90 / 60) / 1.2816
    = 0.32.
    """
    starts = lead_times(recorded, name)
    p50 = starts.quantile_s(0.5)
    p90 = None if p50 is None else starts.usual_s(p50)
    if len(starts) < MIN_LEAD_TIMES or p50 is None or p90 is None or p50 <= 0:
        median_s = max(pool.lead_time_s, 1.0)
        return _lognormal_start_up(
            median_s, 0.0
        ), f"a start takes {median_s:g} s, as configured ({len(starts)} starts were recorded)"
    sigma = min(3.0, math.log(max(p90, p50) / p50) / P90)
    return _lognormal_start_up(
        p50, sigma
    ), f"a start takes {p50:.0f} s (P90 {p90:.0f} s), as {len(starts)} recorded starts"


def _lognormal_start_up(median_s: float, sigma: float) -> StartUp:
    return StartUp(
        node=Phase(median_s=median_s, sigma=sigma), image=INSTANT, weights=INSTANT, compile=INSTANT, ready=INSTANT
    )


def _initial(recorded: RecordedRun, pools: Sequence[PoolName]) -> Mapping[PoolName, int]:
    """Return the ready replicas of each pool in the first tick that reports them."""
    initial = {}
    for name in pools:
        ready = recorded.pools[name]["ready"]
        known = ready[np.isfinite(ready)]
        initial[name] = int(known[0]) if known.size else 0
    return initial


def _queue(recorded: RecordedRun) -> SimulatedQueue:
    """Return a queue with the messages per replica recorded while others waited."""
    for source in recorded.spec.sources:
        visible, in_work = recorded.reading(source, "visible"), recorded.reading(source, "in_flight")
        ready = recorded.columns["ready"]
        if visible is not None and in_work is not None:
            full = (visible > ready) & (ready >= 1) & (in_work > 0)
            if full.any():
                return SimulatedQueue(per_replica=max(1, round(float(np.median(in_work[full] / ready[full])))))
    return SimulatedQueue()


def reads_a_queue(spec: WorkloadSpec) -> bool:
    """Return whether a workload reads a queue."""
    return any(set(source.quantities()) & set(queues.QUANTITIES) for source in spec.sources.values())
