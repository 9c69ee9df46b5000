"""Fair shares of the shards: which member holds which shard. Pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping


def score(*parts: object) -> int:
    """Return the rendezvous score of a pair, the same in every process."""
    return int.from_bytes(hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=8).digest())


def shard_of(lock: str, shards: int) -> int:
    """Return the shard of a lock by rendezvous hashing.

    From 16 shards to 17, one lock in 17 moves, to the new shard.
    """
    return max(range(shards), key=lambda shard: score(lock, shard))


def quotas(members: Collection[str], held: Mapping[str, int], shards: int) -> dict[str, int]:
    """Return each member's number of shards. They differ by at most one.

    The members that hold most get the larger number, so that they keep what they hold. Example: of 16 shards, three
    members that hold 5, 6 and 5 get 5, 6 and 5.
    """
    if not members:
        return {}
    smaller, larger = divmod(shards, len(members))
    order = sorted(members, key=lambda member: (-held.get(member, 0), member))
    return {member: smaller + (rank < larger) for rank, member in enumerate(order)}


def assign(shards: int, members: Collection[str], holders: Mapping[int, str]) -> dict[int, str]:
    """Return the member that is to hold each shard; the fewest shards move.

    `holders` are the present ones. Each member keeps the shards that it holds, up to its quota. The other shards go to
    members below their quota. Members with the same view reach the same result, so they do not compete.
    """
    held: dict[str, list[int]] = {member: [] for member in members}
    for shard in range(shards):
        if (holder := holders.get(shard, "")) in held:
            held[holder].append(shard)
    quota = quotas(members, {member: len(own) for member, own in held.items()}, shards)
    assigned: dict[int, str] = {}
    for member, own in held.items():
        kept = sorted(own, key=lambda shard: -score(member, shard))[: quota[member]]
        assigned |= dict.fromkeys(kept, member)
    free = [shard for shard in range(shards) if shard not in assigned]
    return assigned | _fill(free, {m: quota[m] - min(quota[m], len(own)) for m, own in held.items()})


def _fill(free: Iterable[int], room: dict[str, int]) -> dict[int, str]:
    """Give each free shard to the member with room that has the highest score."""
    assigned: dict[int, str] = {}
    for shard in free:
        candidates = [member for member, n in room.items() if n > 0]
        if not candidates:
            break
        best = max(candidates, key=lambda member: (score(member, shard), member))
        assigned[shard] = best
        room[best] -= 1
    return assigned
