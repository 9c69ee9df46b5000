"""The capacity that a workload of a group can reach, and the price of the next replica."""

from __future__ import annotations

from policies.allocate import candidates
from policies.guard.bounds import unmanaged_pools
from policies.history.ticks import History
from policies.model import Fresh, Observation
from policies.model.spec import WorkloadSpec


def max_supply(spec: WorkloadSpec, history: History, observation: Observation) -> float | None:
    """Return the capacity that bounds and platforms allow now, in replica equivalents.

    None where a pool's size is unknown. A paused workload keeps what it has, and one with an override gets its size.
    Example: with max_replicas 20, a pool that holds 6 and was just refused more allows 6.
    """
    return _supply(spec, history, observation, is_proven=False)


def proven_supply(spec: WorkloadSpec, history: History, observation: Observation) -> float | None:
    """Return the capacity that bounds and platforms have shown to allow. Replica equivalents.

    As `max_supply`, but a pool that refused more in the last 15 minutes has what it held then, also while it is asked
    again. Example: a pool refused more than 6, and is asked for 10: `max_supply` is 10, and 6 are proven.
    """
    return _supply(spec, history, observation, is_proven=True)


def _supply(spec: WorkloadSpec, history: History, observation: Observation, *, is_proven: bool) -> float | None:
    if not all(isinstance(observation.pools.get(name), Fresh) for name in spec.serving_pools):
        return None
    pools = _candidates(spec, history, observation)
    if spec.paused:
        return sum(c.supply * c.work for c in pools)
    limit = spec.max_replicas
    if spec.override is not None and spec.override.in_force(observation.at):
        limit = spec.override.replicas
    supply = 0.0
    for c in pools:
        held = history.pool_memories.of(c.name).ceiling.held if is_proven else None
        supply += c.work * (c.max_supply if held is None else min(c.max_supply, max(c.ready, held)))
    return min(float(limit), supply)


def next_usd_per_hour(spec: WorkloadSpec, history: History, observation: Observation) -> float | None:
    """Return the price of the next replica equivalent. USD per hour.

    It is that of the cheapest pool that can still grow; None where no pool can, or none has a price.
    """
    if all(pool.price_usd_per_hour is None for pool in spec.serving_pools.values()):
        return None
    if not all(isinstance(observation.pools.get(name), Fresh) for name in spec.serving_pools):
        return None
    growing = (c for c in _candidates(spec, history, observation) if c.max_supply > c.supply)
    return min((c.price / c.work for c in growing), default=None)


def _candidates(spec: WorkloadSpec, history: History, observation: Observation) -> list[candidates.PoolCandidate]:
    unmanaged = unmanaged_pools(spec, observation.pools)
    return candidates.build(spec, observation.pools, history.pool_memories, unmanaged.keys(), observation.at)
