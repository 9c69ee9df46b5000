"""The offer to a pool: market, zones, price, capacity, quota, notices. A scenario's ``pools: {name: {...}}``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata
from simulators.world.infrastructure import supply
from simulators.world.infrastructure.billing import RULES, Billing
from simulators.world.infrastructure.node_lifecycle import StartUp, Tier
from simulators.world.infrastructure.pending import Failures
from simulators.world.infrastructure.supply import Outages, Supply, SupplyStep, SupplyTrace
from simulators.world.infrastructure.units import MICRO_PER_USD, micro_usd_per_hour
from simulators.world.rng import stream

Cloud = Literal["aws", "gcp", "azure"]
MAX_PRICE: Final = 100_000.0
"""About a thousand times the most expensive node: a higher value is in another currency or unit. USD per hour."""


@dataclass(frozen=True, kw_only=True)
class Notices:
    """Notices that a cloud gives before it interrupts a spot node."""

    notice_s: Annotated[
        float, FieldMetadata("An interruption is announced this long ahead; 0: never. Seconds.", ge=0)
    ] = 0.0
    missing_share: Annotated[float, FieldMetadata("Share of interruptions without that notice.", ge=0, le=1)] = 0.0
    rebalance_s: Annotated[
        float, FieldMetadata("A rebalance recommendation comes this long ahead; 0: never. Seconds.", ge=0)
    ] = 0.0
    rebalance_missing_share: Annotated[
        float, FieldMetadata("Share of interruptions without a rebalance recommendation.", ge=0, le=1)
    ] = 0.0

    @property
    def lead_s(self) -> float:
        """Time from the first notice to the interruption."""
        return max(self.notice_s, self.rebalance_s)

    def problems(self) -> Iterator[tuple[str, str]]:
        if 0 < self.rebalance_s <= self.notice_s:
            yield (
                "rebalance_s",
                f"must be above notice_s, {self.notice_s:g}: a recommendation comes first, or not at all",
            )


NOTICES: Final[Mapping[Cloud, Notices]] = {
    "aws": Notices(notice_s=120.0),
    "gcp": Notices(notice_s=30.0),
    "azure": Notices(notice_s=30.0),
}
"""AWS: two minutes (EC2 User Guide, spot interruption notices). Its rebalance recommendation comes minutes ahead or not
at all; AWS publishes neither figure, so it is left out unless `rebalance_s` is set. GCP: 30 s, best effort
(Spot VMs, preemption process). Azure: up to 30 s, best effort (Scheduled Events, Preempt)."""


@dataclass(frozen=True, kw_only=True)
class ZoneOffer:
    """Offer of one zone. At most one of `steps`, `trace` and `outages` describes how its capacity changes."""

    capacity: Annotated[int | None, FieldMetadata("Nodes that may be had; null: no limit.", ge=0)] = None
    price_usd_per_hour: Annotated[
        float | None,
        FieldMetadata(
            "A node's price in this zone, where it differs from the pool's. USD per hour.", ge=0, le=MAX_PRICE
        ),
    ] = None
    steps: Annotated[tuple[SupplyStep, ...], FieldMetadata("Capacity over time, from `capacity` on.")] = ()
    trace: Annotated[SupplyTrace | None, FieldMetadata("Capacity as it was recorded.")] = None
    outages: Annotated[Outages | None, FieldMetadata("`capacity` comes and goes by chance.")] = None
    losses_per_node_hour: Annotated[
        float,
        FieldMetadata(
            "Each node's own rate of being interrupted (spot) or failing (else). Per node and hour.", ge=0, le=3600
        ),
    ] = 0.0

    def supply(self, rng_seed: int, entity: str, folder: Path) -> Supply:
        """Return the zone's capacity over time."""
        if self.trace is not None:
            return supply.replayed(self.trace, folder)
        if self.outages is not None:
            return supply.with_outages(self.capacity, self.outages, stream(rng_seed, "outages", entity))
        return supply.stepped(self.capacity, self.steps) if self.steps else supply.constant(self.capacity)

    @property
    def varies(self) -> bool:
        """True if the capacity changes over time."""
        return bool(self.steps) or self.trace is not None or self.outages is not None

    def problems(self) -> Iterator[tuple[str, str]]:
        keys = [k for k, v in (("steps", self.steps), ("trace", self.trace), ("outages", self.outages)) if v]
        if len(keys) > 1:
            yield keys[1], f"and {keys[0]} both say how the capacity changes: keep one"
        if self.trace is not None and self.capacity is not None:
            yield "capacity", "is the trace's to say: leave it out"
        for i, (a, b) in enumerate(zip(self.steps, self.steps[1:], strict=False)):
            if b.at_s <= a.at_s:
                yield "steps", f"must rise in time: step {i + 2} at {b.at_s:g} s follows one at {a.at_s:g} s"


@dataclass(frozen=True, kw_only=True)
class NodeHeadroom:
    """Nodes kept ahead of need, in addition to the pool's size. A new node replaces one that is taken into service."""

    awake_spare: Annotated[int, FieldMetadata("Loaded and idle: serve at once. Nodes.", ge=0, le=100_000)] = 0
    slept: Annotated[int, FieldMetadata("Loaded and put to sleep: serve after a wake. Nodes.", ge=0, le=100_000)] = 0
    warm_node: Annotated[int, FieldMetadata("Node and image there: load the weights. Nodes.", ge=0, le=100_000)] = 0
    stopped: Annotated[
        int, FieldMetadata("Stopped instances: disk paid, no capacity held. Nodes.", ge=0, le=100_000)
    ] = 0

    def counts(self) -> dict[Tier, int]:
        """Return the target number of nodes of each tier."""
        return {
            Tier.AWAKE_SPARE: self.awake_spare,
            Tier.SLEPT: self.slept,
            Tier.WARM_NODE: self.warm_node,
            Tier.STOPPED: self.stopped,
        }


@dataclass(frozen=True, kw_only=True)
class PoolOffer:
    """One pool of the simulated world: equal nodes with one replica each."""

    model: Annotated[str, FieldMetadata("The service model of its replicas.", example="llama-3.1-8b-h100")]
    price_usd_per_hour: Annotated[
        float | None,
        FieldMetadata(
            "A node's price; 0 is a price too. Null only if every zone has its own. USD per hour.",
            ge=0,
            le=MAX_PRICE,
            example=6.88,
        ),
    ]
    market: Annotated[Literal["reserved", "on_demand", "spot"], FieldMetadata("How its nodes are bought.")] = (
        "on_demand"
    )
    cloud: Annotated[Cloud, FieldMetadata("Whose rules hold for notices and bills, where they are not given.")] = "aws"
    zones: Annotated[Mapping[str, ZoneOffer], FieldMetadata("What each zone offers, by name.")] = field(
        default_factory=lambda: {"zone-a": ZoneOffer()}
    )
    placement: Annotated[
        Literal["balanced", "ordered"],
        FieldMetadata("Where a new node goes: the zone with the fewest of the pool's, or the first with room."),
    ] = "balanced"
    quota: Annotated[int | None, FieldMetadata("Nodes the account may hold at once; null: no limit.", ge=0)] = None
    on_shortage: Annotated[
        Literal["wait", "refuse", "partial"],
        FieldMetadata(
            "Asked for more than can be had: take the write and wait for capacity (scaling groups, Kubernetes), refuse"
            " it whole, or grant a part and say so (EC2 LaunchInstances, instant fleets)."
        ),
    ] = "wait"
    failures: Annotated[
        Failures | None,
        FieldMetadata("What is said later of replicas that wait for capacity; null: nothing, they wait."),
    ] = None
    reports: Annotated[
        tuple[Literal["parts", "reserved"], ...],
        FieldMetadata(
            "What the platform reports besides sizes: parts, the replicas by zone; reserved, how many a reservation"
            " holds."
        ),
    ] = ()
    reclaim: Annotated[
        Literal["random", "newest"], FieldMetadata("Whom the cloud takes when a zone's capacity falls.")
    ] = "random"
    notices: Annotated[Notices | None, FieldMetadata("What is said before; null: the cloud's. Spot only.")] = None
    on_notice: Annotated[
        Literal["replace", "serve"],
        FieldMetadata("At an interruption notice: drain the node and replace it at once, or serve on until it is cut."),
    ] = "replace"
    on_rebalance: Annotated[
        Literal["replace", "serve"], FieldMetadata("The same at a rebalance recommendation (AWS: CapacityRebalance).")
    ] = "serve"
    replace: Annotated[
        bool, FieldMetadata("Whether the platform replaces a lost node by itself; else the pool shrinks.")
    ] = True
    scale_in: Annotated[
        Literal["least_loaded", "newest", "oldest"],
        FieldMetadata("Which ready replica goes first; those that wait or start go before any."),
    ] = "least_loaded"
    grace_s: Annotated[
        float | None,
        FieldMetadata(
            "A drained replica's requests are cut after this; null: never, it finishes them all. Seconds.", ge=0
        ),
    ] = None
    start_up: Annotated[StartUp, FieldMetadata("How long a replica takes to serve.")] = field(default_factory=StartUp)
    headroom: Annotated[NodeHeadroom, FieldMetadata("Nodes kept ahead of need.")] = field(default_factory=NodeHeadroom)
    billing: Annotated[Billing | None, FieldMetadata("How time becomes money; null: the cloud's rule.")] = None
    disk_usd_per_hour: Annotated[
        float | None, FieldMetadata("A stopped node's price; needed for stopped headroom. USD per hour.", ge=0)
    ] = None

    @property
    def active_notices(self) -> Notices:
        """The notices in force."""
        if self.market != "spot":
            return Notices()
        return NOTICES[self.cloud] if self.notices is None else self.notices

    @property
    def rule(self) -> Billing:
        """The billing rule in force."""
        return RULES[self.cloud] if self.billing is None else self.billing

    def price(self, zone: str) -> float | None:
        """Return a node's price in a zone, USD per hour; None if neither zone nor pool has one."""
        zone_price = self.zones[zone].price_usd_per_hour
        return self.price_usd_per_hour if zone_price is None else zone_price

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each reason why the offer is impossible, as (key, rule broken)."""
        if not self.zones:
            yield "zones", "must name at least one zone"
        yield from self._price_problems()
        if self.market == "reserved":
            yield from self._reserved_problems()
        if self.market == "spot" and self.headroom.stopped:
            yield "headroom", "stopped nodes cannot be spot nodes: a stopped spot instance is the cloud's to restart"
        if self.failures is not None and self.failures.quota and self.on_shortage != "wait":
            yield "failures", f"quota: true needs on_shortage: wait; {self.on_shortage} tells at the write"
        if "reserved" in self.reports and self.market != "reserved":
            yield "reports", f"reserved is reported of market reserved, not of {self.market}"
        if any(zone.outages is not None and zone.capacity is None for zone in self.zones.values()):
            yield "zones", "a zone with outages needs its capacity: the nodes it offers while available"

    def _price_problems(self) -> Iterator[tuple[str, str]]:
        prices = {f"zone {zone}": self.price(zone) for zone in self.zones} | {"disk": self.disk_usd_per_hour}
        for what, price in prices.items():
            if price is None and what != "disk":
                yield "price_usd_per_hour", f"is not given for {what}: give the pool's or the zone's; 0 must be said"
            elif price is not None and abs(price - micro_usd_per_hour(price) / MICRO_PER_USD) > 1e-12:
                yield "price_usd_per_hour", f"of {what} is {price}: must be a whole number of micro-dollars"
        if self.headroom.stopped and self.disk_usd_per_hour is None:
            yield "disk_usd_per_hour", "is needed for stopped headroom: what a stopped node's disk costs"

    def _reserved_problems(self) -> Iterator[tuple[str, str]]:
        for name, zone in self.zones.items():
            if zone.capacity is None or zone.varies:
                yield (
                    "zones",
                    f"{name}: a reserved pool pays for a fixed capacity: give capacity, and nothing that varies",
                )
        if self.headroom.stopped:
            yield "headroom", "stopped nodes save nothing in a reserved pool: its nodes are paid either way"
