"""The bill equals the integral of price over the nodes that ran, computed independently of the ledger."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.model import PoolName
from simulators.experiments.results import summarize
from simulators.experiments.run import SimulationRun, build_world, simulate, traffic_of
from simulators.experiments.scenario import Case
from simulators.world.infrastructure.pool import FleetPool
from tests.golden.runs import short

STEP_S = 1.0


def simulate_shortened(name: str, folder: Path, duration_s: float = 3600.0) -> SimulationRun:
    case = short(name, folder, duration_s)
    return simulate(case, case.scenario.seed, traffic_of(case, case.scenario.seed))


def paid_nodes(pool: FleetPool, at_s: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, np.ndarray]:
    """Return the number of nodes in each zone at these times, counted from creation to removal."""
    counts = {zone: np.zeros(len(at_s), dtype=np.int64) for zone in pool.offer.zones}
    names = list(pool.offer.zones)
    for node in pool.ledger.nodes:
        gone = [at for at, state in node.moves if state.name == "GONE"]
        end_s = gone[0] / 1e12 if gone else np.inf
        counts[names[node.zone]] += (at_s >= node.born_ps / 1e12) & (at_s < end_s)
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chat", "cold-start", "batch-queue", "spot", "faults"])
def test_bill_equals_the_price_integrated_over_paid_nodes(name: str, tmp_path: Path) -> None:
    run = simulate_shortened(name, tmp_path)
    at_s = np.arange(0.0, run.end_s, STEP_S) + STEP_S / 2
    bills = {n: p.bill(run.world.now_ps, run.world.kernel.occupied_ps) for n, p in run.world.pools.items()}
    for pool_name, pool in run.world.pools.items():
        counts = paid_nodes(pool, at_s)
        if pool.offer.market == "reserved":
            counts = {zone: np.full(len(at_s), o.capacity) for zone, o in pool.offer.zones.items()}
        usd = sum(float(n.sum()) * STEP_S / 3600 * (pool.offer.price(zone) or 0.0) for zone, n in counts.items())
        bill = bills[pool_name]
        charged = (bill.total + bill.waived - bill.rounding) / (3600 * 10**12 * 10**6)
        # a node starts and ends within a step of 1 s: an error of up to 0.5 s at either end
        tolerance = len(pool.ledger.nodes) * STEP_S / 3600 * 7.0
        assert charged == pytest.approx(usd, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["daily", "cold-start"])
def test_bill_without_draining_equals_price_of_requested_sizes(name: str, tmp_path: Path) -> None:
    """A requested node is billed at once, so a pool without shortage costs its size from tick to tick."""
    run = simulate_shortened(name, tmp_path)
    (pool,) = run.world.pools.values()
    timeline = run.timeline
    (sizes,) = timeline.pools.values()
    held_s = np.diff([*timeline.at_s, run.end_s])
    usd = float((np.array(sizes) * held_s).sum()) / 3600 * 6.88
    bill = pool.bill(run.world.now_ps, run.world.kernel.occupied_ps)
    requested = bill.total - bill.draining - bill.rounding
    assert max(sizes) > min(sizes)
    assert requested / (3600 * 10**12 * 10**6) == pytest.approx(usd, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chat", "batch-queue", "spot"])
def test_cost_by_use_and_by_market_add_up_to_the_total(name: str, tmp_path: Path) -> None:
    summary = summarize(simulate_shortened(name, tmp_path))
    assert summary.cost_usd > 0
    assert sum(summary.cost_by_use_usd.values()) == pytest.approx(summary.cost_usd, abs=1e-5)
    assert sum(summary.cost_by_market_usd.values()) == pytest.approx(summary.cost_usd, abs=1e-5)


def test_billed_use_equals_time_with_outstanding_requests(tmp_path: Path) -> None:
    """Compare with the requests' own times: the union of [enter, finish] on each replica."""
    run = simulate_shortened("chat", tmp_path, 600.0)
    kernel, pool = run.world.kernel, run.world.pools[PoolName("gpus")]
    union_s = 0.0
    for replica in range(len(kernel.read())):
        requests = kernel.requests[kernel.requests.replica == replica]
        union_s += covered_s(requests.entered_ps / 1e12, requests.finished_ps / 1e12)
    bill = pool.bill(run.world.now_ps, kernel.occupied_ps)
    hours = (bill.used + bill.draining) / (3600 * 10**12 * 10**6) / 6.88
    assert hours * 3600 == pytest.approx(union_s, rel=0.01)


def covered_s(begin_s: np.ndarray, end_s: np.ndarray) -> float:
    """Return the length of a union of intervals."""
    order = np.argsort(begin_s, kind="stable")
    latest = np.maximum.accumulate(end_s[order])
    since = np.maximum(begin_s[order][1:], latest[:-1])
    first = float(end_s[order][0] - begin_s[order][0]) if len(order) else 0.0
    return first + float(np.maximum(latest[1:] - since, 0.0).sum())


def test_world_without_scaling_costs_its_initial_replicas(tmp_path: Path) -> None:
    case: Case = short("chat", tmp_path, 600.0)
    world = build_world(case, 1, traffic_of(case, 1))
    world.run_until(600 * 10**12)
    bill = world.pools[PoolName("gpus")].bill(world.now_ps, world.kernel.occupied_ps)
    assert bill.total_micro_usd == round(4 * 6.88 * 600 / 3600 * 10**6)
