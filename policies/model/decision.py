"""The decision of one tick: the target of each pool, and the rules that led to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.model.names import PoolName, RouteName
from policies.model.recommendation import Recommendation
from policies.model.route import RouteDecision
from policies.model.rule_id import RuleId


@dataclass(frozen=True, slots=True)
class Step:
    """One rule's effect on the size, between demand and target.

    `replicas` is the size after the rule in replica equivalents of the serving pools; None where no size is known.
    """

    rule: RuleId
    replicas: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The sizes decided for one workload, and the reason of each rule.

    - `demand`: the largest need in replica equivalents; None when every policy is blind.
    - `capped_need`: that need within budgets and SLO feasibility, in whole replicas, before stabilization.
    - `current`: the observed size (the sum of the pools' desired sizes); `target`: the decided size. Both are None
      while a pool's size is unknown.
    - `targets`: the size of each pool that may be resized now.
    - `abandoned`: requested replicas that no longer count as supply.
    - `cost_usd_per_hour`: the cost of the targets without the abandoned replicas; None where a price is unknown.
    - `suspected_zeros`: sources that reported 0 for every quantity, which is probably false, and why.
    - `routes`: the split of each route, whose cost is not part of `cost_usd_per_hour`.

    Where pools differ in market, price or capacity, `current`, `ready` and `target` are replica equivalents, and
    `current` and `target` leave out what the allocator holds beyond the size: spares for losses, and both pools of a
    move. Example: a size of 4 held as 4 on-demand replicas and the 4 spot ones that replace them stays 4.
    """

    at: float
    recommendations: tuple[Recommendation, ...]
    demand: float | None
    capped_need: int | None
    active: bool
    may_scale_in: bool
    current: int | None
    ready: int | None
    target: int | None
    steps: tuple[Step, ...]
    targets: Mapping[PoolName, int] = field(default_factory=dict)
    abandoned: Mapping[PoolName, int] = field(default_factory=dict)
    cost_usd_per_hour: float | None = None
    suspected_zeros: Mapping[str, str] = field(default_factory=dict)
    routes: Mapping[RouteName, RouteDecision] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The reason of the last rule that had an effect."""
        return self.steps[-1].reason if self.steps else "no rule applied"
