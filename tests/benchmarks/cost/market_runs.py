"""Contenders and runs with spot: on demand only, spot first, SkyServe's own fallback, and ours."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from simulators.engine.models.service import PS_PER_S
from simulators.experiments.contenders.contenders import contenders
from simulators.experiments.oracle.plan import SloUnreachable, plan
from simulators.experiments.run import SimulationRun, simulate, traffic_of
from simulators.world.infrastructure.node_lifecycle import NodeState
from simulators.world.infrastructure.supply import read
from tests.benchmarks.clairvoyant import Floats, cheapest_usd
from tests.benchmarks.cost import deployment, market, scores, tuning
from tests.benchmarks.cost.cells import Cell
from tests.benchmarks.cost.families import OURS, SKYSERVE, Family
from tests.benchmarks.cost.market import ON_DEMAND, SPOT, MarketCell
from tests.benchmarks.cost.tuning import ORACLE, SEED, Job, Outcome, Runs

SPOT_FIRST: Final = "karpenter/"
"""Prefix of a rival's text: its size is a Deployment's, on spot and on-demand nodes managed as by Karpenter."""
FOREWARNED: Final = "karpenter-forewarned/"
"""The same where nodes serve until interrupted and are replaced at the notice: more than rivals offer."""
OWN: Final = "own/"
"""Prefix of SkyServe's text: its own replicas on spot and on demand. It ignores notices."""
DRAINED: Final = "zones-drained/"
"""Prefix of our text: nodes are drained at the notice, as by Karpenter."""
RIVALS: Final = ("hpa", "skyserve", "llm-d")
"""The cheapest two and the most widely used. KEDA equals HPA here; Knative and Ray Serve cost 1.5 times as much."""
BEST: Final = ("skyserve", "llm-d")
FALLBACK: Final = f"spot_pool={SPOT};on_demand_pool={ON_DEMAND};dynamic_ondemand_fallback=true"
OURS_DRAINED: Final = "ours, drained"
NOT_RIVALS: Final = frozenset({OURS, OURS_DRAINED, *(f"{name}, forewarned" for name in BEST)})
"""The contenders that are not rivals: ours, and rivals with features that they lack in reality."""
STEP_S: Final = 30.0


def families(runs: Runs, cell: Cell) -> list[Family]:
    """Return all families.

    Ours; rivals on demand only, with spot first, and forewarned; SkyServe's own fallback with and without a spare.
    """
    by_name = {family.name: family for family in scores.contenders(runs, cell)}
    settings = tuple(f"{SKYSERVE[1]};{FALLBACK};num_overprovision={spares}" for spares in (0, 1))
    return [
        by_name[OURS],
        *(by_name[name] for name in RIVALS),
        *(_with_mode(by_name[name], SPOT_FIRST, f"{name}, spot") for name in RIVALS),
        replace(_with_mode(by_name["skyserve"], OWN, "skyserve, own"), settings=settings),
        _with_mode(by_name[OURS], DRAINED, OURS_DRAINED),
        *(_with_mode(by_name[name], FOREWARNED, f"{name}, forewarned") for name in BEST),
    ]


def _with_mode(family: Family, mode: str, name: str) -> Family:
    return replace(family, name=name, base=mode + family.base)


def run(job: Job, data: Path) -> Outcome:
    """Simulate a run in the mode that the contender's prefix names."""
    cell = job.cell
    if not isinstance(cell, MarketCell):
        raise TypeError(f"{job.key}: must be a cell in a market")
    if job.contender == ORACLE:
        return clairvoyant(cell, data, job.part, job.share)
    mode, slash, contender_text = job.contender.rpartition("/")
    arguments = data, job.part, job.share
    without_spot = cell.without_spot.case(*arguments)
    if mode + slash in {SPOT_FIRST, FOREWARNED}:
        world = cell.case(*arguments, market.KARPENTER if mode + slash == SPOT_FIRST else market.FOREWARNED)
        (contender,) = contenders(without_spot, [contender_text], with_self=False)
        return tuning.outcome(deployment.simulate(world, contender.case.workload, SEED, traffic_of(world, SEED)))
    if mode + slash == OWN:
        case = cell.with_one_spot_pool(*arguments)
    elif mode + slash == DRAINED:
        case = cell.case(*arguments, market.DRAINED)
    else:
        case = cell.case(*arguments) if contender_text.startswith("self") else without_spot
    (contender,) = contenders(case, [contender_text], with_self=False)
    return tuning.outcome(simulate(contender.case, SEED, traffic_of(case, SEED)))


def clairvoyant(cell: MarketCell, data: Path, part: str, share: float) -> Outcome:
    """Return the outcome of the oracle's sizes bought with full knowledge of the market, by the cheapest plan.

    `cost_usd` and `bound_usd` are the plan's cost; NaN where the oracle finds no sizes that meet the SLO.
    """
    case = cell.without_spot.case(data, part, share)
    try:
        planned = plan(case, SEED, traffic_of(case, SEED))
    except SloUnreachable:
        return {"cost_usd": math.nan, "attainment": math.nan, "bound_usd": math.nan}
    target = ready(planned.run)
    spot_usd, usd = cell.usd_per_hour
    limits = [_capacity(zone, len(target)) for zone in cell.zones(data, part).values()]
    prices, first = [*[spot_usd] * len(limits), usd], [*[0.0] * len(limits), float(target[0])]
    delay = round(cell.start_s / STEP_S)
    cost = cheapest_usd(prices, [*limits, None], target, first, delay, STEP_S / 3600.0)
    return {"cost_usd": cost, "attainment": planned.attainment, "bound_usd": cost}


def ready(run: SimulationRun) -> Floats:
    """Return the ready replicas in the middle of each step of a run."""
    middles = (np.arange(int(run.end_s // STEP_S)) + 0.5) * STEP_S
    count = np.zeros(len(middles))
    for pool in run.world.pools.values():
        for node in pool.ledger.nodes:
            for state, start_ps, end_ps in node.intervals(run.world.now_ps):
                if state is NodeState.READY:
                    count += (middles >= start_ps / PS_PER_S) & (middles < end_ps / PS_PER_S)
    return count


def _capacity(zone: dict[str, dict[str, float | str]], steps: int) -> Floats:
    """Return a zone's nodes in each step: the minimum of its start and its end."""
    trace = zone["trace"]
    gap_s, nodes = read(Path(str(trace["file"])))
    scaled = np.floor(np.array(nodes, float) * float(trace["scale"]) + 1e-9)
    edges_s = float(trace["start_s"]) + np.arange(steps + 1) * STEP_S
    nodes_at_edges = scaled[((edges_s // float(gap_s)).astype(np.int64)) % len(scaled)]
    return np.asarray(np.minimum(nodes_at_edges[:-1], nodes_at_edges[1:]), np.float64)
