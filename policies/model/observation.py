"""The observation of one tick.

It has readings, the status of each pool, route and group member, the fleet's grant, and the error budget of the SLO.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.model.error_budget import ErrorBudget
from policies.model.group import MemberStatus
from policies.model.names import PoolName, RouteName, SignalName, WorkloadName
from policies.model.readings import Reading
from policies.model.route import RouteStatus


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A size that the platform accepted and cannot provide.

    `at` is the time of the platform's report: one report is one refusal, however often it is read. `quota` is True for
    a limit of the account, which lasts longer than a lack of capacity.
    """

    at: float
    reason: str
    quota: bool = False


@dataclass(frozen=True, slots=True)
class PoolPart:
    """A pool's replicas in one zone and market, where the platform reports them separately."""

    zone: str
    market: str
    ready: int
    pending: int = 0
    interruption_pending: int = 0


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """The size of a pool as its platform reports it.

    - `desired`: the size last requested from the platform. `ready`: the replicas that can serve now.
    - `other_writer`: another writer of the same size (an HPA, a person), if one was seen.
    - `version`: the platform's token for this state, the precondition of a resize; empty where there is none.
    - `interruption_pending`: ready replicas with an interruption or rebalance notice.
    - `interrupted`: replicas interrupted so far. It only grows, except for a restart of the counter.
    - `failed`: requested replicas that the platform reports will not arrive, and `shortfall` why.
    - `reserved`: replicas that an active reservation holds, paid whether used or not; None where unknown.
    - `parts`: ready and pending replicas by zone and market.
    """

    desired: int
    ready: int
    other_writer: str | None = None
    version: str = ""
    interruption_pending: int = 0
    interrupted: int = 0
    failed: int = 0
    shortfall: Shortfall | None = None
    reserved: int | None = None
    parts: tuple[PoolPart, ...] = ()

    @property
    def pending(self) -> int:
        """Replicas that were requested, cannot serve yet, and may still arrive."""
        return max(0, self.desired - self.ready - self.failed)


@dataclass(frozen=True, slots=True)
class Quota:
    """An upper limit (`most`) and its reason."""

    most: float
    reason: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The amounts that one workload may hold and remove now; None where the fleet sets no limit.

    - `gpus`, `usd_per_hour`: the maximum that it may hold. A workload that holds more must shrink.
    - `removable`: the replicas that it may remove; `removed`: those that all workloads removed within the blast
      radius's window. A pool whose quantum is larger than `removable` may remove one quantum less `removed`: with a
      quantum of 8, 1 removable and 0 removed, 8 replicas. With several daemons, `removed` prevents that unless this
      daemon's share covers the quantum.
    """

    gpus: Quota | None = None
    usd_per_hour: Quota | None = None
    removable: Quota | None = None
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """The observation of one workload in one tick, with the errors of its adapters.

    `grant` is the fleet's grant in that tick; None where no limit spans workloads. `error_budget` is the error budget
    of the SLO, this tick's requests included; None without an SLO. `members` are the other workloads of the group.
    """

    workload: WorkloadName
    at: float
    readings: Mapping[SignalName, Reading[float]]
    pools: Mapping[PoolName, Reading[PoolStatus]]
    source_errors: Mapping[str, str] = field(default_factory=dict)
    pool_errors: Mapping[PoolName, str] = field(default_factory=dict)
    grant: Grant | None = None
    error_budget: ErrorBudget | None = None
    routes: Mapping[RouteName, Reading[RouteStatus]] = field(default_factory=dict)
    route_errors: Mapping[RouteName, str] = field(default_factory=dict)
    members: Mapping[WorkloadName, Reading[MemberStatus]] = field(default_factory=dict)
