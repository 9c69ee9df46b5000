"""The lock of managed pools: one update at a time, which may be rolled back.

Example: a SageMaker endpoint with two variants. Variant a grows from 2 to 4 at 0 s, and its instances serve at 420 s.
Until then, every other size of a and b is refused with `Conflict`.
"""

from __future__ import annotations

from scaler.ports import Conflict
from simulators.world.infrastructure.node_lifecycle import NodeState, Phase
from simulators.world.infrastructure.replicas import PoolReplicas
from simulators.world.infrastructure.updates import Updates
from simulators.world.rng import Draws, normals


class UpdateLock:
    """A lock, and the pool whose update holds it."""

    def __init__(self) -> None:
        self.holder: PoolUpdates | None = None


class PoolUpdates:
    """The updates of one pool.

    `before` is the size before the update in progress; None without one.
    """

    def __init__(self, pool: str, updates: Updates, lock: UpdateLock, replicas: PoolReplicas, seed: int) -> None:
        self.before: int | None = None
        self.pool, self._updates, self._lock, self._replicas = pool, updates, lock, replicas
        self._draws = Draws(seed, "update", pool, 1, normals)
        self._begun = 0
        self._until_ps = 0

    def require_free(self, now_ps: int) -> None:
        """Raise `Conflict` while an update holds the lock."""
        holder = self._lock.holder
        if holder is not None and not holder.settle(now_ps):
            raise Conflict(f"pool {self.pool}: the update of {holder.pool} is in progress; one at a time is accepted")

    def begin(self, before: int, now_ps: int) -> None:
        """Begin an update from the size `before`."""
        self._lock.holder, self.before = self, before
        self._hold(self._updates.duration, now_ps)

    def restore(self, now_ps: int) -> None:
        """Return to the size before the update in progress, which failed.

        The lock is held meanwhile.
        """
        if self.before is not None and self._replicas.desired > self.before:
            self._replicas.scale_in(self._replicas.desired - self.before)
        if self.before is not None:
            self._hold(self._updates.rollback or self._updates.duration, now_ps)

    def settle(self, now_ps: int) -> bool:
        """End an update whose time is over and whose replicas serve.

        Return whether none is in progress.
        """
        starting = self._replicas.waiting.eligible or self._replicas.inventory.members[NodeState.STARTING]
        if self.before is not None and now_ps >= self._until_ps and not starting:
            self.before = self._lock.holder = None
        return self.before is None

    def _hold(self, time: Phase, now_ps: int) -> None:
        (normal,) = self._draws.row(self._begun)
        self._begun += 1
        self._until_ps = now_ps + time.ps(normal)
