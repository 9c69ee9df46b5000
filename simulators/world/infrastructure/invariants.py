"""Invariants of every pool in every run.

They are checked independently of the code that maintains them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from simulators.world.infrastructure.billing import Bill, BillingLedger, runs
from simulators.world.infrastructure.node_lifecycle import NodeState, SimulatedNode, Tier
from simulators.world.infrastructure.pool import FleetPool


def problems(pool: FleetPool, bill: Bill, now_ps: int) -> Iterator[str]:
    """Yield a sentence for each invariant that a pool and its bill break now."""
    ledger = pool.ledger
    for node in ledger.nodes:
        yield from _life_problems(node, now_ps)
    live = sum(node.state in {NodeState.STARTING, NodeState.READY} for node in ledger.nodes)
    if pool.desired != live + pool.waiting:
        yield f"{pool.desired} replicas are desired, but {live} are live and {pool.waiting} wait"
    if not 0 <= pool.failed <= pool.waiting:
        yield f"{pool.failed} replicas failed, but {pool.waiting} wait"
    for zone in range(len(ledger.prices)):
        yield from _capacity_problems(ledger, zone, now_ps)
    yield from _bill_problems(ledger, bill, now_ps)


def _life_problems(node: SimulatedNode, now_ps: int) -> Iterator[str]:
    times, states = [at for at, _ in node.moves], [state for _, state in node.moves]
    if not states or states != sorted(set(states)):
        yield f"node {node.number} changed state in the wrong order: {' -> '.join(s.name for s in states)}"
    if times != sorted(times) or times[0] != node.born_ps or times[-1] > now_ps:
        yield f"node {node.number}, created at {node.born_ps} ps, changed state at {times} ps; now is {now_ps} ps"
    if NodeState.READY in states and node.engine < 0:
        yield f"node {node.number} was ready without an engine"


def _capacity_problems(ledger: BillingLedger, zone: int, now_ps: int) -> Iterator[str]:
    """Yield each time at which a zone held more nodes than it offered.

    Changes at the same time count together.

    Spot nodes never exceed the offered capacity. Other nodes stay when it falls, but no new one comes then.
    """
    started: Counter[int] = Counter()
    ended: Counter[int] = Counter()
    for node in ledger.nodes:
        node_runs = runs(node, now_ps) if node.zone == zone else []
        started.update(start_ps for start_ps, _ in node_runs)
        ended.update(end_ps for _, end_ps in node_runs)
        if node_runs and node.state is not NodeState.GONE and not node.stopped:
            ended[now_ps] -= 1  # the last run goes on
    limits = dict(ledger.limits[zone])
    held, limit = 0, limits[0]
    for at_ps in sorted(started.keys() | ended.keys() | limits.keys()):
        limit = limits.get(at_ps, limit)
        held += started[at_ps] - ended[at_ps]
        if limit is not None and held > limit and (ledger.market == "spot" or started[at_ps]):
            yield f"zone {zone} held {held} nodes at {at_ps} ps, but offered {limit}"


def _bill_problems(ledger: BillingLedger, bill: Bill, now_ps: int) -> Iterator[str]:
    """Yield each difference between the bill and the integral of price times nodes.

    The integral ignores states.
    """
    integral = 0
    for node in ledger.nodes:
        end_ps = node.moves[-1][0] if node.state is NodeState.GONE else now_ps
        node_runs = runs(node, now_ps)
        run_ps = sum(end - start for start, end in node_runs)
        if any(end > end_ps for _, end in node_runs):
            yield f"node {node.number} is charged after its end at {end_ps} ps"
        price, stopped_ps = ledger.prices[node.zone], end_ps - node.born_ps - run_ps
        integral += price * run_ps + ledger.disk_price * stopped_ps
        if stopped_ps and node.tier is not Tier.STOPPED:
            yield f"node {node.number} was not charged for {stopped_ps} ps"
    if ledger.reserved is not None:
        paid = sum(n * price for n, price in zip(ledger.reserved, ledger.prices, strict=True)) * now_ps
        if bill.total != paid or bill.unused < 0 or bill.unused != paid - integral:
            yield f"reserved nodes cost {paid}, but the bill has {bill.total} with {bill.unused} unused"
    elif bill.total + bill.waived - bill.rounding != integral:
        yield f"price times node time is {integral}, but the bill without rounding is {bill.total - bill.rounding}"
    negative = [name for name in Bill.__slots__ if isinstance(v := getattr(bill, name), int) and v < 0]
    if negative:
        yield f"the bill has negative values: {', '.join(negative)}"
