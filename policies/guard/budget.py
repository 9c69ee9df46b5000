"""Budgets: GPUs and USD per hour, the workload's own and what the fleet grants it.

A limit works twice. Before stabilization it caps the need, so that a workload over its limit gives back through its own
scale-down window and steps, and never beneath its minimum. After the allocation it cuts growth pool by pool, by what
each costs, so that no growth ever exceeds it: not to a minimum, not by hand.
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
    from policies.model.spec import Pool, WorkloadSpec
    from policies.recommend.context import RuleContext

EPSILON: Final = 1e-9
"""Rounding noise of a sum of prices, as a share of it."""


def gpus(pool: Pool) -> float:
    """GPUs of a replica."""
    return float(pool.gpus_per_replica)


def usd_per_hour(pool: Pool) -> float:
    """What a replica adds to the bill: a reserved one nothing, since it is paid whether used or not."""
    return 0.0 if pool.market == "reserved" else pool.price_usd_per_hour or 0.0


@dataclass(frozen=True, slots=True)
class Cap:
    """One limit: at most `most` of what `unit` counts, set by `key`."""

    rule: RuleId
    most: float
    unit: Callable[[Pool], float]
    key: str

    def of(self, pools: Mapping[PoolName, Pool], sizes: Mapping[PoolName, int]) -> float:
        """How much of it these sizes hold."""
        return sum(size * self.unit(pools[name]) for name, size in sizes.items())

    @property
    def within(self) -> float:
        """The limit with room for rounding noise."""
        return self.most * (1.0 + EPSILON) + EPSILON


def unlimited(s: RuleContext) -> bool:
    """Whether nothing is limited, as in most turns."""
    return s.observation.grant is None and s.spec.budget.gpus is None and s.spec.budget.usd_per_hour is None


def caps(s: RuleContext) -> Iterator[Cap]:
    """Every limit that is set, the workload's own first."""
    budget, grant = s.spec.budget, s.observation.grant
    if budget.gpus is not None:
        yield Cap(RuleId.BUDGET, budget.gpus, gpus, f"budget.gpus is {budget.gpus}")
    if budget.usd_per_hour is not None:
        yield Cap(RuleId.BUDGET, budget.usd_per_hour, usd_per_hour, f"budget.usd_per_hour is {budget.usd_per_hour:g}")
    if grant is not None:
        yield from _granted(grant.gpus, gpus)
        yield from _granted(grant.usd_per_hour, usd_per_hour)


def _granted(quota: Quota | None, unit: Callable[[Pool], float]) -> Iterator[Cap]:
    if quota is not None:
        yield Cap(RuleId.FLEET, quota.most, unit, quota.reason)


def cap_need(size: int, s: RuleContext) -> Step | None:
    """The need, no larger than the limits have room for; below the present size where the limits are exceeded."""
    if unlimited(s):
        return None
    found, least = None, float(size)
    for cap in caps(s):
        allowed = max(_allowed(cap, s), min(s.spec.min_replicas, s.current))
        if allowed < least:
            least = allowed
            held = cap.of(s.spec.pools, s.desired)
            does = "give way down to" if allowed < s.current else "no more than"
            found = Step(cap.rule, allowed, f"{cap.key}, {held:g} held: {does} {allowed:g} of the {size} wanted")
    return found


def _allowed(cap: Cap, s: RuleContext) -> float:
    """The largest size that the limit may have room for; from above it, the size after the fewest that must go.

    Where pools differ, growth is measured by the pool that is cheapest for its work and shrinking by the dearest: the
    cut pool by pool and the turns to come make it exact.
    """
    pools = s.spec.pools
    room = cap.within - cap.of(pools, s.desired)
    price = {n: cap.unit(pool) / pool.work_per_replica for n, pool in pools.items() if pool.tier == "serving"}
    if room < 0:
        dearest = max((price[name] for name in price if s.desired[name]), default=0.0)
        fewest = quantum.round_up(math.ceil(-room / dearest - EPSILON), _quantum(s)) if dearest else 0
        return s.current - fewest
    cheapest = min((price[name] for name in price if s.desired[name] < _most(s.spec, name)), default=0.0)
    return s.current + math.floor(room / cheapest) if cheapest else math.inf


def _quantum(s: RuleContext) -> int:
    """The smallest quantum that may go of what serves: giving way by less would never come to anything."""
    pools = (s.spec.pools[name] for name, size in s.sizes.items() if size > s.spec.pools[name].min_replicas)
    return min((pool.quantum for pool in pools), default=1)


def _most(spec: WorkloadSpec, name: PoolName) -> int:
    most = spec.pools[name].max_replicas
    return spec.max_replicas if most is None else most


def cap_targets(targets: Mapping[PoolName, int], s: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """The targets with so much growth cut, the dearest pools' first, that every limit is exceeded no further."""
    if unlimited(s):
        return None
    pools, kept = s.spec.pools, dict(targets)
    over: list[Cap] = []
    for cap in caps(s):
        limit = max(cap.within, cap.of(pools, s.desired) * (1.0 + EPSILON))
        excess = cap.of(pools, {**s.desired, **kept}) - limit
        if excess <= 0:
            continue
        over.append(cap)
        units = {name: cap.unit(pools[name]) for name in reversed(kept)}
        for name in sorted(units, key=units.__getitem__, reverse=True):
            grown = kept[name] - s.desired[name]
            if excess > 0 and grown > 0 and units[name] > 0:
                cut = min(grown, math.ceil(excess / units[name] - EPSILON))
                kept[name] -= cut
                excess -= cut * units[name]
    if kept == targets:
        return None
    size = replica_equivalents(s.spec, {**s.desired, **kept})
    held = "; ".join(f"{cap.key}, {cap.of(pools, s.desired):g} held" for cap in over)
    return kept, Step(over[0].rule, size, f"{held}: grow no further than {size}")
