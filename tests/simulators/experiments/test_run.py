"""Whole runs: their length, the times of their ticks, and that only the scenario loses requests."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import PoolName, Result, Tick
from scaler.journal.codec import encode_tick
from scaler.ports import OutOfCapacity, OutOfQuota
from simulators.engine.kernel.event_loop import Router
from simulators.engine.models.service import PS_PER_S
from simulators.experiments import run
from simulators.experiments.invariants import check
from simulators.experiments.results import summarize
from simulators.experiments.run import SimulationRun
from simulators.world import ports
from simulators.world.faults import FaultSettings
from simulators.world.infrastructure.market import NodeHeadroom, PoolOffer, ZoneOffer
from simulators.world.infrastructure.supply import Outages, SupplyStep
from simulators.world.queue import SimulatedQueue
from simulators.world.telemetry import Telemetry
from simulators.world.traffic.shapes import Poisson
from simulators.world.traffic.trace import RequestTrace, TraceError
from tests.laws import law
from tests.simulators.world.makers import POOL, STEADY, case, offer, trace, workload, world

LAW = law(60)
FEW = trace(*[(0.5 * k, 20, 40) for k in range(100)])


def simulated(requests: RequestTrace = FEW, seed: int = 1, **options: Any) -> tuple[SimulationRun, list[Tick]]:
    ticks: list[Tick] = []
    run_ = run.simulate(case(**options), seed, requests, record=[ticks.append])
    return run_, ticks


# --- time


@pytest.mark.parametrize(
    ("options", "end_s"),
    [
        ({"settle_s": 60.0}, 49.5 + 60),  # to the end of the trace
        ({"settle_s": 0.0}, 49.5),
        ({"settle_s": 60.0, "duration_s": 20.0}, 80.0),
        ({"settle_s": 60.0, "duration_s": 500.0}, 560.0),
        ({"settle_s": 60.0, "traffic": Poisson(rps=1.0, duration_s=300.0)}, 360.0),
    ],
)
def test_a_run_lasts_for_its_traffic_or_duration_plus_settle_time(options: dict[str, Any], end_s: float) -> None:
    run_, ticks = simulated(**options)
    assert run_.end_s == end_s
    assert [t.at - ticks[0].at for t in ticks] == [15.0 * k for k in range(len(ticks))]
    assert ticks[0].at == run_.case.scenario.epoch_s
    assert end_s - 15 <= ticks[-1].at - ticks[0].at < end_s


def test_ticks_are_on_the_interval_grid_and_take_no_time() -> None:
    _, ticks = simulated(scaled=workload(interval_s=7.5))
    assert {t.lateness_s for t in ticks} == {t.took_s for t in ticks} == {0.0}
    assert [t.at - ticks[0].at for t in ticks[:4]] == [0.0, 7.5, 15.0, 22.5]


def test_requests_after_the_end_are_not_counted_and_give_a_warning() -> None:
    run_, _ = simulated(duration_s=20.0, settle_s=10.0)
    summary = summarize(run_)
    assert (summary.arrived, len(FEW)) == (60, 100)
    assert summary.warnings == ("40 of 100 requests arrive after the end of the run (duration_s): not counted",)


def test_an_open_request_counts_as_unfinished() -> None:
    summary = summarize(simulated(trace((0.0, 10, 5000)), settle_s=10.0)[0])
    assert (summary.arrived, summary.finished, summary.unfinished) == (1, 0, 1)
    assert summary.warnings == (
        "1 requests were unfinished at the end of the run: a longer settle_s may let them finish",
    )


def test_a_trace_without_requests_or_too_long_is_rejected() -> None:
    with pytest.raises(TraceError, match="no request arrives"):
        run.checked(FEW.window(100.0, 200.0))
    with pytest.raises(TraceError, match="104 days"):
        run.checked(trace((0.0, 1, 1), (9.1e6, 1, 1)))


# --- sizes at the start


@pytest.mark.parametrize(("options", "first"), [({}, 1), ({"initial_replicas": {POOL: 3}}, 3)])
def test_a_run_starts_with_the_initial_replicas_or_the_minimum(options: dict[str, Any], first: int) -> None:
    _, ticks = simulated(**options)
    assert ticks[0].decision.current == ticks[0].decision.ready == first


def test_a_run_starts_with_the_workloads_min_replicas() -> None:
    _, ticks = simulated(scaled=workload(min_replicas=2))
    assert ticks[0].decision.ready == 2


def test_a_queue_scales_the_pool_out_from_zero() -> None:
    scaled = workload("sqs", min_replicas=0, cooldown_s=60)
    run_, ticks = simulated(scaled=scaled, queue=SimulatedQueue(), settle_s=600.0)
    sizes = [t.decision.target for t in ticks]
    assert sizes[0] == 0  # no message has arrived yet
    assert sizes[1] > 0  # type: ignore[operator]
    assert sizes[-1] == 0
    assert summarize(run_).finished == 100


# --- the queue


@pytest.mark.parametrize(("per_replica", "maximum"), [(None, STEADY.max_seqs), (2, 2), (1, 1)])
def test_a_replica_takes_messages_up_to_its_concurrency(per_replica: int | None, maximum: int) -> None:
    world_ = run.build_world(
        case(workload("sqs"), queue=SimulatedQueue(per_replica=per_replica)), 1, trace(*[(0.0, 10, 1000)] * 20)
    )
    world_.run_until(PS_PER_S)
    assert (world_.counts().in_flight, world_.counts().visible) == (maximum, 20 - maximum)


def test_a_gateway_forwards_all_requests_at_once() -> None:
    world_ = run.build_world(case(), 1, trace(*[(0.0, 10, 1000)] * 20))
    world_.run_until(PS_PER_S)
    assert world_.kernel.outstanding(0) == 20


# --- drains and interruptions


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("queue", [None, SimulatedQueue()])
def test_scale_in_interrupts_no_stream(seed: int, queue: SimulatedQueue | None) -> None:
    rng = np.random.default_rng(seed)
    rows = sorted(
        (float(t), 20, int(n)) for t, n in zip(rng.uniform(0, 200, 300), rng.integers(1, 2000, 300), strict=True)
    )
    world_ = world(trace(*rows), replicas=4, queue=queue, seed=seed)
    for _ in range(60):
        world_.run_until(world_.now_ps + round(float(rng.uniform(0, 10)) * PS_PER_S))
        world_.resize(POOL, int(rng.integers(1, 7)))
    world_.resize(POOL, 1)
    world_.run_until(5000 * PS_PER_S)
    check(world_)
    assert world_.lost_requests == 0
    assert (world_.kernel.requests.finished_ps >= 0).all()


@pytest.mark.slow
def test_requests_of_an_interrupted_replica_are_lost_and_counted() -> None:
    spot = offer(market="spot", zones={"a": ZoneOffer(losses_per_node_hour=120.0)})
    busy = trace(*[(0.25 * k, 20, 400) for k in range(2000)])
    summary = summarize(simulated(busy, pools={POOL: spot}, initial_replicas={POOL: 4})[0])
    assert summary.interruptions > 0
    assert summary.streams_cut == summary.lost > 0
    assert summary.finished == summary.arrived - summary.lost
    assert summary.attainment["all"] <= 1 - summary.lost / summary.arrived
    queued = summarize(
        simulated(busy, scaled=workload("sqs"), queue=SimulatedQueue(), pools={POOL: spot}, settle_s=3600.0)[0]
    )
    assert queued.streams_cut > 0
    assert (queued.lost, queued.finished + queued.dead_letter) == (0, queued.arrived)


def test_the_end_of_the_grace_period_interrupts_open_requests() -> None:
    hasty = offer(grace_s=1.0)
    world_ = world(trace((0.0, 10, 1000), (0.0, 10, 1000)), replicas=2, pool=hasty)
    world_.run_until(PS_PER_S)
    world_.resize(POOL, 1)
    world_.run_until(60 * PS_PER_S)
    assert world_.lost_requests == 1
    assert sorted(world_.kernel.requests.finished_ps >= 0) == [False, True]


# --- ports


def test_a_pool_reports_desired_and_ready_and_raises_the_ports_errors() -> None:
    world_ = world(FEW, replicas=1, pool=offer(quota=3, on_shortage="refuse", zones={"a": ZoneOffer(capacity=2)}))
    setup = ports.setup(world_, workload(), {POOL: POOL}, {})
    pool = setup.actuators[POOL]
    status = asyncio.run(pool.status())
    assert (status.value.desired, status.value.ready, status.measured_at) == (1, 1, world_.now)
    asyncio.run(pool.resize(2, status.value))
    status = asyncio.run(pool.status())
    assert (status.value.desired, status.value.ready) == (2, 1)
    with pytest.raises(OutOfCapacity):
        asyncio.run(pool.resize(3, status.value))
    with pytest.raises(OutOfQuota):
        asyncio.run(pool.resize(4, status.value))
    asyncio.run(pool.resize(2, status.value))  # a resize to the present size changes nothing
    world_.run_until(60 * PS_PER_S)
    assert asyncio.run(pool.status()).value.ready == 2


def test_sleep_of_the_simulated_clock_advances_the_world() -> None:
    world_ = world(FEW)
    clock = ports.SimulatedClock(world_)
    assert (clock.now(), clock.step_s()) == (1000.0, 0.0)
    asyncio.run(clock.sleep_until(1012.5))
    assert (clock.now(), world_.now_ps) == (1012.5, round(12.5 * PS_PER_S))
    asyncio.run(clock.sleep_until(1000.0))  # a time in the past has no effect
    assert clock.now() == 1012.5


def test_quantities_are_mapped_to_the_workloads_names() -> None:
    world_ = world(FEW, telemetry=Telemetry(scrape_interval_s=5))
    setup = ports.setup(world_, workload(), {POOL: POOL}, {"waiting": "running"})
    world_.run_until(6 * PS_PER_S)
    readings = asyncio.run(setup.sources["watch"].sample())
    assert readings["waiting"] == readings["running"]


def test_an_unknown_quantity_is_reported_by_name() -> None:
    scaled = workload()
    rules = [rule for _, rule, _ in ports.unsupported_readings(scaled, {"running": "speed"})]
    assert len(rules) == 1
    assert rules[0].startswith("the simulator does not provide speed (for running); it provides e2e_late_share,")
    assert not list(ports.unsupported_readings(scaled, {}))
    assert not list(ports.unsupported_readings(workload("sqs"), {}))


# --- laws


def zone(draw: st.DrawFn, market: str) -> ZoneOffer:
    capacity = draw(st.sampled_from([1, 3, 8]))
    if market == "reserved":
        return ZoneOffer(capacity=capacity)
    steps = (SupplyStep(at_s=50.0, nodes=draw(st.integers(0, 3))), SupplyStep(at_s=120.0, nodes=4))
    outages = draw(st.booleans())
    return ZoneOffer(
        capacity=capacity,
        steps=() if outages or draw(st.booleans()) else steps,
        outages=Outages() if outages else None,
        losses_per_node_hour=draw(st.sampled_from([0.0, 5.0, 60.0])),
    )


@st.composite
def offers(draw: st.DrawFn) -> PoolOffer:
    market = draw(st.sampled_from(["reserved", "on_demand", "spot"]))
    return offer(
        market=market,
        zones={name: zone(draw, market) for name in ("a", "b")[: draw(st.integers(1, 2))]},
        on_shortage=draw(st.sampled_from(["wait", "refuse", "partial"])),
        grace_s=draw(st.sampled_from([None, 0.0, 5.0])),
        headroom=NodeHeadroom(slept=draw(st.integers(0, 1)), warm_node=draw(st.integers(0, 1))),
    )


@st.composite
def small_scenarios(draw: st.DrawFn) -> tuple[dict[str, Any], RequestTrace, int]:
    """Draw a scenario's parts, its requests and its seed."""
    source = draw(st.sampled_from(["prometheus", "sqs"]))
    names = [POOL, PoolName("more")][: draw(st.integers(1, 2))]
    gaps = draw(st.lists(st.sampled_from([0.0, 0.0, 0.1, 1.0, 20.0]), min_size=1, max_size=60))
    lengths = st.tuples(st.sampled_from([1, 100, 2000]), st.sampled_from([1, 50, 900, 16_000]))
    rows = [(at, *draw(lengths)) for at in np.cumsum(gaps).tolist()]
    limited = {} if source == "sqs" else {"limit": draw(st.sampled_from([None, 1, 3]))}
    fault = st.builds(FaultSettings, fault=st.sampled_from(["hang", "zero", "garble", "throttled"]), share=st.just(0.2))
    options = {
        "scaled": workload(source, pools=names, min_replicas=draw(st.integers(1, 2))),
        "pools": {name: draw(offers()) for name in names},
        "initial_replicas": {name: draw(st.integers(0, 3)) for name in names},
        "router": Router(
            kind=draw(st.sampled_from(["least_loaded", "round_robin", "random"])),
            patience_s=draw(st.sampled_from([None, 2.0])),
            queue_limit=draw(st.sampled_from([None, 0, 3])),
            **limited,
        ),
        "queue": None if source == "prometheus" else SimulatedQueue(
            service=draw(st.sampled_from(["sqs", "pubsub", "service_bus"])),
            visibility_timeout_s=draw(st.sampled_from([0.0, 5.0])),
            max_receives=draw(st.integers(1, 2)),
            delay_s=draw(st.sampled_from([0.0, 7.0])),
        ),
        "telemetry": Telemetry(partial_share=draw(st.sampled_from([0.0, 0.3])), lost_share=0.1),
        "faults": tuple(draw(st.lists(fault, max_size=2))),
        "settle_s": draw(st.sampled_from([0.0, 30.0, 600.0])),
    }  # fmt: skip
    return options, trace(*rows), draw(st.integers(0, 2**63 - 1))


@pytest.mark.slow
@LAW
@given(drawn=small_scenarios())
def test_requests_and_cost_are_conserved_in_any_world(drawn: tuple[dict[str, Any], RequestTrace, int]) -> None:
    """`simulate` checks every invariant at the end; the figures must add up, and a repeated run is equal."""
    options, requests, seed = drawn
    run_, ticks = simulated(requests, seed, **options)
    summary = summarize(run_)
    ends = (
        summary.finished,
        summary.unfinished,
        summary.rejected,
        summary.timed_out,
        summary.lost,
        summary.dead_letter,
    )
    assert sum(ends) == summary.arrived <= len(requests)
    assert min(ends) >= 0
    assert summary.cost_usd == pytest.approx(sum(summary.cost_by_use_usd.values()), abs=1e-5)
    assert summary.cost_usd == pytest.approx(sum(summary.cost_by_market_usd.values()), abs=1e-5)
    assert all(0 <= share <= 1 for share in summary.attainment.values())
    repeated, repeated_ticks = simulated(requests, seed, **options)
    assert repr(summarize(repeated)) == repr(summary)
    assert [encode_tick(t) for t in repeated_ticks] == [encode_tick(t) for t in ticks]


def test_different_seeds_give_different_ticks() -> None:
    options: dict[str, Any] = {"faults": (FaultSettings(fault="unavailable", share=0.3),)}
    first, second = (json.dumps([encode_tick(t) for t in simulated(seed=seed, **options)[1]]) for seed in (1, 2))
    assert first != second


def test_traffic_depends_on_the_seed_and_not_on_the_policy() -> None:
    generator = Poisson(rps=2.0, duration_s=120.0)
    case_ = case(traffic=generator)
    changed = dataclasses.replace(case_, workload=workload(max_replicas=9))
    assert run.traffic_of(case_, 7).digest() == run.traffic_of(changed, 7).digest() != run.traffic_of(case_, 8).digest()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_ticks_whatever_the_hash_seed() -> None:
    script = (
        "import json; from tests.simulators.experiments.test_run import *; "
        "_, ticks = simulated(seed=5, faults=(FaultSettings(fault='hang', share=0.3),),"
        " pools={POOL: offer(market='spot', zones={'a': ZoneOffer(losses_per_node_hour=60.0), 'b': ZoneOffer()})});"
        " print(json.dumps([encode_tick(t) for t in ticks]))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": h}, capture_output=True, check=True
        ).stdout
        for h in ("0", "77")
    ]
    assert outputs[0] == outputs[1] != b""


def test_refused_writes_are_counted() -> None:
    busy = trace(*[(0.25 * k, 20, 400) for k in range(400)])
    full = offer(on_shortage="refuse", zones={"a": ZoneOffer(capacity=1)})
    run_, _ = simulated(busy, pools={POOL: full})
    assert summarize(run_).refused == run_.timeline.results[Result.OUT_OF_CAPACITY] > 0
