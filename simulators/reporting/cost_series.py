"""What a run cost from moment to moment, and what for: its nodes' lives at their prices.

What a bill adds at a node's end (increments, the minimum) belongs to no moment, and is in the totals only. A request
that was delivered again counts as work where it was served last.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Final

import numpy as np

from simulators.engine.models.service import PS_PER_S
from simulators.experiments.run import SimulationRun
from simulators.reporting.time_bins import Floats, covered, rounded, union
from simulators.world.infrastructure.billing import BillingLedger, bill, runs
from simulators.world.infrastructure.node_lifecycle import NodeState, SimulatedNode, Tier
from simulators.world.infrastructure.units import MICRO_PER_USD, to_s

USES: Final = ("used", "idle", "starting", "draining", "lost", "headroom", "unused")
HOUR_S: Final = 3600.0
Spans = list[tuple[int, int]]


def by_use(run: SimulationRun, edges_s: Floats) -> dict[str, Floats]:
    """Return the cost of each use in each bin, USD. Uses without cost are left out."""
    total = {use: np.zeros(len(edges_s) - 1) for use in USES}
    busy = _busy(run)
    for pool in run.world.pools.values():
        spans, work, reserved = _spans(pool.ledger, run.world.now_ps, busy)
        paid = {key: _usd(found, key[1], edges_s) for key, found in spans.items()}
        for (use, _), cost in paid.items():
            total[use] += cost
        for price, (start_s, end_s) in work.items():
            used = covered(start_s, end_s, edges_s) * price / MICRO_PER_USD / HOUR_S
            total["used"] += used
            total["idle"] -= used
        if reserved:
            total["unused"] += reserved / MICRO_PER_USD / HOUR_S * np.diff(edges_s) - sum(paid.values())
    found = {use: rounded(np.maximum(np.round(cost, 9), 0.0)) for use, cost in total.items()}
    return {use: cost for use, cost in found.items() if cost.any()}


def by_market(run: SimulationRun, edges_s: Floats) -> dict[str, Floats]:
    """Return the amount paid in each market up to each edge, USD."""
    total: dict[str, Floats] = {}
    for pool in run.world.pools.values():
        ledger = pool.ledger
        spans, _, reserved = _spans(ledger, run.world.now_ps, {})
        cost = sum((_usd(found, key[1], edges_s) for key, found in spans.items()), np.zeros(len(edges_s) - 1))
        if reserved:
            cost = reserved / MICRO_PER_USD / HOUR_S * np.diff(edges_s)
        total[ledger.market] = total.get(ledger.market, np.zeros(len(cost))) + cost
    return {market: rounded(np.concatenate(([0.0], np.cumsum(cost)))) for market, cost in total.items()}


def _usd(spans: Spans, price: int, edges_s: Floats) -> Floats:
    times = np.array(spans, np.float64).reshape(-1, 2) / PS_PER_S
    return covered(times[:, 0], times[:, 1], edges_s) * price / MICRO_PER_USD / HOUR_S


def _spans(
    ledger: BillingLedger, now_ps: int, busy: dict[int, tuple[Floats, Floats]]
) -> tuple[dict[tuple[str, int], Spans], dict[int, tuple[Floats, Floats]], int]:
    """Return paid spans by use and price, busy spans by price, and the price of what is reserved.

    All time that a node is ready counts as idle here.
    """
    spans: dict[tuple[str, int], Spans] = defaultdict(list)
    work: dict[int, list[tuple[Floats, Floats]]] = defaultdict(list)
    for node in ledger.nodes:
        if _waived(ledger, node, now_ps):
            continue
        price = ledger.prices[node.zone]
        for state, start_ps, end_ps in node.intervals(now_ps):
            stopped = node.tier is Tier.STOPPED and state is NodeState.RESTING
            spans[_use(node, state), ledger.disk_price if stopped else price].append((start_ps, end_ps))
            if state is NodeState.READY and node.engine in busy:
                starts, ends = busy[node.engine]
                work[price].append((np.clip(starts, None, to_s(end_ps)), np.clip(ends, None, to_s(end_ps))))
    reserved = 0 if ledger.reserved is None else sum(map(int.__mul__, ledger.reserved, ledger.prices))
    joined = {
        price: (np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found]))
        for price, found in work.items()
    }
    return spans, joined, reserved


def _use(node: SimulatedNode, state: NodeState) -> str:
    if state is NodeState.STARTING:
        served = any(s is NodeState.READY for _, s in node.moves)
        return "lost" if node.state is NodeState.GONE and not served else "starting"
    return {NodeState.READY: "idle", NodeState.DRAINING: "draining"}.get(state, "headroom")


def _waived(ledger: BillingLedger, node: SimulatedNode, now_ps: int) -> bool:
    """Whether the cloud does not charge for the node's run."""
    if not node.interrupted or len(runs(node, now_ps)) != 1:
        return False
    return bill(dataclasses.replace(ledger, nodes=[node]), now_ps, lambda _: 0).waived > 0


def _busy(run: SimulationRun) -> dict[int, tuple[Floats, Floats]]:
    """When each replica had requests: spans that do not overlap. Seconds."""
    requests = run.world.kernel.arrived_requests
    replica = requests.replica
    gone_ps = _gone(run)
    served = np.flatnonzero((requests.entered_ps >= 0) & (replica >= 0))
    served = served[np.argsort(replica[served], kind="stable")]
    if not len(served):
        return {}
    numbers, firsts = np.unique(replica[served], return_index=True)
    found = {}
    for number, rows in zip(numbers.tolist(), np.split(served, firsts[1:]), strict=True):
        ends = requests.finished_ps[rows]
        ends = np.where(ends >= 0, ends, gone_ps.get(number, run.world.now_ps))
        found[number] = union(requests.entered_ps[rows] / PS_PER_S, ends / PS_PER_S)
    return found


def _gone(run: SimulationRun) -> dict[int, int]:
    """When each replica that is gone went: what it still had ended there. Picoseconds."""
    nodes = (n for pool in run.world.pools.values() for n in pool.ledger.nodes)
    return {n.engine: n.moves[-1][0] for n in nodes if n.engine >= 0 and n.state is NodeState.GONE}
