"""TPU slices on GKE: one node pool each.

The hosts of a slice are created and deleted together, and serve only together.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policies.model import PoolPart, Shortfall
from scaler.clouds.gcp.container import Cluster, NodePool
from scaler.clouds.gcp.instance_groups import InstanceGroups
from scaler.clouds.gcp.pool_status import OVERDUE_S, newest
from scaler.clouds.interruptions import InterruptionTracker, NoticeBoard
from scaler.clouds.parts import sum_parts

UP: Final = frozenset({"RECONCILING", "RUNNING", "RUNNING_WITH_ERROR"})


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice as last read. `host_lost`: one of its hosts is gone, or going."""

    name: str
    zone: str
    ready: bool
    failed: bool
    interruption_pending: bool
    host_lost: bool
    leaving: bool
    shortfall: Shortfall | None


class Slices:
    """Slices of one cluster, in node pools named ``name-0``, ``name-1``, ..."""

    def __init__(self, cluster: Cluster, groups: InstanceGroups, board: NoticeBoard, name: str, hosts: int) -> None:
        self._cluster = cluster
        self._groups = groups
        self._board = board
        self._name_pattern = re.compile(rf"^{re.escape(name)}-(0|[1-9][0-9]*)$")
        self._hosts = hosts
        self._interruptions = InterruptionTracker(board, OVERDUE_S)
        self._slices: dict[str, Slice] = {}

    @property
    def interrupted(self) -> int:
        """Slices interrupted since this process started."""
        return self._interruptions.interrupted

    def number(self, name: str) -> int | None:
        """Return the number in a slice's name; None for another pool's node pool."""
        match = self._name_pattern.match(name)
        return int(match[1]) if match else None

    async def read(self, removed: frozenset[str]) -> tuple[list[Slice], float]:
        """Return all slices except the `removed` ones, and the time of the read. Raises port errors."""
        pools = await self._cluster.pools()
        own_pools = [p for p in pools.values() if self.number(p.name) is not None and p.name not in removed]
        slices = list(await asyncio.gather(*(self._slice(pool) for pool in own_pools)))
        self._count_interruptions(slices)
        self._slices = {s.name: s for s in slices}
        return sorted(slices, key=lambda s: self.number(s.name) or 0), min((p.at for p in pools.values()), default=0.0)

    async def names(self, removed: frozenset[str]) -> set[str]:
        """Return the names of the slices that stay, for a write. Raises port errors."""
        pools = await self._cluster.pools(urgent=True)
        own_pools = (p for p in pools.values() if self.number(p.name) is not None and p.status != "STOPPING")
        return {p.name for p in own_pools} - removed

    def removal_order(self, name: str) -> tuple[bool, bool, bool, int]:
        """Return a sort key for removal, by the last read.

        Failed slices come first, then slices that are not ready, then those with an interruption pending. Among equals,
        the highest number comes first.
        """
        last = self._slices.get(name)
        failed, ready, pending = (last.failed, last.ready, last.interruption_pending) if last else (False, False, False)
        return not failed, ready, not pending, -(self.number(name) or 0)

    async def _slice(self, pool: NodePool) -> Slice:
        groups = await asyncio.gather(*(self._groups.read(path) for path in pool.groups))
        machines = [m for group in groups for m in group.machines]
        ready = pool.status in UP and sum(m.ready for m in machines) == self._hosts
        failed = not ready and (pool.status == "ERROR" or pool.shortfall is not None or any(m.failed for m in machines))
        for machine in machines:
            if not machine.ready:
                self._board.unpin(machine.name)  # it returns under the same name
        names = tuple(m.name for m in machines)
        return Slice(
            name=pool.name,
            zone=pool.zones[0] if pool.zones else "",
            ready=ready,
            failed=failed,
            interruption_pending=ready and bool(self._interruptions.pending(names)),
            host_lost=any(m.down or m.action == "RECREATING" for m in machines) or len(machines) < self._hosts,
            leaving=pool.status == "STOPPING",
            shortfall=newest((pool.shortfall, *(group.shortfall for group in groups))) if failed else None,
        )

    def _count_interruptions(self, slices: Sequence[Slice]) -> None:
        """Count each slice once that served and lost a host, until it serves again."""
        by_name = {s.name: s for s in slices}

        def was_interrupted(name: str, noticed: bool) -> bool:
            present = by_name.get(name)
            return present is not None and not present.leaving and (noticed or present.host_lost)

        noticed = {s.name for s in slices if s.interruption_pending}
        self._interruptions.track({s.name: 1 for s in slices if s.ready}, noticed, was_interrupted)


def parts(slices: Sequence[Slice], market: str) -> tuple[PoolPart, ...]:
    """Return the slices by zone."""
    return sum_parts(
        PoolPart(s.zone, market, int(s.ready), int(not s.ready and not s.failed), int(s.interruption_pending))
        for s in slices
    )
