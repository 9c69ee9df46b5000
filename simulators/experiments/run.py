"""One simulated run: the daemon's controller in a simulated world.

It lasts from the first tick to the last request.
"""

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
from scaler.group_board import GroupBoard
from scaler.quota_ledger import QuotaLedger
from simulators.engine.kernel.event_loop import Router
from simulators.engine.models.service import PS_PER_S, ServiceModel
from simulators.experiments import concurrent_runs, group_cases
from simulators.experiments.invariants import check, check_group
from simulators.experiments.scenario import MAX_REQUESTS, Case, Scenario
from simulators.world import faults, ports
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.rng import derived_seed, streams
from simulators.world.telemetry import Telemetry
from simulators.world.traffic.generate import TraceFile
from simulators.world.traffic.trace import RequestTrace, TraceError
from simulators.world.world import MAX_S, World, connect

ROUND_S: Final = 600.0
"""The simulated time between two checks for unfinished requests, without a controller. Seconds."""
HISTORY_S: Final = 3600.0
"""The controller's history: the daemon's default. Seconds."""
REMEDY: Final = "can be simulated: use a shorter or thinner part"
Progress = Callable[[float], None]
"""A callback that gets the completed share, 0 to 1."""
Input = tuple[Case, int, RequestTrace]
"""A case with its seed and its requests."""


@dataclass(slots=True)
class Timeline:
    """Each tick's sizes as columns, NaN where unknown.

    Times are seconds from the start of the simulation.
    """

    epoch_s: float
    at_s: list[float] = field(default_factory=list)
    demand: list[float] = field(default_factory=list)
    desired: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    pools: dict[PoolName, list[int]] = field(default_factory=dict)
    results: dict[Result, int] = field(default_factory=dict)
    blind: int = 0

    def record_tick(self, tick: Tick) -> None:
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
    """A finished run: its inputs, the final world, and the timeline of its ticks.

    `concurrent` holds the runs of the same time, `peak_usage` the peak GPUs and peak USD per hour of all of them. The
    cost is unknown unless `priced`.
    """

    case: Case
    seed: int
    trace: RequestTrace
    world: World
    timeline: Timeline
    concurrent: tuple[SimulationRun, ...] = ()
    peak_usage: Mapping[str, float] = field(default_factory=dict)
    priced: bool = True

    @property
    def end_s(self) -> float:
        return self.world.now_ps / PS_PER_S


def traffic_of(case: Case, seed: int) -> RequestTrace:
    """Return the scenario's requests under a seed.

    Raises `TraceError` if there are none or too many.
    """
    s = case.scenario
    if s.end_s > MAX_S:
        raise TraceError(f"traffic: lasts {s.end_s:g} s, and at most {MAX_S:g} s (104 days) {REMEDY}")
    expected = s.traffic.rate_rps(np.linspace(0.0, s.end_s, 1000)).mean() * s.end_s
    if expected > MAX_REQUESTS:
        raise TraceError(f"traffic: about {expected:.3g} requests, and at most {MAX_REQUESTS:,} {REMEDY}")
    trace: RequestTrace = s.traffic.requests(streams(seed), 0.0, s.end_s)
    return checked(trace).with_prefix_hits(s.prefix_hit_share)


def replaying(case: Case, trace: RequestTrace) -> Case:
    """Return the case with a trace as its traffic."""
    traffic = TraceFile(file=trace.name, end_s=max(trace.duration_s, 0.001))
    return dataclasses.replace(case, scenario=dataclasses.replace(case.scenario, traffic=traffic))


def checked(trace: RequestTrace) -> RequestTrace:
    """Return the trace. Raises `TraceError` if it is empty, too long or too large."""
    if not len(trace):
        raise TraceError(f"{trace.name}: no request arrives: nothing to simulate")
    if trace.duration_s > MAX_S:
        raise TraceError(f"{trace.name}: lasts {trace.duration_s:g} s, and at most {MAX_S:g} s (104 days) {REMEDY}")
    if len(trace) > MAX_REQUESTS:
        raise TraceError(f"{trace.name}: {len(trace):,} requests, and at most {MAX_REQUESTS:,} {REMEDY}")
    return trace


def build_world(case: Case, seed: int, trace: RequestTrace, group_requests: int | None = None) -> World:
    """Return the case's world at its start, with the trace's requests to come.

    `group_requests` are those of all workloads of its group; None for a workload that runs apart.
    """
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
        telemetry=case.telemetry,
        seed=seed,
        epoch_s=s.epoch_s,
        slots=group_requests or len(trace),
        folder=case.folder,
        backends=ports.backends(case.workload, case.pools, s.providers),
        round_trip_s=s.round_trip_s,
        is_member=group_requests is not None,
    )
    world.offer(trace)
    return world


def run_end_s(case: Case, trace: RequestTrace) -> float:
    """Return the end of the run. Seconds.

    It is the scenario's duration, or the traffic's, plus the time to settle. Traffic of 3,600 s and a `settle_s` of 300
    end at 3,900 s.
    """
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


def simulate(  # noqa: PLR0913 - the run's inputs and its callbacks
    case: Case,
    seed: int,
    trace: RequestTrace,
    *,
    record: Sequence[Callable[[Tick], None]] = (),
    progress: Progress = lambda _: None,
    on_start: Callable[[SimulationRun], None] = lambda _: None,
) -> SimulationRun:
    """Run a case and its concurrent ones to their ends.

    The `record` callbacks get the ticks of all of them.

    `on_start` gets the case's run before its first tick, so that `record` can read it. The same case, seed and trace
    give the same ticks, byte for byte.
    """
    s = case.scenario
    inputs = [(case, seed, trace)]
    for other in case.concurrent:
        other_seed = derived_seed(seed, other.scenario.seed, other.scenario.scenario)
        inputs.append((other, other_seed, traffic_of(other, other_seed)))
    ledger = QuotaLedger(s.fleet) if case.concurrent or s.fleet.limits else None
    linked = group_cases.linked([item[0] for item in inputs])
    worlds, ends_s = _worlds(inputs, linked), _ends_s(inputs, linked)
    runs = [SimulationRun(*item, world, Timeline(s.epoch_s)) for item, world in zip(inputs, worlds, strict=True)]
    on_start(runs[0])
    board = GroupBoard()
    scheduled = [_schedule(run, end_s, ledger, board, record) for run, end_s in zip(runs, ends_s, strict=True)]
    peak = concurrent_runs.PeakUsage(ledger)
    with contextlib.closing(asyncio.new_event_loop()) as loop:  # asyncio.run would handle Ctrl-C itself and wait
        loop.run_until_complete(concurrent_runs.drive(scheduled, peak.update, progress))
    for run, scheduled_run in zip(runs, scheduled, strict=True):
        run.world.run_until(round(scheduled_run.end_s * PS_PER_S))
        check(run.world)
    for numbers in linked:
        check_group([worlds[number] for number in numbers])
    return dataclasses.replace(runs[0], concurrent=tuple(runs[1:]), peak_usage=peak.by_unit)


def _worlds(inputs: Sequence[Input], linked: Sequence[Sequence[int]]) -> list[World]:
    """Return the world of each case. Those of a group send requests to one another's engines."""
    requests: dict[int, int] = {}
    for numbers in linked:
        total = sum(len(inputs[number][2]) for number in numbers)
        if total > MAX_REQUESTS:
            names = ", ".join(inputs[number][0].workload.name for number in numbers)
            raise TraceError(f"group of {names}: {total:,} requests, and at most {MAX_REQUESTS:,} {REMEDY}")
        requests |= dict.fromkeys(numbers, total)
    worlds = [build_world(*item, requests.get(number)) for number, item in enumerate(inputs)]
    for numbers in linked:
        connect({inputs[number][0].workload.name: worlds[number] for number in numbers})
    return worlds


def _ends_s(inputs: Sequence[Input], linked: Sequence[Sequence[int]]) -> list[float]:
    """Return the end of each run. Members of a group run until the last of them ends. Seconds."""
    ends_s = [run_end_s(case, trace) for case, _, trace in inputs]
    for numbers in linked:
        last_s = max(ends_s[number] for number in numbers)
        for number in numbers:
            ends_s[number] = last_s
    return ends_s


def _schedule(
    run: SimulationRun,
    end_s: float,
    ledger: QuotaLedger | None,
    board: GroupBoard,
    record: Sequence[Callable[[Tick], None]],
) -> concurrent_runs.ScheduledRun:
    """Return the run with the daemon's controller over its world."""
    s, spec = run.case.scenario, run.case.workload.spec
    clock = ports.SimulatedClock(run.world)
    setup = ports.setup(run.world, run.case.workload, run.case.pools, s.quantities)
    setup = faults.with_faults(setup, s.faults, clock, s.epoch_s, run.seed)
    setup = dataclasses.replace(setup, ledger=ledger, groups=board)
    listeners = (run.timeline.record_tick, *record)

    def publish(tick: Tick) -> None:
        for listener in listeners:
            listener(tick)

    history = History(max(HISTORY_S, spec.lookback_s), step_s=spec.interval_s)
    return concurrent_runs.ScheduledRun(Controller(setup, clock, history, publish), clock, s.epoch_s, end_s)


def simulate_engines(
    model: ServiceModel, replicas: int, trace: RequestTrace, seed: int, price_usd_per_hour: float | None = None
) -> SimulationRun:
    """Run a fixed number of engines until every request has ended, without controller and SLO.

    Without a price the cost is unknown.
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
        pools={pool: PoolOffer(model=model.name, price_usd_per_hour=price_usd_per_hour or 0.0)},
        initial_replicas={pool: replicas},
        telemetry=Telemetry(scrape_interval_s=3600.0),
    )
    case = Case(scenario, workload_from(document), {model.name: model}, {pool: pool}, Path())
    world = build_world(case, seed, trace)
    end_s = trace.duration_s
    while world.kernel.unfinished() and end_s < MAX_S:
        end_s = min(end_s + ROUND_S, MAX_S)
        world.run_until(round(end_s * PS_PER_S))
    check(world)
    timeline = Timeline(scenario.epoch_s, [0.0], [float("nan")], [replicas], [replicas])
    return SimulationRun(case, seed, trace, world, timeline, priced=price_usd_per_hour is not None)
