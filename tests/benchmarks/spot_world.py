"""Recorded spot capacity under the real controller: a pool for each zone, on-demand, and a target to keep.

No requests: replicas only start, serve and end, so that a day is simulated in seconds. Every policy gets the same
zones, start-up time and notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from policies.history.ticks import History
from policies.model import Absent, Evidence, Fresh, PolicyName, PoolName, PoolStatus, Recommendation, Tick
from policies.model.pool import Pool
from policies.model.spec import ScaleDown, ScaleUp, WorkloadSpec
from policies.recommend.context import PolicyContext
from scaler.config.load import Workload
from scaler.controller import Controller
from scaler.setup import Setup
from simulators.world.infrastructure.billing import Billing
from simulators.world.infrastructure.market import InterruptionNotices, PoolOffer, ZoneOffer
from simulators.world.infrastructure.node_lifecycle import Phase, StartUp
from simulators.world.infrastructure.pool import FleetPool
from simulators.world.infrastructure.supply import SupplyTrace
from simulators.world.infrastructure.units import COST_PER_MICRO_USD, to_ps

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
START_S: Final = 120.0
"""Time from the request of a replica until it serves, as in the SpotHedge artifact's runs. Seconds."""
SPOT_USD: Final = 1.0
ON_DEMAND_USD: Final = 3.0
INTERVAL_S: Final = 15.0
QUICK: Final = StartUp(
    node=Phase(median_s=START_S),
    image=Phase(median_s=0.0),
    weights=Phase(median_s=0.0),
    compile=Phase(median_s=0.0),
    ready=Phase(median_s=0.0),
)
BY_THE_SECOND: Final = Billing(increment_s=1.0, min_billed_s=0.0)
"""Billing without waivers and minimum, for comparison with a plan that models neither."""
SPOT, ON_DEMAND = PoolName("spot"), PoolName("on-demand")


@dataclass(frozen=True, slots=True)
class Market:
    """A window of recorded capacity from `start_s` on, a file for each zone; `notice_s` is the interruption notice."""

    folder: Path
    start_s: float
    notice_s: float = 0.0

    def offers(self, *, by_zone: bool = True) -> dict[PoolName, PoolOffer]:
        """Return one spot pool per zone, or one over all zones, and an on-demand pool without limit."""
        zones = {file.stem: ZoneOffer(trace=SupplyTrace(file=file.name, start_s=self.start_s)) for file in self.files}
        groups = {PoolName(name): {name: zone} for name, zone in zones.items()} if by_zone else {SPOT: zones}
        common: dict[str, Any] = {"model": "m", "start_up": QUICK, "billing": BY_THE_SECOND}
        spot = {
            name: PoolOffer(
                market="spot",
                price_usd_per_hour=SPOT_USD,
                zones=group,
                notices=InterruptionNotices(notice_s=self.notice_s),
                on_notice="serve",
                **common,
            )
            for name, group in groups.items()
        }
        return {**spot, ON_DEMAND: PoolOffer(price_usd_per_hour=ON_DEMAND_USD, **common)}

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))


@dataclass(frozen=True, kw_only=True)
class Target:
    """A policy that recommends the exact maximum of the target until a replica requested now serves.

    What is measured is the allocation, not the forecast.
    """

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0
    at: Callable[[float], int]

    def needs(self) -> tuple[str, ...]:
        return ()

    def recommend(self, name: PolicyName, view: PolicyContext) -> Recommendation:
        target = target_ahead(self.at, view.at)
        return Recommendation(name, float(target), Evidence.FULL, True, f"the target is {target}")


def target_ahead(target: Callable[[float], int], time_s: float) -> int:
    """Return the maximum of the target until a replica requested now serves."""
    until_s = START_S + 2 * INTERVAL_S
    return max(target(time_s + share * until_s / 4) for share in range(5))


@dataclass(frozen=True, slots=True)
class Rate:
    """A gateway's request rate, for policies that read one: a request a second for each replica of the target."""

    world: SpotWorld

    def quantities(self) -> Mapping[str, float]:
        return {"requests_per_s": 60.0}

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        now = self.world.now()
        return {"requests_per_s": Fresh(float(target_ahead(self.world.target, now)), now)}


class IdleEngines:
    """Replicas without requests: a drained one is empty at once."""

    def __init__(self) -> None:
        self.now_ps = 0
        self._drained: dict[int, int] = {}
        self._count = 0

    def add(self, model: int, key: int) -> int:
        self._count += 1
        return self._count - 1

    def start(self, replica: int) -> None:
        pass

    def drain(self, replica: int) -> None:
        self._drained[replica] = self.now_ps

    def kill(self, replica: int) -> int:
        return 0

    def outstanding(self, replica: int) -> int:
        return 0

    def emptied_ps(self, replica: int) -> int:
        return self._drained.get(replica, -1)


@dataclass
class SpotWorld:
    """The pools on one clock, and the time for which the target was met.

    Also the controller's clock: a sleep advances the world. It starts with the target served on demand.
    """

    offers: Mapping[PoolName, PoolOffer]
    folder: Path
    target: Callable[[float], int]
    met_s: float = 0.0
    short_s: float = 0.0
    missing_h: float = 0.0
    engines: IdleEngines = field(default_factory=IdleEngines)
    pools: dict[PoolName, FleetPool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, offer in self.offers.items():
            self.pools[name] = FleetPool(name, offer, self.engines, model=0, seed=1, folder=self.folder)
            self.pools[name].begin(self.target(0.0) if name == ON_DEMAND else 0)

    def now(self) -> float:
        return self.engines.now_ps / 1e12

    def step_s(self) -> float:
        return 0.0

    async def sleep_until(self, t: float) -> None:
        end_ps = to_ps(t)
        while self.engines.now_ps < end_ps:
            due = [d for p in self.pools.values() if (d := p.next_event_ps()) is not None]
            self._advance(min([end_ps, *due]))

    def _advance(self, until_ps: int) -> None:
        """Advance to the next event and account for the time passed, then process the event."""
        ready = sum(p.status(self.engines.now_ps).ready for p in self.pools.values())
        now_s, passed_s = self.now(), (until_ps - self.engines.now_ps) / 1e12
        target = self.target(now_s)
        self.met_s += passed_s if ready >= target else 0.0
        self.short_s += passed_s if ready < target else 0.0
        self.missing_h += max(0, target - ready) * passed_s / HOUR_S
        self.engines.now_ps = until_ps
        for pool in self.pools.values():
            pool.advance(until_ps)

    @property
    def met(self) -> float:
        """Share of time with at least the target's replicas ready."""
        return self.met_s / (self.met_s + self.short_s)

    def cost_usd(self) -> float:
        bills = [p.bill(self.engines.now_ps, lambda _: 0) for p in self.pools.values()]
        return sum(b.total for b in bills) / COST_PER_MICRO_USD / 1e6


@dataclass(frozen=True, slots=True)
class Actuator:
    """A pool of the world as the controller sees it."""

    world: SpotWorld
    pool: PoolName

    async def status(self) -> Fresh[PoolStatus]:
        return Fresh(self.world.pools[self.pool].status(self.world.engines.now_ps), self.world.now())

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        self.world.pools[self.pool].resize(replicas, self.world.engines.now_ps)


def spec(offers: Mapping[PoolName, PoolOffer], target: Callable[[float], int], **settings: Any) -> WorkloadSpec:
    """Return a workload over these offers without windows and step limits, so that only the allocator decides."""
    pools = {
        name: Pool(
            market=offer.market,
            price_usd_per_hour=offer.price_usd_per_hour,
            zone=next(iter(offer.zones)),
            accelerator="gpu",
            lead_time_s=START_S,
            notice_s=offer.active_notices.notice_s,
        )
        for name, offer in offers.items()
    }
    defaults: dict[str, Any] = {
        "scale_up": ScaleUp(max_replicas=1000),
        "scale_down": ScaleDown(window_s=0.0, max_replicas=1000),
        "tolerance": 0.0,
        "interval_s": INTERVAL_S,
        "max_replicas": 100,
        "sources": {},
        "policies": {PolicyName("target"): Target(at=target)},
    }
    return WorkloadSpec(workload="spot", pools=pools, **{**defaults, **settings})


def run(
    world: SpotWorld, workload: WorkloadSpec, end_s: float, record: Callable[[Tick], None] = lambda _: None
) -> None:
    """Run the real controller over the world, tick by tick, to the end.

    Ticks fall between the changes of the traces: a change is observed half an interval later, as on average.
    """
    actuators = {name: Actuator(world, name) for name in workload.pools}
    setup = Setup(Workload(workload, "{}", "spot"), dict(workload.sources), actuators, ports_may_wait=False)
    controller = Controller(setup, world, History(HOUR_S), record)

    async def drive() -> None:
        for tick in range(math.floor(end_s / INTERVAL_S)):
            await world.sleep_until(tick * INTERVAL_S + INTERVAL_S / 2)
            await controller.tick(world.now())
        await world.sleep_until(end_s)

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(drive())


def constant(_: float) -> int:
    """Return three replicas all day, as in the SpotHedge artifact's runs."""
    return 3


def wave(time_s: float) -> int:
    """Return two replicas at night and six at noon."""
    return round(4 - 2 * math.cos(2 * math.pi * time_s / DAY_S))
