"""No money comes from nowhere: the bill is the integral of price over what ran, told by somebody else."""

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


def done(name: str, folder: Path, duration_s: float = 3600.0) -> SimulationRun:
    case = short(name, folder, duration_s)
    return simulate(case, case.scenario.seed, traffic_of(case, case.scenario.seed))


def paid_nodes(pool: FleetPool, at_s: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, np.ndarray]:
    """The nodes of each zone at times, counted from their records: there from birth until gone."""
    counts = {zone: np.zeros(len(at_s), dtype=np.int64) for zone in pool.offer.zones}
    names = list(pool.offer.zones)
    for node in pool.ledger.nodes:
        gone = [at for at, state in node.moves if state.name == "GONE"]
        end_s = gone[0] / 1e12 if gone else np.inf
        counts[names[node.zone]] += (at_s >= node.born_ps / 1e12) & (at_s < end_s)
    return counts


@pytest.mark.parametrize("name", ["chat", "cold-start", "batch-queue", "spot", "bad-weather"])
def test_the_bill_is_the_price_summed_over_the_nodes_second_by_second(name: str, tmp_path: Path) -> None:
    run = done(name, tmp_path)
    at_s = np.arange(0.0, run.end_s, STEP_S) + STEP_S / 2
    bills = {n: p.bill(run.world.now_ps, run.world.kernel.occupied_ps) for n, p in run.world.pools.items()}
    for pool_name, pool in run.world.pools.items():
        counts = paid_nodes(pool, at_s)
        if pool.offer.market == "reserved":
            counts = {zone: np.full(len(at_s), o.capacity) for zone, o in pool.offer.zones.items()}
        usd = sum(float(n.sum()) * STEP_S / 3600 * (pool.offer.price(zone) or 0.0) for zone, n in counts.items())
        bill = bills[pool_name]
        charged = (bill.total + bill.waived - bill.rounding) / (3600 * 10**12 * 10**6)
        # a node's ends fall within a second: half a second each, either way
        within = len(pool.ledger.nodes) * STEP_S / 3600 * 7.0
        assert charged == pytest.approx(usd, abs=within)


@pytest.mark.parametrize("name", ["chat", "cold-start"])
def test_the_bill_is_the_sizes_that_the_turns_set_but_for_what_drains(name: str, tmp_path: Path) -> None:
    """A node asked for is paid at once, so that a pool without shortage costs its size from turn to turn."""
    run = done(name, tmp_path)
    (pool,) = run.world.pools.values()
    line = run.timeline
    (sizes,) = line.pools.values()
    held_s = np.diff([*line.at_s, run.end_s])
    usd = float((np.array(sizes) * held_s).sum()) / 3600 * 6.88
    bill = pool.bill(run.world.now_ps, run.world.kernel.occupied_ps)
    asked = bill.total - bill.draining - bill.rounding
    assert max(sizes) > min(sizes)
    assert asked / (3600 * 10**12 * 10**6) == pytest.approx(usd, rel=1e-9)


@pytest.mark.parametrize("name", ["chat", "batch-queue", "spot"])
def test_every_part_and_every_market_adds_up_to_the_cost(name: str, tmp_path: Path) -> None:
    summary = summarize(done(name, tmp_path))
    assert summary.cost_usd > 0
    assert sum(summary.cost_by_use_usd.values()) == pytest.approx(summary.cost_usd, abs=1e-5)
    assert sum(summary.cost_by_market_usd.values()) == pytest.approx(summary.cost_usd, abs=1e-5)


def test_time_used_is_the_time_that_requests_were_outstanding(tmp_path: Path) -> None:
    """Told from the requests' own times: the union of [enter, finish] on each replica."""
    run = done("chat", tmp_path, 600.0)
    kernel, pool = run.world.kernel, run.world.pools[PoolName("gpus")]
    union_s = 0.0
    for replica in range(len(kernel.read())):
        mine = kernel.requests[kernel.requests.replica == replica]
        union_s += covered_s(mine.entered_ps / 1e12, mine.finished_ps / 1e12)
    bill = pool.bill(run.world.now_ps, kernel.occupied_ps)
    hours = (bill.used + bill.draining) / (3600 * 10**12 * 10**6) / 6.88
    assert hours * 3600 == pytest.approx(union_s, rel=0.01)


def covered_s(begin_s: np.ndarray, end_s: np.ndarray) -> float:
    """Length of a union of intervals."""
    order = np.argsort(begin_s, kind="stable")
    latest = np.maximum.accumulate(end_s[order])
    since = np.maximum(begin_s[order][1:], latest[:-1])
    first = float(end_s[order][0] - begin_s[order][0]) if len(order) else 0.0
    return first + float(np.maximum(latest[1:] - since, 0.0).sum())


def test_a_world_that_nobody_touches_costs_its_first_replicas_and_no_more(tmp_path: Path) -> None:
    case: Case = short("chat", tmp_path, 600.0)
    world = build_world(case, 1, traffic_of(case, 1))
    world.run_until(600 * 10**12)
    bill = world.pools[PoolName("gpus")].bill(world.now_ps, world.kernel.occupied_ps)
    assert bill.total_micro_usd == round(4 * 6.88 * 600 / 3600 * 10**6)
