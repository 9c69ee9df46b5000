"""One simulated run: the daemon's own controller in a world, from the first turn to the last request."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from policies.history.tick_values import decision_values
from policies.history.ticks import History
from policies.model import PoolName, Result, Tick
from scaler.config.load import workload_from
from scaler.controller import Controller
from scaler.quota_ledger import QuotaLedger
from simulators.engine.kernel.event_loop import Router
from simulators.engine.models.service import PS_PER_S, ServiceModel
from simulators.experiments import concurrent_runs
from simulators.experiments.invariants import check
from simulators.experiments.scenario import MAX_REQUESTS, Case, Scenario
from simulators.world import faults, ports
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.rng import derived_seed, streams
from simulators.world.telemetry import Telemetry
from simulators.world.traffic.generate import TraceFile
from simulators.world.traffic.trace import RequestTrace, TraceError
from simulators.world.world import MAX_S, World

ROUND_S: Final = 600.0
"""How much longer engines by themselves are let run at a time, while requests are left."""
HISTORY_S: Final = 3600.0
"""What a controller remembers, as the daemon's default has it."""
REMEDY: Final = "can be simulated: take a window, or fewer"
Progress = Callable[[float], None]
"""Is told the share that is done."""


@dataclass(slots=True)
class Timeline:
    """Each tick's sizes as columns, NaN where unknown. Times are seconds from the start of the simulation."""

    epoch_s: float
    at_s: list[float] = field(default_factory=list)
    demand: list[float] = field(default_factory=list)
    desired: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    pools: dict[PoolName, list[int]] = field(default_factory=dict)
    results: dict[Result, int] = field(default_factory=dict)
    blind: int = 0

    def note(self, tick: Tick) -> None:
        d = tick.decision
        self.at_s.append(d.at - self.epoch_s)
        values = decision_values(d)
        self.demand.append(values.demand)
        self.desired.append(values.target)
        self.ready.append(values.ready)
        self.blind += not d.may_scale_in
        for outcome in tick.outcomes:
            self.results[outcome.result] = self.results.get(outcome.result, 0) + 1
            self.pools.setdefault(outcome.pool, []).append(outcome.after)


@dataclass(frozen=True, slots=True)
class SimulationRun:
    """A run that has ended: the world as it was left, what the turns decided, and what it was made from.

    `beside` are those that ran at the same time, `most_held` the most GPUs and USD per hour that all of them held.
    """

    case: Case
    seed: int
    trace: RequestTrace
    world: World
    timeline: Timeline
    beside: tuple[SimulationRun, ...] = ()
    most_held: Mapping[str, float] = field(default_factory=dict)

    @property
    def end_s(self) -> float:
        return self.world.now_ps / PS_PER_S


def traffic_of(case: Case, seed: int) -> RequestTrace:
    """Return the scenario's requests under a seed. Raises `TraceError` where there are none."""
    s = case.scenario
    if s.end_s > MAX_S:
        raise TraceError(f"traffic: lasts {s.end_s:g} s, and at most {MAX_S:g} s (104 days) {REMEDY}")
    expected = s.traffic.rate_rps(np.linspace(0.0, s.end_s, 1000)).mean() * s.end_s
    if expected > MAX_REQUESTS:
        raise TraceError(f"traffic: about {expected:.3g} requests, and at most {MAX_REQUESTS:,} {REMEDY}")
    trace: RequestTrace = s.traffic.requests(streams(seed), 0.0, s.end_s)
    return checked(trace).with_prefix_hits(s.prefix_hit_share)


def replaying(case: Case, trace: RequestTrace) -> Case:
    """Return the case with a trace's length in the place of its own traffic's."""
    traffic = TraceFile(file=trace.name, end_s=max(trace.duration_s, 0.001))
    return dataclasses.replace(case, scenario=dataclasses.replace(case.scenario, traffic=traffic))


def checked(trace: RequestTrace) -> RequestTrace:
    """Return the trace, if it can be simulated. Raises `TraceError`."""
    if not len(trace):
        raise TraceError(f"{trace.name}: no request arrives: nothing to simulate")
    if trace.duration_s > MAX_S:
        raise TraceError(f"{trace.name}: lasts {trace.duration_s:g} s, and at most {MAX_S:g} s (104 days) {REMEDY}")
    if len(trace) > MAX_REQUESTS:
        raise TraceError(f"{trace.name}: {len(trace):,} requests, and at most {MAX_REQUESTS:,} {REMEDY}")
    return trace


def begin(case: Case, seed: int, trace: RequestTrace) -> World:
    """Return the case's world, at its start."""
    s = case.scenario
    queue, router = s.queue, s.router
    if queue is not None:
        seqs = min(model.max_seqs for model in case.models.values())
        limit = seqs if queue.per_replica is None else queue.per_replica
        router = Router(kind=router.kind, limit=limit, queue_limit=router.queue_limit, patience_s=router.patience_s)
    world = World(
        models=case.models,
        pools=s.pools,
        initial_replicas=_initial(case),
        router=router,
        queue=queue,
        telemetry=s.telemetry,
        seed=seed,
        epoch_s=s.epoch_s,
        slots=len(trace),
        folder=case.folder,
    )
    world.offer(trace)
    return world


def ends_s(case: Case, trace: RequestTrace) -> float:
    """Return when the run ends: with the traffic, unless the scenario says when, and after it has settled."""
    s = case.scenario
    length_s = trace.duration_s if s.duration_s is None else s.duration_s
    if s.duration_s is None and s.traffic is not None:
        length_s = max(length_s, s.end_s)
    return min(length_s + s.settle_s, MAX_S)


def _initial(case: Case) -> Mapping[PoolName, int]:
    s = case.scenario
    if s.initial_replicas:
        return s.initial_replicas
    first = next(iter(case.pools.values()))
    return {first: case.workload.spec.min_replicas}


def simulate(  # noqa: PLR0913 - what is run, and who is told
    case: Case,
    seed: int,
    trace: RequestTrace,
    *,
    record: Sequence[Callable[[Tick], None]] = (),
    progress: Progress = lambda _: None,
    begun: Callable[[SimulationRun], None] = lambda _: None,
) -> SimulationRun:
    """Run a case to its end, and those beside it to theirs; `record` is told of the turns of all of them.

    `begun` gets the case's run before its first turn, to look at it from `record` while it goes on. The same case, seed
    and trace give the same ticks, byte for byte.
    """
    s = case.scenario
    others = [(other, derived_seed(seed, other.scenario.seed, other.scenario.scenario)) for other in case.beside]
    told = [(case, seed, trace), *((other, own, traffic_of(other, own)) for other, own in others)]
    ledger = QuotaLedger(s.fleet) if case.beside or s.fleet.limits else None
    runs = [SimulationRun(c, own, requests, begin(c, own, requests), Timeline(s.epoch_s)) for c, own, requests in told]
    begun(runs[0])
    driven = [_lane(run, ledger, record) for run in runs]
    held = concurrent_runs.PeakUsage(ledger)
    with contextlib.closing(asyncio.new_event_loop()) as loop:  # asyncio.run would take Ctrl-C for itself, and wait
        loop.run_until_complete(concurrent_runs.drive(driven, held.note, progress))
    for run, lane in zip(runs, driven, strict=True):
        run.world.run_until(round(lane.end_s * PS_PER_S))
        check(run.world)
    return dataclasses.replace(runs[0], beside=tuple(runs[1:]), most_held=held.most)


def _lane(
    run: SimulationRun, ledger: QuotaLedger | None, record: Sequence[Callable[[Tick], None]]
) -> concurrent_runs.Lane:
    """Return the daemon's controller over a run's world."""
    s, spec = run.case.scenario, run.case.workload.spec
    clock = ports.SimulatedClock(run.world)
    setup = ports.setup(run.world, run.case.workload, run.case.pools, s.quantities)
    setup = faults.with_faults(setup, s.weather, clock, s.epoch_s, run.seed)
    setup = dataclasses.replace(setup, ledger=ledger)
    listeners = (run.timeline.note, *record)

    def tell(tick: Tick) -> None:
        for listener in listeners:
            listener(tick)

    history = History(max(HISTORY_S, spec.lookback_s), step_s=spec.interval_s)
    return concurrent_runs.Lane(Controller(setup, clock, history, tell), clock, s.epoch_s, ends_s(run.case, run.trace))


def alone(model: ServiceModel, replicas: int, trace: RequestTrace, seed: int) -> SimulationRun:
    """Return the engines by themselves at a fixed size, until every request has ended.

    No controller, and nothing to pay.
    """
    pool = PoolName("engines")
    document = {
        "workload": "engines",
        "max_replicas": replicas,
        "sources": {"engines": {"kind": "prometheus", "url": "http://localhost", "preset": "vllm"}},
        "policies": {"size": {"kind": "static", "replicas": replicas}},
        "pools": {pool: {"kind": "kubernetes", "name": "engines"}},
    }
    scenario = Scenario(
        scenario="engines",
        workload="",
        traffic=None,
        pools={pool: PoolOffer(model=model.name, price_usd_per_hour=0.0)},
        initial_replicas={pool: replicas},
        telemetry=Telemetry(scrape_interval_s=3600.0),
    )
    case = Case(scenario, workload_from(document), {model.name: model}, {pool: pool}, Path())
    world = begin(case, seed, trace)
    end_s = trace.duration_s
    while world.kernel.unfinished() and end_s < MAX_S:
        end_s = min(end_s + ROUND_S, MAX_S)
        world.run_until(round(end_s * PS_PER_S))
    check(world)
    return SimulationRun(
        case, seed, trace, world, Timeline(scenario.epoch_s, [0.0], [float("nan")], [replicas], [replicas])
    )
