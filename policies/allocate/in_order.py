"""Split of a size in the order listed: fill in that order, empty in reverse, never move.

A move of a replica between pools within one tick would stop a serving replica before its substitute serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.allocate import quantum

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from policies.model import PoolName
    from policies.model.pool import Pool


def allocate(
    target: int,
    sizes: Mapping[PoolName, int],
    pools: Mapping[PoolName, Pool],
    unmanaged: Set[PoolName],
    max_replicas: int,
) -> dict[PoolName, int]:
    """Return the size of each managed pool, for a total as near to `target` as bounds allow.

    `sizes` are the current sizes of all pools; the unmanaged ones count towards the target. `max_replicas` limits the
    total, and each pool without a maximum of its own. A pool below its minimum grows to it as far as `max_replicas`
    allows; later ticks remove what that adds beyond `target`. Pools change in whole quanta: beyond `target` where
    `max_replicas` allows it, and below it only to come back within `max_replicas`.

    Example: a (at most 3) holds 3, and b holds 2. A target of 6 makes b 3, and a target of 2 makes b 0 and a 2.
    """
    current = sum(sizes.values())
    managed = {name: pool for name, pool in pools.items() if name not in unmanaged}
    result = {name: sizes[name] for name in managed}
    if current == target <= max_replicas and all(result[name] >= pool.min_replicas for name, pool in managed.items()):
        return result
    max_growth = max(0, max_replicas - current)
    for name, pool in managed.items():
        added = quantum.growth(result[name], pool.min_replicas - result[name], max_growth, pool.quantum)
        result[name] += added
        max_growth -= added
    _fill(result, target, sizes, managed, max_replicas)
    surplus = current - target
    for name, pool in reversed(managed.items()):
        removed = quantum.removal(result[name], min(surplus, result[name] - pool.min_replicas), pool.quantum)
        result[name] -= removed
        surplus -= removed
    excess = sum({**sizes, **result}.values()) - max(max_replicas, target)
    for name, pool in reversed(managed.items()):
        if excess > 0:
            minimum = min(result[name], quantum.round_up(pool.min_replicas, pool.quantum))
            reduced = max(minimum, quantum.round_down(result[name] - excess, pool.quantum))
            excess -= result[name] - reduced
            result[name] = reduced
    _fill(result, target, sizes, managed, max_replicas)  # a removed quantum may make way for another pool's smaller one
    return result


def _fill(
    result: dict[PoolName, int],
    target: int,
    sizes: Mapping[PoolName, int],
    managed: Mapping[PoolName, Pool],
    max_replicas: int,
) -> None:
    """Raise the sizes in `result` in the order listed to the total `target`, within bounds."""
    missing = target - sum({**sizes, **result}.values())
    for name, pool in managed.items():
        limit = max_replicas if pool.max_replicas is None else pool.max_replicas
        total = sum({**sizes, **result}.values())
        max_growth = min(limit - result[name], max_replicas - total)
        added = quantum.growth(result[name], missing, max_growth, pool.quantum)
        result[name] += added
        missing -= added
