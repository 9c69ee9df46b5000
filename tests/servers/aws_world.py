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
Lack = Literal["capacity", "quota"]


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
class Flock:
    """Instances that are kept at a number. `activities` are launches: time, zone, missing resource.

    `lag_s` is the time until its instances serve, where it differs from the world's.
    """

    name: str
    zones: tuple[str, ...]
    type: str = "p5.48xlarge"
    market: Market = "on-demand"
    spot_share: float | None = None
    desired: int = 0
    least: int = 0
    most: int = 10
    instances: list[Instance] = field(default_factory=list)
    activities: list[tuple[float, str, Lack | None]] = field(default_factory=list)
    tried: tuple[int, float] = (0, 0.0)
    tags: dict[str, str] = field(default_factory=dict)
    lag_s: float | None = None

    def bought(self) -> Market:
        if self.spot_share is None:
            return self.market
        spot = sum(i.market == "spot" for i in self.instances)
        return "spot" if spot < self.spot_share * (len(self.instances) + 1) else "on-demand"


@dataclass(eq=False)
class Group(Flock):
    """An Auto Scaling group, with its warm pool if it has one."""

    warm: Flock | None = None
    prepared: int | None = None
    warm_state: str = "Stopped"
    suspended: tuple[str, ...] = ()

    def warm_size(self) -> int:
        assert self.warm is not None
        if self.prepared == self.warm.least:
            return self.warm.least
        return max(self.warm.least, (self.most if self.prepared is None else self.prepared) - self.desired)


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
class Fleet(Flock):
    """An EC2 Fleet that maintains its size."""

    state: str = "active"


@dataclass
class World:
    """An account's machines. `lag_s` is the time until one serves; None: until `ready`.

    `lacks` has the missing resource by (zone, market); `retry_s` is the groups' retry interval; `hidden_s` the time
    until EC2 lists a new instance. `granted` are the actions that IAM allows; None: all.
    """

    lag_s: float | None = None
    retry_s: float = 3600.0
    groups: dict[str, Group] = field(default_factory=dict)
    nodes: dict[tuple[str, str], NodeGroup] = field(default_factory=dict)
    fleets: dict[str, Fleet] = field(default_factory=dict)
    loose: list[Instance] = field(default_factory=list)
    launches: dict[str, tuple[object, dict[str, Any]]] = field(default_factory=dict)
    lacks: dict[tuple[str, str], Lack] = field(default_factory=dict)
    reservations: list[dict[str, Any]] = field(default_factory=list)
    hidden_s: float = 0.0
    granted: frozenset[str] | None = None
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def flocks(self) -> list[Flock]:
        warm = [g.warm for g in self.groups.values() if g.warm is not None]
        return [*self.groups.values(), *warm, *self.fleets.values()]

    def instances(self) -> list[Instance]:
        return [*(i for flock in self.flocks() for i in flock.instances), *self.loose]

    def launch(self, flock: Flock, zone: str, market: Market) -> Lack | None:
        """Launch an instance; return it, or the missing resource."""
        missing = self.lacks.get((zone, market)) or self.lacks.get(("*", market))
        if missing is None:
            flock.instances.append(self.instance(zone, flock.type, market, flock.tags))
        return missing

    def instance(self, zone: str, kind: str, market: Market, tags: dict[str, str]) -> Instance:
        return Instance(f"i-{next(self._ids):017x}", zone, kind, market, time.time(), tags=dict(tags))

    def settle(self) -> None:
        """Update the state to the present time."""
        now = time.time()
        for group in self.groups.values():
            if group.warm is not None:
                self._draw(group)
                group.warm.desired = group.warm_size()
        for flock in self.flocks():
            self._fill(flock, now)
        for flock in [*self.flocks(), Flock("loose", (), instances=self.loose)]:
            lag_s = self.lag_s if flock.lag_s is None else flock.lag_s
            for one in flock.instances:
                one.up = one.up or (lag_s is not None and now - one.born >= lag_s)

    def _draw(self, group: Group) -> None:
        """Move warm instances to a growing group first."""
        assert group.warm is not None
        while len(group.instances) < group.desired and (warm := [i for i in group.warm.instances if i.up]):
            group.warm.instances.remove(warm[0])
            group.instances.append(warm[0])

    def _fill(self, flock: Flock, now: float) -> None:
        flock.instances.sort(key=lambda i: (not i.up, i.id))
        while sum(i.weight for i in flock.instances) > flock.desired:
            flock.instances.pop()
        missing = flock.desired - sum(i.weight for i in flock.instances)
        suspended = isinstance(flock, Group) and "Launch" in flock.suspended
        if missing <= 0 or suspended or (flock.tried[0] == flock.desired and now - flock.tried[1] < self.retry_s):
            return
        for _ in range(missing):
            market = flock.bought()
            held = {zone: sum(i.zone == zone for i in flock.instances) for zone in flock.zones}
            for zone in sorted(flock.zones, key=lambda z: held[z]):
                lacking = self.launch(flock, zone, market)
                flock.activities.append((now, zone, lacking))
                if lacking is None:
                    break
        flock.tried = (flock.desired, now) if len(flock.instances) < flock.desired else (0, 0.0)

    def ready(self, flock: Flock, count: int) -> None:
        """Make `count` of its instances serve."""
        self.settle()
        for i, instance in enumerate(flock.instances):
            instance.up = i < count

    def take(self, ids: list[str]) -> None:
        """Remove instances; their groups try to replace them at once."""
        for flock in self.flocks():
            flock.instances = [i for i in flock.instances if i.id not in ids]
            flock.tried = (0, 0.0)
        self.loose = [i for i in self.loose if i.id not in ids]


def when(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
