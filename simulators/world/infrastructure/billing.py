"""Billing by each cloud's rule, in exact integers.

The sum of all bills equals the integral of the price. A cost is in micro-dollars per hour times picoseconds: an hour
(3.6e15 ps) at 2 USD per hour (2,000,000 micro-dollars) costs 7.2e21 units. `units.COST_PER_MICRO_USD` = 3.6e15 of them
are a micro-dollar. A cost is rounded once, for display.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata
from simulators.world.infrastructure.node_lifecycle import NodeState, SimulatedNode, Tier
from simulators.world.infrastructure.units import micro_usd, to_ps


@dataclass(frozen=True, kw_only=True)
class Billing:
    """Rule by which a node's time is charged.

    A node is charged from its request until it is gone.
    """

    increment_s: Annotated[
        float, FieldMetadata("Billing increment. Default: 1, as on AWS, GCP and Azure. Seconds.", ge=0.001)
    ] = 1.0
    min_billed_s: Annotated[
        float, FieldMetadata("Minimum billed time of a node. Default: 60, as on AWS, GCP and Azure. Seconds.", ge=0)
    ] = 60.0
    free_if_interrupted_within_s: Annotated[
        float,
        FieldMetadata("A spot node interrupted within this time is free. Default: 0, never free. Seconds.", ge=0),
    ] = 0.0

    def charged_ps(self, run_ps: int) -> int:
        """Return the time charged for a run. Picoseconds.

        With steps of 1 s and a minimum of 60 s, 10 s are charged as 60 s and 60.001 s as 61 s.
        """
        step_ps = max(1, to_ps(self.increment_s))
        return max(-(-run_ps // step_ps) * step_ps, to_ps(self.min_billed_s))


RULES: Final[Mapping[str, Billing]] = {
    "aws": Billing(free_if_interrupted_within_s=3600.0),
    "gcp": Billing(free_if_interrupted_within_s=60.0),
    "azure": Billing(),
}
"""All three charge by the second, with a minimum of 60 s. AWS: a spot instance that EC2 interrupts in its first hour is
free (EC2 User Guide, Billing for interrupted Spot Instances). GCP: a VM preempted in its first minute is free (Compute
Engine, preemptible VM pricing). Azure: no such rule, and its pages disagree on the minimum (0 to 300 s)."""


@dataclass(slots=True)
class BillingLedger:
    """History of a pool's nodes and their prices, from which the bill is computed.

    Prices are micro-dollars per hour, by zone. `reserved` is the number of nodes paid for in each zone whether used or
    not; None in the other markets. `limits` holds (time, capacity) of each zone.
    """

    pool: str
    market: str
    rule: Billing
    prices: list[int]
    disk_price: int = 0
    reserved: list[int] | None = None
    nodes: list[SimulatedNode] = field(default_factory=list)
    limits: list[list[tuple[int, int | None]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bill:
    """Cost of a pool by category, in cost units.

    `waived` is time that the cloud does not charge; not in the total.

    - `used` and `idle`: serving time with and without requests.
    - `starting`: starts that reached serving, or still may; `lost`: starts that did not.
    - `headroom`: nodes of the headroom tiers; `unused`: reserved nodes without a replica.
    - `rounding`: charges beyond the node's own time, from increment and minimum.
    """

    pool: str
    market: str
    used: int = 0
    idle: int = 0
    starting: int = 0
    draining: int = 0
    lost: int = 0
    headroom: int = 0
    unused: int = 0
    rounding: int = 0
    waived: int = 0

    @property
    def total(self) -> int:
        """Amount due, in cost units."""
        return sum(getattr(self, name) for name in PARTS)

    @property
    def total_micro_usd(self) -> int:
        """Amount due, in whole micro-dollars, rounded half up."""
        return micro_usd(self.total)


PARTS: Final = tuple(f.name for f in fields(Bill) if f.name not in {"pool", "market", "waived"})


def bill(ledger: BillingLedger, now_ps: int, busy_ps: Callable[[int], int]) -> Bill:
    """Return the pool's bill up to now.

    ``busy_ps(replica)`` is the time for which the replica had at least one request outstanding. A node that still runs
    is charged as if it ended now.
    """
    costs = dict.fromkeys((*PARTS, "waived"), 0)
    for node in ledger.nodes:
        parts = _parts(ledger, node, now_ps, busy_ps)
        waived = _add_charge(ledger, node, now_ps, parts)
        for name, cost in parts.items():
            costs["waived" if waived and name != "disk" else "headroom" if name == "disk" else name] += cost
    if ledger.reserved is not None:
        paid = sum(n * price * now_ps for n, price in zip(ledger.reserved, ledger.prices, strict=True))
        costs["unused"] = paid - sum(costs.values())
    return Bill(ledger.pool, ledger.market, **costs)


def _parts(ledger: BillingLedger, node: SimulatedNode, now_ps: int, busy_ps: Callable[[int], int]) -> dict[str, int]:
    """Return the cost of the node's own time by category. Time as a stopped node is `disk`."""
    times = dict.fromkeys(NodeState, 0)
    for state, start_ps, end_ps in node.intervals(now_ps):
        times[state] += end_ps - start_ps
    ready_ps, drained_ps = times[NodeState.READY], times[NodeState.DRAINING]
    # A draining replica has work by definition, so the remaining busy time was before the drain.
    used_ps = min(max(busy_ps(node.engine) - drained_ps, 0), ready_ps) if node.engine >= 0 else 0
    stopped_ps = times[NodeState.RESTING] if node.tier is Tier.STOPPED else 0
    served = any(state is NodeState.READY for _, state in node.moves)
    price = ledger.prices[node.zone]
    return {
        "used": price * used_ps,
        "idle": price * (ready_ps - used_ps),
        "lost" if node.state is NodeState.GONE and not served else "starting": price * times[NodeState.STARTING],
        "draining": price * drained_ps,
        "headroom": price * (times[NodeState.PREPARING] + times[NodeState.RESTING] - stopped_ps),
        "disk": ledger.disk_price * stopped_ps,
    }


def runs(node: SimulatedNode, now_ps: int) -> list[tuple[int, int]]:
    """Return (start, end) of each run of the node's instance.

    There is one run, or two if the instance was stopped in between.
    """
    spans: list[tuple[int, int]] = []
    for state, start_ps, end_ps in node.intervals(now_ps):
        if state is NodeState.RESTING and node.tier is Tier.STOPPED:
            continue
        if spans and spans[-1][1] == start_ps and not _is_restarted(node, state):
            spans[-1] = (spans[-1][0], end_ps)
        else:
            spans.append((start_ps, end_ps))
    return spans


def _is_restarted(node: SimulatedNode, state: NodeState) -> bool:
    """Return whether the node was stopped before this state."""
    rested = any(s is NodeState.RESTING for _, s in node.moves)
    return node.tier is Tier.STOPPED and state is NodeState.STARTING and rested


def _add_charge(ledger: BillingLedger, node: SimulatedNode, now_ps: int, parts: dict[str, int]) -> bool:
    """Add the charge from increment and minimum to `parts`.

    Return whether the cloud waives the whole charge.
    """
    if ledger.reserved is not None:
        return False
    node_runs = runs(node, now_ps)
    extra_ps = sum(ledger.rule.charged_ps(end_ps - start_ps) - (end_ps - start_ps) for start_ps, end_ps in node_runs)
    free_ps = to_ps(ledger.rule.free_if_interrupted_within_s)
    if ledger.market == "spot" and node.interrupted and node_runs[-1][1] - node_runs[-1][0] < free_ps:
        return True
    parts["rounding"] = ledger.prices[node.zone] * extra_ps
    return False


def by_market(bills: Iterable[Bill]) -> dict[str, int]:
    """Return the amount due in each market, in cost units, in order of name."""
    totals: dict[str, int] = {}
    for b in sorted(bills, key=lambda b: b.market):
        totals[b.market] = totals.get(b.market, 0) + b.total
    return totals
