"""A recorded workload as a case for the simulator: its sources and pools by their simulated counterparts.

Sources are told apart by what they give, whatever their kind: a queue's counts, or engines' metrics. Quantities that
no world tells are left out; a policy that reads one cannot be simulated, and the loader says so. Pools begin with the
sizes recorded first, and start, cost and are lost as the record shows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from policies.history.lead_times import MIN_LEAD_TIMES
from policies.model import PoolName
from policies.model.spec import Pool, Slo, WorkloadSpec
from scaler.config.load import Workload, workload_from
from simulators.backtest.engines import InferredEngine, slower
from simulators.backtest.reconstruct import Rebuilt
from simulators.backtest.recorded_run import RecordedRun
from simulators.backtest.supply import capacity, lacking_share, lead_times, losses_per_hour
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
COMMON: Final = tuple(field.name for field in dataclasses.fields(Pool))
NONE: Final = Phase(median_s=0.0)
P90: Final = 1.2816
"""Standard deviations from the median to the 90th percentile of a normal."""
SETTLE_S: Final = 300.0
"""How much longer a world goes on, so that its last requests can end."""


@dataclass(frozen=True, slots=True)
class RebuiltWorld:
    """A case with the requests that it replays, and its assumptions in words.

    Without `priced`, of all its pools, there is no cost; without `promised`, an SLO of its workload, nothing is late.
    """

    case: Case
    rebuilt: Rebuilt
    priced: bool
    promised: bool
    how: tuple[str, ...]


def world(recorded: RecordedRun, engine: InferredEngine, rebuilt: Rebuilt) -> RebuiltWorld:
    """Return the world of a recorded period. Raises `ConfigError` where its workload has no simulated counterpart."""
    workload = translated(recorded.workload, "the recorded workload")
    serving = {name: pool for name, pool in workload.spec.pools.items() if pool.tier == "serving"}
    models: dict[str, ServiceModel] = {}
    offers: dict[PoolName, PoolOffer] = {}
    said: list[str] = []
    for name, pool in serving.items():
        model = engine.model if pool.work_per_replica == 1.0 else slower(engine.model, 1.0 / pool.work_per_replica)
        models[model.name] = model
        offers[name], words = _offer(recorded, name, pool, model.name)
        said.append(words)
    scenario = Scenario(
        scenario=workload.name,
        workload="",
        traffic=None,
        pools=offers,
        initial_replicas=_initial(recorded, list(serving)),
        duration_s=recorded.span_s,
        settle_s=SETTLE_S,
        start=datetime.fromtimestamp(recorded.at[0], UTC).isoformat(),
        slo=recorded.spec.slo or Slo(),
        queue=_queue(recorded) if rebuilt.queued else None,
        telemetry=Telemetry(rate_window_s=rebuilt.window_s),
    )
    blank = Case(scenario, workload, models, {}, Path())
    case = replaying(blank.under(workload, "the recorded workload"), rebuilt.trace)
    priced = all(pool.price_usd_per_hour is not None for pool in serving.values())
    return RebuiltWorld(
        case, rebuilt, priced, recorded.spec.slo is not None, (f"engines: {engine.how}", *rebuilt.how, *said)
    )


def translated(workload: Workload, file: str) -> Workload:
    """Return the workload with simulated sources and pools in the place of its own. Raises `ConfigError`."""
    document: dict[str, Any] = dict(workload.document)
    document["sources"] = {name: _source(spec) for name, spec in workload.spec.sources.items()}
    document["pools"] = {
        name: {"kind": "kubernetes", "name": name, **{key: pool[key] for key in COMMON if key in pool}}
        for name, pool in document["pools"].items()
    }
    return workload_from(document, file)


def _source(spec: Any) -> dict[str, Any]:
    """Return a source of the kind that shows a world what this one showed."""
    told = spec.quantities()
    if "visible" in told:
        return {**QUEUE, "oldest_age": "oldest_age_s" in told}
    known = [quantity for quantity in told if quantity in telemetry.QUANTITIES]
    found = {**ENGINES, "queries": dict.fromkeys(known or ["none"], "recorded")}
    spans = {key: getattr(spec, key) for key in ("window_s", "max_age_s") if hasattr(spec, key)}
    return {**found, **spans}


def _offer(recorded: RecordedRun, name: PoolName, pool: Pool, model: str) -> tuple[PoolOffer, str]:
    """Return a pool as the record shows it, and in words."""
    start_up, starts = _start_up(recorded, name, pool)
    lost = losses_per_hour(recorded, name)
    steps = () if pool.market == "reserved" else capacity(recorded, name)
    offer = PoolOffer(
        model=model,
        price_usd_per_hour=round(pool.price_usd_per_hour or 0.0, 6),
        market=pool.market,
        zones={
            "recorded": ZoneOffer(
                capacity=recorded.reservation(name) if pool.market == "reserved" else None,
                steps=steps,
                losses_per_node_hour=lost,
            )
        },
        start_up=start_up,
    )
    lacking = lacking_share(steps, recorded.span_s)
    given = f"capacity as recorded, lacking for {lacking:.0%} of the time, else" if lacking else "capacity"
    return offer, f"pool {name}: {starts}; {lost:.3g} losses per replica and hour; {given} whenever it is asked for"


def _start_up(recorded: RecordedRun, name: PoolName, pool: Pool) -> tuple[StartUp, str]:
    """Return the pool's lead times as its sizes show them; as configured where they show too few."""
    seen = lead_times(recorded, name)
    p50 = seen.quantile_s(0.5)
    p90 = None if p50 is None else seen.usual_s(p50)
    if len(seen) < MIN_LEAD_TIMES or p50 is None or p90 is None or p50 <= 0:
        median_s = max(pool.lead_time_s, 1.0)
        return _taking(median_s, 0.0), f"a start takes {median_s:g} s, as configured ({len(seen)} were recorded)"
    sigma = min(3.0, math.log(max(p90, p50) / p50) / P90)
    return _taking(p50, sigma), f"a start takes {p50:.0f} s (P90 {p90:.0f} s), as {len(seen)} recorded ones did"


def _taking(median_s: float, sigma: float) -> StartUp:
    return StartUp(node=Phase(median_s=median_s, sigma=sigma), image=NONE, weights=NONE, compile=NONE, ready=NONE)


def _initial(recorded: RecordedRun, pools: Sequence[PoolName]) -> Mapping[PoolName, int]:
    """Return the replicas that served in the first tick that reports them."""
    found = {}
    for name in pools:
        ready = recorded.pools[name]["ready"]
        known = ready[np.isfinite(ready)]
        found[name] = int(known[0]) if known.size else 0
    return found


def _queue(recorded: RecordedRun) -> SimulatedQueue:
    """Return a queue whose replicas hold as many messages at once as recorded ones did while others waited."""
    for source in recorded.spec.sources:
        visible, in_work = recorded.reading(source, "visible"), recorded.reading(source, "in_flight")
        ready = recorded.columns["ready"]
        if visible is not None and in_work is not None:
            full = (visible > ready) & (ready >= 1) & (in_work > 0)
            if full.any():
                return SimulatedQueue(per_replica=max(1, round(float(np.median(in_work[full] / ready[full])))))
    return SimulatedQueue()


def reads_a_queue(spec: WorkloadSpec) -> bool:
    """Return whether a workload's work waits in a queue."""
    return any(set(source.quantities()) & set(queues.QUANTITIES) for source in spec.sources.values())
