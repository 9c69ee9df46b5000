"""Budgets: GPUs and USD per hour, the workload's own and what the fleet grants it.

A limit applies twice. Before stabilization it caps the need, so that a workload over its limit shrinks by its own
scale-down window and steps, and never below its minimum. After the allocation it cuts growth pool by pool, by the cost
of each, so that growth never exceeds it: not even to reach a minimum or an override.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from policies.allocate import quantum
from policies.model import RuleId, Step
from policies.signals.demand import replica_equivalents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from policies.model import PoolName, Quota
    from policies.model.names import RouteName
    from policies.model.pool import Pool
    from policies.model.route_spec import Route
    from policies.model.spec import WorkloadSpec
    from policies.recommend.context import RuleContext

EPSILON: Final = 1e-9
"""Rounding noise of a sum of prices, as a share of it."""


def gpus(pool: Pool) -> float:
    """Return the GPUs of a replica."""
    return float(pool.gpus_per_replica)


def usd_per_hour(pool: Pool) -> float:
    """Return what a replica adds to the bill: nothing where it is reserved, and so paid anyway."""
    return 0.0 if pool.market == "reserved" else pool.price_usd_per_hour or 0.0


def reserved_usd_per_hour(spec: WorkloadSpec) -> float:
    """Return what the workload's routes may spend on providers.

    The fleet's limit reserves all of it, so that no other workload's growth can exceed the limit together with it.
    """
    routes: Mapping[RouteName, Route] = spec.routes
    return sum(route.max_external_usd_per_hour for route in routes.values())


@dataclass(frozen=True, slots=True)
class Cap:
    """One limit: at most `maximum` GPUs or USD per hour, which `unit` counts per replica.

    `key` names the setting in reasons.
    """

    rule: RuleId
    maximum: float
    unit: Callable[[Pool], float]
    key: str

    def amount(self, pools: Mapping[PoolName, Pool], sizes: Mapping[PoolName, int]) -> float:
        """Return the GPUs or USD per hour of these sizes."""
        return sum(size * self.unit(pools[name]) for name, size in sizes.items())

    @property
    def tolerated(self) -> float:
        """The limit plus rounding noise."""
        return self.maximum * (1.0 + EPSILON) + EPSILON


def has_no_limit(context: RuleContext) -> bool:
    """Return whether neither the workload nor the fleet sets a budget."""
    budget = context.spec.budget
    return context.observation.grant is None and budget.gpus is None and budget.usd_per_hour is None


def caps(context: RuleContext) -> Iterator[Cap]:
    """Yield every limit that is set, the workload's own first."""
    budget, grant = context.spec.budget, context.observation.grant
    if budget.gpus is not None:
        yield Cap(RuleId.BUDGET, budget.gpus, gpus, f"budget.gpus is {budget.gpus}")
    if budget.usd_per_hour is not None:
        yield Cap(RuleId.BUDGET, budget.usd_per_hour, usd_per_hour, f"budget.usd_per_hour is {budget.usd_per_hour:g}")
    if grant is not None:
        yield from _granted(grant.gpus, gpus)
        yield from _granted(grant.usd_per_hour, usd_per_hour, reserved_usd_per_hour(context.spec))


def _granted(quota: Quota | None, unit: Callable[[Pool], float], reserved: float = 0.0) -> Iterator[Cap]:
    if quota is not None:
        reason = f"{quota.reason}, {reserved:g} of it by its routes" if reserved else quota.reason
        yield Cap(RuleId.FLEET, max(0.0, quota.most - reserved), unit, reason)


def cap_need(size: int, context: RuleContext) -> Step | None:
    """Cap the need at what the limits allow: below the current size where they are exceeded."""
    if has_no_limit(context):
        return None
    spec, current = context.spec, context.current
    step, lowest = None, float(size)
    for cap in caps(context):
        allowed = max(_allowed_size(cap, context), min(spec.min_replicas, current))
        if allowed < lowest:
            lowest = allowed
            held = cap.amount(spec.pools, context.desired)
            change = "shrink to" if allowed < current else "at most"
            step = Step(
                cap.rule, allowed, f"{cap.key}, {held:g} in use: {change} {allowed:g} of the {size} replicas needed"
            )
    return step


def _allowed_size(cap: Cap, context: RuleContext) -> float:
    """Return the largest size that may fit the limit, or that after the fewest removals.

    Where pools differ, growth is measured by the pool that is cheapest for its work, and a removal by the most
    expensive one: the cut pool by pool, and further ticks, make it exact. Example: 10 replicas at 2 USD/h and a limit
    of 25 allow 12; a limit of 15 allows 7.
    """
    pools, desired = context.spec.pools, context.desired
    remaining = cap.tolerated - cap.amount(pools, desired)
    prices = {n: cap.unit(pool) / pool.work_per_replica for n, pool in pools.items() if pool.tier == "serving"}
    if remaining < 0:
        highest = max((price for n, price in prices.items() if desired[n]), default=0.0)
        if not highest:
            return context.current
        return context.current - quantum.round_up(math.ceil(-remaining / highest - EPSILON), _smallest_quantum(context))
    cheapest = min((price for n, price in prices.items() if desired[n] < _max_replicas(context, n)), default=0.0)
    return context.current + math.floor(remaining / cheapest) if cheapest else math.inf


def _smallest_quantum(context: RuleContext) -> int:
    """Return the smallest quantum that may go: a smaller removal would remove nothing."""
    pools = context.spec.pools
    return min((pools[n].quantum for n, size in context.sizes.items() if size > pools[n].min_replicas), default=1)


def _max_replicas(context: RuleContext, name: PoolName) -> int:
    maximum = context.spec.pools[name].max_replicas
    return context.spec.max_replicas if maximum is None else maximum


def cap_targets(targets: Mapping[PoolName, int], context: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Cut growth, the most expensive first, until it exceeds no limit any further.

    Example: 5 replicas of a at 2 USD/h and 5 of b at 1 USD/h are to grow to 7 each, with a limit of 18 USD/h, and cost
    21: a is cut by 2 to 5, which leaves 17.
    """
    if has_no_limit(context):
        return None
    pools, desired, allowed = context.spec.pools, context.desired, dict(targets)
    exceeded: list[Cap] = []
    for cap in caps(context):
        limit = max(cap.tolerated, cap.amount(pools, desired) * (1.0 + EPSILON))
        excess = cap.amount(pools, {**desired, **allowed}) - limit
        if excess <= 0:
            continue
        exceeded.append(cap)
        units = {name: cap.unit(pools[name]) for name in reversed(allowed)}
        for name in sorted(units, key=units.__getitem__, reverse=True):
            grown = allowed[name] - desired[name]
            if excess > 0 and grown > 0 and units[name] > 0:
                cut = min(grown, math.ceil(excess / units[name] - EPSILON))
                allowed[name] -= cut
                excess -= cut * units[name]
    if allowed == targets:
        return None
    size = replica_equivalents(context.spec, {**desired, **allowed})
    limits = "; ".join(f"{cap.key}, {cap.amount(pools, desired):g} in use" for cap in exceeded)
    return allowed, Step(exceeded[0].rule, size, f"{limits}: no growth beyond {size} replicas")
