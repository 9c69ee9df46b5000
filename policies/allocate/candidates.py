"""Pool candidates: each pool's price, supply, remaining capacity and risk of interruption."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from policies.allocate import quantum
from policies.model import Absent

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from policies.history.capacity_backoff import CapacityBackoff
    from policies.history.pool_memory import PoolMemories, PoolMemory
    from policies.model import PoolName, PoolStatus, Reading
    from policies.model.pool import Pool
    from policies.model.spec import WorkloadSpec

RESERVED_PRICE_SHARE: Final = 1e-6
"""Price of a reserved replica as a share of the cheapest on-demand one. It is paid whether used or not, so it is the
first to be used and the last to go; a price above zero releases it when it is not needed."""
SERVING_PRIOR: Final = 4.0, 0.2
"""Prior grants and refusals of a spot market that serves some replicas: in recorded spot capacity most zones have all
or nothing. Light enough that one or two refusals reveal a zone with little capacity."""
CERTAIN: Final = 1.0
"""Grant probability of on-demand and reserved capacity: while a shortage is remembered, the pool is skipped instead."""


@dataclass(frozen=True, slots=True)
class PoolCandidate:
    """One serving pool in one tick. Counts are replicas.

    - `price`: USD per hour of a replica, which carries `work` replica equivalents.
    - `ready`: replicas that serve, without those with an interruption pending; `expected_pending`: pending replicas
      that may still arrive; `abandoned`: requested replicas that no longer count. `oldest_pending_s` is the age of the
      oldest request.
    - `fixed`: the pool keeps its size. `unavailable`: why it can grant no more; empty where it can.
    - `max_supply`: the supply that it may reach. `ceiling`: what it held when it last granted no more, where that
      limits `max_supply`; None where it does not.
    - `lead_time_h`: the usual time from request to serving.
    - `loss_probability`: the probability that an interruption takes `interrupted_share` of the supply before it could
      be replaced. `grant_probability`: the probability that requested replicas arrive. `patience_starts`: the time
      until a request is abandoned, in lead times.
    """

    name: PoolName
    pool: Pool
    price: float
    desired: int
    ready: int
    interruption_pending: int
    expected_pending: int
    abandoned: int
    oldest_pending_s: float
    fixed: bool
    unavailable: str
    max_supply: int
    lead_time_h: float
    loss_probability: float
    interrupted_share: float
    grant_probability: float
    ceiling: int | None = None
    patience_starts: float = 1.0

    @property
    def refusal_risk(self) -> float:
        """The expected shortage by a refusal, as a share of a replica over one start.

        A refusal is found after the patience, and then another pool starts a substitute. A substitute requested at once
        is rented for one start only. Example: 5 % are refused, which is found after 1.25 starts: 6.25 %.
        """
        return min(1.0, (1.0 - self.grant_probability) * self.patience_starts)

    @property
    def work(self) -> float:
        return self.pool.work_per_replica

    @property
    def supply(self) -> int:
        return self.ready + self.expected_pending

    def start_h(self, payback_h: float) -> float:
        """Return the rent, in hours, that a further replica costs beyond the payback time.

        It is the rent until the replica serves or, if longer, the rest of its minimum billed time. Example: with a
        payback time of 1 h, a lead time of 0.1 h and a minimum of 3 h, a replica costs 2 h of rent more.
        """
        return max(self.lead_time_h, self.pool.min_billed_s / 3600.0 - payback_h)

    def size(self, supply: int) -> int:
        """Return the size to request so that `supply` replicas serve or may arrive."""
        return self.desired + supply - self.supply

    @property
    def interruptible(self) -> bool:
        return self.pool.market == "spot"


def serving_pools(spec: WorkloadSpec) -> Mapping[PoolName, Pool]:
    """Return the pools that serve, without the headroom tiers."""
    return spec.serving_pools


def differ_in_cost(spec: WorkloadSpec) -> bool:
    """Return whether pools differ in price or capacity: then cost decides, or else the order."""
    if differ_in_capacity(spec):
        return True
    pools = serving_pools(spec).values()
    return len(pools) > 1 and (
        len({p.market for p in pools}) > 1 or any(p.price_usd_per_hour is not None for p in pools)
    )


def differ_in_capacity(spec: WorkloadSpec) -> bool:
    """Return whether any serving pool's replicas differ from capacity 1."""
    return not {p.work_per_replica for p in serving_pools(spec).values()} <= {1.0}


def prices(pools: Mapping[PoolName, Pool]) -> dict[PoolName, float]:
    """Return the price of each pool's replica, USD per hour.

    A pool without a price counts as the most expensive one, or as 1 where no pool has a price.
    """
    highest = max((p.price_usd_per_hour or 0.0 for p in pools.values()), default=0.0) or 1.0
    return {n: highest if p.price_usd_per_hour is None else p.price_usd_per_hour for n, p in pools.items()}


def cheapest_on_demand_price(pools: Mapping[PoolName, Pool]) -> float:
    """Return the lowest on-demand price per replica equivalent (or of all pools). USD per hour.

    Example: at 2 USD/h for a replica of capacity 1, and 1 USD/h for one of capacity 0.4, it is 2 USD/h and not 2.5.
    """
    usd_per_hour = prices(pools)
    per_work = {n: usd_per_hour[n] / p.work_per_replica for n, p in pools.items() if usd_per_hour[n] > 0}
    on_demand = [price for n, price in per_work.items() if pools[n].market == "on_demand"]
    return min(on_demand or per_work.values(), default=1.0)


def build(
    spec: WorkloadSpec,
    statuses: Mapping[PoolName, Reading[PoolStatus]],
    memories: PoolMemories,
    unmanaged: Set[PoolName],
    now: float,
) -> list[PoolCandidate]:
    """Return a candidate for each serving pool whose size is known, in the order listed."""
    pools = serving_pools(spec)
    lead_times_s = {name: memories.of(name).lead_times.usual_s(p.lead_time_s) for name, p in pools.items()}
    lasting_s = [lead_times_s[n] for n, p in pools.items() if p.market != "spot"]
    replacement_s = min(lasting_s or lead_times_s.values()) + spec.interval_s / 2
    usd_per_hour, reserved_price = prices(pools), RESERVED_PRICE_SHARE * cheapest_on_demand_price(pools)
    candidates = []
    for name, pool in pools.items():
        reading, memory = statuses[name], memories.of(name)
        if isinstance(reading, Absent):
            continue
        status, interruptible = reading.value, pool.market == "spot"
        ready, pending, interruption_pending = observed_supply(pool, status, memory, now)
        abandoned = max(0, status.desired - ready - pending - interruption_pending)
        unavailable = unavailable_reason(name, pools, statuses, memories, now)
        if abandoned and not unavailable:
            unavailable = f"{abandoned} requested replicas have not arrived"
        _, maximum = quantum.bounds(pool, spec.max_replicas)
        if pool.market == "reserved" and status.reserved is not None:
            maximum = min(maximum, quantum.round_down(status.reserved, pool.quantum))  # more would not be prepaid
        supply = ready + pending
        unannounced_s = max(0.0, replacement_s - memory.interruption_rate.notice_s(pool.notice_s))
        oldest = memory.lead_times.oldest
        candidates.append(
            PoolCandidate(
                name=name,
                pool=pool,
                price=reserved_price if pool.market == "reserved" else max(usd_per_hour[name], reserved_price),
                desired=status.desired,
                ready=ready,
                interruption_pending=interruption_pending,
                expected_pending=pending,
                abandoned=abandoned,
                oldest_pending_s=0.0 if oldest is None else now - oldest,
                fixed=name in unmanaged,
                unavailable=unavailable,
                max_supply=(
                    supply if name in unmanaged or unavailable else max(supply, maximum - interruption_pending)
                ),
                lead_time_h=lead_times_s[name] / 3600.0,
                loss_probability=memory.interruption_rate.probability(unannounced_s) if interruptible else 0.0,
                interrupted_share=memory.interruption_rate.share,
                grant_probability=_grant_probability(memory, ready) if interruptible else CERTAIN,
                patience_starts=memory.lead_times.patience_s(pool.lead_time_s) / max(1.0, lead_times_s[name]),
            )
        )
    return candidates


def limit_to_ceiling(candidates: list[PoolCandidate], memories: PoolMemories, work: float) -> list[PoolCandidate]:
    """Return the candidates, each limited to slightly more than its last known ceiling.

    Where these together cannot carry `work`, they are returned without the limit. Example: a pool granted no more than
    8 replicas, so that its limit is 9, and another one may reach 4: the limit holds for 13 replicas of work, and not
    for 14.
    """
    limited = []
    for c in candidates:
        ceiling = memories.of(c.name).ceiling
        maximum = c.max_supply
        if not math.isinf(ceiling.max_supply):
            maximum = quantum.round_up(int(ceiling.max_supply), c.pool.quantum)
        is_limited = maximum < c.max_supply and not (c.fixed or c.unavailable)
        limited.append(replace(c, max_supply=max(c.supply, maximum), ceiling=ceiling.held) if is_limited else c)
    return limited if sum(c.max_supply * c.work for c in limited) >= work else candidates


def observed_supply(pool: Pool, status: PoolStatus, memory: PoolMemory, now: float) -> tuple[int, int, int]:
    """Return the ready replicas that stay, those that may arrive, and those being interrupted."""
    interruption_pending = min(status.interruption_pending, status.ready, status.desired)
    patience_s = memory.lead_times.patience_s(pool.lead_time_s)
    pending = memory.expected_pending(status, now, patience_s, interruptible=pool.market == "spot")
    return min(status.ready, status.desired) - interruption_pending, pending, interruption_pending


def _grant_probability(memory: PoolMemory, ready: int) -> float:
    """Return the probability that requested replicas arrive; higher where some serve already."""
    return memory.backoff.grant_probability(*SERVING_PRIOR) if ready else memory.backoff.grant_probability()


def unavailable_reason(
    name: PoolName,
    pools: Mapping[PoolName, Pool],
    statuses: Mapping[PoolName, Reading[PoolStatus]],
    memories: PoolMemories,
    now: float,
) -> str:
    """Return why a request for more would fail; empty where it may succeed.

    A shortage also counts for other pools of the same accelerator, zone and market, a quota error only for its pool.
    """
    own = pools[name]
    key = own.accelerator, own.zone, own.market
    for other, pool in pools.items():
        is_same_offering = other == name or (all(key) and (pool.accelerator, pool.zone, pool.market) == key)
        if not is_same_offering:
            continue
        memory, reading = memories.of(other), statuses[other]
        if own.market == "spot":
            if memory.interruption_backoff.is_active(now):
                return _backoff_reason(memory.interruption_backoff, now)
            if not isinstance(reading, Absent) and (lost := memory.lost(reading.value)):
                return f"{lost} replicas were just interrupted"
            if not isinstance(reading, Absent) and reading.value.interruption_pending:
                return f"{reading.value.interruption_pending} replicas have an interruption pending"
        shortfall = None if isinstance(reading, Absent) else memory.new_shortfall(reading.value)
        if shortfall is not None and (other == name or not shortfall.quota):
            return f"quota error ({shortfall.reason})" if shortfall.quota else shortfall.reason
        if memory.backoff.is_active(now) and (other == name or not memory.backoff.quota_spec):
            return _backoff_reason(memory.backoff, now)
    return ""


def _backoff_reason(backoff: CapacityBackoff, now: float) -> str:
    if backoff.quota_spec:
        return f"quota error ({backoff.reason}): retry in {math.ceil((backoff.until - now) / 60.0)} min"
    return f"{backoff.reason}, {now - backoff.since:.0f} s ago (retry in {backoff.until - now:.0f} s)"
