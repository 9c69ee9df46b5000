"""The parts of the cost benchmark where spot exists: a Deployment with fallback, the markets, and the modes."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from policies.model import PoolName
from simulators.engine.models.service import PS_PER_S
from simulators.experiments.oracle.plan import plan
from simulators.experiments.run import build_world, traffic_of
from simulators.world.world import World
from tests.benchmarks.cost import market_runs
from tests.benchmarks.cost.deployment import ON_DEMAND_POOL, Deployment
from tests.benchmarks.cost.families import Family
from tests.benchmarks.cost.market import FOREWARNED, KARPENTER, MARKETS, MarketCell
from tests.benchmarks.cost.scores import Score
from tests.benchmarks.cost.tuning import SEED, Job, Runs

CELL = MarketCell("azure-conv", 90, "AWS1")
DAY = int(MARKETS["AWS1"].day * 288)
"""The step of 300 s at which the trace begins; its test part begins 1166 s later, in the fourth step."""
FULL, NONE = [4] * 8, [0] * 8


def data(folder: Path, *zones: list[int]) -> Path:
    """Write requests, ten a second once scaled, and recorded zones with these nodes from the cell's day on."""
    (folder / "requests").mkdir()
    (folder / "spot" / "AWS1").mkdir(parents=True)
    with gzip.open(folder / "requests/azure2023_conv.csv.gz", "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arrival_s", "prompt_tokens", "output_tokens"])
        writer.writerows([[f"{2.0 * k:.3f}", 1000, 200] for k in range(1750)])
    for k, nodes in enumerate(zones):
        trace = {"metadata": {"gap_seconds": 300}, "data": [0] * DAY + nodes + [nodes[-1]] * 40}
        (folder / "spot" / "AWS1" / f"zone-{k}_v100_1.json").write_text(json.dumps(trace))
    return folder


class WatchedDeployment:
    """A Deployment of eight pods in a world without requests, observed every 15 s."""

    def __init__(self, folder: Path, offer: str) -> None:
        case = CELL.case(folder, "train", offer=offer)
        self.world: World = build_world(case, SEED, traffic_of(case, SEED))
        self.deployment = Deployment(self.world)
        self.ready: dict[int, int] = {}
        self.sizes: dict[int, tuple[int, int]] = {}
        asyncio.run(self._drive())

    async def _drive(self) -> None:
        for time_s in range(0, 1500, 15):
            self.world.run_until(time_s * PS_PER_S)
            status = await self.deployment.status()
            if time_s == 0:
                await self.deployment.resize(8, status.value)
            self.ready[time_s] = status.value.ready
            spot = sum(self.world.status(pool).ready for pool in self.world.pools if pool != ON_DEMAND_POOL)
            self.sizes[time_s] = spot, self.world.status(ON_DEMAND_POOL).desired


def test_a_deployment_moves_to_spot_without_a_gap(tmp_path: Path) -> None:
    watched = WatchedDeployment(data(tmp_path, FULL), KARPENTER)
    assert min(watched.ready.values()) == 8
    assert watched.sizes[300] == (8, 0)


def test_deployment_falls_back_to_on_demand_and_returns_to_spot(tmp_path: Path) -> None:
    watched = WatchedDeployment(data(tmp_path, [4, 4, 0, 4, 4]), KARPENTER)
    assert watched.sizes[450] == (8, 0)
    assert watched.sizes[495] == (0, 8), "drained at the notice, and replaced at once"
    assert watched.ready[495] == 0
    assert min(watched.ready[time_s] for time_s in range(630, 1500, 15)) == 8
    assert watched.sizes[1200] == (8, 0)


def test_nodes_interrupted_in_one_zone_are_replaced_in_another(tmp_path: Path) -> None:
    watched = WatchedDeployment(data(tmp_path, FULL, [4, 0, 4, 4, 4]), KARPENTER)
    assert watched.sizes[165] == (8, 0), "four in each zone"
    assert watched.sizes[195] == (4, 0), "the other zone starts four, and no on-demand node is requested"
    assert watched.sizes[315] == (8, 0)
    assert watched.world.status(PoolName("spot-zone-0")).desired == 8


def test_deployment_with_early_notice_keeps_all_replicas_ready(tmp_path: Path) -> None:
    watched = WatchedDeployment(data(tmp_path, [4, 4, 0, 0, 0]), FOREWARNED)
    assert min(watched.ready.values()) == 8
    assert watched.sizes[750] == (0, 8)


def test_market_and_traffic_windows_are_aligned_in_time(tmp_path: Path) -> None:
    folder = data(tmp_path, FULL, NONE)
    train, test = (CELL.zones(folder, part)["zone-0"]["trace"] for part in ("train", "test"))
    assert test["start_s"] - train["start_s"] == 1166
    assert train["scale"] == 2, "a recorded maximum of four nodes is scaled to eight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("data"), FULL, NONE)


@pytest.fixture(scope="module")
def families(folder: Path) -> dict[str, Family]:
    return {f.name: f for f in market_runs.families(Runs(folder, None, 1, market_runs.run), CELL)}


@pytest.mark.slow
def test_every_contender_runs_and_spot_is_cheaper(folder: Path, families: dict[str, Family]) -> None:
    costs = {}
    for name, family in families.items():
        outcome = market_runs.run(Job(CELL, "test", family.contender(family.steps[2], 0)), folder)
        costs[name] = outcome["cost_usd"]
        assert outcome["attainment"] > 0.5, name
    for name in ("hpa", "skyserve", "llm-d"):
        assert costs[f"{name}, spot"] < 0.8 * costs[name]
    assert costs["forescale"] < 0.8 * min(costs["hpa"], costs["skyserve"], costs["llm-d"])


def test_only_real_setups_count_as_rivals(families: dict[str, Family]) -> None:
    costs = dict.fromkeys(families, 9.0) | {"forescale": 8.0, "skyserve, forewarned": 1.0, "ours, drained": 2.0}
    score = Score(CELL, 0.99, costs, {}, {}, market_runs.NOT_RIVALS)
    assert score.best is not None
    assert score.best[1] == 9.0
    assert families.keys() >= market_runs.NOT_RIVALS


def test_the_clairvoyant_plan_uses_spot_where_available(folder: Path) -> None:
    with_spot = market_runs.clairvoyant(CELL, folder, "test", 0.99)
    on_demand_only = plan(
        CELL.without_spot.case(folder, "test"), SEED, traffic_of(CELL.without_spot.case(folder, "test"), SEED)
    )
    spot_usd, usd = CELL.usd_per_hour
    hours = float(np.sum(market_runs.ready(on_demand_only.run))) * market_runs.STEP_S / 3600.0
    assert hours * spot_usd < with_spot["cost_usd"] < hours * usd
