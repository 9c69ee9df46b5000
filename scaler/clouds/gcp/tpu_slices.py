"""TPU slices on GKE: one node pool each, whose hosts come and go together, and serve together or not at all."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policies.model import Part, Shortfall
from scaler.clouds.gcp.container import Cluster, NodePool
from scaler.clouds.gcp.instance_groups import InstanceGroup, InstanceGroups
from scaler.clouds.gcp.pool_status import interruption_pending
from scaler.clouds.interruptions import Board

UP: Final = frozenset({"RECONCILING", "RUNNING", "RUNNING_WITH_ERROR"})


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice as it was found. `lost` says that a host which served is gone, or going."""

    name: str
    zone: str
    ready: bool
    failed: bool
    doomed: bool
    lost: bool
    leaving: bool
    short: Shortfall | None


class Slices:
    """The slices whose node pools are named ``name-0``, ``name-1``, ... in one cluster."""

    def __init__(self, cluster: Cluster, groups: InstanceGroups, board: Board, name: str, hosts: int) -> None:
        self._cluster = cluster
        self._groups = groups
        self._board = board
        self._ours = re.compile(rf"^{re.escape(name)}-(0|[1-9][0-9]*)$")
        self._hosts = hosts
        self._serving: dict[str, bool] = {}
        self._seen: dict[str, Slice] = {}
        self.interrupted = 0

    def number(self, name: str) -> int | None:
        """Which of ours it is; None for another's."""
        found = self._ours.match(name)
        return int(found[1]) if found else None

    async def look(self, gone: frozenset[str]) -> tuple[list[Slice], float]:
        """All slices but those of which we asked to be rid, and when they were seen. Raises port errors."""
        pools = await self._cluster.pools()
        ours = [p for p in pools.values() if self.number(p.name) is not None and p.name not in gone]
        found = list(await asyncio.gather(*(self._slice(pool) for pool in ours)))
        self._count(found)
        self._seen = {s.name: s for s in found}
        return sorted(found, key=lambda s: self.number(s.name) or 0), min((p.at for p in pools.values()), default=0.0)

    async def names(self, gone: frozenset[str]) -> set[str]:
        """The slices that there are, but those on their way out: what a write waits for. Raises port errors."""
        pools = await self._cluster.pools(urgent=True)
        ours = (p for p in pools.values() if self.number(p.name) is not None and p.status != "STOPPING")
        return {p.name for p in ours} - gone

    def stays(self, name: str) -> tuple[bool, bool, bool, int]:
        """Sorts those that should go first before those that should stay, by the last look."""
        seen = self._seen.get(name)
        failed, ready, doomed = (seen.failed, seen.ready, seen.doomed) if seen else (False, False, False)
        return not failed, ready, not doomed, -(self.number(name) or 0)

    async def _slice(self, pool: NodePool) -> Slice:
        groups = await asyncio.gather(*(self._groups.read(path) for path in pool.groups))
        machines = [m for group in groups for m in group.machines]
        ready = pool.status in UP and sum(m.ready for m in machines) == self._hosts
        failed = not ready and (pool.status == "ERROR" or pool.short is not None or any(m.failed for m in machines))
        for machine in machines:
            if not machine.ready:
                self._board.unpin(machine.name)  # it comes back under the same name
        names = tuple(m.name for m in machines)
        return Slice(
            name=pool.name,
            zone=pool.zones[0] if pool.zones else "",
            ready=ready,
            failed=failed,
            doomed=ready and bool(interruption_pending(self._board, names, pool.at)),
            lost=any(m.down or m.action == "RECREATING" for m in machines) or len(machines) < self._hosts,
            leaving=pool.status == "STOPPING",
            short=_short(pool, groups) if failed else None,
        )

    def _count(self, found: Sequence[Slice]) -> None:
        """Count each slice that served and lost a host once, until it serves again."""
        there = {s.name: s for s in found}
        for name, was_doomed in self._serving.items():
            one = there.get(name)
            if one is not None and not one.ready and not one.leaving and (was_doomed or one.lost):
                self.interrupted += 1
        self._serving = {s.name: s.doomed for s in found if s.ready}


def _short(pool: NodePool, groups: Sequence[InstanceGroup]) -> Shortfall | None:
    told = [s for s in (pool.short, *(group.short for group in groups)) if s is not None]
    return max(told, key=lambda s: s.at, default=None)


def parts(slices: Sequence[Slice], market: str) -> tuple[Part, ...]:
    """The slices by zone."""
    zones = sorted({s.zone for s in slices})
    ready, doomed = Counter(s.zone for s in slices if s.ready), Counter(s.zone for s in slices if s.doomed)
    coming = Counter(s.zone for s in slices if not s.ready and not s.failed)
    return tuple(Part(zone, market, ready[zone], coming[zone], doomed[zone]) for zone in zones)
