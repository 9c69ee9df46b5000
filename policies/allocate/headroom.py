"""Headroom by marginal value: how many replicas rest ahead of need, and in which tier.

The k-th replica's worth beyond what serves is needed with the probability that demand peaks above it until a cold start
would serve (`Recommendation.peaks`). Resting in a tier it comes sooner by the difference of the lead times, and is paid
all the time: a tier is worth ``P(peak > k) * lateness * (1 - tier lead / cold lead) - price`` an hour.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.allocate import candidates, quantum
from policies.model import Fresh, PoolName, RuleId, Step
from policies.signals.demand import whole_replicas

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from policies.model.spec import Pool
    from policies.recommend.context import RuleContext

Peaks = tuple[tuple[float, float], ...]
STAYS: Final = 0.5
"""What rests already stays until it loses more than this share of its price: forecasts move a little every turn."""
LUMP: Final = 64
"""The first so many replicas are weighed one by one, then a part like this of those chosen at a time: of 100,000 that
may rest some 500 steps are made."""


def tiers(s: RuleContext) -> dict[PoolName, Pool]:
    """The pools that rest, whose own serving pool is there and whose size may be set."""
    return {n: p for n, p in s.spec.pools.items() if p.tier != "serving" and p.serves in s.spec.pools}


def exceeds(peaks: Peaks, work: float) -> float:
    """The probability that demand peaks above `work`; 0 beyond the highest quantile told."""
    quantiles = [q for q, _ in peaks]
    worths = [w for _, w in peaks]
    return 1.0 - float(np.interp(work, worths, quantiles, left=quantiles[0], right=1.0))


def rest(s: RuleContext, supply: float, pinned: Set[PoolName]) -> tuple[dict[PoolName, int], tuple[Step, ...]]:
    """The size of each tier, when `supply` replicas' worth serve, and why. Without peaks nothing moves."""
    resting = tiers(s)
    if not resting:
        return {}, ()
    found = {n: r.value.desired for n in resting if isinstance(r := s.observation.pools[n], Fresh) and n not in pinned}
    peaks = max((r.peaks for r in s.recommendations if r.peaks), key=lambda p: p[-1][1], default=())
    wanted, why = _filled(s, {n: resting[n] for n in found}, found, supply, peaks) if peaks else (dict(found), "")
    sizes = {}
    for name, size in wanted.items():
        pool = resting[name]
        least, limit = quantum.bounds(pool, s.spec.max_replicas)
        bounded = max(least, min(quantum.round_up(size, pool.quantum), limit))
        sizes[name] = bounded if s.may_scale_in else max(bounded, found[name])
    if not why:
        return sizes, ()
    return sizes, (Step(RuleId.HEADROOM, whole_replicas(supply), why),)


def _filled(
    s: RuleContext, free: Mapping[PoolName, Pool], found: Mapping[PoolName, int], supply: float, peaks: Peaks
) -> tuple[dict[PoolName, int], str]:
    """Replica after replica in the tier that is worth most, until none is worth its price (`LUMP`)."""
    serving = candidates.serving(s.spec)
    lateness = s.spec.slo_violation_cost_ratio * candidates.dearest_sure_price(serving)
    prices = candidates.prices(s.spec.pools)
    sooner = {n: _sooner(s, n, p) for n, p in free.items()}
    sizes = dict.fromkeys(found, 0)
    limits = {n: s.spec.max_replicas if p.max_replicas is None else p.max_replicas for n, p in free.items()}
    beyond, chance = 0.0, exceeds(peaks, supply)
    last = ""
    while supply + beyond + 1e-9 < s.spec.max_replicas:
        value = {}
        for name, pool in free.items():
            if sizes[name] < limits[name]:
                stays = STAYS * prices[name] if sizes[name] < found[name] else 0.0
                worth = serving[PoolName(str(pool.serves))].work_per_replica
                value[name] = chance * lateness * worth * sooner[name] - prices[name] + stays
        choice = max(value, key=lambda n: value[n], default=None)
        if choice is None or value[choice] <= 0:
            break
        work = serving[PoolName(str(free[choice].serves))].work_per_replica
        room = math.ceil((s.spec.max_replicas - supply - beyond) / work - 1e-9)
        step = max(1, min(sum(sizes.values()) // LUMP, limits[choice] - sizes[choice], room))
        sizes[choice] += step
        last = f"the last one is needed with a probability of {chance:.2f}"
        beyond += step * work
        chance = exceeds(peaks, supply + beyond)
    told = ", ".join(f"{n} {size}" for n, size in sizes.items())
    return sizes, f"{told}; {last or f'one more is needed with a probability of {chance:.2f}: not worth its price'}"


def _sooner(s: RuleContext, name: PoolName, pool: Pool) -> float:
    """The share of a cold start that a tier saves."""
    cold_of = PoolName(str(pool.serves))
    cold_s = s.history.pool_memories.of(cold_of).lead_times.usual_s(s.spec.pools[cold_of].lead_time_s)
    return max(0.0, 1.0 - pool.lead_time_s / cold_s) if cold_s > 0 else 0.0
