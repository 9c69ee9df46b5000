"""Scenarios whose workload has a route: results, tables, preference, and errors in the configuration."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from policies.model import Fresh, PoolName, Tick
from policies.model.names import BackendName, RouteName
from scaler.config.problems import ConfigError
from simulators.engine.models.service import PS_PER_S
from simulators.experiments.contenders.contenders import contenders
from simulators.experiments.oracle.apply_plan import apply_plan
from simulators.experiments.oracle.sizes import BUCKET_S
from simulators.experiments.results import summarize
from simulators.experiments.run import SimulationRun, simulate, traffic_of
from simulators.experiments.scenario import Case, load
from simulators.reporting import table, text
from simulators.reporting.run_data import run_data

SCENARIOS = Path(__file__).resolve().parents[3] / "config" / "scenarios"
BURST = {"kind": "flash_crowd", "base_rps": 30, "duration_s": 1200, "at_s": 600, "factor": 3, "hold_s": 240}


def scenario(folder: Path, workload: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write the scenario `flash-crowd-overflow` with a short burst, and with changes of its workload."""
    data = yaml.safe_load((SCENARIOS / "flash-crowd-overflow.yaml").read_text(encoding="utf-8"))
    deployed = yaml.safe_load((SCENARIOS / data["workload"]).read_text(encoding="utf-8"))
    (folder / "workload.yaml").write_text(yaml.safe_dump(deployed | (workload or {})), encoding="utf-8")
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(data | {"workload": "workload.yaml", "traffic": BURST} | changes), encoding="utf-8")
    return path


def simulated(case: Case) -> SimulationRun:
    return simulate(case, 1, traffic_of(case, 1))


@pytest.mark.slow
def test_burst_overflows_to_the_provider_and_its_price_is_reported_apart(tmp_path: Path) -> None:
    case = load(scenario(tmp_path))
    run = simulated(case)
    without = summarize(simulated(contenders(case, ["self:routes={}"], with_self=False)[0].case))
    data = run_data("overflow", run)
    s = data.summary
    assert s.attainment["all"] > without.attainment["all"] + 0.02
    assert s.arrived == without.arrived == s.finished
    assert 0.05 < s.api_share < 0.6
    assert s.route_changes >= 2
    assert run.world.gateway is not None
    sent = run.world.gateway.requests(run.world.now_ps)
    price_usd = (sent.prompt_tokens.sum() * 0.2 + sent.output_tokens.sum() * 0.6) / 1e6
    assert s.api_usd == pytest.approx(price_usd, abs=1e-5)
    assert s.cost_by_market_usd == {"on_demand": pytest.approx(s.cost_usd - s.api_usd), "api": s.api_usd}
    assert sum(s.cost_by_use_usd.values()) == pytest.approx(s.cost_usd, abs=1e-5)
    assert data.cost_usd["api"].sum() == pytest.approx(s.api_usd, rel=1e-4)
    assert data.paid_usd["api"][-1] == pytest.approx(s.api_usd, rel=1e-4)
    assert f"cost ${s.cost_usd:,.2f}, of which ${s.api_usd:,.2f} for token APIs" in text.headline(data)
    rows = {title.strip(): cells for title, cells in table.cells([s, without])}
    assert rows["for token APIs"] == [f"${s.api_usd:,.2f}", "-"]
    assert rows["requests to token APIs"][1] == "-"
    assert rows["changes of the weights"] == [f"{s.route_changes}", "0"]


@pytest.mark.slow
def test_workload_without_a_route_has_no_api_spend(tmp_path: Path) -> None:
    case = load(scenario(tmp_path, {"routes": {}}, traffic={"kind": "poisson", "rps": 5, "duration_s": 60}))
    run = simulated(case)
    s = summarize(run)
    assert run.world.gateway is None
    assert math.isnan(s.api_usd)
    assert math.isnan(s.api_share)
    assert "api" not in s.cost_by_use_usd
    assert "token APIs" not in text.cost(s)


def two_regions(folder: Path, workload: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write the scenario `region-outage` with steady traffic of ten minutes, and with changes of its workload."""
    data = yaml.safe_load((SCENARIOS / "region-outage.yaml").read_text(encoding="utf-8"))
    deployed = yaml.safe_load((SCENARIOS / data["workload"]).read_text(encoding="utf-8"))
    (folder / "workload.yaml").write_text(yaml.safe_dump(deployed | (workload or {})), encoding="utf-8")
    data |= {"workload": "workload.yaml", "traffic": {"kind": "poisson", "rps": 10, "duration_s": 600}}
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(data | changes), encoding="utf-8")
    return path


@pytest.mark.slow
def test_pool_that_is_resized_to_zero_is_drained_first(tmp_path: Path) -> None:
    """West is more expensive and not needed. Its nodes cut the requests that they have when they are resized."""
    case = load(two_regions(tmp_path))
    east, west = PoolName("east"), PoolName("west")
    spec = case.workload.document
    pools = {name: {k: v for k, v in pool.items() if k != "min_replicas"} for name, pool in spec["pools"].items()}
    pools["west"]["price_usd_per_hour"] = 9.0
    offers = case.scenario.pools
    cut = dataclasses.replace(offers[west], grace_s=0.0, price_usd_per_hour=9.0)
    case = load(two_regions(tmp_path, {"pools": pools}))
    case = dataclasses.replace(case, scenario=dataclasses.replace(case.scenario, pools={east: offers[east], west: cut}))
    ticks: list[Tick] = []
    run = simulate(case, 1, traffic_of(case, 1), record=[ticks.append])
    sizes = [tick.observation.pools[west] for tick in ticks]
    weights = [tick.decision.routes[RouteName("chat")].weights.get(BackendName("west"), 0) for tick in ticks]
    desired = [reading.value.desired for reading in sizes if isinstance(reading, Fresh)]
    assert (desired[0], desired[-1]) == (2, 0)
    emptied, stopped = weights.index(0), desired.index(0)
    assert (stopped - emptied) * case.workload.spec.interval_s >= case.workload.spec.routes[RouteName("chat")].drain_s
    assert not any(weights[emptied:])
    assert run.world.lost_requests == 0
    assert summarize(run).attainment["all"] > 0.99


EAST_CARRIES_PER_S = 20.0
"""The requests per second that the two replicas of east carry."""


def served_east(folder: Path, preference: dict[str, Any]) -> tuple[SimulationRun, list[float], float]:
    """Run two regions of two replicas each in 10, then 30, then 10 requests/s, with a gateway in us-east-1.

    Returns the run, the share of east before, in and after the burst, and the mean time to first token. Seconds.
    """
    deployed = yaml.safe_load((SCENARIOS / "workloads/region-outage.yaml").read_text(encoding="utf-8"))
    regions = {"east": "us-east-1", "west": "us-west-2"}
    size = {"min_replicas": 2, "max_replicas": 2}
    route = deployed["routes"]["chat"] | preference
    route |= {"backends": {n: {"pool": n} for n in regions}, "requests_per_replica_per_s": EAST_CARRIES_PER_S / 2}
    changes = {
        "policies": {"size": {"kind": "static", "replicas": 4}},
        "pools": {n: deployed["pools"][n] | size | {"region": region} for n, region in regions.items()},
        "routes": {"chat": {key: value for key, value in route.items() if key not in {"allow_external", "overflow"}}},
    }
    burst = {
        "kind": "flash_crowd",
        "base_rps": 10,
        "duration_s": 1200,
        "at_s": 400,
        "factor": 3,
        "hold_s": 300,
        "fall_s": 60,
    }
    run = simulated(load(two_regions(folder, changes, providers={}, traffic=burst)))
    requests, pool = run.world.arrived_requests, run.world.kernel.read().pool
    arrived_s, is_east = requests.arrived_ps / PS_PER_S, pool[requests.replica] == 0
    windows = (arrived_s > 100) & (arrived_s < 400), (arrived_s > 500) & (arrived_s < 700), arrived_s > 1100
    ttft_s = (requests.first_token_ps - requests.arrived_ps)[requests.is_finished] / PS_PER_S
    return run, [float(is_east[window].mean()) for window in windows], float(ttft_s.mean())


@pytest.mark.slow
def test_locality_keeps_requests_near_except_in_a_burst(tmp_path: Path) -> None:
    """Far requests need 60 ms more, which half of them are spared in quiet load."""
    run, shares, ttft_s = served_east(tmp_path, {"prefer": "locality", "region": "us-east-1"})
    assert (shares[0], shares[2]) == (1.0, 1.0)
    assert shares[1] == pytest.approx(EAST_CARRIES_PER_S / 30.0, abs=0.1)
    changes = summarize(run).route_changes
    assert changes <= 6, "the first split, the first return, each step of the burst, and its return"
    by_cost, equal_shares, by_cost_ttft_s = served_east(tmp_path, {})
    assert equal_shares == pytest.approx([0.5] * 3, abs=0.04)
    assert ttft_s < by_cost_ttft_s - 0.01
    assert summarize(run).attainment["all"] >= summarize(by_cost).attainment["all"] - 0.001


def test_plan_without_splits_uses_the_replicas_of_all_pools(tmp_path: Path) -> None:
    """West alone serves: a gateway without a split of these sizes would count east too."""
    case = load(two_regions(tmp_path, traffic={"kind": "poisson", "rps": 5, "duration_s": 60}))
    buckets = math.ceil((60 + case.scenario.settle_s) / BUCKET_S)
    sizes = {PoolName("east"): np.zeros(buckets, np.int64), PoolName("west"): np.full(buckets, 2)}
    run = apply_plan(case, 1, traffic_of(case, 1), sizes)
    assert run.world.gateway is None
    assert run.world.arrived_requests.is_finished.all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"round_trip_s": {"us-east-1": 0.01}}, "pools.west: is in region us-west-2, which is missing in round_trip_s"),
        ({"round_trip_s": {"us-east-1": 0.01, "us-west-2": 70}}, "us-west-2: must be 0 to 10 seconds, not 70"),
        (
            {"round_trip_s": {"us-east-1": 0.01, "us-west-2": 0.07, "eu-west-1": 0.1}},
            "round_trip_s.*has region eu-west-1, in which there is no pool and no provider",
        ),
    ],
)
def test_round_trips_must_fit_the_regions(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(two_regions(tmp_path, **changes))


def test_provider_that_the_scenario_lacks_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"routes\.chat\.backends\.openai.*not a provider of the scenario"):
        load(scenario(tmp_path, providers={}))


def test_second_route_is_rejected(tmp_path: Path) -> None:
    workload = yaml.safe_load((SCENARIOS / "workloads/flash-crowd-overflow.yaml").read_text(encoding="utf-8"))
    second = workload["routes"]["chat"] | {"file": "/etc/envoy/routes/other.json"}
    with pytest.raises(ConfigError, match="has 2 routes"):
        load(scenario(tmp_path, {"routes": workload["routes"] | {"other": second}}))


def test_route_behind_a_queue_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the scenario's queue holds them"):
        load(scenario(tmp_path, queue={"service": "sqs"}))


def test_fault_must_end_after_its_start(tmp_path: Path) -> None:
    prices = {"usd_per_million_input_tokens": 0.2, "usd_per_million_output_tokens": 0.6}
    faults = [{"fault": "slow", "since_s": 60, "until_s": 60}]
    with pytest.raises(ConfigError, match=r"until_s.*must be above since_s, 60"):
        load(scenario(tmp_path, providers={"openai": prices | {"faults": faults}}))
