"""A workload's size to its pools: fill in the order listed, empty in the reverse, and never move.

Moving a replica between pools in one turn would stop one that serves before its substitute does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from policies.model import PoolName
    from policies.spec import Pool


def allocate(
    target: int,
    sizes: Mapping[PoolName, int],
    pools: Mapping[PoolName, Pool],
    pinned: Set[PoolName],
    cap: int,
) -> dict[PoolName, int]:
    """The size of each pool that is not pinned, their sum with the pinned ones as near to `target` as bounds allow.

    `sizes` are the present sizes of all pools, `cap` the maximum of a pool that sets none.
    """
    free = {name: pool for name, pool in pools.items() if name not in pinned}
    result = {name: max(sizes[name], pool.min_replicas) for name, pool in free.items()}
    missing = target - sum(sizes[name] for name in pinned) - sum(result.values())
    for name, pool in free.items():
        limit = cap if pool.max_replicas is None else pool.max_replicas
        added = max(0, min(missing, limit - result[name]))
        result[name] += added
        missing -= added
    for name, pool in reversed(free.items()):
        removed = max(0, min(-missing, result[name] - pool.min_replicas))
        result[name] -= removed
        missing += removed
    return result
