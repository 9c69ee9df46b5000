"""The oracle costs no more than any fixed size, reports its true figures, and is never below the lower bound."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from policies.model import PoolName
from policies.model.spec import Slo
from scaler.config.load import Workload, workload_from
from simulators.engine.kernel.event_loop import Router
from simulators.engine.models.service import ServiceModel
from simulators.experiments.oracle.apply_plan import apply_plan
from simulators.experiments.oracle.lower_bound import bound_usd
from simulators.experiments.oracle.plan import Oracle, SloUnreachable, plan
from simulators.experiments.oracle.sizes import BUCKET_S, fill_gaps, fixed_sizes, supplies
from simulators.experiments.results import CountedRequests, summarize
from simulators.experiments.run import run_end_s, simulate, traffic_of
from simulators.experiments.scenario import Case, Scenario
from simulators.world.infrastructure.market import PoolOffer, ZoneOffer
from simulators.world.infrastructure.node_lifecycle import NodeState, Phase, StartUp
from simulators.world.infrastructure.supply import SupplyStep
from simulators.world.traffic.lengths import Lengths
from simulators.world.traffic.shapes import FlashCrowd, OnOff, Poisson
from simulators.world.world import MAX_S
from tests.laws import law

pytestmark = pytest.mark.slow

GPUS = PoolName("gpus")
ENGINE = ServiceModel(
    name="ten-a-second",
    mem_base_s=0.0,
    cmp_base_s=0.1,
    cmp_token_s=0.0,
    kv_decode_s=0.0,
    kv_mixed_s=0.0,
    attn_pair_s=0.0,
    kv_tokens=1_000_000,
    max_seqs=10,
)
"""Ten requests at once in steps of 0.1 s: with ten tokens each, ten requests a second."""
SLOW = StartUp(
    node=Phase(median_s=60.0, sigma=0.3), image=Phase(median_s=0.0), weights=Phase(median_s=0.0),
    compile=Phase(median_s=0.0), ready=Phase(median_s=0.0),
)  # fmt: skip
EVEN: dict[str, Any] = {
    "gap_cv": 0.0,
    "prompt": Lengths(mean_tokens=1.0, cv=0.0),
    "output": Lengths(mean_tokens=10.0, cv=0.0),
}
FIRST_IN_A_SECOND = Slo(ttft_s=1.0, itl_s=None)


def offer(**settings: Any) -> PoolOffer:
    return PoolOffer(**{"model": ENGINE.name, "price_usd_per_hour": 3.6, "start_up": SLOW, **settings})


def workload(pools: Any, policy: dict[str, Any], maximum: int) -> Workload:
    return workload_from(
        {
            "workload": "engines",
            "max_replicas": maximum,
            "sources": {"engines": {"kind": "prometheus", "url": "http://localhost", "preset": "vllm"}},
            "policies": {"size": policy},
            "pools": {name: {"kind": "kubernetes", "name": name} for name in pools},
        }
    )


def case_of(
    traffic: Any,
    pools: dict[PoolName, PoolOffer] | None = None,
    *,
    maximum: int = 12,
    replicas: int = 1,
    **settings: Any,
) -> Case:
    """Return a case with `ENGINE` replicas; the first pool's initial replicas are ready from the start."""
    offers = {GPUS: offer()} if pools is None else pools
    first = next(iter(offers))
    plain: dict[str, Any] = {"initial_replicas": {first: 1}, "slo": FIRST_IN_A_SECOND, "settle_s": 60.0}
    scenario = Scenario(scenario="oracle", workload="", traffic=traffic, pools=offers, **plain | settings)
    sized = workload(offers, {"kind": "static", "replicas": replicas}, maximum)
    return Case(scenario, sized, {ENGINE.name: ENGINE}, {name: name for name in offers}, Path())


def fixed(case: Case, replicas: int) -> tuple[float, float]:
    """Return cost and attainment of a fixed size under a controller."""
    sized = dataclasses.replace(
        case, workload=workload(case.pools, {"kind": "static", "replicas": replicas}, max(replicas, 12))
    )
    result = summarize(simulate(sized, 1, traffic_of(case, 1)))
    return result.cost_usd, result.attainment["all"]


def oracle_plan(case: Case, **settings: Any) -> Oracle:
    return plan(case, 1, traffic_of(case, 1), **settings)


@pytest.mark.parametrize("rps", [4.0, 17.0, 48.0])
def test_oracle_uses_the_smallest_fixed_size_under_constant_load(rps: float) -> None:
    case = case_of(Poisson(rps=rps, duration_s=600.0, **EVEN), initial_replicas={GPUS: 6})
    meeting = [n for n in range(1, 9) if fixed(case, n)[1] >= case.target.share]
    result = oracle_plan(case)
    during = result.run.timeline.desired[: int(600 / 15)]
    assert result.static_replicas == meeting[0] == int(np.ceil(rps / 10))
    assert set(during) == {meeting[0]}


TRAFFICS = {
    "steady": Poisson(rps=25.0, duration_s=900.0, prompt=EVEN["prompt"], output=EVEN["output"]),
    "bursty": Poisson(rps=15.0, gap_cv=3.0, duration_s=900.0, prompt=EVEN["prompt"], output=EVEN["output"]),
    "crowd": FlashCrowd(base_rps=8.0, factor=5.0, at_s=300.0, hold_s=100.0, fall_s=100.0, duration_s=900.0, **EVEN),
    "batches": OnOff(on_rps=35.0, off_rps=2.0, on_s=120.0, off_s=330.0, duration_s=900.0, **EVEN),
}


@pytest.mark.parametrize("traffic", TRAFFICS.values(), ids=TRAFFICS)
def test_no_fixed_size_that_meets_the_slo_is_cheaper(traffic: Any) -> None:
    case = case_of(traffic, initial_replicas={GPUS: 4})
    result = oracle_plan(case)
    costs = [cost for cost, share in (fixed(case, n) for n in range(1, 11)) if share >= case.target.share]
    assert costs
    assert result.cost_usd <= min(costs)


@pytest.mark.parametrize("traffic", TRAFFICS.values(), ids=TRAFFICS)
def test_the_oracle_run_meets_the_slo_at_the_reported_cost(traffic: Any) -> None:
    result = oracle_plan(case_of(traffic, initial_replicas={GPUS: 4}))
    summary = summarize(result.run)
    assert summary.slo_met
    assert summary.attainment["all"] == result.attainment
    assert summary.cost_usd == result.cost_usd >= result.bound_usd > 0
    assert result.simulations <= 20


def test_oracle_releases_replicas_over_long_gaps_and_keeps_them_over_short() -> None:
    def sizes(off_s: float) -> list[float]:
        wave = OnOff(on_rps=35.0, off_rps=5.0, on_s=200.0, off_s=off_s, duration_s=200.0 + off_s + 200.0, **EVEN)
        result = oracle_plan(case_of(wave, initial_replicas={GPUS: 4}))
        timeline = result.run.timeline
        return [n for time_s, n in zip(timeline.at_s, timeline.ready, strict=True) if 200 < time_s < 200 + off_s]

    assert min(sizes(600.0)) == 1
    assert min(sizes(50.0)) >= 3


def test_every_start_is_requested_ahead_by_its_nodes_start_up_time() -> None:
    step = FlashCrowd(base_rps=5.0, factor=9.0, at_s=400.0, rise_s=0.0, hold_s=400.0, fall_s=0.0, duration_s=1200.0)
    pool = oracle_plan(case_of(dataclasses.replace(step, **EVEN))).run.world.pools[GPUS]
    later = [n for n in pool.ledger.nodes if n.born_ps]
    latest_ps = [400 * 10**12 - pool.start_up_ps(n.number) for n in later]
    assert len(set(latest_ps)) == len(later) >= 4
    assert [n.born_ps for n in later] == [min(latest_ps[k:]) for k in range(len(later))]
    assert max(at_ps for n in later for at_ps, state in n.moves if state is NodeState.READY) == 400 * 10**12


def test_the_pool_reports_each_nodes_start_up_time() -> None:
    case = case_of(TRAFFICS["batches"], initial_replicas={GPUS: 0})
    pool = apply_plan(case, 1, traffic_of(case, 1), {GPUS: np.full(96, 6)}).world.pools[GPUS]
    durations_ps = [n.due_ps - n.born_ps for n in pool.ledger.nodes]
    assert durations_ps == [pool.start_up_ps(n.number) for n in pool.ledger.nodes]
    assert len(durations_ps) == 6


def test_oracle_uses_reserved_then_available_spot_then_on_demand() -> None:
    pools = {
        PoolName("on-demand"): offer(),
        PoolName("spot"): offer(
            market="spot",
            price_usd_per_hour=1.0,
            zones={
                "zone-a": ZoneOffer(
                    capacity=2, steps=(SupplyStep(at_s=600.0, nodes=0), SupplyStep(at_s=900.0, nodes=2))
                )
            },
        ),
        PoolName("reserved"): offer(market="reserved", zones={"zone-a": ZoneOffer(capacity=1)}),
    }
    case = case_of(
        Poisson(rps=35.0, duration_s=1500.0, **EVEN),
        pools,
        initial_replicas={**dict.fromkeys(pools, 1), PoolName("spot"): 2},
    )
    result = oracle_plan(case)
    timeline = result.run.timeline
    sizes = {name: np.array(size) for name, size in timeline.pools.items()}
    at_s = np.array(timeline.at_s)
    before_outage, outage = (at_s >= 150) & (at_s < 540), (at_s >= 600) & (at_s < 890)
    assert set(sizes[PoolName("reserved")].tolist()) == {1}
    assert set(sizes[PoolName("spot")][before_outage].tolist()) == {2}
    assert set(sizes[PoolName("spot")][outage].tolist()) == {0}
    assert set(sizes[PoolName("on-demand")][outage].tolist()) == {3}
    assert summarize(result.run).slo_met


def test_oracle_respects_the_maximum_and_reports_the_attainment_there() -> None:
    case = case_of(Poisson(rps=60.0, duration_s=300.0, **EVEN), maximum=4, initial_replicas={GPUS: 4})
    _, share = fixed(case, 4)
    with pytest.raises(SloUnreachable, match=rf"oracle: no fixed size .*: with 4 replicas.* {share:.2%} of .*99\.00%"):
        oracle_plan(case)


def test_oracle_respects_its_limit_of_simulations() -> None:
    shares: list[float] = []
    result = oracle_plan(case_of(TRAFFICS["crowd"], initial_replicas={GPUS: 4}), simulations=8, progress=shares.append)
    assert result.simulations <= 8
    assert shares == sorted(shares)
    assert max(shares) <= 1.0


def test_equal_seeds_give_equal_plans() -> None:
    case = case_of(TRAFFICS["bursty"])
    case = dataclasses.replace(case, scenario=dataclasses.replace(case.scenario, initial_replicas={GPUS: 4}))
    first, second = oracle_plan(case), oracle_plan(case)
    assert first.run.timeline == second.run.timeline
    assert summarize(first.run) == summarize(second.run)


@given(
    on_rps=st.floats(1, 30),
    share=st.sampled_from([0.5, 0.9]),
    market=st.sampled_from(["on_demand", "spot", "reserved"]),
    losses=st.sampled_from([0.0, 0.0, 6.0]),
    seed=st.integers(0, 2**31),
)
@law(25)
def test_no_fixed_plan_is_cheaper_than_the_bound(
    on_rps: float, share: float, market: Any, losses: float, seed: int
) -> None:
    steps = (SupplyStep(at_s=150.0, nodes=3), SupplyStep(at_s=200.0, nodes=6)) if market == "spot" else ()
    zones = {"zone-a": ZoneOffer(capacity=6, losses_per_node_hour=losses, steps=steps)}
    burst = OnOff(on_rps=on_rps, off_rps=0.0, on_s=100.0, off_s=200.0, duration_s=400.0)
    slo = Slo(ttft_s=None, itl_s=None, e2e_s=300.0, share=share)
    case = case_of(burst, {GPUS: offer(market=market, zones=zones)}, slo=slo, initial_replicas={GPUS: 3})
    trace = traffic_of(case, seed)
    pools = supplies(case, seed, trace, run_end_s(case, trace))
    summaries = [summarize(apply_plan(case, seed, trace, fixed_sizes(pools, n))) for n in (1, 3, 6)]
    meeting = [s.cost_usd for s in summaries if s.slo_met]
    event(f"{len(meeting)} of 3 sizes meet the target")
    assert min(meeting, default=math.inf) >= bound_usd(case, seed, trace, run_end_s(case, trace)) - 1e-6


def by_layer(size: list[int], gap: int) -> list[int]:
    """Fill each layer's short gaps, one after the other."""
    filled = [0] * len(size)
    for layer in range(1, max(size, default=0) + 1):
        filled_layer = [n >= layer for n in size]
        marks = [i for i, is_on in enumerate(filled_layer) if is_on]
        for left, right in itertools.pairwise(marks):
            if 1 < right - left <= gap + 1:
                filled_layer[left:right] = [True] * (right - left)
        filled = [n + is_on for n, is_on in zip(filled, filled_layer, strict=True)]
    return filled


@given(size=st.lists(st.integers(0, 5), min_size=1, max_size=40), gap=st.integers(0, 45))
def test_fill_gaps_fills_only_the_short_gaps_of_every_layer(size: list[int], gap: int) -> None:
    assert fill_gaps(np.array(size), gap).tolist() == by_layer(size, gap)


def test_the_bound_excludes_requests_beyond_the_slo_share() -> None:
    case = case_of(Poisson(rps=10.0, duration_s=300.0, **EVEN))
    half_slo = Slo(ttft_s=1.0, itl_s=0.05, share=0.5)
    half = dataclasses.replace(case, scenario=dataclasses.replace(case.scenario, slo=half_slo))
    trace = traffic_of(case, 1)
    all_served, part = (bound_usd(c, 1, trace, run_end_s(c, trace)) for c in (case, half))
    assert part == pytest.approx(all_served * np.ceil(0.5 * len(trace)) / np.ceil(0.99 * len(trace)))


def test_the_bound_is_tight_for_an_engine_that_is_always_full() -> None:
    """3,000 requests of ten tokens in batches of ten, 0.1 s a step: 300 s at 3.60 USD an hour."""
    case = case_of(Poisson(rps=10.0, duration_s=300.0, **EVEN), slo=Slo(ttft_s=1.0, itl_s=0.05, share=1.0))
    trace = traffic_of(case, 1)
    assert bound_usd(case, 1, trace, MAX_S) == pytest.approx(len(trace) * 0.1 * 0.001, rel=1e-9)


def test_the_bound_excludes_requests_after_the_end() -> None:
    case = case_of(Poisson(rps=10.0, duration_s=300.0, **EVEN))
    trace = traffic_of(case, 1)
    assert bound_usd(case, 1, trace, 150.0) == pytest.approx(bound_usd(case, 1, trace.window(0.0, 150.0), MAX_S))


def test_oracle_releases_replicas_without_work() -> None:
    """Three minutes of work arrive at once and are due within ten; spread out, a replica would mostly idle."""
    burst = OnOff(on_rps=60.0, off_rps=0.0, on_s=30.0, off_s=870.0, duration_s=900.0, **EVEN)
    slo = Slo(ttft_s=None, itl_s=None, e2e_s=600.0, share=1.0)
    case = case_of(burst, slo=slo, router=Router(limit=10), initial_replicas={GPUS: 1})
    result = oracle_plan(case)
    done_s = float(result.run.world.kernel.requests.finished_ps.max()) / 10**12
    node_s = result.cost_usd / 3.6 * 3600
    assert done_s < 300
    assert node_s <= done_s + 60 + BUCKET_S


def test_the_oracle_counts_the_same_requests_as_the_scenario() -> None:
    case = case_of(TRAFFICS["crowd"], warm_up_s=300.0, initial_replicas={GPUS: 1})
    result = oracle_plan(case)
    assert len(CountedRequests(result.run)) < len(result.run.trace)
    assert result.attainment >= 0.99
