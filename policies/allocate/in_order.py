"""A workload's size to its pools: fill in the order listed, empty in the reverse, and never move.

Moving a replica between pools in one turn would stop one that serves before its substitute does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.allocate import quantum

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from policies.model import PoolName
    from policies.model.spec import Pool


def allocate(
    target: int,
    sizes: Mapping[PoolName, int],
    pools: Mapping[PoolName, Pool],
    pinned: Set[PoolName],
    cap: int,
) -> dict[PoolName, int]:
    """Return the size of each pool that is not pinned, as near to `target` as bounds allow.

    The pinned pools count towards the target.

    `sizes` are the present sizes of all pools, `cap` the maximum of all and of a pool that sets none. A pool below its
    minimum is brought up to it as far as `cap` leaves room; what that adds beyond `target`, later turns take away.
    Pools change in whole quanta: more than `target` where `cap` allows it, and less only to come back within `cap`.
    """
    present = sum(sizes.values())
    free = {name: pool for name, pool in pools.items() if name not in pinned}
    result = {name: sizes[name] for name in free}
    room = max(0, cap - present)
    for name, pool in free.items():
        lifted = quantum.growth(result[name], pool.min_replicas - result[name], room, pool.quantum)
        result[name] += lifted
        room -= lifted
    _fill(result, target, sizes, free, cap)
    surplus = present - target
    for name, pool in reversed(free.items()):
        removed = quantum.removal(result[name], min(surplus, result[name] - pool.min_replicas), pool.quantum)
        result[name] -= removed
        surplus -= removed
    over = sum({**sizes, **result}.values()) - max(cap, target)
    for name, pool in reversed(free.items()):
        least = min(result[name], quantum.round_up(pool.min_replicas, pool.quantum))
        removed = (
            result[name] - max(least, quantum.round_down(result[name] - max(0, over), pool.quantum)) if over > 0 else 0
        )
        result[name] -= removed
        over -= removed
    _fill(result, target, sizes, free, cap)  # whole quanta that had to go may leave room for those of another pool
    return result


def _fill(
    result: dict[PoolName, int],
    target: int,
    sizes: Mapping[PoolName, int],
    free: Mapping[PoolName, Pool],
    cap: int,
) -> None:
    """Raise the sizes in `result` in the order listed until all pools together have `target`, within the bounds."""
    missing = target - sum({**sizes, **result}.values())
    for name, pool in free.items():
        limit = cap if pool.max_replicas is None else pool.max_replicas
        total = sum({**sizes, **result}.values())
        added = quantum.growth(result[name], missing, min(limit - result[name], cap - total), pool.quantum)
        result[name] += added
        missing -= added
