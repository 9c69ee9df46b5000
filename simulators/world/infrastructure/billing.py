"""Money by each cloud's rule, in exact integers: the sum of the bills is the integral of the price, to the last unit.

A cost is in micro-dollars per hour times picoseconds (`units.COST_PER_MICRO_USD` of them are a micro-dollar); it is
rounded once, where it is shown.
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
    """How a node's time is charged. A node is charged from its request until it is gone."""

    increment_s: Annotated[
        float, FieldMetadata("A run is charged in steps of this, rounded up. Seconds.", ge=0.001)
    ] = 1.0
    minimum_s: Annotated[float, FieldMetadata("No run is charged for less. Seconds.", ge=0)] = 60.0
    free_if_interrupted_within_s: Annotated[
        float, FieldMetadata("A spot run that the cloud ends earlier than this is free. Seconds.", ge=0)
    ] = 0.0

    def charged_ps(self, run_ps: int) -> int:
        """Return the time charged for a run. Picoseconds."""
        step_ps = max(1, to_ps(self.increment_s))
        return max(-(-run_ps // step_ps) * step_ps, to_ps(self.minimum_s))


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
    """What a pool's nodes went through and what they cost, kept for the bill.

    Prices are micro-dollars per hour, by zone. `reserved` holds the nodes paid for in each zone whether used or not;
    None in the other markets. `limits` is the capacity each zone had, from when on.
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
    """What a pool costs, by what the time was for. `waived` is what the cloud did not charge; it is not in the total.

    `used` is serving time with work, `idle` without; `starting` the starts that came to serve, or still may; `lost`
    those that did not; `headroom` nodes kept ahead of need; `unused` reserved nodes that were not asked for; `rounding`
    the charge beyond the node's own time, by increment and minimum.
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
        """What is to be paid, in cost units."""
        return sum(getattr(self, name) for name in PARTS)

    @property
    def total_micro_usd(self) -> int:
        """What is to be paid, in whole micro-dollars, half up."""
        return micro_usd(self.total)


PARTS: Final = tuple(f.name for f in fields(Bill) if f.name not in {"pool", "market", "waived"})


def bill(ledger: BillingLedger, now_ps: int, busy_ps: Callable[[int], int]) -> Bill:
    """Return the pool's bill up to now.

    `busy_ps` tells how long a replica has had at least one request outstanding, by its number. A node that still runs
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
    """Return the cost of the node's own time, by what it was for; a stopped node's is `disk`."""
    times = dict.fromkeys(NodeState, 0)
    for state, start_ps, end_ps in node.intervals(now_ps):
        times[state] += end_ps - start_ps
    ready_ps, drained_ps = times[NodeState.READY], times[NodeState.DRAINING]
    # While it drains it has work, by definition: the rest of its busy time was before.
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
    """From when to when the node's instance ran: once, or twice if it was stopped in between."""
    found: list[tuple[int, int]] = []
    for state, start_ps, end_ps in node.intervals(now_ps):
        if state is NodeState.RESTING and node.tier is Tier.STOPPED:
            continue
        if found and found[-1][1] == start_ps and not _restarted(node, state):
            found[-1] = (found[-1][0], end_ps)
        else:
            found.append((start_ps, end_ps))
    return found


def _restarted(node: SimulatedNode, state: NodeState) -> bool:
    """Whether the node came into this state from being stopped."""
    rested = any(s is NodeState.RESTING for _, s in node.moves)
    return node.tier is Tier.STOPPED and state is NodeState.STARTING and rested


def _add_charge(ledger: BillingLedger, node: SimulatedNode, now_ps: int, parts: dict[str, int]) -> bool:
    """Add what increment and minimum add; whether the cloud waives it all."""
    if ledger.reserved is not None:
        return False
    ran = runs(node, now_ps)
    beyond_ps = sum(ledger.rule.charged_ps(end_ps - start_ps) - (end_ps - start_ps) for start_ps, end_ps in ran)
    free_ps = to_ps(ledger.rule.free_if_interrupted_within_s)
    if ledger.market == "spot" and node.interrupted and ran[-1][1] - ran[-1][0] < free_ps:
        return True
    parts["rounding"] = ledger.prices[node.zone] * beyond_ps
    return False


def by_market(bills: Iterable[Bill]) -> dict[str, int]:
    """Return the amount due in each market, in cost units, in order of name."""
    totals: dict[str, int] = {}
    for b in sorted(bills, key=lambda b: b.market):
        totals[b.market] = totals.get(b.market, 0) + b.total
    return totals
