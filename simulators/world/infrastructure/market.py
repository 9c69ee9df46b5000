"""The offer to a pool: market, zones, price, capacity, quota, notices.

A scenario's ``pools: {name: {...}}``.
"""

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
from simulators.world.infrastructure.updates import Updates
from simulators.world.rng import stream

Cloud = Literal["aws", "gcp", "azure"]
MAX_PRICE: Final = 100_000.0
"""About a thousand times the most expensive node: a higher value is in another currency or unit. USD per hour."""


@dataclass(frozen=True, kw_only=True)
class InterruptionNotices:
    """Notices that a cloud gives before it interrupts a spot node."""

    notice_s: Annotated[
        float, FieldMetadata("Time from the interruption notice to the interruption; 0: no notice. Seconds.", ge=0)
    ] = 0.0
    missing_share: Annotated[float, FieldMetadata("Share of interruptions without notice. Share.", ge=0, le=1)] = 0.0
    rebalance_s: Annotated[
        float,
        FieldMetadata(
            "Time from the rebalance recommendation to the interruption; 0: no recommendation. Seconds.", ge=0
        ),
    ] = 0.0
    rebalance_missing_share: Annotated[
        float, FieldMetadata("Share of interruptions without a rebalance recommendation. Share.", ge=0, le=1)
    ] = 0.0

    @property
    def lead_s(self) -> float:
        """Time from the first notice to the interruption."""
        return max(self.notice_s, self.rebalance_s)

    def problems(self) -> Iterator[tuple[str, str]]:
        if 0 < self.rebalance_s <= self.notice_s:
            yield (
                "rebalance_s",
                f"must be above notice_s, {self.notice_s:g}: a recommendation precedes the notice (0: none)",
            )


NOTICES: Final[Mapping[Cloud, InterruptionNotices]] = {
    "aws": InterruptionNotices(notice_s=120.0),
    "gcp": InterruptionNotices(notice_s=30.0),
    "azure": InterruptionNotices(notice_s=30.0),
}
"""AWS: two minutes (EC2 User Guide, spot interruption notices). Its rebalance recommendation comes minutes ahead or not
at all; AWS publishes neither figure, so it is left out unless `rebalance_s` is set. GCP: 30 s, best effort
(Spot VMs, preemption process). Azure: up to 30 s, best effort (Scheduled Events, Preempt)."""


@dataclass(frozen=True, kw_only=True)
class ZoneOffer:
    """Offer of one zone.

    At most one of `steps`, `trace` and `outages` describes how its capacity changes.
    """

    capacity: Annotated[int | None, FieldMetadata("Available nodes. Default: null, no limit. Nodes.", ge=0)] = None
    price_usd_per_hour: Annotated[
        float | None,
        FieldMetadata(
            "Price of a node in this zone. Default: null, the pool's price. USD per hour.", ge=0, le=MAX_PRICE
        ),
    ] = None
    steps: Annotated[tuple[SupplyStep, ...], FieldMetadata("Changes of capacity over time, after `capacity`.")] = ()
    trace: Annotated[SupplyTrace | None, FieldMetadata("Capacity from a recorded trace. Default: null, no trace.")] = (
        None
    )
    outages: Annotated[
        Outages | None, FieldMetadata("Random outages of the whole zone. Default: null, no outages.")
    ] = None
    losses_per_node_hour: Annotated[
        float,
        FieldMetadata(
            "Rate of interruptions (spot) or failures (other markets). Default: 0, no losses. Per node and hour.",
            ge=0,
            le=3600,
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
            yield keys[1], f"cannot be combined with {keys[0]}: both set the capacity over time"
        if self.trace is not None and self.capacity is not None:
            yield "capacity", "cannot be combined with trace, which sets the capacity: remove it"
        for i, (a, b) in enumerate(zip(self.steps, self.steps[1:], strict=False)):
            if b.at_s <= a.at_s:
                yield "steps", f"must be in order of time: step {i + 2} at {b.at_s:g} s follows one at {a.at_s:g} s"


@dataclass(frozen=True, kw_only=True)
class NodeHeadroom:
    """Nodes kept in addition to the pool's size. A new node replaces one that starts to serve."""

    awake_spare: Annotated[
        int, FieldMetadata("Idle nodes with a loaded engine; they serve at once. Nodes.", ge=0, le=100_000)
    ] = 0
    slept: Annotated[
        int, FieldMetadata("Nodes with a sleeping engine; they serve after a wake-up. Nodes.", ge=0, le=100_000)
    ] = 0
    warm_node: Annotated[
        int, FieldMetadata("Nodes with a pulled image; they must load the weights. Nodes.", ge=0, le=100_000)
    ] = 0
    stopped: Annotated[
        int, FieldMetadata("Stopped instances; they cost their disk and hold no capacity. Nodes.", ge=0, le=100_000)
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

    model: Annotated[
        str, FieldMetadata("Service model of the replicas, from the catalogue.", example="llama-3.1-8b-h100")
    ]
    price_usd_per_hour: Annotated[
        float | None,
        FieldMetadata(
            "Price of a node. 0: free. null: every zone has its own price. USD per hour.",
            ge=0,
            le=MAX_PRICE,
            example=6.88,
        ),
    ]
    region: Annotated[
        str | None,
        FieldMetadata(
            "Region of the nodes, by which their requests have a round trip (`round_trip_s`). Default: null, unknown.",
            example="us-east-1",
        ),
    ] = None
    market: Annotated[Literal["reserved", "on_demand", "spot"], FieldMetadata("Market of the nodes.")] = "on_demand"
    cloud: Annotated[Cloud, FieldMetadata("Cloud whose default rules apply to notices and billing.")] = "aws"
    zones: Annotated[
        Mapping[str, ZoneOffer], FieldMetadata("Offer of each zone, by name. Default: one zone without limits.")
    ] = field(default_factory=lambda: {"zone-a": ZoneOffer()})
    placement: Annotated[
        Literal["balanced", "ordered"],
        FieldMetadata(
            "Zone of a new node. balanced: the zone with the fewest nodes of the pool. ordered: the first zone with"
            " capacity."
        ),
    ] = "balanced"
    quota: Annotated[int | None, FieldMetadata("Account quota. Default: null, no limit. Nodes.", ge=0)] = None
    on_shortage: Annotated[
        Literal["wait", "refuse", "partial"],
        FieldMetadata(
            "Response to a scale-out beyond the available capacity. wait: accept it and wait for capacity (scaling"
            " groups, Kubernetes). refuse: reject it. partial: grant the available part and report the shortage (EC2"
            " instant fleets)."
        ),
    ] = "wait"
    failures: Annotated[
        Failures | None,
        FieldMetadata(
            "Failures that the platform reports for replicas that wait for capacity. Default: null, no report."
        ),
    ] = None
    updates: Annotated[
        Updates | None,
        FieldMetadata(
            "Lock of a managed endpoint, which accepts one change of size at a time. Default: null, every change is"
            " accepted at once."
        ),
    ] = None
    reports: Annotated[
        tuple[Literal["parts", "reserved"], ...],
        FieldMetadata(
            "Extra figures that the platform reports. parts: replicas by zone. reserved: nodes of a reservation."
            " Default: none."
        ),
    ] = ()
    reclaim: Annotated[
        Literal["random", "newest"],
        FieldMetadata("Spot nodes that the cloud interrupts when the capacity of a zone falls."),
    ] = "random"
    notices: Annotated[
        InterruptionNotices | None,
        FieldMetadata("Notices before spot interruptions. Default: null, by `cloud`: AWS 120 s, GCP and Azure 30 s."),
    ] = None
    on_notice: Annotated[
        Literal["replace", "serve"],
        FieldMetadata(
            "Reaction to an interruption notice. replace: drain the node and start another. serve: keep serving until"
            " the interruption."
        ),
    ] = "replace"
    on_rebalance: Annotated[
        Literal["replace", "serve"],
        FieldMetadata("Reaction to a rebalance recommendation, as on_notice. replace: AWS CapacityRebalance."),
    ] = "serve"
    replace: Annotated[bool, FieldMetadata("Whether the platform replaces lost nodes. If false, the pool shrinks.")] = (
        True
    )
    scale_in: Annotated[
        Literal["least_loaded", "newest", "oldest"],
        FieldMetadata("Ready replica that is removed first. Waiting and starting replicas are removed before any."),
    ] = "least_loaded"
    grace_s: Annotated[
        float | None,
        FieldMetadata(
            "Grace period: requests of a draining replica are cut after it. Default: null, no limit. Seconds.", ge=0
        ),
    ] = None
    start_up: Annotated[StartUp, FieldMetadata("Start-up phases of a replica.")] = field(default_factory=StartUp)
    headroom: Annotated[NodeHeadroom, FieldMetadata("Nodes kept in addition to the pool's size. Default: none.")] = (
        field(default_factory=NodeHeadroom)
    )
    billing: Annotated[Billing | None, FieldMetadata("Billing rule. Default: null, that of `cloud`.")] = None
    disk_usd_per_hour: Annotated[
        float | None,
        FieldMetadata("Price of a stopped node. Required for stopped headroom. Default: null. USD per hour.", ge=0),
    ] = None

    @property
    def active_notices(self) -> InterruptionNotices:
        """The notices in force."""
        if self.market != "spot":
            return InterruptionNotices()
        return NOTICES[self.cloud] if self.notices is None else self.notices

    @property
    def restores(self) -> bool:
        """Whether a failed update returns the pool to its old size."""
        return self.failures is not None and self.failures.then == "restore"

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
            yield "headroom", "stopped must be 0 in a spot pool: only the cloud can restart a stopped spot instance"
        if self.failures is not None and self.failures.quota and self.on_shortage != "wait":
            yield "failures", f"quota: true requires on_shortage: wait; {self.on_shortage} reports the shortage at once"
        if self.restores and (self.updates is None or self.on_shortage != "wait"):
            yield "failures", "then: restore requires updates and on_shortage: wait: an update fails after it began"
        if "reserved" in self.reports and self.market != "reserved":
            yield "reports", f"reserved requires market: reserved, not {self.market}"
        if any(zone.outages is not None and zone.capacity is None for zone in self.zones.values()):
            yield "zones", "a zone with outages must set capacity, its nodes while available"

    def _price_problems(self) -> Iterator[tuple[str, str]]:
        prices = {f"zone {zone}": self.price(zone) for zone in self.zones} | {"disk": self.disk_usd_per_hour}
        for what, price in prices.items():
            if price is None and what != "disk":
                yield "price_usd_per_hour", f"is missing for {what}: set the pool's or the zone's price (0 for free)"
            elif price is not None and abs(price - micro_usd_per_hour(price) / MICRO_PER_USD) > 1e-12:
                yield "price_usd_per_hour", f"of {what} is {price}: must be a whole number of micro-dollars"
        if self.headroom.stopped and self.disk_usd_per_hour is None:
            yield "disk_usd_per_hour", "is required for stopped headroom: the price of a stopped node's disk"

    def _reserved_problems(self) -> Iterator[tuple[str, str]]:
        for name, zone in self.zones.items():
            if zone.capacity is None or zone.varies:
                yield (
                    "zones",
                    f"{name}: a reserved pool has a fixed capacity: set capacity, without steps, trace or outages",
                )
        if self.headroom.stopped:
            yield "headroom", "stopped must be 0 in a reserved pool: its nodes are paid for in any case"
