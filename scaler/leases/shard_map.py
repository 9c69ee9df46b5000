"""The shard of each workload, by the locks that serialize its writes.

Two pools with a common lock must be in one daemon. So the workloads that share a lock, directly or through others, form
one unit, and a unit is in one shard. Example: `chat` resizes two node pools of the GKE cluster `a`, and `batch` one of
`a` and one of `b`: the locks `a` and `b` and both workloads are one unit. So are the workloads of a group, which read
one another's state.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from policies.model import WorkloadName
from scaler.config.load import Config, Workload
from scaler.leases.shares import shard_of

EMPTY: Final = ""
"""Fingerprint of a shard without workloads."""


@dataclass(frozen=True, slots=True)
class ShardMap:
    """The shard and the locks of each workload, and a fingerprint of each shard's locks.

    Daemons whose configurations place a lock in different shards have different fingerprints for both shards.
    `addresses` are those of the servers that the locks name, such as the API servers of Kubernetes clusters.
    """

    shards: Mapping[WorkloadName, int] = field(default_factory=dict)
    locks: Mapping[WorkloadName, frozenset[str]] = field(default_factory=dict)
    fingerprints: Mapping[int, str] = field(default_factory=dict)
    addresses: frozenset[str] = frozenset()


def shard_map(config: Config, shards: int) -> ShardMap:
    """Return the shard map of a configuration."""
    locks = {name: locks_of(workload) for name, workload in config.workloads.items()}
    units = _units(locks)
    placed = {name: shard_of(min(unit), shards) for name, unit in units.items()}
    contents: defaultdict[int, set[str]] = defaultdict(set)
    for name, unit in units.items():
        contents[placed[name]] |= unit
    fingerprints = {shard: _fingerprint(content) for shard, content in contents.items()}
    return ShardMap(placed, locks, fingerprints, frozenset(_addresses(contents.values())))


def locks_of(workload: Workload) -> frozenset[str]:
    """Return the locks of a workload as texts."""
    spec = workload.spec
    locks = {lock for name, pool in spec.pools.items() for lock in pool.locks(workload.name, name)}
    group = () if spec.group_key is None else (f"group\t{spec.group_key}",)
    return frozenset("\t".join((lock.what, *lock.scope, lock.name)) for lock in locks).union(group)


def _addresses(locks: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the URLs in the scopes of locks."""
    for lock in chain.from_iterable(locks):
        _, *scope, _ = lock.split("\t")
        yield from (part for part in scope if "://" in part)


def _units(locks: Mapping[WorkloadName, frozenset[str]]) -> dict[WorkloadName, frozenset[str]]:
    """Return all locks of each workload's unit: the connected components of workloads and locks."""
    parents: dict[str, str] = {}

    def root(lock: str) -> str:
        while (parent := parents.setdefault(lock, lock)) != lock:
            parents[lock] = parents[parent]
            lock = parent
        return lock

    for own in locks.values():
        first = next(iter(own))
        for lock in own:
            parents[root(lock)] = root(first)
    members: defaultdict[str, set[str]] = defaultdict(set)
    for lock in list(parents):
        members[root(lock)].add(lock)
    units = {top: frozenset(unit) for top, unit in members.items()}
    return {name: units[root(next(iter(own)))] for name, own in locks.items()}


def _fingerprint(content: set[str]) -> str:
    return hashlib.blake2b("\n".join(sorted(content)).encode(), digest_size=6).hexdigest()
