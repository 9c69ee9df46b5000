"""Headroom by marginal value: how many replicas wait ahead of need, and in which tier.

The k-th replica beyond the supply is needed if demand peaks above it before a cold start would serve
(`Recommendation.peaks`). A replica that waits in a tier serves sooner by the difference of the lead times, and costs
its price all the time. Its value per hour is ``P(peak > k) * violation price * (1 - tier lead / cold lead) - price``.
Example: with a probability of 0.2, 19 USD/h, 30 s instead of 120 s, and a price of 1 USD/h, it is ``0.2 * 19 * 0.75 - 1
= 1.85`` USD/h.
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

    from policies.model.pool import Pool
    from policies.recommend.context import RuleContext

Peaks = tuple[tuple[float, float], ...]
HYSTERESIS: Final = 0.5
"""A waiting replica stays until its value is below -0.5 times its price: forecasts change a little in every tick."""
STEP_DIVISOR: Final = 64
"""Replicas are added one by one up to 128, and then by a 64th of those chosen at a time: 575 steps reach 100,000."""


def size_tiers(
    context: RuleContext, supply: float, unmanaged: Set[PoolName]
) -> tuple[dict[PoolName, int], tuple[Step, ...]]:
    """Return each tier's size for a serving `supply`, and why. Without peaks nothing changes."""
    pools = context.spec.pools
    tiers = {n: p for n, p in pools.items() if p.tier != "serving" and p.serves in pools}
    if not tiers:
        return {}, ()
    current = {
        n: r.value.desired for n in tiers if isinstance(r := context.observation.pools[n], Fresh) and n not in unmanaged
    }
    peaks = max((r.peaks for r in context.recommendations if r.peaks), key=lambda p: p[-1][1], default=())
    targets, why = dict(current), ""
    if peaks:
        targets, why = _by_value(context, {n: tiers[n] for n in current}, current, supply, peaks)
    sizes = {}
    for name, size in targets.items():
        pool = tiers[name]
        minimum, maximum = quantum.bounds(pool, context.spec.max_replicas)
        bounded = max(minimum, min(quantum.round_up(size, pool.quantum), maximum))
        sizes[name] = bounded if context.may_scale_in else max(bounded, current[name])
    return sizes, (Step(RuleId.HEADROOM, whole_replicas(supply), why),) if why else ()


def exceedance_probability(peaks: Peaks, work: float) -> float:
    """Return the probability that demand peaks above `work`; 0 beyond the highest quantile.

    Example: peaks of 4 at the 0.5 quantile and 8 at 0.9 exceed 6 with a probability of 0.3, and 9 with one of 0.
    """
    quantiles = [q for q, _ in peaks]
    works = [w for _, w in peaks]
    return 1.0 - float(np.interp(work, works, quantiles, left=quantiles[0], right=1.0))


def _by_value(
    context: RuleContext, tiers: Mapping[PoolName, Pool], current: Mapping[PoolName, int], supply: float, peaks: Peaks
) -> tuple[dict[PoolName, int], str]:
    """Add replicas to the tier of the highest value until no value is above zero."""
    max_replicas, serving = context.spec.max_replicas, candidates.serving_pools(context.spec)
    violation_usd_per_hour = context.spec.slo_violation_cost_ratio * candidates.cheapest_on_demand_price(serving)
    prices = candidates.prices(context.spec.pools)
    saved = {n: _saved_start(context, p) for n, p in tiers.items()}
    works = {n: serving[PoolName(str(p.serves))].work_per_replica for n, p in tiers.items()}
    sizes = dict.fromkeys(current, 0)
    limits = {n: max_replicas if p.max_replicas is None else p.max_replicas for n, p in tiers.items()}
    added, probability = 0.0, exceedance_probability(peaks, supply)
    last = ""
    while supply + added + 1e-9 < max_replicas:
        values = {}
        for name in tiers:
            if sizes[name] < limits[name]:
                stay_bonus = HYSTERESIS * prices[name] if sizes[name] < current[name] else 0.0
                value = probability * violation_usd_per_hour * works[name] * saved[name] - prices[name]
                values[name] = value + stay_bonus
        choice = max(values, key=lambda n: values[n], default=None)
        if choice is None or values[choice] <= 0:
            break
        work = works[choice]
        max_step = math.ceil((max_replicas - supply - added) / work - 1e-9)
        step = max(1, min(sum(sizes.values()) // STEP_DIVISOR, limits[choice] - sizes[choice], max_step))
        sizes[choice] += step
        last = f"the last replica is needed with a probability of {probability:.2f}"
        added += step * work
        probability = exceedance_probability(peaks, supply + added)
    sizes_text = ", ".join(f"{n} {size}" for n, size in sizes.items())
    reason = last or f"one more replica is needed with a probability of {probability:.2f}, which is not worth its price"
    return sizes, f"{sizes_text}; {reason}"


def _saved_start(context: RuleContext, tier: Pool) -> float:
    """Return the share of a cold start that a tier saves: 0.75 for 30 s instead of 120 s."""
    name = PoolName(str(tier.serves))
    cold_s = context.history.pool_memories.of(name).lead_times.usual_s(context.spec.pools[name].lead_time_s)
    return max(0.0, 1.0 - tier.lead_time_s / cold_s) if cold_s > 0 else 0.0
