"""Cost of a run over time by use and by market: its nodes' states at their prices.

Charges at a node's end (billing increments, the minimum) are in the totals only. A redelivered request counts as work
on the replica that served it last.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Final

import numpy as np

from simulators.engine.models.service import PS_PER_S
from simulators.experiments.results import API
from simulators.experiments.run import SimulationRun
from simulators.reporting.time_bins import Floats, covered, merged, rounded
from simulators.world.infrastructure.billing import BillingLedger, bill, runs
from simulators.world.infrastructure.node_lifecycle import NodeState, SimulatedNode, Tier
from simulators.world.infrastructure.units import MICRO_PER_USD, to_s

USES: Final = ("used", "idle", "starting", "draining", "lost", "headroom", "unused", API)
HOUR_S: Final = 3600.0
Spans = list[tuple[int, int]]


def by_use(run: SimulationRun, edges_s: Floats) -> dict[str, Floats]:
    """Return the cost of each use in each bin, USD. Uses without cost are left out."""
    total = {use: np.zeros(len(edges_s) - 1) for use in USES}
    busy = _busy_spans(run)
    for pool in run.world.pools.values():
        spans, busy_by_price, reserved = _spans(pool.ledger, run.world.now_ps, busy)
        costs = {key: _usd(spans_, key[1], edges_s) for key, spans_ in spans.items()}
        for (use, _), cost in costs.items():
            total[use] += cost
        for price, (start_s, end_s) in busy_by_price.items():
            used = covered(start_s, end_s, edges_s) * price / MICRO_PER_USD / HOUR_S
            total["used"] += used
            total["idle"] -= used
        if reserved:
            total["unused"] += reserved / MICRO_PER_USD / HOUR_S * np.diff(edges_s) - sum(costs.values())
    total[API] += _api_usd(run, edges_s)
    spans_ = {use: rounded(np.maximum(np.round(cost, 9), 0.0)) for use, cost in total.items()}
    return {use: cost for use, cost in spans_.items() if cost.any()}


def by_market(run: SimulationRun, edges_s: Floats) -> dict[str, Floats]:
    """Return the amount paid in each market up to each edge, USD."""
    total: dict[str, Floats] = {}
    for pool in run.world.pools.values():
        ledger = pool.ledger
        spans, _, reserved = _spans(ledger, run.world.now_ps, {})
        cost = sum((_usd(s, key[1], edges_s) for key, s in spans.items()), np.zeros(len(edges_s) - 1))
        if reserved:
            cost = reserved / MICRO_PER_USD / HOUR_S * np.diff(edges_s)
        total[ledger.market] = total.get(ledger.market, np.zeros(len(cost))) + cost
    if run.world.gateway is not None:
        total[API] = _api_usd(run, edges_s)
    return {market: rounded(np.concatenate(([0.0], np.cumsum(cost)))) for market, cost in total.items()}


def _api_usd(run: SimulationRun, edges_s: Floats) -> Floats:
    """Return the price of the requests to token APIs in each bin, by their arrival. USD."""
    gateway = run.world.gateway
    if gateway is None:
        return np.zeros(len(edges_s) - 1)
    arrived_s = gateway.requests(run.world.now_ps).arrived_ps / PS_PER_S
    return np.histogram(arrived_s, edges_s, weights=gateway.usd)[0]


def _usd(spans: Spans, price: int, edges_s: Floats) -> Floats:
    times = np.array(spans, np.float64).reshape(-1, 2) / PS_PER_S
    return covered(times[:, 0], times[:, 1], edges_s) * price / MICRO_PER_USD / HOUR_S


def _spans(
    ledger: BillingLedger, now_ps: int, busy: dict[int, tuple[Floats, Floats]]
) -> tuple[dict[tuple[str, int], Spans], dict[int, tuple[Floats, Floats]], int]:
    """Return paid spans by use and price, and busy spans by price.

    Also return the price of the reserved nodes. All ready time counts as idle here; `by_use` moves the busy part to
    `used`.
    """
    spans: dict[tuple[str, int], Spans] = defaultdict(list)
    busy_lists: dict[int, list[tuple[Floats, Floats]]] = defaultdict(list)
    for node in ledger.nodes:
        if _is_waived(ledger, node, now_ps):
            continue
        price = ledger.prices[node.zone]
        for state, start_ps, end_ps in node.intervals(now_ps):
            stopped = node.tier is Tier.STOPPED and state is NodeState.RESTING
            spans[_use(node, state), ledger.disk_price if stopped else price].append((start_ps, end_ps))
            if state is NodeState.READY and node.engine in busy:
                starts, ends = busy[node.engine]
                busy_lists[price].append((np.clip(starts, None, to_s(end_ps)), np.clip(ends, None, to_s(end_ps))))
    reserved = 0 if ledger.reserved is None else sum(map(int.__mul__, ledger.reserved, ledger.prices))
    busy_by_price = {
        price: (np.concatenate([a for a, _ in spans_]), np.concatenate([b for _, b in spans_]))
        for price, spans_ in busy_lists.items()
    }
    return spans, busy_by_price, reserved


def _use(node: SimulatedNode, state: NodeState) -> str:
    if state is NodeState.STARTING:
        was_ready = any(s is NodeState.READY for _, s in node.moves)
        return "lost" if node.state is NodeState.GONE and not was_ready else "starting"
    return {NodeState.READY: "idle", NodeState.DRAINING: "draining"}.get(state, "headroom")


def _is_waived(ledger: BillingLedger, node: SimulatedNode, now_ps: int) -> bool:
    """Return whether the cloud does not charge for the node's run."""
    if not node.interrupted or len(runs(node, now_ps)) != 1:
        return False
    return bill(dataclasses.replace(ledger, nodes=[node]), now_ps, lambda _: 0).waived > 0


def _busy_spans(run: SimulationRun) -> dict[int, tuple[Floats, Floats]]:
    """Return the spans in which each replica had requests, without overlaps. Seconds."""
    requests = run.world.kernel.arrived_requests
    replica = requests.replica
    ended_ps = _end_of_replicas(run)
    rows_by_replica = np.flatnonzero((requests.entered_ps >= 0) & (replica >= 0))
    rows_by_replica = rows_by_replica[np.argsort(replica[rows_by_replica], kind="stable")]
    if not len(rows_by_replica):
        return {}
    replicas, starts = np.unique(replica[rows_by_replica], return_index=True)
    spans = {}
    for replica_number, rows in zip(replicas.tolist(), np.split(rows_by_replica, starts[1:]), strict=True):
        ends = requests.finished_ps[rows]
        ends = np.where(ends >= 0, ends, ended_ps.get(replica_number, run.world.now_ps))
        spans[replica_number] = merged(requests.entered_ps[rows] / PS_PER_S, ends / PS_PER_S)
    return spans


def _end_of_replicas(run: SimulationRun) -> dict[int, int]:
    """Return the end of each terminated replica, where its open requests end. Picoseconds."""
    nodes = (node for pool in run.world.pools.values() for node in pool.ledger.nodes)
    return {node.engine: node.moves[-1][0] for node in nodes if node.engine >= 0 and node.state is NodeState.GONE}
