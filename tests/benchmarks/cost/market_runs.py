"""Who takes part where spot exists, and one run of each: on demand only, spot first, SkyServe's own way, ours."""

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
from tests.benchmarks.cost.families import OURS, Family
from tests.benchmarks.cost.market import ON_DEMAND, SPOT, MarketCell
from tests.benchmarks.cost.tuning import ORACLE, SEED, Job, Outcome, Runs

SPOT_FIRST: Final = "karpenter/"
"""Before a rival's word: its size is a Deployment's, on spot and on-demand nodes as Karpenter keeps them."""
FOREWARNED: Final = "karpenter-forewarned/"
"""The same where nodes serve until they are taken, and are made up for at the notice: more than rivals have."""
OWN: Final = "own/"
"""Before SkyServe's: its own replicas on spot and on demand. It heeds no notice."""
DRAINED: Final = "zones-drained/"
"""Before ours: nodes are drained at the notice, as on Karpenter's."""
RIVALS: Final = ("hpa", "skyserve", "llm-d")
"""The cheapest two, and what most use. KEDA is as HPA here; Knative and Ray Serve cost half as much again."""
BEST: Final = ("skyserve", "llm-d")
FALLBACK: Final = f"spot_pool={SPOT};on_demand_pool={ON_DEMAND};dynamic_ondemand_fallback=true"
SHORT: Final = "upscale_delay_s=0;downscale_delay_s=300"
OURS_DRAINED: Final = "ours, drained"
APART: Final = frozenset({OURS, OURS_DRAINED, *(f"{name}, forewarned" for name in BEST)})
"""Who is no rival: ours, and those who are given what they do not have."""
STEP_S: Final = 30.0


def families(runs: Runs, cell: Cell) -> list[Family]:
    """Ours; rivals on demand only, with spot first, and forewarned; SkyServe with its own fallback, with a spare and
    without."""
    known = {family.name: family for family in scores.contenders(runs, cell)}
    others = tuple(f"{SHORT};{FALLBACK};num_overprovision={spares}" for spares in (0, 1))
    return [
        known[OURS],
        *(known[name] for name in RIVALS),
        *(_by(known[name], SPOT_FIRST, f"{name}, spot") for name in RIVALS),
        replace(_by(known["skyserve"], OWN, "skyserve, own"), others=others),
        _by(known[OURS], DRAINED, OURS_DRAINED),
        *(_by(known[name], FOREWARNED, f"{name}, forewarned") for name in BEST),
    ]


def _by(family: Family, mode: str, name: str) -> Family:
    return replace(family, name=name, base=mode + family.base)


def run(job: Job, data: Path) -> Outcome:
    """One run, by the word's mode."""
    cell = job.cell
    if not isinstance(cell, MarketCell):
        raise TypeError(f"{job.key}: must be a cell in a market")
    if job.word == ORACLE:
        return clairvoyant(cell, data, job.part, job.share)
    mode, slash, word = job.word.rpartition("/")
    told = data, job.part, job.share
    alone = cell.alone.case(*told)
    if mode + slash in {SPOT_FIRST, FOREWARNED}:
        world = cell.case(*told, market.KARPENTER if mode + slash == SPOT_FIRST else market.FOREWARNED)
        (contender,) = contenders(alone, [word], with_self=False)
        return tuning.outcome(deployment.simulate(world, contender.case.workload, SEED, traffic_of(world, SEED)))
    if mode + slash == OWN:
        case = cell.together(*told)
    elif mode + slash == DRAINED:
        case = cell.case(*told, market.DRAINED)
    else:
        case = cell.case(*told) if word.startswith("self") else alone
    (contender,) = contenders(case, [word], with_self=False)
    return tuning.outcome(simulate(contender.case, SEED, traffic_of(case, SEED)))


def clairvoyant(cell: MarketCell, data: Path, part: str, share: float) -> Outcome:
    """The oracle's sizes bought by somebody who knows the market: the cheapest plan that has as many serve as it had.

    `cost_usd` is the plan's, `bound_usd` the same; NaN where the oracle finds no sizes that keep the promise.
    """
    case = cell.alone.case(data, part, share)
    try:
        found = plan(case, SEED, traffic_of(case, SEED))
    except SloUnreachable:
        return {"cost_usd": math.nan, "attainment": math.nan, "bound_usd": math.nan}
    target = ready(found.run)
    spot_usd, usd = cell.usd_per_hour
    limits = [_capacity(zone, len(target)) for zone in cell.zones(data, part).values()]
    prices, first = [*[spot_usd] * len(limits), usd], [*[0.0] * len(limits), float(target[0])]
    delay = round(cell.start_s / STEP_S)
    cost = cheapest_usd(prices, [*limits, None], target, first, delay, STEP_S / 3600.0)
    return {"cost_usd": cost, "attainment": found.attainment, "bound_usd": cost}


def ready(run: SimulationRun) -> Floats:
    """The replicas that served in the middle of each step of a run."""
    middles = (np.arange(int(run.end_s // STEP_S)) + 0.5) * STEP_S
    count = np.zeros(len(middles))
    for pool in run.world.pools.values():
        for node in pool.ledger.nodes:
            for state, start_ps, end_ps in node.intervals(run.world.now_ps):
                if state is NodeState.READY:
                    count += (middles >= start_ps / PS_PER_S) & (middles < end_ps / PS_PER_S)
    return count


def _capacity(zone: dict[str, dict[str, float | str]], steps: int) -> Floats:
    """A zone's nodes in each step: the fewest from its beginning to its end."""
    trace = zone["trace"]
    gap_s, nodes = read(Path(str(trace["file"])))
    scaled = np.floor(np.array(nodes, float) * float(trace["scale"]) + 1e-9)
    at_s = float(trace["start_s"]) + np.arange(steps + 1) * STEP_S
    at = scaled[((at_s // float(gap_s)).astype(np.int64)) % len(scaled)]
    return np.asarray(np.minimum(at[:-1], at[1:]), np.float64)
