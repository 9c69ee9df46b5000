"""Pool candidates: each pool with its price, what it supplies, what it would give, and how soon it may lose it."""

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
    from policies.model.spec import Pool, WorkloadSpec

PAID: Final = 1e-6
"""What a reserved replica costs over one that is not, as a share: it is paid either way, so it is the first to be used
and the last to go, but is not kept for nothing."""
HELD: Final = 4.0, 0.2
"""Grants and refusals believed of a market that serves some: in recorded spot capacity most zones have all or nothing.
Light enough that a zone which has few is known after a refusal or two."""
SURE: Final = 1.0
"""That on-demand and reserved capacity comes, unless a shortage is remembered: those are skipped altogether."""


@dataclass(frozen=True, slots=True)
class PoolCandidate:
    """One serving pool in one turn.

    Supply is `ready` (serving, not doomed) and `counted` (asked for and still to be counted on). `overdue` ones are
    written off, `doomed` ones as good as gone. `price` is USD an hour, of a replica that carries `work`; `shown` the
    price as configured. `unavailable` says why no more can be had, or is empty. `fixed`: the pool keeps its size.
    `chance` is the probability that within the time it takes to replace it a loss takes `share` of the supply;
    `belief` that what is asked for comes. `start_h` is the usual lead time in hours. `ceiling` is how many there were
    when the pool gave no more, as far as that bounds `most`; None where it does not.
    """

    name: PoolName
    pool: Pool
    price: float
    desired: int
    ready: int
    interruption_pending: int
    expected_pending: int
    overdue: int
    waited_s: float
    fixed: bool
    unavailable: str
    most: int
    start_h: float
    loss_probability: float
    interrupted_share: float
    grant_probability: float
    ceiling: int | None = None

    @property
    def work(self) -> float:
        return self.pool.work_per_replica

    @property
    def supply(self) -> int:
        return self.ready + self.expected_pending

    def size(self, supply: int) -> int:
        """Return the size to ask for so that so much is supplied."""
        return self.desired + supply - self.supply

    @property
    def interruptible(self) -> bool:
        """Whether its replicas may be taken away."""
        return self.pool.market == "spot"


def serving(spec: WorkloadSpec) -> dict[PoolName, Pool]:
    """Return the pools that serve, without those that rest as headroom."""
    return {name: pool for name, pool in spec.pools.items() if pool.tier == "serving"}


def differ_in_cost(spec: WorkloadSpec) -> bool:
    """Return whether pools differ in money or worth, so that there is something to choose.

    Else the order listed decides.
    """
    pools = serving(spec).values()
    if differ_in_capacity(spec):
        return True
    return len(pools) > 1 and (
        len({p.market for p in pools}) > 1 or any(p.price_usd_per_hour is not None for p in pools)
    )


def differ_in_capacity(spec: WorkloadSpec) -> bool:
    """Return whether replicas of different worth serve, so that a part of a replica's work may fit a smaller one."""
    return any(p.work_per_replica != 1.0 for p in serving(spec).values())


def prices(pools: Mapping[PoolName, Pool]) -> dict[PoolName, float]:
    """USD an hour of each pool's replica; what is not told is as dear as the dearest, 1 where nothing is."""
    dearest = max((p.price_usd_per_hour or 0.0 for p in pools.values()), default=0.0) or 1.0
    return {n: dearest if p.price_usd_per_hour is None else p.price_usd_per_hour for n, p in pools.items()}


def dearest_sure_price(pools: Mapping[PoolName, Pool]) -> float:
    """Return what a replica's worth that is sure to be there costs.

    The cheapest that nobody takes away. USD per hour.
    """
    told = prices(pools)
    worths = {n: told[n] / p.work_per_replica for n, p in pools.items() if told[n] > 0}
    lasting = [w for n, w in worths.items() if pools[n].market == "on_demand"]
    return min(lasting or worths.values(), default=1.0)


def build(
    spec: WorkloadSpec,
    found: Mapping[PoolName, Reading[PoolStatus]],
    markets: PoolMemories,
    pinned: Set[PoolName],
    now: float,
) -> list[PoolCandidate]:
    """Return a rung for each serving pool whose size is known, in the order listed."""
    pools = serving(spec)
    leads = {name: markets.of(name).lead_times.usual_s(p.lead_time_s) for name, p in pools.items()}
    lasting = [leads[n] for n, p in pools.items() if p.market != "spot"]
    cover_s = min(lasting or leads.values()) + spec.interval_s / 2
    told, least = prices(pools), PAID * dearest_sure_price(pools)
    options = []
    for name, pool in pools.items():
        reading, market = found[name], markets.of(name)
        if isinstance(reading, Absent):
            continue
        status, takes = reading.value, pool.market == "spot"
        supplied = _supplied(pool, status, market, now)
        overdue = max(0, status.desired - sum(supplied))
        ready, counted, doomed = supplied
        closed = unavailable_reason(name, pools, found, markets, now)
        if overdue and not closed:
            closed = f"{overdue} asked for have not come yet"
        _, limit = quantum.bounds(pool, spec.max_replicas)
        if pool.market == "reserved" and status.reserved is not None:
            limit = min(limit, quantum.round_down(status.reserved, pool.quantum))  # beyond it, it isn't paid already
        supply = ready + counted
        unannounced_s = max(0.0, cover_s - market.interruption_rate.notice_s(pool.notice_s))
        oldest = market.lead_times.oldest
        options.append(
            PoolCandidate(
                name=name,
                pool=pool,
                price=least if pool.market == "reserved" else max(told[name], least),
                desired=status.desired,
                ready=ready,
                interruption_pending=doomed,
                expected_pending=counted,
                overdue=overdue,
                waited_s=0.0 if oldest is None else now - oldest,
                fixed=name in pinned,
                unavailable=closed,
                most=supply if name in pinned or closed else max(supply, limit - doomed),
                start_h=leads[name] / 3600.0,
                loss_probability=market.interruption_rate.probability(unannounced_s) if takes else 0.0,
                interrupted_share=market.interruption_rate.share,
                grant_probability=_belief(market, ready) if takes else SURE,
            )
        )
    return options


def limit_to_ceiling(options: list[PoolCandidate], markets: PoolMemories, work: float) -> list[PoolCandidate]:
    """Return the candidates, each limited to little more than its last known ceiling.

    Where these together cannot carry `work`, they are returned without the limit.
    """
    bounded = []
    for r in options:
        ceiling = markets.of(r.name).ceiling
        most = r.most if math.isinf(ceiling.most) else quantum.round_up(int(ceiling.most), r.pool.quantum)
        held = most < r.most and not (r.fixed or r.unavailable)
        bounded.append(replace(r, most=max(r.supply, most), ceiling=ceiling.held) if held else r)
    return bounded if sum(r.most * r.work for r in bounded) >= work else options


def _supplied(pool: Pool, status: PoolStatus, market: PoolMemory, now: float) -> tuple[int, int, int]:
    """Ready replicas that stay, pending ones that count, and those about to be taken."""
    doomed = min(status.interruption_pending, status.ready, status.desired)
    patience_s = market.lead_times.patience_s(pool.lead_time_s)
    counted = market.expected_pending(status, now, patience_s, takes=pool.market == "spot")
    return min(status.ready, status.desired) - doomed, counted, doomed


def _belief(market: PoolMemory, ready: int) -> float:
    """Return the probability that what is asked for comes: from grants and refusals, and from what serves there now."""
    return market.backoff.belief(*HELD) if ready else market.backoff.belief()


def unavailable_reason(
    name: PoolName,
    pools: Mapping[PoolName, Pool],
    found: Mapping[PoolName, Reading[PoolStatus]],
    markets: PoolMemories,
    now: float,
) -> str:
    """Why there is no use in asking for more: a shortage of this kind of node in this zone and market, remembered."""
    own = pools[name]
    key = own.accelerator, own.zone, own.market
    for other, pool in pools.items():
        same = other == name or (all(key) and (pool.accelerator, pool.zone, pool.market) == key)
        if not same:
            continue
        market, reading = markets.of(other), found[other]
        if own.market == "spot":
            if market.interruption_backoff.lasts(now):
                return _backoff_reason(market.interruption_backoff, now)
            if not isinstance(reading, Absent) and (lost := market.lost(reading.value)):
                return f"{lost} of it were taken just now"
            if not isinstance(reading, Absent) and reading.value.interruption_pending:
                return f"{reading.value.interruption_pending} of it are about to be taken"
        said = None if isinstance(reading, Absent) else market.shortfall_news(reading.value)
        if said is not None and (other == name or not said.quota):
            return f"quota error ({said.reason})" if said.quota else said.reason
        if market.backoff.lasts(now) and (other == name or not market.backoff.quota):
            return _backoff_reason(market.backoff, now)
    return ""


def _backoff_reason(shortage: CapacityBackoff, now: float) -> str:
    if shortage.quota:
        return f"quota error ({shortage.reason}): retry in {math.ceil((shortage.until - now) / 60.0)} min"
    return f"{shortage.reason}, {now - shortage.since:.0f} s ago; asked again in {shortage.until - now:.0f} s"
