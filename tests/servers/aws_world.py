"""Simulated EC2 capacity: instances that take time, zones without capacity, warnings, and interruptions.

Nothing happens between two requests: `World.settle` updates the state at each request.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from tests.servers.aws_bedrock import Bedrock
from tests.servers.aws_sagemaker import SageMaker

Market = Literal["on-demand", "spot"]
WORDS: Final = {
    ("capacity", "on-demand"): (
        "We currently do not have sufficient {type} capacity in the Availability Zone you requested ({zone}). Our"
        " system will be working on provisioning additional capacity. Launching EC2 instance failed."
    ),
    ("capacity", "spot"): (
        "Could not launch Spot Instances. InsufficientInstanceCapacity - There is no Spot capacity available that"
        " matches your request. Launching EC2 instance failed."
    ),
    ("quota", "on-demand"): (
        "You have requested more vCPU capacity than your current vCPU limit of 32 allows for the instance bucket that"
        " the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request"
        " an adjustment to this limit. Launching EC2 instance failed."
    ),
    ("quota", "spot"): (
        "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded. Launching"
        " EC2 instance failed."
    ),
}
"""Messages of failed scaling activities: AWS's published sentences."""
CODES: Final = {
    ("capacity", "on-demand"): "InsufficientInstanceCapacity",
    ("capacity", "spot"): "UnfulfillableCapacity",
    ("quota", "on-demand"): "VcpuLimitExceeded",
    ("quota", "spot"): "MaxSpotInstanceCountExceeded",
}
Shortage = Literal["capacity", "quota"]


@dataclass(eq=False)
class Instance:
    id: str
    zone: str
    type: str
    market: Market
    born: float
    up: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    weight: int = 1


@dataclass(eq=False)
class InstanceSet:
    """Instances that are kept at a number. `activities` are launches: time, zone, missing resource.

    `lag_s` is the time until its instances serve, where it differs from the world's.
    """

    name: str
    zones: tuple[str, ...]
    type: str = "p5.48xlarge"
    market: Market = "on-demand"
    spot_share: float | None = None
    desired: int = 0
    min_size: int = 0
    max_size: int = 10
    instances: list[Instance] = field(default_factory=list)
    activities: list[tuple[float, str, Shortage | None]] = field(default_factory=list)
    last_attempt: tuple[int, float] = (0, 0.0)
    tags: dict[str, str] = field(default_factory=dict)
    lag_s: float | None = None

    def next_market(self) -> Market:
        if self.spot_share is None:
            return self.market
        spot = sum(i.market == "spot" for i in self.instances)
        return "spot" if spot < self.spot_share * (len(self.instances) + 1) else "on-demand"


@dataclass(eq=False)
class Group(InstanceSet):
    """An Auto Scaling group, with its warm pool if it has one."""

    warm: InstanceSet | None = None
    prepared: int | None = None
    warm_state: str = "Stopped"
    suspended: tuple[str, ...] = ()

    def warm_size(self) -> int:
        assert self.warm is not None
        if self.prepared == self.warm.min_size:
            return self.warm.min_size
        return max(self.warm.min_size, (self.max_size if self.prepared is None else self.prepared) - self.desired)


@dataclass(eq=False)
class NodeGroup:
    """An EKS managed node group on its Auto Scaling group. While `slow`, updates last until `World.finish`."""

    cluster: str
    name: str
    group: Group
    desired: int
    updates: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    issues: list[dict[str, Any]] = field(default_factory=list)
    slow: bool = False

    @property
    def busy(self) -> bool:
        return any(u["status"] == "InProgress" for u in self.updates.values())


@dataclass(eq=False)
class Fleet(InstanceSet):
    """An EC2 Fleet that maintains its size."""

    state: str = "active"


@dataclass
class World:
    """An account's machines. `lag_s` is the time until one serves; None: until `ready`.

    `shortages` has the missing resource by (zone, market); `retry_s` is the groups' retry interval; `hidden_s` the time
    until EC2 lists a new instance. `granted` are the actions that IAM allows; None: all. `checkers` has the reports
    on a health check, by its ID.
    """

    lag_s: float | None = None
    retry_s: float = 3600.0
    groups: dict[str, Group] = field(default_factory=dict)
    nodes: dict[tuple[str, str], NodeGroup] = field(default_factory=dict)
    fleets: dict[str, Fleet] = field(default_factory=dict)
    standalone: list[Instance] = field(default_factory=list)
    launches: dict[str, tuple[object, dict[str, Any]]] = field(default_factory=dict)
    shortages: dict[tuple[str, str], Shortage] = field(default_factory=dict)
    reservations: list[dict[str, Any]] = field(default_factory=list)
    bedrock: Bedrock = field(default_factory=Bedrock)
    sagemaker: SageMaker = field(default_factory=SageMaker)
    hidden_s: float = 0.0
    granted: frozenset[str] | None = None
    checkers: dict[str, list[str]] = field(default_factory=dict)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def instance_sets(self) -> list[InstanceSet]:
        warm = [g.warm for g in self.groups.values() if g.warm is not None]
        return [*self.groups.values(), *warm, *self.fleets.values()]

    def instances(self) -> list[Instance]:
        return [*(i for instance_set in self.instance_sets() for i in instance_set.instances), *self.standalone]

    def launch(self, instance_set: InstanceSet, zone: str, market: Market) -> Shortage | None:
        """Launch an instance; return it, or the missing resource."""
        missing = self.shortages.get((zone, market)) or self.shortages.get(("*", market))
        if missing is None:
            instance_set.instances.append(self.instance(zone, instance_set.type, market, instance_set.tags))
        return missing

    def instance(self, zone: str, kind: str, market: Market, tags: dict[str, str]) -> Instance:
        return Instance(f"i-{next(self._ids):017x}", zone, kind, market, time.time(), tags=dict(tags))

    def settle(self) -> None:
        """Update the state to the present time."""
        now = time.time()
        self.bedrock.settle()
        self.sagemaker.settle()
        for group in self.groups.values():
            if group.warm is not None:
                self._draw(group)
                group.warm.desired = group.warm_size()
        for instance_set in self.instance_sets():
            self._fill(instance_set, now)
        for instance_set in [*self.instance_sets(), InstanceSet("loose", (), instances=self.standalone)]:
            lag_s = self.lag_s if instance_set.lag_s is None else instance_set.lag_s
            for one in instance_set.instances:
                one.up = one.up or (lag_s is not None and now - one.born >= lag_s)

    def _draw(self, group: Group) -> None:
        """Move warm instances to a growing group first."""
        assert group.warm is not None
        while len(group.instances) < group.desired and (warm := [i for i in group.warm.instances if i.up]):
            group.warm.instances.remove(warm[0])
            group.instances.append(warm[0])

    def _fill(self, instance_set: InstanceSet, now: float) -> None:
        instance_set.instances.sort(key=lambda i: (not i.up, i.id))
        while sum(i.weight for i in instance_set.instances) > instance_set.desired:
            instance_set.instances.pop()
        missing = instance_set.desired - sum(i.weight for i in instance_set.instances)
        suspended = isinstance(instance_set, Group) and "Launch" in instance_set.suspended
        if (
            missing <= 0
            or suspended
            or (
                instance_set.last_attempt[0] == instance_set.desired
                and now - instance_set.last_attempt[1] < self.retry_s
            )
        ):
            return
        for _ in range(missing):
            market = instance_set.next_market()
            held = {zone: sum(i.zone == zone for i in instance_set.instances) for zone in instance_set.zones}
            for zone in sorted(instance_set.zones, key=lambda z: held[z]):
                shortage = self.launch(instance_set, zone, market)
                instance_set.activities.append((now, zone, shortage))
                if shortage is None:
                    break
        instance_set.last_attempt = (
            (instance_set.desired, now) if len(instance_set.instances) < instance_set.desired else (0, 0.0)
        )

    def ready(self, instance_set: InstanceSet, count: int) -> None:
        """Make `count` of its instances serve."""
        self.settle()
        for i, instance in enumerate(instance_set.instances):
            instance.up = i < count

    def remove(self, ids: list[str]) -> None:
        """Remove instances; their groups try to replace them at once."""
        for instance_set in self.instance_sets():
            instance_set.instances = [i for i in instance_set.instances if i.id not in ids]
            instance_set.last_attempt = (0, 0.0)
        self.standalone = [i for i in self.standalone if i.id not in ids]


def when(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
