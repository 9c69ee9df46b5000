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

    `sizes` are the present sizes of all pools, `cap` the maximum of all and of a pool that sets none. A pool below its
    minimum is brought up to it as far as `cap` leaves room; what that adds beyond `target`, later turns take away.
    """
    present = sum(sizes.values())
    free = {name: pool for name, pool in pools.items() if name not in pinned}
    result = {name: sizes[name] for name in free}
    room = max(0, cap - present)
    for name, pool in free.items():
        lifted = max(0, min(room, pool.min_replicas - result[name]))
        result[name] += lifted
        room -= lifted
    missing = target - present - sum(result[name] - sizes[name] for name in free)
    for name, pool in free.items():
        limit = cap if pool.max_replicas is None else pool.max_replicas
        added = max(0, min(missing, limit - result[name]))
        result[name] += added
        missing -= added
    surplus = present - target
    for name, pool in reversed(free.items()):
        removed = max(0, min(surplus, result[name] - pool.min_replicas))
        result[name] -= removed
        surplus -= removed
    return result
